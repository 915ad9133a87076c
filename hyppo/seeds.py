"""Seeds by address: a replica's seed depends on (root, trial, replica) and on nothing else.

Rank count, arrival order or a crash cannot change what a replica trains with.
"""

import importlib.util
import os
import random
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
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


class _SeededAtImport(MetaPathFinder):
    """Seeds a framework as its import ends, with the seed of the training that imports it."""

    def __init__(self) -> None:
        self.seed = 0
        self._finding = threading.local()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in FRAMEWORKS or getattr(self._finding, "name", None) == name:
            return None
        self._finding.name = name
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finding.name = None
        if spec is not None and spec.loader is not None:
            spec.loader = _Seeding(spec.loader, self)
        return spec


class _Seeding(Loader):
    """Stands in for a loader while its module is executed, and leaves it in its place."""

    def __init__(self, loader: Loader, finder: _SeededAtImport) -> None:
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        # An import draws from these (Keras' does), and seeding Keras resets them: the function that is in the middle
        # of using them finds them as in a process where the framework was there already.
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        self.loader.exec_module(module)
        FRAMEWORKS[module.__name__](module, self.finder.seed)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


_at_import = _SeededAtImport()


def seed_everything(seed: int) -> None:
    """Seed `random`, numpy, every framework already imported, and the others when they are first imported.

    Nothing of this depends on what ran before in the process. `PL_GLOBAL_SEED` is what Lightning hands to its
    data-loader workers; torch seeds its own from its generator. JAX keeps no global state; Keras on JAX is seeded
    through Keras.
    """
    os.environ["PL_GLOBAL_SEED"] = str(seed)
    os.environ["PL_SEED_WORKERS"] = "1"
    _at_import.seed = seed
    if _at_import not in sys.meta_path:
        sys.meta_path.insert(0, _at_import)
    for name, seed_framework in FRAMEWORKS.items():
        module = sys.modules.get(name)
        if module is not None and getattr(module.__spec__, "_initializing", False) is False:
            seed_framework(module, seed)
    random.seed(seed)  # last: Keras draws from it
    np.random.seed(seed)  # noqa: NPY002 - users' code draws from the global generator
