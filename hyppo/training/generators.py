"""Random generators that a training draws from although it did not make them.

`hyppo` seeds the global generators. The numbers of another one that the script made depend on the trainings before in
the same process, so the same seed gives another loss.
"""

import functools
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from hyppo.errors import notify
from hyppo.training.frameworks import imported
from hyppo.training.seeding import follows

TWISTER = "Mersenne Twister"  # in place of the seed, which such a generator does not know
_GLOBAL = getattr(np.random.rand, "__self__", None)  # numpy's own generator, which hyppo seeds
State = tuple[Any, bytes]  # of a random generator, after its seed if that is known


@contextmanager
def noticed_draws(objective: Callable[..., Any], name: str) -> Iterator[None]:
    """Tell if the training within draws from generators that `objective`, called `name`, finds ready-made.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     with noticed_draws(lambda: rng, "train(replica)"):
    ...         number = rng.normal()
    >>> str(said[0].message).partition(",")[0]
    'train(replica) draws from `rng`'
    """
    before = [(label, value, state) for label, value in _reached(objective) if (state := _state(value)) is not None]
    yield
    drawn = sorted({label for label, value, state in before if _drawn(state, _state(value))})
    if drawn:
        notify(
            f"{name} draws from {', '.join(f'`{label}`' for label in drawn)}, made outside of it and not seeded by "
            "hyppo: the same seed gives another loss after other trainings, and trainings at a time draw the same "
            "numbers. Make it in the function, such as numpy.random.default_rng(replica.seed)",
            stacklevel=3,
        )


def _state(value: Any) -> State | None:
    """State of a random generator other than the global ones; None for anything else."""
    if type(value) is random.Random:
        *key, position = value.getstate()[1]
        return TWISTER, np.array([position, *key], np.uint32).tobytes()
    if isinstance(value, np.random.RandomState) and value is not _GLOBAL:
        state = value.get_state(legacy=False)
        if state["bit_generator"] == "MT19937":
            return TWISTER, np.array([state["state"]["pos"], *state["state"]["key"]], np.uint32).tobytes()
    return next((s for framework, module in imported() if (s := framework.generator_state(module, value))), None)


def _drawn(before: State, after: State | None) -> bool:
    """Whether numbers were drawn between two states; a generator that was seeded in between does not count."""
    if after is None or before[0] != after[0] or before[1] == after[1]:
        return False
    if before[0] != TWISTER:
        return True
    old, new = (np.frombuffer(state, np.uint32)[1:] for _, state in (before, after))
    return np.array_equal(old, new) or follows(new, old)


def _reached(objective: Any) -> Iterator[tuple[str, Any]]:
    """Values that a function finds by name: globals of its module, its closure, the attributes of its object."""
    if isinstance(objective, functools.partial):
        yield from objective.keywords.items()
        yield from ((f"argument {n}", value) for n, value in enumerate(objective.args))
        yield from _reached(objective.func)
        return
    method = objective if inspect.isroutine(objective) else objective.__call__
    owner, function = getattr(method, "__self__", None), getattr(method, "__func__", method)
    yield from ((f"self.{name}", value) for name, value in getattr(owner, "__dict__", {}).items())
    yield from list(getattr(function, "__globals__", {}).items())
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        with suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents
