"""Where the results of a study come from: program, versions, machine and job of each session."""

import ast
import hashlib
import inspect
import os
import platform
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hyppo._version import __version__

# Distributions whose version may change a loss.
PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "h5py",
    "torch",
    "lightning",
    "pytorch-lightning",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "scikit-learn",
    "mpi4py",
)
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "COBALT_JOBID", "FLUX_JOB_ID")
GIT_PATIENCE = 2.0  # s; `git status` of a large tree on a slow disk is left out after that


def provenance(objective: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Describe this process and its machine, in JSON values; what is unknown is left out.

    Nothing is imported for it: versions are those of the installed distributions, drivers those of /proc.

    Parameters
    ----------
    objective : callable, optional
        The training function of the study.

    Returns
    -------
    dict
        `command` (list of str), `script` and its `script_sha256`, `objective_sha256` (of the training function, without
        comments, docstring and layout), `git_commit` and `git_dirty` (of the script's folder), `python`, `packages`
        (name -> version), `cuda` (of a torch that is loaded), `host`, `platform`, `cpu`, `cpus`, `gpus` (list of
        models), `driver`, `job`.

    Examples
    --------
    >>> sorted(provenance())[:3], provenance()["packages"]["hyppo"] == __version__
    (['command', 'cpu', 'cpus'], True)
    """
    found: dict[str, Any] = {
        "command": [str(word) for word in (sys.orig_argv or sys.argv)],
        "python": platform.python_version(),
        "packages": {"hyppo": __version__} | {name: v for name in PACKAGES if (v := _version(name)) is not None},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    script = _script()
    if script is not None:
        found |= {"script": str(script), "script_sha256": hashlib.sha256(script.read_bytes()).hexdigest()}
    if (source := _source(objective)) is not None:
        found["objective_sha256"] = hashlib.sha256(source.encode(errors="replace")).hexdigest()
    found |= _git(Path.cwd() if script is None else script.parent)
    torch = sys.modules.get("torch")
    cuda = getattr(getattr(torch, "version", None), "cuda", None)
    if cuda is not None:
        found["cuda"] = str(cuda)
    found |= _gpus(Path("/proc/driver/nvidia"))
    job = {name: os.environ[name] for name in JOBS if name in os.environ}
    return found | ({"job": job} if job else {})


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Differences between two sessions that may change a loss: commit, Python, packages, CUDA.

    >>> changes({"python": "3.11.7", "packages": {"torch": "2.4"}}, {"python": "3.11.7", "packages": {"torch": "2.5"}})
    ['torch 2.4 -> 2.5']
    """
    pairs = [(key.removeprefix("git_"), before.get(key), after.get(key)) for key in ("git_commit", "python", "cuda")]
    old, new = before.get("packages", {}), after.get("packages", {})
    pairs += [(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    return [f"{name} {_short(a)} -> {_short(b)}" for name, a, b in pairs if a is not None and b is not None and a != b]


def is_edited(runs: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> bool:
    """Whether the training function of this session differs from that of the last run that had one.

    Only sessions of one minor version of Python compare: each may write the same function in its own way.

    Parameters
    ----------
    runs : sequence of mapping
        Provenance of the session of each earlier run, of this session too.
    now : mapping
        Provenance of this session.

    Examples
    --------
    >>> a, b = {"python": "3.11.7", "objective_sha256": "a"}, {"python": "3.11.9", "objective_sha256": "b"}
    >>> is_edited([a, {}], b), is_edited([a, b], b), is_edited([a], {"python": "3.12.1", "objective_sha256": "b"})
    (True, False, False)
    """
    former = next((run for run in reversed(runs) if "objective_sha256" in run), None)
    if former is None or "objective_sha256" not in now:
        return False
    same_python = str(former.get("python")).split(".")[:2] == str(now.get("python")).split(".")[:2]
    return same_python and bool(former["objective_sha256"] != now["objective_sha256"])


def _source(objective: Callable[..., Any] | None) -> str | None:
    """The text of a function without comments, docstring and layout; None if it is unknown, as that of a lambda."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(objective))).body  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    if ast.get_docstring(tree, clean=False) is not None:
        tree.body = tree.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _short(value: object) -> str:
    text = str(value)
    return text[:10] if re.fullmatch("[0-9a-f]{40}", text) else text


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _script() -> Path | None:
    """The file of `__main__`; None at a prompt and in a notebook."""
    name = getattr(sys.modules.get("__main__"), "__file__", None)
    path = Path(name).resolve() if name else None
    return path if path is not None and path.is_file() else None


def _git(folder: Path) -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=GIT_PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit} | ({} if changed is None else {"git_dirty": bool(changed)})


def _cpu() -> str:
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _gpus(driver: Path) -> dict[str, Any]:
    try:
        infos = [path.read_text() for path in sorted(driver.glob("gpus/*/information"))]
        version = (driver / "version").read_text()
    except OSError:
        return {}
    models = [match[1] for info in infos if (match := re.search(r"^Model:\s*(.+)$", info, re.M))]
    number = re.search(r"\d+\.\d+(\.\d+)?", version)
    return {"gpus": models} | ({"driver": number[0]} if number else {})
