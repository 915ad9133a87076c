"""The errors of the package, each a `HyppoError` and also the builtin error that fits; and its notices."""

import sys
import warnings


class HyppoError(Exception):
    """Root of every error that `hyppo` raises on purpose."""


class HyppoWarning(UserWarning):
    """A notice of `hyppo` to the person who runs a study; one of a training is shown by the run, wherever it trains."""


class SpaceError(HyppoError, ValueError):
    """An invalid parameter, space or point: empty, reversed, not finite, a name given twice, outside the space."""


class StudyError(HyppoError, ValueError):
    """A call that the state of the study does not allow, or an invalid argument."""


class SpaceExhausted(StudyError):
    """Every point of the space was tried and all are still pending, so there is nothing to ask."""


class ObjectiveError(HyppoError, TypeError):
    """The objective returned something that is not a loss."""


class SurrogateError(HyppoError, ValueError):
    """Data that a surrogate cannot be fitted to."""


class LogError(HyppoError, OSError):
    """The study file cannot be opened, written, or does not belong to this study."""


class LaunchError(HyppoError, RuntimeError):
    """Processes that cannot be started or arranged as asked."""


_shown: set[str] = set()  # notices given in spite of a filter, once each


def notify(text: str, stacklevel: int = 1) -> None:
    """Give the notice `text`, a `HyppoWarning`, as `warnings.warn` does.

    Many scripts ignore all warnings, or turn them into errors, which would fail a training that is done. Such filters
    do not hold for a notice; one for `HyppoWarning` does.

    Parameters
    ----------
    text : str
    stacklevel : int
        1 for the caller of `notify`.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("error")
    ...     notify("no predictions are kept")
    >>> [str(one.message) for one in said]
    ['no predictions are kept']
    """
    action, category = next(
        (
            (action, category)
            for action, message, category, module, line in warnings.filters
            if issubclass(HyppoWarning, category) and message is module is None and line == 0
        ),
        ("default", Warning),
    )
    if action in ("ignore", "error") and category is not HyppoWarning:
        if text in _shown:
            return
        _shown.add(text)
        frame = sys._getframe(stacklevel)
        warnings.showwarning(HyppoWarning(text), HyppoWarning, frame.f_code.co_filename, frame.f_lineno)
    else:
        warnings.warn(text, HyppoWarning, stacklevel=stacklevel + 1)
