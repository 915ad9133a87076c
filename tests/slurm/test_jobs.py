"""Jobs of `hyppo slurm` in a real Slurm: two nodes, MPI by srun and by mpiexec, warned, requeued, resumed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hyppo

from .conftest import until

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(150)]

TUNE = Path(__file__).parent / "tune.py"
WARNED = "hyppo: stopped by SIGUSR1"


@pytest.fixture(autouse=True)
def script(tmp_path):
    shutil.copy(TUNE, tmp_path)
    pace(tmp_path, 0.05)


def pace(directory, seconds):
    """Set how long a training takes, without a moment at which the file is empty."""
    (directory / "pace.new").write_text(str(seconds))
    os.replace(directory / "pace.new", directory / "pace")


def trials(path):
    """All that a study came to, but the clock."""
    return [
        (t.number, t.state, dict(t.params), [(r.index, r.seed, r.state, r.loss) for r in t.replicas])
        for t in hyppo.load(path).trials
    ]


def losses(path):
    return sum(r.loss is not None for t in hyppo.load(path).trials for r in t.replicas) if path.exists() else 0


def processes_in(directory):
    """Processes that work in a directory, zombies apart."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").resolve() == directory and "\nState:\tZ" not in (folder / "status").read_text():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            continue
    return found


def test_slurms_own_warning_across_two_nodes(submit, tmp_path):
    # Forty parameters: all trials are of the initial design, so that no pace can change them.
    arguments = ("tune.py", "--nodes", 2, "--gpus-per-node", 2, "-c", 2, "--time", 1, "--trials", 40)
    whole = submit(*arguments, "--", "--parameters", 40, "--log", "whole.h5")
    whole.until("COMPLETED")
    assert whole.restarts == 0
    assert "5 ranks on 2 nodes: rank 0 asks, 4 train" in whole.text
    assert "4 GPUs" in whole.text
    assert "finished over ofi" in whole.text  # with MPICH over UCX, ranks on several nodes may wait for ever
    assert "without a rank" not in whole.text
    assert "shared" not in whole.text

    pace(tmp_path, 3)
    # Slurm counts its limits in minutes and looks at them every 30 s: it warns 15 to 45 s after the start.
    job = submit(*arguments, "--margin", 15, "--grace", 3, "--", "--parameters", 40)
    job.until_requeued(1, seconds=75)
    assert WARNED in job.text
    done = losses(tmp_path / "study.h5")
    assert 0 < done < 80
    pace(tmp_path, 0.05)
    job.start_now()
    job.until("COMPLETED")
    assert job.restarts == 1
    assert job.text.count("finished") == 1
    assert trials(tmp_path / "study.h5") == trials(tmp_path / "whole.h5")


def test_one_process_takes_the_same_path_through_two_warnings(submit, tmp_path):
    # Ten trials in two dimensions: the surrogate proposes from the fifth on, and each depends on all before.
    run = [sys.executable, "-m", "hyppo", "run", "tune.py", "--log", "whole.h5"]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, timeout=60)

    pace(tmp_path, 1)
    job = submit("tune.py", "--time", 5, "--grace", 2)
    job.until_has(lambda: losses(tmp_path / "study.h5") >= 2)
    job.warn()
    job.until_requeued(1)
    pace(tmp_path, 0.5)
    job.start_now()
    job.until_has(lambda: losses(tmp_path / "study.h5") >= 12)
    job.warn()
    job.until_requeued(2)
    pace(tmp_path, 0.05)
    job.start_now()
    job.until("COMPLETED")
    assert job.text.count(WARNED) == 2
    assert trials(tmp_path / "study.h5") == trials(tmp_path / "whole.h5")


def test_mpiexec_in_place_of_srun(submit, tmp_path):
    pace(tmp_path, 1)
    job = submit("tune.py", "--nodes", 2, "--ranks-per-node", 2, "--mpi", "mpiexec", "--time", 5, "--grace", 2)
    job.until_has(lambda: losses(tmp_path / "study.h5") >= 2)
    job.warn()
    job.until_requeued(1)
    assert WARNED in job.text
    pace(tmp_path, 0.05)
    job.start_now()
    job.until("COMPLETED")
    assert "5 ranks on 2 nodes" in job.text
    assert losses(tmp_path / "study.h5") == 20


def test_ranks_that_do_not_find_each_other_are_an_error(submit, tmp_path):
    # The cluster's default is `--mpi=none`: every rank is alone in its MPI world.
    job = submit("tune.py", "--ranks-per-node", 2, "--mpi", "site", "--time", 5)
    job.until("FAILED")
    assert "3 ranks were started, but each is alone in its MPI world" in job.text
    assert not (tmp_path / "study.h5").exists()


def test_a_failure_ends_the_job(submit, tmp_path):
    (tmp_path / "wrong.py").write_text(TUNE.read_text().replace("return sum", "return lambda: sum"))
    job = submit("wrong.py", "--ranks-per-node", 2, "--time", 5)
    job.until("FAILED")
    assert job.restarts == 0
    assert "ObjectiveError" in job.text


def test_restarts_are_limited(submit, tmp_path):
    pace(tmp_path, 1)
    job = submit("tune.py", "--time", 5, "--grace", 1, "--restarts", 1)
    job.until_has(lambda: losses(tmp_path / "study.h5") >= 1)
    job.warn()
    job.until_requeued(1)
    job.start_now()
    job.until_has(lambda: losses(tmp_path / "study.h5") >= 3)
    job.warn()
    job.until("FAILED")
    assert "not requeued: 1 restarts were allowed" in job.text


def test_ranks_killed_by_the_warning_do_not_stand_in_the_way_of_the_restart(submit, tmp_path):
    # Outside of study.run SIGUSR1 kills rank 0, and Slurm the others: their shared memory stays behind.
    wait = '    while not Path("go on").exists():\n        time.sleep(0.1)\n'
    (tmp_path / "slow.py").write_text(TUNE.read_text() + wait)
    job = submit("slow.py", "--ranks-per-node", 2, "--time", 5)
    job.until_has(lambda: "finished" in job.text)
    job.warn()
    job.until_requeued(1)
    assert "User defined signal 1" in job.text
    assert losses(tmp_path / "study.h5") == 20
    (tmp_path / "go on").touch()
    job.start_now()
    job.until("COMPLETED")
    assert "nothing left to do" in job.text


def test_a_warning_before_the_study_runs_requeues_a_job_on_two_nodes(submit, tmp_path):
    # It kills the ranks of the first node. Slurm ends those of the second, and returns the higher exit code, theirs.
    wait = """import signal

if os.environ["SLURM_NODEID"] == "1":
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print("up", flush=True)
while not Path("go on").exists():
    time.sleep(0.1)
"""
    (tmp_path / "slow.py").write_text(TUNE.read_text().replace("import hyppo\n", f"{wait}import hyppo\n"))
    job = submit("slow.py", "--nodes", 2, "--ranks-per-node", 2, "--time", 5)
    job.until_has(lambda: job.text.count("up") == 5)
    job.warn()
    job.until_requeued(1)
    assert "Terminated" in job.text
    (tmp_path / "go on").touch()
    job.start_now()
    job.until("COMPLETED")
    assert losses(tmp_path / "study.h5") == 20


def test_cancelled_jobs_leave_nothing_behind(submit, tmp_path):
    pace(tmp_path, 1)
    job = submit("tune.py", "--nodes", 2, "--ranks-per-node", 2, "--time", 5)
    job.until_has(lambda: losses(tmp_path / "study.h5") >= 2)
    assert processes_in(tmp_path)
    subprocess.run(["scancel", job.number], check=True, timeout=10)
    job.until("CANCELLED")
    until(lambda: not processes_in(tmp_path), 20, lambda: processes_in(tmp_path))
    assert losses(tmp_path / "study.h5") >= 2


def test_script_from_a_file_and_options_of_sbatch(submit, tmp_path):
    pace(tmp_path, 0.01)
    job = submit(
        "tune.py", "--time", 5, "-J", "a study", "-S", "comment=two words # and a hash", "-o", "job.sh", "--trials", 4
    )
    job.until("COMPLETED")
    assert (
        "two words # and a hash"
        in subprocess.run(["scontrol", "show", "job", job.number], capture_output=True, text=True, timeout=10).stdout
    )
    assert "finished" in job.text


def test_the_warning_spares_the_workers_of_a_training(submit, tmp_path):
    """Slurm signals every process of the step, also those that a training has forked, as a data loader does."""
    train = """
    import multiprocessing

    workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)) for _ in "ab"]
    for worker in workers:
        worker.start()
    Path("ready").touch()
    while not replica.should_stop:
        time.sleep(0.05)
    time.sleep(0.5)
    Path("alive").write_text(str([worker.is_alive() for worker in workers]))
    for worker in workers:
        worker.terminate()
"""
    head = "def train(replica):\n"
    (tmp_path / "tune.py").write_text(TUNE.read_text().replace(head, head + train))
    job = submit("tune.py", "--time", 5, "--grace", 10, "--restarts", 0)
    job.until_has((tmp_path / "ready").exists)
    job.warn()
    job.until("FAILED")
    assert (tmp_path / "alive").read_text() == "[True, True]"
    assert WARNED in job.text
