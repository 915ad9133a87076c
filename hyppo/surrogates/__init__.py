"""Surrogates: each module has a `fit` that returns a frozen model with `predict`.

Modules load when they are first used: they need scipy and the compiled kernels, which a process that only trains
must not load.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_MODULES = ("base", "ensemble", "gp", "levels", "outputs", "pool", "rbf", "spread")

__all__ = ["base", "ensemble", "gp", "levels", "outputs", "pool", "rbf", "spread"]

if TYPE_CHECKING:
    from hyppo.surrogates import base, ensemble, gp, levels, outputs, pool, rbf, spread


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hyppo.surrogates' has no attribute {name!r}")
    return import_module(f"hyppo.surrogates.{name}")
