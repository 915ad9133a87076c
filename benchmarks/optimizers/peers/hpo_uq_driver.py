"""Runs the original HYPPO in its own Python 3.10; its trainer asks for losses over two pipes. See `hpo_uq`."""

import json
import os
import pickle
import random
import sys

sys.modules["pickle5"] = pickle  # pickle5 is a back-port of Python 3.8's pickle

import numpy  # noqa: E402

import hyppo  # noqa: E402 - the one of `hpo-uq`, which imports pickle5

request, reply = os.fdopen(int(sys.argv[1]), "wb", buffering=0), os.fdopen(int(sys.argv[2]), "r")


def train(**params):  # type: ignore[no-untyped-def]
    """One replica: the point goes out, its loss comes back; the end of the pipe is the end of the run."""
    names = sorted((n for n in params if n[0] == "x" and n[1:].isdigit()), key=lambda n: int(n[1:]))
    request.write((json.dumps([int(params[n]) for n in names]) + "\n").encode())
    line = reply.readline()
    if not line:
        sys.exit(0)
    return float(line)


if __name__ == "__main__":
    config = json.loads(os.environ["HPO_UQ_CONFIG"])
    seed = config.pop("seed")
    random.seed(seed)
    numpy.random.seed(seed)  # noqa: NPY002 - the generator that it draws from
    # A trainer is named by dotted path, of a module in a package; a function is refused by its own code.
    sys.modules["exchange"] = sys.modules["exchange.losses"] = sys.modules["__main__"]
    config["trainer"] = "exchange.losses.train"
    hyppo.inline_job(config, run_mode=2, loops=1)
