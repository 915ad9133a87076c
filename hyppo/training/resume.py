"""Resuming an interrupted training: when to save its state, and the state of the random generators.

A training that is stopped, or whose process dies, is repeated with the same number and seed. The state that the
callbacks have saved in its directory spares it the epochs that it has trained. A study's folder may come from another
person, so no state is loaded by pickle: JSON, HDF5, and torch with `weights_only`.
"""

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hyppo.errors import StudyError, notify
from hyppo.text import error_line
from hyppo.training.frameworks import imported
from hyppo.training.replica import Replica

EVERY = 60.0  # s between two saves, at least
SHARE = 0.05  # of the time goes to saves, at most


def state_name(replica: Replica) -> str:
    """Prefix of the files of a fit's state: files of another seed, other parameters or another fit do not match it.

    A study file that was deleted may have left its folder behind, with state of the same trial and replica.

    >>> from hyppo.training.replica import Task
    >>> small, large = (Replica(Task(0, 0, 7, {"width": width}, ".")) for width in (8, 64))
    >>> state_name(small) == state_name(small) != state_name(large)
    True
    """
    of = repr((replica.seed, sorted(replica.params.items()), *([replica.fits] if replica.fits else [])))
    return f"resume.{hashlib.blake2b(of.encode(), digest_size=8).hexdigest()}"


def does_not_load(path: Path, error: BaseException) -> StudyError:
    """The error of a callback that cannot load the state in `path`.

    >>> print(does_not_load(Path("resume.1.json"), ValueError("\\nno such layer")))
    resume.1.json of an interrupted training does not load (ValueError: no such layer): the network, an optimiser or a \
callback has changed, or a file is damaged; delete it to train from the beginning
    """
    return StudyError(
        f"{path} of an interrupted training does not load ({error_line(error)}): the network, an optimiser or a "
        "callback has changed, or a file is damaged; delete it to train from the beginning"
    )


class Saves:
    """When to save the state of a training: often enough to lose little if its process dies, and at little cost.

    >>> saves = Saves(clock=iter([0.0, 30.0, 70.0, 71.0, 76.0, 170.0, 180.0]).__next__)  # the save takes 5 s
    >>> saves.due(), saves.due()
    (False, True)
    >>> saves.save(lambda: None)
    >>> saves.due(), saves.due()
    (False, True)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._took = 0.0

    def due(self) -> bool:
        return self._clock() - self._last >= max(EVERY, self._took / SHARE)

    def save(self, write: Callable[[], Any]) -> None:
        """Save by `write()`; after an error, training continues and a notice says why."""
        began = self._clock()
        try:
            write()
        except Exception as error:
            notify(
                "the state of this training is not saved, so it starts again if it is interrupted: "
                f"{error_line(error)} (resume=False silences this notice)",
                stacklevel=2,
            )
        finally:
            self._last = self._clock()
            self._took = self._last - began


def random_state() -> dict[str, Any]:
    """State of the random generators of `random`, numpy and every imported framework, GPUs included, as JSON values.

    >>> import json
    >>> state = json.loads(json.dumps(random_state()))
    >>> number = np.random.random()
    >>> set_random_state(state)
    >>> np.random.random() == number
    True
    """
    name, *numbers = np.random.get_state(legacy=True)  # noqa: NPY002
    state: dict[str, Any] = {
        "random": random.getstate(),
        "numpy": [name, *(n.tolist() if isinstance(n, np.ndarray) else n for n in numbers)],
    }
    for framework, module in imported():
        state |= framework.random_state(module)
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Continue with the random numbers of `state`."""
    version, internal, gauss = state["random"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    for framework, module in imported():
        framework.set_random_state(module, state)
