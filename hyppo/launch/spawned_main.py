"""The main module of a process that multiprocessing spawned inside a training.

Such a process runs the main module again, to find the functions that it is sent. The user's script, unguarded, would
come to `study.run` there: it ends at that point instead (`hyppo.launch.attend`).
"""

import contextlib
import os
from typing import Any

from hyppo import launch

SCRIPT = "HYPPO_SCRIPT"  # path of the user's script, set in every training process


def _run(path: str, namespace: dict[str, Any]) -> None:
    namespace["__file__"] = path
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    launch.spawned = True
    with contextlib.suppress(launch.ScriptEnds, SystemExit):
        exec(code, namespace)


if __name__ == "__mp_main__":
    _run(os.environ[SCRIPT], globals())
