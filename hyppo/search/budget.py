"""The budget left to a run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Left:
    """The rest of a budget; None if there is no such limit.

    Attributes
    ----------
    trials : int or None
        New points that may still be asked. At 0 only contenders are trained again, until their order is clear.
    trainings : float or None
        Trainings that may still be asked; an estimate when the limit is one of time.
    """

    trials: int | None = None
    trainings: float | None = None


UNKNOWN = Left()
