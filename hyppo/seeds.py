"""Seeds by address: a replica's seed depends on (root, trial, replica) and on nothing else.

Rank count, arrival order or a crash cannot change what a replica trains with.
"""

import os
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

SEED_BITS = 31  # every framework takes a positive 32-bit integer, TensorFlow's C++ side only below 2^31


def seed_for(root: int, trial: int, replica: int) -> int:
    """Seed of one replica, in [0, 2^31).

    >>> seed_for(0, 3, 1) == seed_for(0, 3, 1), seed_for(0, 3, 1) == seed_for(0, 3, 2)
    (True, False)
    """
    word = np.random.SeedSequence(root, spawn_key=(0, trial, replica)).generate_state(1, np.uint32)[0]
    return int(word) >> (32 - SEED_BITS)


def generator_for(root: int, purpose: int, index: int = 0) -> np.random.Generator:
    """Random generator of one step of the search; `purpose` > 0 keeps it apart from the replicas' seeds."""
    return np.random.default_rng(np.random.SeedSequence(root, spawn_key=(purpose, index)))


def _seed_torch(torch: Any, seed: int) -> None:
    torch.manual_seed(seed)  # all devices


def _seed_tensorflow(tensorflow: Any, seed: int) -> None:
    tensorflow.random.set_seed(seed)


def _seed_keras(keras: Any, seed: int) -> None:
    keras.utils.set_random_seed(seed)  # also resets the seed generators that Keras keeps of its own


FRAMEWORKS: dict[str, Callable[[Any, int], None]] = {
    "torch": _seed_torch,
    "tensorflow": _seed_tensorflow,
    "keras": _seed_keras,
}


def seed_everything(seed: int) -> None:
    """Seed `random`, numpy and every framework already imported.

    `PL_GLOBAL_SEED` is what Lightning hands to its data-loader workers. JAX keeps no global state; Keras on JAX is
    seeded through Keras.
    """
    os.environ["PL_GLOBAL_SEED"] = str(seed)
    os.environ["PL_SEED_WORKERS"] = "1"
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - users' code draws from the global generator
    for name, seed_framework in FRAMEWORKS.items():
        module = sys.modules.get(name)
        if module is not None and getattr(module.__spec__, "_initializing", False) is False:
            seed_framework(module, seed)
