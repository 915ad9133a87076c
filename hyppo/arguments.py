"""Checks of arguments: numbers, whole numbers and words, taken in every form that users have them in."""

import math
import numbers
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from hyppo.errors import HyppoError, StudyError

F = TypeVar("F", bound=Callable[..., Any])


def native(value: Any) -> Any:
    """The Python value of an array with one element, of numpy, torch, JAX or TensorFlow; anything else unchanged.

    NaN for a masked element, such as the mean of an array without valid ones.

    >>> import numpy as np
    >>> native(np.float32(0.5)), native(np.array(3)), native("three"), native(np.ma.masked)
    (0.5, 3, 'three', nan)
    """
    if type(value) in (int, float, bool, str, type(None)):
        return value
    try:
        if math.prod(value.shape) != 1:
            return value
        if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).all():
            return math.nan
        if hasattr(value, "item"):  # numpy, torch, JAX
            return value.item()
        return value.numpy().item()  # TensorFlow, Keras
    except Exception:  # not an array, or one whose value is not known here
        return value


def quoted(value: Any) -> str:
    """`repr` of a value, for messages: cut if it is long; Python refuses that of an integer with thousands of digits.

    >>> quoted("a"), quoted(10**9999)
    ("'a'", 'an integer of 33216 bits')
    """
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:180]}... ({len(text)} characters)"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def whole(name: str, value: Any, least: int | None = None, error: type[HyppoError] = StudyError) -> int:
    """The argument `name` as an int.

    Raises
    ------
    HyppoError
        Of the type `error`: not a whole number, or below `least`.

    Examples
    --------
    >>> import numpy as np
    >>> whole("trials", np.int64(3)), whole("trials", 3.0)
    (3, 3)
    """
    found = native(value)
    is_whole = isinstance(found, int) or (_is_number(found) and math.isfinite(found) and found == int(found))
    if is_whole and not isinstance(found, bool) and (least is None or found >= least):
        return int(found)
    bound = "" if least is None else f" of at least {least}"
    raise error(f"{name}: expected an integer{bound}, got {quoted(value)}")


def number(
    name: str,
    value: Any,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    unit: str = "a number",
    finite: bool = True,
    error: type[HyppoError] = StudyError,
) -> float:
    """The argument `name` as a float.

    Raises
    ------
    HyppoError
        Of the type `error`: not a number, not finite (if `finite`), or outside the bounds.

    Examples
    --------
    >>> import numpy as np
    >>> number("risk", np.float32(0.5), least=0), number("loss", np.array([1])), number("loss", np.nan, finite=False)
    (0.5, 1.0, nan)
    """
    found = native(value)
    if _is_number(found):
        try:
            result = float(found)
        except OverflowError:  # an int above 1.8e308
            result = math.inf if found > 0 else -math.inf
        if (
            (not finite or math.isfinite(result))
            and (least is None or result >= least)
            and (above is None or result > above)
            and (below is None or result < below)
        ):
            return result
    if above is not None and below is not None:
        expected = f"{unit} in ({above:g}, {below:g})"
    elif above is not None:
        expected = f"{unit}, more than {above:g}"
    elif least is not None:
        expected = f"{unit}, at least {least:g}"
    else:
        expected = "a finite number" if finite else unit
    raise error(f"{name}: expected {expected}, got {quoted(value)}")


def one_of(name: str, value: Any, words: Sequence[str]) -> str:
    """The argument `name`, which is one of `words`.

    Raises
    ------
    StudyError
        It is none of them.

    Examples
    --------
    >>> one_of("surrogate", "gp", ("gp", "rbf"))
    'gp'
    """
    if not isinstance(value, str) or value not in words:
        raise StudyError(f"{name}: expected one of {list(words)}, got {quoted(value)}")
    return value


def takes_study(function: F) -> F:
    """Decorator: check that the first argument is a study, not the path of one, before the function runs.

    Examples
    --------
    >>> @takes_study
    ... def count(study):
    ...     return len(study.trials)
    >>> count("study.h5")
    Traceback (most recent call last):
    hyppo.errors.StudyError: count(study): expected a hyppo.Study, for example hyppo.load(path), got 'study.h5'
    """

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        study = args[0] if args else kwargs.get("study")
        if not hasattr(study, "trials"):
            raise StudyError(
                f"{function.__name__}(study): expected a hyppo.Study, for example hyppo.load(path), got {quoted(study)}"
            )
        return function(*args, **kwargs)

    return cast(F, checked)
