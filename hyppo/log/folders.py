"""Folders of replicas: beside the study file, or for a study without one in a folder that goes with the process."""

import shutil
import tempfile
import weakref
from pathlib import Path

from hyppo.config import CONFIRMATION


class Folders:
    """Folders of the replicas of one study; none is made here.

    >>> Folders(Path("/data/study.h5")).of(3, 0).as_posix()
    '/data/study.h5.d/trial-00003/replica-00'
    """

    def __init__(self, log: Path | None) -> None:
        self._root = None if log is None else log.with_name(log.name + ".d")

    def of(self, trial: int, index: int) -> Path:
        """Folder of one replica."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="hyppo-"))
            weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)
        name = f"replica-{index:02d}" if index < CONFIRMATION else f"confirmation-{index - CONFIRMATION:02d}"
        return self._root.absolute() / f"trial-{trial:05d}" / name
