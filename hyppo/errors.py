"""What can go wrong, by kind: every error of the package is a `HyppoError` and the builtin that fits."""


class HyppoError(Exception):
    """Root of every error that `hyppo` raises on purpose."""


class SpaceError(HyppoError, ValueError):
    """A parameter or a space that cannot be: empty, reversed, not finite, a name given twice, a point outside."""


class StudyError(HyppoError, ValueError):
    """A call that the study's state does not allow, or an argument that it cannot use."""


class SpaceExhausted(StudyError):
    """Every point of the space was tried, and all of them are still pending: nothing is left to ask."""


class ObjectiveError(HyppoError, TypeError):
    """The objective returned something that is not a loss."""


class SurrogateError(HyppoError, ValueError):
    """Data that a surrogate cannot be fitted to."""


class LogError(HyppoError, OSError):
    """The study file cannot be opened, written, or does not belong to this study."""


class LaunchError(HyppoError, RuntimeError):
    """Processes that cannot be started or arranged as asked."""
