"""Seeds by address: a replica's seed depends on (root, trial, replica) and on nothing else.

Rank count, arrival order or a crash cannot change the seed of a replica.
"""

import numpy as np

DATA_PURPOSE = 4  # keeps the seeds of the data apart from the streams of the search
SCRIPT_PURPOSE = 6
SEED_BITS = 31  # every framework takes a positive 32-bit integer, TensorFlow's C++ side only below 2^31


def seed_for(root: int, trial: int, replica: int) -> int:
    """Seed of one replica, in [0, 2^31).

    >>> seed_for(0, 3, 1) == seed_for(0, 3, 1), seed_for(0, 3, 1) == seed_for(0, 3, 2)
    (True, False)
    """
    word = np.random.SeedSequence(root, spawn_key=(0, trial, replica)).generate_state(1, np.uint32)[0]
    return int(word) >> (32 - SEED_BITS)


def data_seed_for(root: int, replica: int) -> int:
    """Seed of the data of replica `replica` of every trial, in [0, 2^31).

    >>> data_seed_for(0, 1) == data_seed_for(0, 1), data_seed_for(0, 1) == data_seed_for(0, 2)
    (True, False)
    """
    word = np.random.SeedSequence(root, spawn_key=(DATA_PURPOSE, replica)).generate_state(1, np.uint32)[0]
    return int(word) >> (32 - SEED_BITS)


def script_seed_for(root: int) -> int:
    """Seed of a training process before it runs the user's script, in [0, 2^31).

    >>> script_seed_for(0) == script_seed_for(0), script_seed_for(0) == 0
    (True, False)
    """
    word = np.random.SeedSequence(root, spawn_key=(SCRIPT_PURPOSE,)).generate_state(1, np.uint32)[0]
    return int(word) >> (32 - SEED_BITS)


def generator_for(root: int, purpose: int, index: int = 0) -> np.random.Generator:
    """Random generator of one step of the search; `purpose` > 0 keeps it apart from the replicas' seeds."""
    return np.random.default_rng(np.random.SeedSequence(root, spawn_key=(purpose, index)))
