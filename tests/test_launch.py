"""Workers of one machine: the contract, and everything a training can do to its process."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hyppo.config import CONFIRMATION
from hyppo.errors import LaunchError, StudyError
from hyppo.launch import output, process, surroundings, wire
from hyppo.launch.executor import OnExecutor
from hyppo.launch.local import InProcess, LocalProcesses
from hyppo.launch.mpi import world
from hyppo.launch.mpi.partition import devices, notice_of_folders, partition
from hyppo.launch.process import Limits
from hyppo.loop import Stopped

from .workers_contract import CHECKS, perform, task, train, until

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def notices():
    return []


@pytest.fixture
def local(tmp_path, notices):
    """One training process with limits that a test can lower."""
    made = []

    def make(objective=perform, count=1, **limits):
        made.append(LocalProcesses(objective, count, Limits(**limits), threads=1, say=notices.append))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


@pytest.fixture(scope="module")
def pool():
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("kind", ["in process", "one process", "two processes", "executor"])
def test_contract(kind, check, request):
    if kind == "executor" and "stop" in check.__name__:
        pytest.skip("an executor cannot be asked to stop what runs")
    if kind == "in process":
        workers = InProcess(perform)
    elif kind == "executor":
        workers = OnExecutor(perform, request.getfixturevalue("pool"))
    else:
        workers = LocalProcesses(perform, 1 if kind == "one process" else 2, threads=1)
    try:
        check(workers)
    finally:
        workers.close()


class SlowToLoad:
    """An objective that takes its time to arrive."""

    def __reduce__(self):
        return (arrive, (0.6,))

    def __call__(self, replica):
        return perform(replica)


def arrive(seconds):
    time.sleep(seconds)
    return SlowToLoad()


slow_to_load = SlowToLoad()


def alive(pid):
    """Whether a process runs; one that is dead and not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("do", "kind", "words"),
    [
        ("exit", "Exited", ["exit code 7", "about to leave"]),
        ("segfault", "Killed", ["SIGSEGV"]),
        ("kill", "Killed", ["SIGKILL", "out of memory"]),
        ("interrupt", "KeyboardInterrupt", []),
        ("leave", "SystemExit", ["Lightning"]),
        ("text", "ObjectiveError", ["str"]),
        ("huge", "ObjectiveError", ["ndarray"]),
    ],
)
def test_a_death_is_an_outcome_and_the_next_training_goes_on(local, tmp_path, do, kind, words):
    workers = local()
    failure = train(workers, task(do, folder=tmp_path)).failure
    assert failure.type == kind
    for word in words:
        assert word in failure.message
    if do == "segfault":
        assert "in _segfault" in failure.traceback
        assert "in _segfault" in failure.message.splitlines()[2]  # below string_at, which it calls
    assert train(workers, task("square", x=2.0)).loss == 4.0


def test_killed_from_outside(local):
    workers = local()
    pid = int(train(workers, task("pid")).loss)
    future = workers.submit(task("sleep", x=30.0), 0)
    workers.wait(0.2)
    os.kill(pid, signal.SIGKILL)
    start = time.monotonic()
    until(workers, future.done)
    assert time.monotonic() - start < 5.0  # 13 ms where nothing else runs
    assert "SIGKILL" in future.result().failure.message


def test_killed_while_idle(local):
    workers = local()
    os.kill(int(train(workers, task("pid")).loss), signal.SIGKILL)
    time.sleep(0.1)
    assert train(workers, task("square", x=2.0)).loss == 4.0


def test_signals_of_a_batch_system_do_not_reach_a_training(local):
    workers = local()
    pid = int(train(workers, task("pid")).loss)
    future = workers.submit(task("sleep", x=0.5), 0)
    workers.wait(0.2)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.kill(pid, number)
    until(workers, future.done)
    assert future.result().loss == 0.0


def test_slurms_warning_does_not_kill_the_workers_of_a_training(local):
    assert train(local(), task("warned_by_slurm")).loss == 2.0


def test_a_hang_is_killed(local):
    workers = local(replica_timeout=0.5)
    outcome = train(workers, task("hang"))
    assert outcome.failure.type == "TimedOut"
    assert "replica_timeout=0.5" in outcome.failure.message
    assert outcome.curve == ((0, 1.0),)
    assert 0.4 < outcome.end - outcome.start < 5.0
    assert train(workers, task("square", x=2.0)).loss == 4.0


def test_silence_is_killed_and_reports_are_not(local):
    workers = local(stall_timeout=0.5)
    assert train(workers, task("sleep", x=5.0)).failure.type == "Stalled"
    future = workers.submit(task("patient"), 0)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        workers.wait(0.1)
    assert not future.done()


def test_a_training_that_holds_too_much_is_killed(local):
    workers = local(memory=300_000_000)
    assert train(workers, task("hold", x=10)).loss == 1.0
    failure = train(workers, task("hold", x=400)).failure
    assert failure.type == "OutOfMemory"
    assert "memory_limit=0.3 GB" in failure.message


def test_time_to_load_the_script_does_not_count(local):
    workers = local(slow_to_load, replica_timeout=0.3)
    assert train(workers, task("square", x=2.0)).loss == 4.0


def test_an_installation_that_does_not_work_is_a_launch_error(local, monkeypatch):
    workers = local()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LaunchError, match="a training process cannot be started with /bin/false"):
        train(workers, task("square"))


def test_threads_follow_what_is_set(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)

    def threads(*arguments):
        environ = surroundings.environment(*arguments)
        return environ["OMP_NUM_THREADS"], environ["MKL_NUM_THREADS"], environ["TF_NUM_INTRAOP_THREADS"]

    assert threads(None, 1) == ("1", "1", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads(None, 1) == ("4", "4", "4")
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    assert threads(None, 1) == ("4", "2", "4")
    assert threads(3, 1) == ("3", "3", "3")


@pytest.mark.parametrize("do", ["print", "fork", "chdir", "close_output", "reseed"])
def test_bad_manners_are_survived(local, tmp_path, do):
    workers = local()
    assert train(workers, task(do, folder=tmp_path)).loss == 1.0
    assert train(workers, task("where")).loss == 0.0
    assert train(workers, task("draw", seed=3)).loss == train(InProcess(perform), task("draw", seed=3)).loss
    assert train(workers, task("square", x=2.0)).loss == 4.0


def test_a_process_that_closes_its_pipes_is_lost_and_replaced(local):
    workers = local()
    assert train(workers, task("close_all")).failure.type == "Killed"
    assert train(workers, task("square", x=2.0)).loss == 4.0


def test_a_long_message_is_cut(local):
    failure = train(local(), task("long_message")).failure
    assert len(failure.message) < 11_000
    assert "characters left out" in failure.message


def test_output_goes_to_the_replicas_directory(local, tmp_path):
    train(local(), task("print", folder=tmp_path / "replica"))
    text = (tmp_path / "replica" / "output.txt").read_text()
    assert (text.count("x" * 100_000), text.count("y" * 100_000)) == (40, 40)
    assert not (tmp_path / "other").exists()


def test_of_a_progress_bar_the_last_state_is_kept(local, tmp_path):
    train(local(), task("bar", folder=tmp_path))
    assert (tmp_path / "output.txt").read_text() == "start\n100 %\nend without newline\n"


def test_nested_progress_bars_leave_their_last_states_and_no_cursor_movements(local, tmp_path):
    """tqdm draws each state of the inner bar on a line of its own, and moves the cursor up again."""
    pytest.importorskip("tqdm")

    def objective(replica):
        from tqdm import tqdm

        print("start", flush=True)
        for epoch in tqdm(range(5), "epoch", mininterval=0.0):
            for _ in tqdm(range(20), "batch", mininterval=0.0, position=1, leave=False):
                for _ in tqdm(range(2), "step", mininterval=0.0, position=2, leave=False):
                    pass
            tqdm.write(f"loss {epoch}")
            sys.stdout.flush()
        print("done\n\nend")
        return 1.0

    train(local(objective), task("", folder=tmp_path))
    lines = (tmp_path / "output.txt").read_text().splitlines()
    assert [line for line in lines if "|" not in line] == ["start", *(f"loss {n}" for n in range(5)), "done", "", "end"]
    bars = [line for line in lines if "|" in line]
    assert bars[-1].startswith("epoch: 100%")
    assert len(bars) <= 10  # of 300 states
    assert not any("\x1b" in line for line in lines)


def test_a_killed_training_tells_its_unfinished_line(local, tmp_path):
    def objective(replica):
        print("\r10 %\r20 %", end="", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    assert train(local(objective), task("", folder=tmp_path)).failure.message.endswith("20 %")


def test_a_silent_training_leaves_no_directory(local, tmp_path):
    train(local(), task("square", folder=tmp_path / "replica"))
    assert not (tmp_path / "replica").exists()


def test_what_a_training_started_ends_with_its_process(local, tmp_path, monkeypatch):
    workers = local()
    train(workers, task("daemon", folder=tmp_path))
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    monkeypatch.setattr(process, "PATIENCE", 0.3)
    workers.close()
    time.sleep(0.2)
    assert not alive(pid)


def test_mpi_in_a_training_is_a_world_of_one(local, monkeypatch):
    monkeypatch.setenv("PMI_RANK", "3")
    monkeypatch.setenv("PMI_SIZE", "4")
    assert train(local(), task("mpi")).loss == 1.0


def test_ranks_are_taken_out_of_the_environment_and_threads_are_set(local, monkeypatch):
    ranks = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID", "MPI_LOCALNRANKS")
    ranks += ("MV2_COMM_WORLD_RANK", "JSM_NAMESPACE_SIZE")
    for name in (*ranks, "RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "MPI_HOME"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train(local(), task("environment")).loss == 1.0


def test_the_order_of_sets_is_the_same_in_every_process(local, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    assert len({train(local(), task("order_of_a_set")).loss for _ in range(3)}) == 1


def test_a_training_that_raised_leaves_nothing_to_the_next(local):
    workers = local()
    assert train(workers, task("raise_in_a_run")).failure.type == "Diverged"
    assert train(workers, task("start_a_run")).loss == 1.0


@pytest.mark.parametrize("do", ["stop_as_frameworks_do", "default_signals"])
def test_a_signal_leaves_a_training_to_be_repeated_whatever_a_framework_makes_of_it(local, do):
    workers = local()
    pid = int(train(workers, task("pid")).loss)
    future = workers.submit(task(do), 0)
    until(workers, workers.reports)
    os.kill(pid, signal.SIGTERM)
    until(workers, future.done)
    with pytest.raises(Stopped):
        future.result()
    assert train(workers, task("square", x=2.0)).loss == 4.0


def test_memory_is_freed_once_before_and_once_after_a_training(local):
    """The third time fails here: this training is done, and its process is replaced."""
    workers = local()
    assert [train(workers, task("cleared")).loss for _ in range(3)] == [0.0, 2.0, 0.0]


def test_memory_of_a_trainings_workers_counts(local):
    workers = local(memory=400_000_000)
    assert train(workers, task("workers_hold", x=20)).loss == 1.0
    failure = train(workers, task("workers_hold", x=300)).failure
    assert failure.type == "OutOfMemory"
    assert "and its processes held more than memory_limit=0.4 GB" in failure.message


def test_memory_that_workers_share_counts_once(local):
    assert train(local(memory=700_000_000), task("workers_share", x=250)).loss == 1.0


def test_work_at_exit_has_time(local, tmp_path):
    workers = local()
    train(workers, task("at_exit", folder=tmp_path))
    workers.close()
    assert (tmp_path / "done").read_text() == "by the training"
    assert (tmp_path / "sent").exists()


def test_pools_that_a_training_left_open_finish_their_work_and_end(local, tmp_path):
    workers = local()
    assert train(workers, task("pools_at_exit", folder=tmp_path)).loss == 1.0
    start = time.monotonic()
    workers.close()
    assert (tmp_path / "uploaded").read_text() == "by a thread"
    assert time.monotonic() - start < 0.8 * process.PATIENCE, "the processes of the pool were waited for, and killed"


def test_bytes_on_the_pipe_of_a_process_end_its_training_only(local):
    workers = local()
    failure = train(workers, task("garbage")).failure
    assert (failure.type, "wrote to the pipe" in failure.message) == ("Killed", True)
    assert train(workers, task("square", x=2.0)).loss == 4.0


def test_a_training_may_report_from_several_threads(local):
    assert train(local(), task("from_threads")).loss == 2000.0


def test_notices_of_a_training_are_shown_once(local, notices, tmp_path):
    workers = local()
    for trial in range(2):
        train(workers, task("notice", trial=trial, folder=tmp_path))
    assert notices == ["mode= was left out", "shapes (0, 2) do not fit"]  # the second not with each trial's own shapes
    assert "of another package" in (tmp_path / "output.txt").read_text()


def test_limits_are_refused_where_a_training_cannot_be_killed(local):
    lock = threading.Lock()
    workers = local(lambda replica: 0.0 * lock.locked(), replica_timeout=5.0)
    with pytest.raises(StudyError, match="cannot be killed"):
        train(workers, task(""))


def test_lines_that_every_training_prints_are_relayed_once():
    shown = []
    relay = output.RelayOnce(lambda one, line: shown.append((one.trial, line)))
    for trial in range(2):
        for line in ("GPU available: False", f"loss {trial}.5", "GPU available: False", f"at 0x7f0{trial}aacd30"):
            relay(task("print", trial=trial), line)
    first = ["GPU available: False", "loss 0.5", "GPU available: False", "at 0x7f00aacd30"]
    assert shown == [*((0, line) for line in first), (1, "loss 1.5")]


def test_a_progress_bar_prints_its_last_state_also_from_a_notebook(local, monkeypatch, tmp_path):
    """Notebooks set FORCE_COLOR, with which rich animates into a pipe."""

    def objective(replica):
        from rich.progress import track

        for _ in track(range(50)):
            time.sleep(0.01)
        return 1.0

    monkeypatch.setenv("FORCE_COLOR", "1")
    train(local(objective), task("", folder=tmp_path))
    (line,) = (tmp_path / "output.txt").read_text().splitlines()
    assert "100%" in line
    assert "\x1b" not in line


def test_a_process_group_that_a_training_leaves_is_destroyed(local, tmp_path):
    pytest.importorskip("torch")

    def objective(replica):
        from torch import distributed

        distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
        return float(distributed.get_world_size())

    workers = local(objective)
    assert [train(workers, task("", trial=trial, folder=tmp_path)).loss for trial in range(3)] == [1.0, 1.0, 1.0]


def test_output_of_a_confirmation_is_named_so(capsys):
    output.relay(task("print", trial=3), "epoch 1")
    output.relay(replace(task("print", trial=3), index=CONFIRMATION + 2), "epoch 1")
    assert capsys.readouterr().out == "[trial 3 replica 0] epoch 1\n[trial 3 confirmation 2] epoch 1\n"


def test_gpus_are_handed_out_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    workers = LocalProcesses(perform, 3, threads=1)
    try:
        assert [train(workers, task("gpu"), slot).loss for slot in range(3)] == [2.0, 5.0, 2.0]
    finally:
        workers.close()


def test_a_process_that_outgrew_its_first_trainings_is_replaced(local, monkeypatch):
    monkeypatch.setattr(process, "SETTLED", 2)
    workers = local()
    first = train(workers, task("grow", x=1)).loss
    assert train(workers, task("grow", x=100)).loss == first  # what it needs may be more than at first
    assert train(workers, task("grow", x=1)).loss == first
    assert train(workers, task("grow", x=400)).loss == first
    assert train(workers, task("grow", x=1)).loss != first


def test_a_closure_travels(local):
    offset = 40.0
    assert train(local(lambda replica: replica.params["x"] + offset), task("", x=2.0)).loss == 42.0


def test_what_cannot_travel_trains_here_and_says_so(local, notices):
    lock = threading.Lock()
    workers = local(lambda replica: os.getpid() + 0.0 * lock.locked())
    assert train(workers, task("")).loss == os.getpid()
    assert train(workers, task("")).loss == os.getpid()
    assert len(notices) == 1
    assert "trains in this process" in notices[0]
    assert "define it at the top level" in notices[0]


def test_a_kept_process_is_quick(local):
    workers = local()
    train(workers, task("square"))
    start = time.monotonic()
    for _ in range(50):
        train(workers, task("square", x=1.0))
    assert (time.monotonic() - start) / 50 < 0.1  # 1 ms where nothing else runs


def test_a_training_and_what_it_started_end_with_a_killed_parent(tmp_path):
    code = textwrap.dedent("""
        import sys, time
        sys.path.insert(0, sys.argv[1])
        from tests.workers_contract import perform, task, train
        from hyppo.launch.local import LocalProcesses
        workers = LocalProcesses(perform)
        train(workers, task("daemon", folder=sys.argv[2]))
        print(int(train(workers, task("pid")).loss), flush=True)
        workers.submit(task("hang"), 0)
        time.sleep(60)
    """)
    root = str(Path(__file__).parent.parent)
    arguments = [sys.executable, "-c", code, root, str(tmp_path)]
    parent = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    started = int((tmp_path / "pid").read_text())
    session = wire.members(pid)
    assert {pid, started} <= set(session)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 10.0
    while any(map(alive, session)):
        assert time.monotonic() < end, "the training or what it started outlives the run"
        time.sleep(0.05)


# -- the division of ranks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("manager", ["dedicated", "shared"])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"trial_groups": 1},
        {"replica_groups": 1},
        {"replicas": 5},
        {"trial_groups": 4},
        {"replica_groups": 3},
        {"trial_groups": 2, "replica_groups": 2},
        {"data_parallel": 2},
        {"data_parallel": 3, "trial_groups": 2},
    ],
)
def test_no_rank_is_lost_or_used_twice(nodes, manager, asked):
    both = "trial_groups" in asked and "replica_groups" in asked
    for world_size in range(8, 22):
        plan = partition(world_size, [f"n{rank % nodes}" for rank in range(world_size)], manager=manager, **asked)
        ranks = [rank for group in plan.groups for unit in group for rank in unit]
        assert sorted(ranks + list(plan.idle)) == list(range(manager == "dedicated", world_size))
        assert len(plan.idle) < asked.get("data_parallel", 1) * nodes or both
        assert ("idle" in plan.sentence) == bool(plan.idle)
        assert all(group for group in plan.groups)
        assert len(plan.groups) == asked.get("trial_groups", len(plan.groups))
        assert {len(unit) for group in plan.groups for unit in group} == {asked.get("data_parallel", 1)}
        assert str(world_size) in plan.sentence


@pytest.mark.parametrize(
    ("arguments", "shape", "idle"),
    [
        ({"world": 9}, [3, 3, 2], 0),
        ({"world": 9, "replicas": 4}, [4, 4], 0),
        ({"world": 2}, [1], 0),
        ({"world": 9, "trial_groups": 2}, [4, 4], 0),
        ({"world": 10, "trial_groups": 2}, [5, 4], 0),
        ({"world": 9, "replica_groups": 3}, [3, 3, 2], 0),
        ({"world": 9, "trial_groups": 2, "replica_groups": 3}, [3, 3], 2),
        ({"world": 9, "data_parallel": 2}, [2, 2], 0),
        ({"world": 8, "data_parallel": 2}, [3], 1),
    ],
)
def test_shapes(arguments, shape, idle):
    plan = partition(nodes=["n"] * arguments["world"], **arguments)
    assert [len(group) for group in plan.groups] == shape
    assert len(plan.idle) == idle
    assert ("idle" in plan.sentence) == bool(idle)


def test_data_parallel_ranks_share_a_node():
    plan = partition(9, ["a", "b", "a", "b", "a", "b", "a", "b", "a"], data_parallel=2)
    for group in plan.groups:
        for unit in group:
            assert len({rank % 2 for rank in unit}) == 1


@pytest.mark.parametrize(
    ("nodes", "arguments", "others"),
    [
        ("aaa", {}, ""),
        ("aab", {}, "1 other node,"),
        ("abcb", {}, "2 other nodes,"),
        ("aab", {"trial_groups": 1, "replica_groups": 1}, ""),  # the rank on the other node is idle
        ("ab", {"manager": "shared"}, "1 other node,"),
    ],
)
def test_temporary_folders_on_other_nodes_are_told(nodes, arguments, others):
    notice = notice_of_folders(partition(len(nodes), nodes, **arguments), nodes)
    assert others in notice
    assert bool(notice) == bool(others)


def test_data_parallel_ranks_span_nodes_only_where_none_is_large_enough():
    plan = partition(5, ["a", "a", "a", "b", "b"], data_parallel=4)
    assert plan.groups == (((1, 2, 3, 4),),)


def test_data_parallel_ranks_across_nodes_span_as_few_as_they_can():
    nodes = ["a"] * 3 + ["b"] * 4 + ["c"] * 4
    assert partition(11, nodes, data_parallel=8).groups == (((3, 4, 5, 6, 7, 8, 9, 10),),)
    plan = partition(7, ["a"] * 4 + ["b"] * 3, data_parallel=2)
    assert (plan.groups, plan.idle) == ((((1, 2), (4, 5)),), (3, 6))  # a trial group of two, though one a node each
    plan = partition(7, ["a"] * 4 + ["b"] * 3, data_parallel=2, trial_groups=3)  # more than fit on single nodes
    assert plan.groups == (((1, 2),), ((3, 6),), ((4, 5),))
    assert "1 trial group across nodes" in plan.sentence


@pytest.mark.parametrize(
    ("sizes", "arguments", "shapes", "across"),
    [
        ((5, 4), {}, [[1, 2], [3, 4], [5, 6], [7, 8]], 0),
        ((4, 3), {}, [[1, 2, 3], [4, 5, 6]], 0),
        ((3, 2, 2), {}, [[1, 2, 3], [4, 5, 6]], 2),  # no node has three: groups must span nodes to have them
        ((5, 4), {"trial_groups": 2}, [[1, 2, 3, 4], [5, 6, 7, 8]], 0),
        ((3, 6), {"trial_groups": 4}, [[1, 2], [3, 4], [5, 6], [7, 8]], 0),
        ((5, 4), {"trial_groups": 1}, [[1, 2, 3, 4, 5, 6, 7, 8]], 1),
        ((5, 4), {"replica_groups": 3}, [[1, 2, 3], [4, 8], [5, 6, 7]], 1),
        ((5, 4), {"trial_groups": 2, "replica_groups": 3}, [[1, 2, 3], [5, 6, 7]], 0),
        ((5, 4), {"trial_groups": 2, "replica_groups": 4}, [[1, 2, 3, 4], [5, 6, 7, 8]], 0),
    ],
)
def test_trial_groups_stay_on_a_node_unless_they_must(sizes, arguments, shapes, across):
    nodes = [f"n{number}" for number, size in enumerate(sizes) for _ in range(size)]
    plan = partition(len(nodes), nodes, **arguments)
    assert [[rank for unit in group for rank in unit] for group in plan.groups] == shapes
    assert ("across" in plan.sentence) == bool(across)
    if across:
        assert f"{across} trial group{'s' if across > 1 else ''} across nodes" in plan.sentence


@pytest.mark.parametrize("asked", [{"trial_groups": 5}, {"replica_groups": 5}, {"data_parallel": 5}])
def test_too_few_ranks_is_an_error_that_says_how_many(asked):
    with pytest.raises(LaunchError, match=r"start 6 ranks or more"):
        partition(5, ["n"] * 5, **asked)
    assert partition(5, ["n"] * 5, **asked, manager="shared").idle == ()


def test_the_first_rank_trains_only_where_a_gpu_would_idle():
    def shared(ranks, gpus, **arguments):
        return partition(sum(ranks), [n for n, size in zip("ab", ranks, strict=False) for _ in range(size)], gpus,
                         **arguments).shared  # fmt: skip

    assert not shared([4], {})
    assert not shared([5], {"a": 4})
    assert shared([4], {"a": 4})
    assert shared([3], {"a": 4})
    assert not shared([4], {"a": 2})
    assert shared([4, 4], {"a": 4, "b": 4})
    assert not shared([5, 4], {"a": 4, "b": 4})
    assert not shared([4, 4], {"b": 4})  # its own node has none
    assert not shared([4], {"a": 4}, manager="dedicated")
    assert shared([4], {}, manager="shared")


def test_gpus_are_counted():
    assert partition(4, ["n"] * 4, {"n": 4}).sentence == (
        "4 ranks on 1 node: rank 0 asks and trains, 4 train as 2 trial groups of 2 replica groups, 1 rank each; 4 GPUs"
    )
    assert "4 GPUs, 1 without a rank" in partition(4, ["n"] * 4, {"n": 4}, manager="dedicated").sentence
    assert "2 GPUs, 1 rank more than GPUs" in partition(4, ["n"] * 4, {"n": 2}).sentence
    assert devices([1, 2, 3, 4], ["a", "a", "a", "b", "b"], [["0", "1"]] * 5) == {1: "0", 2: "1", 3: "0", 4: "1"}


# -- the launcher -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch):
    for name in list(os.environ):
        if surroundings.LAUNCHER.match(name):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("arguments", "pool"),
    [
        (["-m", "mpi4py.futures", "tune.py"], True),
        (["-W", "ignore", "-u", "-m", "mpi4py.futures", "tune.py"], True),
        (["-m", "mpi4py.futures.server"], True),
        (["-m", "mpi4py", "tune.py"], False),
        (["tune.py", "-m", "mpi4py.futures"], False),
        (["-c", "pass", "-m", "mpi4py.futures"], False),
    ],
)
def test_ranks_of_a_pool_are_left_to_it(bare, arguments, pool):
    bare.setenv("PMI_RANK", "0")
    bare.setenv("PMI_SIZE", "4")
    bare.setattr(sys, "orig_argv", ["python", *arguments])
    assert world.launched_by_mpi() == (not pool)


@pytest.mark.parametrize(
    ("environ", "launched"),
    [
        ({}, False),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, False),
        ({"PMI_RANK": "0", "PMI_SIZE": "4"}, True),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"PMIX_RANK": "0"}, True),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, False),  # a batch script
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, True),  # srun
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, False),
    ],
)
def test_a_launcher_is_seen_in_the_environment(bare, environ, launched):
    for name, value in environ.items():
        bare.setenv(name, value)
    assert world.launched_by_mpi() == launched


@pytest.mark.parametrize(
    ("ranks", "error"),
    [
        (
            {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"},
            "each is alone in its MPI world",
        ),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "with 3 ranks and data_parallel=2"),
    ],
    ids=["srun", "torchrun"],
)
def test_processes_that_would_each_run_the_study_are_an_error(tmp_path, ranks, error):
    environ = {k: v for k, v in os.environ.items() if not surroundings.LAUNCHER.match(k)} | ranks
    run = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "scripts" / "tune.py"), str(tmp_path / "s.h5")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode != 0
    assert error in run.stderr


SRUN = {"PMI_FD": "9", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("environ", "netmod"),
    [
        (SRUN, "ofi"),
        (SRUN | {"MPIR_CVAR_CH4_NETMOD": "ucx"}, "ucx"),
        (SRUN | {"SLURM_STEP_NUM_NODES": "1"}, None),
        (SRUN | {"MPI_LOCALNRANKS": "2"}, None),
        ({"PMI_FD": "9"}, None),
    ],
    ids=["several nodes", "the user's choice", "one node", "mpiexec in a job", "mpiexec"],
)
def test_the_mpich_wheel_starts_over_libfabric_on_several_nodes_of_srun(bare, environ, netmod):
    bare.setenv("MPIR_CVAR_CH4_NETMOD", "")
    bare.delenv("MPIR_CVAR_CH4_NETMOD")
    for name, value in environ.items():
        bare.setenv(name, value)
    world.keep_first_messages_short()
    assert os.environ.get("MPIR_CVAR_CH4_NETMOD") == netmod


def test_a_missing_mpi4py_is_an_error_that_says_so(bare):
    bare.setenv("PMI_RANK", "0")
    bare.setenv("PMI_SIZE", "4")
    bare.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(LaunchError, match=r"hyppo-uq\[mpi\]"):
        world.join_world()
