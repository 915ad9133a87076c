"""Seeding of a training: `random`, numpy and every framework, also one that the training imports later."""

import builtins
import importlib.util
import os
import random
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hyppo.training.frameworks import FRAMEWORKS, imported
from hyppo.training.switches import Switches, current


class _AtImport(MetaPathFinder):
    """Follows the imports of a training.

    It seeds a framework when its import ends, undoes the draws of other modules at their import, and notes the switches
    that imports change.
    """

    def __init__(self) -> None:
        self.seed = 0
        self.switches: Switches | None = None  # of the running training
        self.thread = 0  # in which it runs
        self.importing = False  # whether that thread executes a module that is followed
        self._finding = threading.local()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if getattr(self._finding, "name", None) == name or not self._follows(name):
            return None
        self._finding.name = name
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finding.name = None
        # Frameworks and packages in Python; wrapping other loaders may break them.
        if spec is None or spec.loader is None or not (name in FRAMEWORKS or type(spec.loader) is SourceFileLoader):
            return None
        spec.loader = _Following(spec.loader, self)
        return spec

    def _follows(self, name: str) -> bool:
        if name in FRAMEWORKS:
            return True
        # A module of a package is part of the import that it belongs to, if there is one.
        return self.switches is not None and ("." not in name or self.undoes_draws())

    def undoes_draws(self) -> bool:
        """Whether the draws of an import that starts now are undone. Other threads import while the training draws."""
        return self.switches is not None and not self.importing and threading.get_ident() == self.thread

    @contextmanager
    def without_draws(self) -> Iterator[None]:
        """Undo the draws of an import: fastai, scikit-learn and MONAI draw.

        Otherwise the first training of a process would draw other numbers than the following ones.
        """
        if not self.undoes_draws():
            yield
            return
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        states = {framework.name: framework.random_state(module) for framework, module in imported()}
        self.importing = True
        try:
            yield
        finally:
            self.importing = False
            for framework, module in imported():
                if framework.name in states:
                    framework.set_random_state(module, states[framework.name])
                else:
                    framework.seed(module, self.seed)
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


class _Following(Loader):
    """Replaces a module's loader while the module is executed, and then restores it."""

    def __init__(self, loader: Loader, finder: _AtImport) -> None:
        self.loader = loader
        self.finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        before = current()
        with self.finder.without_draws():
            if module.__name__ in FRAMEWORKS:
                self._seed(module)
            else:
                self.loader.exec_module(module)
        if self.finder.switches is not None:
            self.finder.switches.imported(module, before)

    def _seed(self, module: ModuleType) -> None:
        # An import draws from these generators (Keras' does), and seeding Keras resets them. The function that is
        # using them continues as in a process in which the framework was imported before.
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        self.loader.exec_module(module)
        FRAMEWORKS[module.__name__].seed(module, self.finder.seed)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


_at_import = _AtImport()

WORDS = 624  # of the state of a Mersenne Twister, which `random` and numpy's global generator are
STATES = 512  # of WORDS numbers each, compared at once: 2.5 MB
CHUNKS = 32  # of STATES states: an unseeded generator is followed for 10 million numbers, which takes 0.1 s


@contextmanager
def restored_switches() -> Iterator[None]:
    """Run a training and then restore the switches of frameworks, except for changes made by imports."""
    outer, _at_import.switches = _at_import.switches, Switches()
    _at_import.thread = threading.get_ident()
    try:
        yield
    finally:
        switches, _at_import.switches = _at_import.switches, outer
        switches.restore()


def seed_everything(seed: int) -> None:
    """Seed `random`, numpy, every framework already imported, and the others when they are first imported.

    The result does not depend on earlier code in this process.
    """
    for framework in FRAMEWORKS.values():
        os.environ.update(framework.environ(seed))
    _at_import.seed = seed
    if _at_import not in sys.meta_path:
        sys.meta_path.insert(0, _at_import)
    for framework, module in imported():
        framework.seed(module, seed)
    random.seed(seed)  # last: Keras draws from it
    np.random.seed(seed)  # noqa: NPY002 - users' code draws from the global generator


@contextmanager
def imports_without_draws() -> Iterator[None]:
    """Undo the draws of installed packages at their import: some draw, and `drawn` is about the user's own code.

    >>> random.seed(1)
    >>> before = random.getstate()
    >>> with imports_without_draws():
    ...     import email.generator
    >>> random.getstate() == before
    True
    """
    import_module = builtins.__import__
    importing = False

    def follow(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        nonlocal importing
        if importing or level > 0 or not _is_installed(name.partition(".")[0]):
            return import_module(name, globals, locals, fromlist, level)
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        importing = True
        try:
            return import_module(name, globals, locals, fromlist, level)
        finally:
            importing = False
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002

    builtins.__import__ = follow
    try:
        yield
    finally:
        builtins.__import__ = import_module


def _is_installed(package: str) -> bool:
    """Whether a package is of the standard library or in any site-packages, and not the user's own.

    A cluster's modules and a user's own installations put further ones on the path.
    """
    loaded = sys.modules.get(package)
    spec = importlib.util.find_spec(package) if loaded is None else getattr(loaded, "__spec__", None)
    origin = "" if spec is None else spec.origin or ""
    return origin.startswith(sysconfig.get_path("stdlib")) or bool(
        {"site-packages", "dist-packages"} & {*Path(origin).parts}
    )


def drawn(seed: int) -> list[str]:
    """Global generators that code has drawn from since `seed_everything(seed)`, without seeding them itself.

    Examples
    --------
    >>> seed_everything(7)
    >>> drawn(7)
    []
    >>> number = np.random.rand()
    >>> drawn(7)
    ['numpy']
    >>> np.random.seed(0)
    >>> number = np.random.rand()
    >>> drawn(7)
    []
    """
    names = [framework.name for framework, module in imported() if framework.drawn(module, seed)]
    if follows(random.getstate()[1][:WORDS], random.Random(seed).getstate()[1][:WORDS]):
        names.append("random")
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    unused = np.random.RandomState(seed).get_state(legacy=False)
    if state["bit_generator"] == unused["bit_generator"] and follows(state["state"]["key"], unused["state"]["key"]):
        names.append("numpy")
    return sorted(names)


def follows(key: Any, start: Any) -> bool:
    """Whether a Mersenne Twister comes from the state `start` to the state `key` by drawing numbers.

    A state that was just seeded is all used up, so the first number that is drawn changes it.
    """
    if np.array_equal(key, start):
        return False
    looked_for = _twister(key, 0).random_raw(WORDS)
    twister = _twister(start, WORDS)
    for _ in range(CHUNKS):
        numbers = twister.random_raw(WORDS * STATES).reshape(STATES, WORDS)
        if np.any(np.all(numbers == looked_for, axis=1)):
            return True
    return False


def _twister(key: Any, position: int) -> np.random.MT19937:
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": np.array(key, np.uint32), "pos": position}}
    return twister
