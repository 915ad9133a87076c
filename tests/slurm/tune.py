"""A study whose losses are known and whose pace the file `pace` sets, in seconds a training."""

import argparse
import os
import time
from pathlib import Path

import hyppo

parser = argparse.ArgumentParser()
parser.add_argument("--parameters", type=int, default=2)
parser.add_argument("--log", default="study.h5")
arguments = parser.parse_args()


def train(replica):
    end = time.monotonic() + float(Path("pace").read_text())
    step = 0
    while time.monotonic() < end and not replica.should_stop:
        time.sleep(0.05)
        replica.report(step, 1.0)
        step += 1
    noise = (replica.seed % 1000) / 1e5
    return sum((value - 0.3) ** 2 for value in replica.params.values()) + noise


space = hyppo.Space({f"x{i}": hyppo.Real(0, 1) for i in range(arguments.parameters)})
study = hyppo.Study(space, train, log=arguments.log, replicas=2, seed=0)
if __name__ == "__main__":
    study.run(trials=10, output="file")
    print("finished over", os.environ.get("MPIR_CVAR_CH4_NETMOD"))
