"""All problems by name, by family and by split."""

import fnmatch
import importlib.util
from functools import cache

from benchmarks.optimizers.problems import bbob, bbob_noisy, surfaces, tables
from benchmarks.optimizers.problems.problem import Noise, Problem

__all__ = ["FAMILIES", "Noise", "Problem", "missing", "names", "problem"]

FAMILIES = (
    "bbob",
    "bbob-mixint",
    "bbob-replicas",
    "bbob-mixint-replicas",
    "bbob-noisy",
    "surface",
    "surface-noisy",
    "network",
    "recorded",
)


def missing() -> str | None:
    """The reason why some families are missing; None if all are available."""
    if importlib.util.find_spec("cocoex") is None:
        return "the families of COCO left out: coco-experiment is not installed"
    return None


def _family(family: str, split: str) -> list[str]:
    if family.startswith("bbob"):
        if missing():
            return []
        if family == "bbob-noisy":
            return bbob_noisy.names(split)
        suite = family.removesuffix("-replicas")
        return bbob.names(suite, split) if suite == family else bbob.noisy_names(suite, split)
    if family in tables.FAMILIES:
        return tables.names(family, split)
    return surfaces.noisy_names(split) if family == "surface-noisy" else surfaces.names(split)


def names(split: str, per_family: int | None = None, pattern: str = "*") -> list[str]:
    """Names of a split's problems, at most `per_family` of each family.

    Fewer are among more. Every seventh of a family is taken, since seven is coprime to the turns of dimensions; of a
    number of problems that seven divides, all in their order.

    Examples
    --------
    >>> names("choose", per_family=2, pattern="surface*")
    ['surface/mlp/i11', 'surface/cnn/i11', 'surface+training/mlp/i13', 'surface+training/cnn/i15']
    """
    if split not in ("choose", "report"):
        raise ValueError(f"split: expected 'choose' or 'report', got {split!r}")
    out: list[str] = []
    for family in FAMILIES:
        found = [n for n in _family(family, split) if any(fnmatch.fnmatch(n, p) for p in pattern.split(","))]
        k = len(found) if per_family is None else min(per_family, len(found))
        step = 7 if len(found) % 7 else 1
        out += [found[step * i % len(found)] for i in range(k)]
    return out


@cache
def problem(name: str) -> Problem:
    """The problem of a name, made once a process.

    Raises
    ------
    ValueError
        No such problem.
    """
    head = name.partition("/")[0].partition("+")[0]
    makers = {
        "bbob": bbob,
        "bbob-mixint": bbob,
        "bbob-noisy": bbob_noisy,
        "surface": surfaces,
        "network": tables,
        "recorded": tables,
    }
    if head not in makers:
        raise ValueError(f"problem: expected a name that begins with one of {list(makers)}, got {name!r}")
    made: Problem = makers[head].problem(name)
    return made
