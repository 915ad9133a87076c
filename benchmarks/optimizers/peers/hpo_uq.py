"""The original HYPPO (`hpo-uq` 1.4.0), unmodified, in a separate interpreter: `$HPO_UQ_PYTHON`.

It needs Python 3.10 and numpy below 1.23, and has the same import name as `hyppo`: so `hpo_uq_driver.py` runs in a
child process, which asks for losses over a pipe. It supports integers only: reals and log integers become 101 steps in
their own scale. Its `trial` is the number of replicas; the design is 2 (d + 1) of its random points, at most half of
the budget.
"""

import json
import os
import select
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.optimizers.peers.coordinates import Box
from benchmarks.optimizers.peers.protocol import Point, Setting

STEPS = 100
PATIENCE = 30.0  # CPU s: it loops for ever if a loss prints as 0.00000, or a point of many parameters on two lines


class OriginalPeer:
    def __init__(self, setting: Setting, surrogate: str) -> None:
        self.box = Box(setting.space)
        self.steps = np.where(self.box.integer, self.box.high, STEPS).astype(int)
        self.replicas = setting.replicas
        self.out = False
        design = min(2 * (setting.space.dimension + 1), max(setting.space.dimension + 1, setting.budget // 2))
        config = {
            "seed": setting.seed,
            "prms": {
                "nevals": design,
                "names": [f"x{j}" for j in range(setting.space.dimension)],
                "xlow": [0] * setting.space.dimension,
                "xup": self.steps.tolist(),
                "mult": [1] * setting.space.dimension,
            },
            "model": {"trial": setting.replicas},
            "hpo": {"surrogate": surrogate, "loops": setting.budget},  # more than it will be let do
        }
        self.folder = tempfile.TemporaryDirectory(prefix="hpo-uq-")
        requests, request = os.pipe()
        reply, replies = os.pipe()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") and k != "PYTHONPATH"}
        self.child = subprocess.Popen(
            [os.environ["HPO_UQ_PYTHON"], str(Path(__file__).with_name("hpo_uq_driver.py")), str(request), str(reply)],
            cwd=self.folder.name,
            env={**clean, "HPO_UQ_CONFIG": json.dumps(config)},
            pass_fds=(request, reply),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(Path(self.folder.name) / "stderr").open("w"),
        )
        os.close(request)
        os.close(reply)
        self.requests = os.fdopen(requests, "rb", buffering=0)
        self.replies = os.fdopen(replies, "wb", buffering=0)
        self._ended = weakref.finalize(self, _end, self.child)

    def clock(self) -> float:
        """CPU seconds of the child: its asks cost this process nothing."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self) -> Point:
        if self.out:
            raise RuntimeError("hpo-uq trains one point at a time: --pending 1 only")
        self.out = True
        levels = np.array(self._request())
        return Point(None, self.box.params(levels / np.maximum(self.steps, 1) * self.box.high), self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        self.out = False
        for r, loss in enumerate(losses):
            if r > 0:
                self._request()  # its next replica of the same point
            self.replies.write(f"{loss!r}\n".encode())

    def recommend(self) -> None:
        """Its own best is that of the losses told."""
        return None

    def _request(self) -> list[int]:
        start, ready = self.clock(), False
        while not ready and self.clock() - start < PATIENCE:
            ready = bool(select.select([self.requests], [], [], 1.0)[0])
        line = self.requests.readline() if ready else b""
        if not line:
            said = (Path(self.folder.name) / "stderr").read_text().strip().splitlines()
            why = said[-1] if said and ready else f"no point within {PATIENCE:.0f} CPU seconds"
            raise RuntimeError(f"hpo-uq stopped asking: {why}")
        levels: list[int] = json.loads(line)
        return levels


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()


def rbf(setting: Setting) -> OriginalPeer:
    return OriginalPeer(setting, "rbf")


def gp(setting: Setting) -> OriginalPeer:
    return OriginalPeer(setting, "gp")
