"""The search, written like a user's `tune.py`.

    python -m benchmarks.sinogram.search --size smoke --out build/smoke
    mpiexec -n 3 python -m benchmarks.sinogram.search --size demo --out build/demo
    mpiexec -n 3 hyppo run benchmarks/sinogram/search.py -- --size demo --out build/demo

`python -m benchmarks.sinogram run` starts the second of these and evaluates its recommendation.
"""

import argparse
from importlib import import_module
from pathlib import Path

import hyppo
from benchmarks.sinogram.data import SETTINGS
from benchmarks.sinogram.space import space_of

parser = argparse.ArgumentParser(description="Search the sinogram benchmark's space; the same command goes on.")
parser.add_argument("--size", choices=list(SETTINGS), default="smoke")
parser.add_argument("--framework", choices=["lightning", "keras"], default="lightning")
parser.add_argument("--out", type=Path, default=Path("build/sinogram"), help="folder of the study file")
parser.add_argument("--replicas", type=int, help="trainings of each configuration; by default contenders get more")
parser.add_argument("--trials", type=int, help="stop after so many configurations, those in the study file counted")
parser.add_argument("--time-limit", type=float, help="ask for nothing new after so many seconds")
parser.add_argument("--confirm", type=int, default=0, help="trainings of the recommendation with new seeds, at the end")
parser.add_argument("--seed", type=int, default=0, help="of the search and of every training")
arguments = parser.parse_args()

network = f"benchmarks.sinogram.network_{arguments.framework}"


def train(replica: hyppo.Replica) -> None:
    """Train one network; the framework is loaded only in the process that trains."""
    import_module(network).train(replica, SETTINGS[arguments.size])


arguments.out.mkdir(parents=True, exist_ok=True)
study = hyppo.Study(
    space_of(arguments.size),
    train,
    log=arguments.out / "study.h5",
    replicas=arguments.replicas,
    seed=arguments.seed,
)

if __name__ == "__main__":
    study.run(trials=arguments.trials, time_limit=arguments.time_limit)
    print(study.best)
    if arguments.confirm:
        print(study.confirm(arguments.confirm))
