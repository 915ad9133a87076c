"""Networks and predictions that are kept by default: up to a size for the whole study, the best trials' longest."""

from collections.abc import Callable
from pathlib import Path

from hyppo.training.predictions import all_unasked, remove, unasked_in

STUDY_BYTES = 1 << 28  # 256 MiB
ROOM = 0.9  # of it is left filled by a removal, so that not every training after it removes something


class Unasked:
    """Files that trainings keep by default, by trial.

    Parameters
    ----------
    root : Path
        The study's folder of replicas.
    loss_of : callable
        The loss of a trial; infinity if it has none.
    say : callable
        Gets one notice, at the first removal.
    """

    def __init__(self, root: Path, loss_of: Callable[[int], float], say: Callable[[str], None]) -> None:
        self._loss_of = loss_of
        self._say = say
        self._said = False
        self._sizes: dict[int, dict[Path, int]] = {}  # trial -> file -> bytes
        self._total = 0
        for path in all_unasked(root):
            self._count(int(path.parts[-3].rpartition("-")[2]), path)

    def settle(self, trial: int, directory: Path) -> None:
        """Count the files of a training that has ended, and remove those of the worst trials if there is no room."""
        for path in unasked_in(directory):
            self._count(trial, path)
        if self._total <= STUDY_BYTES:
            return
        if not self._said:
            self._said = True
            self._say(
                f"the networks and predictions that were kept unasked have over {STUDY_BYTES >> 20} MiB: those of the "
                "trials with the highest losses are removed. weights=True and predict=True keep all, weights=False and "
                "predict=False none"
            )
        for worst in sorted(self._sizes, key=self._loss_of, reverse=True):
            if self._total <= ROOM * STUDY_BYTES:
                return
            for path, size in self._sizes.pop(worst).items():
                remove(path)
                self._total -= size

    def _count(self, trial: int, path: Path) -> None:
        files = self._sizes.setdefault(trial, {})
        size = path.stat().st_size if path.is_file() else 0
        self._total += size - files.get(path, 0)
        files[path] = size
