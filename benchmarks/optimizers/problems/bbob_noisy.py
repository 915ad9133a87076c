"""COCO's own suite `bbob-noisy`: 30 functions, each under Gaussian, uniform or Cauchy noise (Finck et al. 2009).

    symbol  meaning
    f       undisturbed loss above the least one
    D       dimension
    N, U    normal variate, uniform variate in [0, 1)

    Gaussian  f exp(beta N)
    uniform   f U^beta max(1, (1e9 / f)^(alpha U'))
    Cauchy    f + alpha max(0, 1000 + 1{U < p} N / |N'|)

True is the undisturbed loss, since Cauchy noise has no mean. The suite does not give it away, but Cauchy noise leaves
most evaluations at exactly f + 1000 alpha, and functions come in threes that differ in their noise alone: two equal
evaluations of the Cauchy one tell f. The noise is drawn here and not by COCO, whose stream is one for all problems of a
process, so that losses would depend on earlier problems in the process; a test compares both.

Instances 11 to 15 are for choosing defaults, 16 to 20 for reporting.

References
----------
Finck, Hansen, Ros, Auger: Real-parameter black-box optimization benchmarking 2009: presentation of the noisy
functions. INRIA RR-6869.
"""

import contextlib
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.problems.bbob import INSTANCES, suite
from benchmarks.optimizers.problems.problem import FloatArray, Problem

FUNCTIONS = range(101, 131)
MODERATE = range(101, 107)
DIMENSIONS = (2, 3, 5, 10, 20)
REPLICAS = 3
DRAWS = 100  # evaluations until two are equal; four in five are


def names(split: str) -> list[str]:
    """Names of the family's problems: each function once, dimension and instance in turn."""
    # The shift by the triple keeps the noise models and the dimensions from going round in step.
    return [f"bbob-noisy/f{f}/d{DIMENSIONS[(f + f // 3) % 5]:02d}/i{INSTANCES[split][(f // 2) % 5]}" for f in FUNCTIONS]


def problem(name: str) -> Problem:
    """The problem of a name such as `bbob-noisy/f107/d05/i17`.

    Raises
    ------
    ModuleNotFoundError
        `coco-experiment` is not installed.
    """
    function, dimension, instance = (int(n[1:]) for n in name.split("/")[1:])
    make = suite("bbob-noisy", dimension).get_problem_by_function_dimension_instance
    first = function - (function - 101) % 3
    offset = 1000.0 * _cauchy(function)[0]
    gaussian, cauchy = (make(f, dimension, instance) for f in (first, first + 2))
    least = gaussian(_optimum(gaussian))  # next to the optimum nothing is disturbed

    def loss(natural: FloatArray) -> FloatArray:
        return np.array([_repeated(cauchy, row) - offset for row in natural])

    disturb = (_gaussian_noise, _uniform_noise, _cauchy_noise)[function - first]

    def draw(true: float, rng: np.random.Generator) -> float:
        f = true - least
        return true if f < 1e-8 else least + disturb(f, function, dimension, rng)

    space = hyppo.Space({f"x{j + 1}": hyppo.Real(-5.0, 5.0) for j in range(dimension)})
    split = "choose" if instance in INSTANCES["choose"] else "report"
    return Problem(name, "bbob-noisy", split, space, loss, draw=draw, replicas=REPLICAS)


def _optimum(coco: Any) -> FloatArray:
    """COCO writes it to a file in the present folder, and there alone."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        coco._best_parameter("print")
        (file,) = Path(folder).iterdir()
        return np.array(file.read_text().split(), dtype=np.float64)


def _repeated(coco: Callable[[FloatArray], float], x: FloatArray) -> float:
    """The first value that comes twice."""
    seen: set[float] = set()
    for _ in range(DRAWS):
        value = float(coco(x))
        if value in seen:
            return value
        seen.add(value)
    raise RuntimeError(f"expected two equal evaluations of {DRAWS} under Cauchy noise, got none")


def _gaussian_noise(f: float, function: int, dimension: int, rng: np.random.Generator) -> float:
    return f * math.exp((0.01 if function in MODERATE else 1.0) * rng.standard_normal())


def _uniform_noise(f: float, function: int, dimension: int, rng: np.random.Generator) -> float:
    share = 0.01 if function in MODERATE else 1.0
    alpha, beta = share * (0.49 + 1.0 / dimension), share
    return f * rng.random() ** beta * max(1.0, (1e9 / f) ** (alpha * rng.random()))


def _cauchy(function: int) -> tuple[float, float]:
    """alpha and p."""
    return (0.01, 0.05) if function in MODERATE else (1.0, 0.2)


def _cauchy_noise(f: float, function: int, dimension: int, rng: np.random.Generator) -> float:
    alpha, p = _cauchy(function)
    jump = rng.standard_normal() / abs(rng.standard_normal()) if rng.random() < p else 0.0
    return f + alpha * max(0.0, 1000.0 + jump)
