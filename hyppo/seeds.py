"""Seeds by address: a replica's seed depends on (root, trial, replica) and on nothing else.

Rank count, arrival order or a crash cannot change the seed of a replica.
"""

from enum import IntEnum, unique

import numpy as np

SEED_BITS = 31  # every framework takes a positive 32-bit integer, TensorFlow's C++ side only below 2^31


@unique
class Purpose(IntEnum):
    """Purposes of a study's random numbers: each has separate streams."""

    REPLICA = 0
    DESIGN = 1
    SEARCH = 2
    EFFECTS = 3
    DATA = 4
    FEASIBLE = 5
    SCRIPT = 6
    CONTENDERS = 7


def seed_for(root: int, trial: int, replica: int) -> int:
    """Seed of one replica, in [0, 2^31).

    >>> seed_for(0, 3, 1) == seed_for(0, 3, 1), seed_for(0, 3, 1) == seed_for(0, 3, 2)
    (True, False)
    """
    return _seed(root, Purpose.REPLICA, trial, replica)


def data_seed_for(root: int, replica: int) -> int:
    """Seed of the data of replica `replica` of every trial, in [0, 2^31).

    >>> data_seed_for(0, 1) == data_seed_for(0, 1), data_seed_for(0, 1) == data_seed_for(0, 2)
    (True, False)
    """
    return _seed(root, Purpose.DATA, replica)


def script_seed_for(root: int) -> int:
    """Seed of a training process before it runs the user's script, in [0, 2^31).

    >>> script_seed_for(0) == script_seed_for(0), script_seed_for(0) == 0
    (True, False)
    """
    return _seed(root, Purpose.SCRIPT)


def _seed(root: int, *address: int) -> int:
    word = np.random.SeedSequence(root, spawn_key=address).generate_state(1, np.uint32)[0]
    return int(word) >> (32 - SEED_BITS)


def generator_for(root: int, purpose: Purpose, index: int = 0) -> np.random.Generator:
    """Random generator of one step."""
    return np.random.default_rng(np.random.SeedSequence(root, spawn_key=(purpose, index)))
