"""The one decorator of every kernel: compiled at the first call, kept on disk, and never stopped by a bad cache."""

import pickle
from collections.abc import Callable
from typing import Any

import numba
from numba.extending import register_jitable

# Errors that numba raises when it loads a truncated, empty or foreign cache entry.
BAD_CACHE = (pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError, IndexError, KeyError, OSError)


class Kernel:
    """A compiled function. `py_func` is the Python it was compiled from.

    Parameters
    ----------
    function : callable
        Loops over arrays and scalars; returns nothing, writes into its last argument.
    fastmath : bool
        Let sums be reordered (and so vectorised). Infinities and NaN keep their meaning.
    """

    def __init__(self, function: Callable[..., None], fastmath: bool) -> None:
        self.py_func = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        # Reordering and contraction only: "nnan" and "ninf" would make a NaN in the data undefined behaviour.
        self._options: dict[str, Any] = {
            "nogil": True,
            "fastmath": {"reassoc", "contract", "arcp", "nsz"} if fastmath else False,
        }
        self._checked = False
        try:
            self._compiled = numba.njit(cache=True, **self._options)(function)
        except RuntimeError:  # no folder that can be written: neither beside the source nor in the user's cache
            self._compiled = numba.njit(**self._options)(function)

    def __call__(self, *arguments: Any) -> None:
        if self._checked:
            self._compiled(*arguments)
            return
        try:
            self._compiled(*arguments)
        except BAD_CACHE:
            # A kernel raises no error, so this one comes from the cache: compile in memory and leave the files alone,
            # since another process may be writing them.
            self._compiled = numba.njit(**self._options)(self.py_func)
            self._compiled(*arguments)
        self._checked = True

    @property
    def signatures(self) -> list[Any]:
        """Argument types compiled so far: one entry, or a front has failed to coerce."""
        return list(self._compiled.signatures)


def jit(function: Callable[..., None]) -> Kernel:
    """Compile a kernel, sums in the order in which they are written."""
    return Kernel(function, fastmath=False)


def jit_reordered(function: Callable[..., None]) -> Kernel:
    """Compile a kernel whose inner sums may be reordered: for long loops, which become vector instructions."""
    return Kernel(function, fastmath=True)


def inline(function: Callable[..., float]) -> Callable[..., float]:
    """A scalar function that kernels call; plain Python outside them."""
    compiled: Callable[..., float] = register_jitable(function)
    return compiled
