"""The errors of the package. Each is a `HyppoError` and also the builtin error that fits."""


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
