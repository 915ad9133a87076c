"""tune.py <log> [trials]: a study of a quadratic with noise that only the replica's seed decides."""

import sys
import time

import numpy as np

import hyppo

SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0


def train(replica):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(0.01)
        if replica.should_stop:
            return 1e9
    return replica.params["x"] ** 2 + replica.params["n"] + 0.01 * np.random.default_rng(replica.seed).normal()


space = hyppo.Space(x=hyppo.Real(-1, 1), n=hyppo.Integer(1, 4))
study = hyppo.Study(space, train, log=sys.argv[1], replicas=2, seed=3, surrogate="rbf")

if __name__ == "__main__":
    study.run(trials=int(sys.argv[2]) if len(sys.argv) > 2 else 4)
    print(len(study.trials), "trials")
