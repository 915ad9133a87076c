"""mpi_scripts.py <scene> <folder>: what the tests run under mpiexec, on every rank, as a user's script is."""

import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import hyppo
from tests.objectives import perform
from tests.workers_contract import CHECKS

scene, folder = sys.argv[1], Path(sys.argv[2])
space = hyppo.Space(x=hyppo.Real(0, 1))


def say(*words):
    print(*words, flush=True)


def slow(replica):
    (folder / f"pid-{os.getpid()}").touch()
    time.sleep(float(os.environ.get("SECONDS", "60")))
    return 1.0


def study_of(objective, **arguments):
    return hyppo.Study(space, objective, **({"replicas": 1, "surrogate": "random"} | arguments))


def contract():
    from hyppo.launch.mpi import workers as mpi
    from hyppo.launch.mpi.job import current_job
    from hyppo.launch.process import Limits
    from hyppo.loop import Options

    current_job().serve_if_worker()
    for check in CHECKS:
        options = Options(trials=1).overridden(os.environ)
        workers, _ = mpi.workers(perform, options, Limits(), 3, lambda text: None)
        try:
            check(workers)
            say("passed", check.__name__)
        finally:
            workers.close()


def bell():
    from hyppo.launch.mpi.job import current_job

    messenger = current_job().messenger
    if messenger.rank == 0:
        while messenger.receive() is None:
            time.sleep(0.01)
        time.sleep(0.5)  # rank 1 sleeps by now
        messenger.send(1, "wake up")
        messenger.flush(5.0)
        return
    messenger.send(0, "here")
    while messenger.sleep(0.1) > 0.1:  # until nothing is to be heard of the start any more
        pass
    before = time.monotonic()
    messenger.sleep(20.0)
    slept = time.monotonic() - before
    while (came := messenger.receive()) is None:
        time.sleep(0.01)
    say("heard", *came, slept < 10.0)


def first_rank_leads():
    from hyppo.launch.mpi import workers as mpi
    from hyppo.launch.mpi.job import current_job
    from hyppo.launch.mpi.messages import Ended, Reported
    from hyppo.launch.process import Limits
    from hyppo.loop import Options
    from hyppo.training.replica import Outcome
    from tests.workers_contract import task, until

    current_job().serve_if_worker()
    options = Options(trials=1, manager="shared", data_parallel=2)
    workers, _ = mpi.workers(perform, options, Limits(), 1, lambda text: None)
    futures = [workers.submit(task("square", x=3.0, trial=slot, folder=folder / str(slot)), slot) for slot in (0, 1)]
    serial = min(workers._submitted)
    assert not workers._take(1, Ended(serial, Outcome(0.0, None, 0.0, 1.0))), "an ending from a rank that does not lead"
    assert not workers._take(1, Reported(serial, 0, 9.0))
    reports = []
    until(workers, lambda: reports.extend(workers.reports()) or all(future.done() for future in futures))
    say(sorted((report.trial, report.step, report.loss) for report in reports))
    say([future.result().loss for future in futures])
    workers.close()


def deaths():
    objectives = hyppo.Space(do=hyppo.Choice(["exit", "segfault", "kill", "raise", "nan", "hang", "square"]))
    study = hyppo.Study(objectives, ill, replicas=1, surrogate="random", log=folder / "s.h5")
    study.run(trials=7, replica_timeout=3.0)
    say("trials", len(study.trials))


def ill(replica):
    replica.params["x"] = 2.0
    return perform(replica)


def manners():
    kinds = ["fork", "mpi", "print", "chdir", "reseed", "daemon", "huge", "long_message", "leak", "close_all"]
    objectives = hyppo.Space(do=hyppo.Choice(kinds))
    study = hyppo.Study(objectives, ill, replicas=1, surrogate="random", log=folder / "s.h5")
    study.run(trials=len(kinds), memory_limit=0.4)
    say("trials", len(study.trials))
    other = study_of(draw, log=folder / "other.h5", seed=5)
    other.run(trials=4)


def draw(replica):
    import random

    assert os.getcwd() == os.environ["PWD"]
    return random.random()


def shared():
    study = study_of(child_of, log=folder / "s.h5")
    study.run(trials=6, manager="shared")
    say("rank 0 is", os.getpid())
    study.run(trials=8)  # on the others alone again


def child_of(replica):
    time.sleep(0.1)
    say("child of", os.getppid())
    return 1.0


def again():
    study = study_of(lambda replica: replica.params["x"])
    study.run(trials=2)
    study.run(trials=4)
    say("first", len(study.trials))
    other = study_of(lambda replica: 2.0)
    other.run(trials=3)
    say("second", len(other.trials), {t.mean for t in other.trials})


def refused():
    lock = threading.Lock()
    study_of(lambda replica: float(lock.locked())).run(trials=2)


def error_on_a_rank():
    if (os.environ.get("PMI_RANK") or os.environ["PMIX_RANK"]) == os.environ["BAD_RANK"]:  # MPI is not started yet
        raise KeyError("no such data set")
    study_of(perform).run(trials=2)


def error_with_mpi_started():
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == int(os.environ["BAD_RANK"]):
        raise KeyError("no such data set")
    study_of(perform).run(trials=2)


def error_after_the_run():
    study_of(lambda replica: 1.0).run(trials=2)
    raise KeyError("nothing to plot")


def exit_code():
    study_of(lambda replica: 1.0).run(trials=2)
    sys.exit(3)


def finalize():
    from mpi4py import MPI

    study_of(lambda replica: 1.0).run(trials=2)
    MPI.Finalize()
    say("finalized")


def idle():
    study_of(lambda replica: 1.0).run(trials=4)
    say("idle")
    time.sleep(4.0)


def waits_for_ranks():
    from mpi4py import MPI

    from hyppo.launch.mpi import world

    world.STUCK_AFTER = 1.0
    study_of(lambda replica: 1.0).run(trials=2)
    if os.environ["CALL"] == "recv":
        MPI.COMM_WORLD.recv(source=1)
    MPI.COMM_WORLD.Barrier()


def busy():
    study_of(slow).run(trials=20)


def groups():
    study = study_of(place, replicas=4, log=folder / "s.h5")
    study.run(trials=4, trial_groups=2, replica_groups=2)


def place(replica):
    time.sleep(0.1)
    (replica.directory / "pid").write_text(str(os.getpid()))
    return 1.0


def together():
    study = study_of(meet, replicas=2, log=folder / "s.h5")
    study.run(trials=2, data_parallel=2)
    say("losses", [r.loss for t in study.trials for r in t.replicas])


def meet(replica):
    import torch
    import torch.distributed as distributed

    distributed.init_process_group("gloo")
    token = torch.tensor(float(int(os.environ["TORCHELASTIC_RUN_ID"], 16) % 10_000))
    tokens = [torch.zeros(()) for _ in range(replica.world_size)]
    distributed.all_gather(tokens, token)
    assert all(other == token for other in tokens), "ranks of two groups have met"
    assert (distributed.get_rank(), distributed.get_world_size()) == (replica.rank, replica.world_size)
    (replica.directory / f"rank-{replica.rank}").write_text(f"{replica.seed} {os.environ['MASTER_PORT']}")
    total = torch.tensor(replica.rank + 1.0)
    distributed.all_reduce(total)
    return float(total)


def neighbours():
    study = study_of(one_leaves, log=folder / "s.h5")
    study.run(trials=6, data_parallel=2, trial_groups=2)


def one_leaves(replica):
    (replica.directory / f"rank-{replica.rank}").write_text(str(os.getpid()))
    time.sleep(0.3)
    if replica.trial == 0 and replica.rank == 1:
        os._exit(5)
    if replica.trial == 0:
        time.sleep(60)
    time.sleep(0.7 if replica.trial == 1 else 0.1)
    return 1.0


def one_rank_raises():
    study = study_of(raise_on_one_rank, log=folder / "s.h5")
    study.run(trials=2, data_parallel=2)


def raise_on_one_rank(replica):
    import torch
    import torch.distributed as distributed

    distributed.init_process_group("gloo")
    if replica.trial == 0 and replica.rank == 1:
        raise ValueError("no such file on this rank")
    distributed.all_reduce(torch.ones(1))
    return 1.0 if replica.rank == 0 else None


def pruning():
    study = study_of(descent, replicas=2, stopping="halving", log=folder / "s.h5")
    study.run(trials=12, trial_groups=2, data_parallel=2)
    say("pending", sum(len(trial.pending) for trial in study.trials))


def descent(replica):
    loss = 9.0
    for epoch in range(12):
        time.sleep(0.03)
        loss = replica.params["x"] + 1.0 / (epoch + 1)
        replica.report(epoch, loss)
        if replica.should_stop:
            (folder / f"stopped-{replica.trial}-{replica.index}-{replica.rank}").touch()
            break
    return loss


def two_nodes():
    """Each rank on a virtual node of its own, and a study without a file, then one with it."""
    rank = next(os.environ[name] for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK") if name in os.environ)
    os.environ["SLURMD_NODENAME"] = f"virtual{rank}"
    study_of(objective_of_nodes).run(trials=1)
    study_of(objective_of_nodes, log=folder / "s.h5").run(trials=1)


def objective_of_nodes(replica):
    return replica.params["x"]


globals()[scene]()
