"""Points that the user's own function refuses: they are no part of the space.

A search never proposes a point whose key is in the set of tried points. `Closed` is that set with the refused points in
it, so that every part of the search keeps away from both.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from hyppo.errors import StudyError
from hyppo.space import Space
from hyppo.text import error_line

REMEMBERED = 100_000  # answers that are kept: neighbours of the incumbent come up again and again


class Feasible:
    """The user's function of parameters, asked once a point.

    Examples
    --------
    >>> from hyppo.space import Integer
    >>> space = Space(batch=Integer(1, 8))
    >>> feasible = Feasible(space, lambda params: 8 % params["batch"] == 0)
    >>> [n for n in range(1, 9) if feasible(space.keys(space.encode({"batch": n})[None])[0])]
    [1, 2, 4, 8]
    """

    def __init__(self, space: Space, function: Callable[[dict[str, Any]], bool]) -> None:
        self._space, self._function = space, function
        self._answers: dict[bytes, bool] = {}

    def __call__(self, key: bytes) -> bool:
        """Whether the point of a key of `space.keys` may be trained."""
        answer = self._answers.get(key)
        if answer is None:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            unit = self._space.unit_of(np.frombuffer(key, dtype=np.int64)[None, :])[0]
            answer = self._answers[key] = self.accepts(self._space.decode(unit))
        return answer

    def accepts(self, params: Mapping[str, Any]) -> bool:
        """Whether the user's function accepts parameters.

        Raises
        ------
        StudyError
            It raised, or returned something other than true or false.
        """
        try:
            answer = self._function(dict(params))
        except Exception as error:
            raise StudyError(f"feasible({dict(params)}) raised {error_line(error)}") from error
        if not isinstance(answer, bool | np.bool_):
            raise StudyError(f"feasible({dict(params)}): expected True or False, got {answer!r}")
        return bool(answer)


class Closed(set[bytes]):
    """Keys of tried points. `in` and `isdisjoint` also include the points that `feasible` refuses."""

    def __init__(self, keys: Iterable[bytes], feasible: Feasible) -> None:
        super().__init__(keys)
        self._feasible = feasible

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (isinstance(key, bytes) and not self._feasible(key))

    def isdisjoint(self, other: Iterable[object]) -> bool:
        return not any(key in self for key in other)

    def copy(self) -> "Closed":
        return Closed(self, self._feasible)
