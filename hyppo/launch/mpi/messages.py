"""Messages between the ranks of an MPI job.

0 -> any         Release
0 -> leader      Begin, RequestStop, Kill         a leader is the first rank of a replica group
any    -> 0      Hello, Bye
leader -> 0      Reported, Noticed, Ended
leader -> rank   Begin, RequestStop, Kill         to the other data-parallel ranks of its group
rank -> leader   Ended
"""

from dataclasses import dataclass

from hyppo.launch.process import Ending, Limits
from hyppo.launch.wire import Place, Reference
from hyppo.training.replica import Task


@dataclass(frozen=True, slots=True)
class Hello:
    """A rank serves from now on: its node, the GPUs that it sees, and how many the batch system gave to that node."""

    node: str
    gpus: tuple[str, ...]
    gpus_of_node: int = 0


@dataclass(frozen=True, slots=True)
class Bye:
    """A rank has nothing more to send."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Arguments of a rank's training process; another value means another process.

    `threads` None leaves them to the rank; `output` names the file for its output, None relays it; `gpus` is its
    CUDA_VISIBLE_DEVICES; `root` is the study's seed. `journal` is the study's journal, which exists as long as a run.
    """

    threads: int | None
    limits: Limits
    output: str | None
    gpus: str | None = None
    root: int = 0
    journal: str | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """Train. To a leader `others` names the rest of its group, with the settings and nodes of each."""

    serial: int
    task: Task
    key: int
    objective: Reference | None
    settings: Settings
    place: Place
    others: tuple[tuple[int, Settings, Place], ...] = ()


@dataclass(frozen=True, slots=True)
class RequestStop:
    """Raise `should_stop` in the training that runs."""

    serial: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End the training that runs, at once."""

    serial: int


@dataclass(frozen=True, slots=True)
class Release:
    """Finalise MPI and leave."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A training has reported."""

    serial: int
    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Noticed:
    """A training has a notice for the person who runs the study."""

    serial: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A training has ended."""

    serial: int
    ending: Ending
