"""Acquisition: the candidates and their scores.

Modules load when they are first used, as those of `hyppo.surrogates` do and for the same reason.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_MODULES = ("candidates", "expected_improvement", "weighted")

__all__ = ["candidates", "expected_improvement", "weighted"]

if TYPE_CHECKING:
    from hyppo.acquisition import candidates, expected_improvement, weighted


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hyppo.acquisition' has no attribute {name!r}")
    return import_module(f"hyppo.acquisition.{name}")
