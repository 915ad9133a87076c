"""The COCO functions `bbob` and `bbob-mixint` (Hansen et al. 2021, Tušar et al. 2019), noise-free and with replicas.

The noise of the families `bbob-replicas` and `bbob-mixint-replicas` is this repository's own (`noise`); COCO's noisy
suite is in `bbob_noisy`.

Instances 11 to 15 are for choosing defaults, 16 to 20 for reporting. Each suite gives one problem for each of its 24
functions; dimension and instance go round, so that every group of functions meets every dimension.
"""

from functools import cache
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.problems.noise import SHAPES
from benchmarks.optimizers.problems.problem import FloatArray, Noise, Problem

FUNCTIONS = range(1, 25)
INSTANCES = {"choose": range(11, 16), "report": range(16, 21)}
DIMENSIONS = {"bbob": (2, 3, 5, 10, 20), "bbob-mixint": (5, 10, 20)}
REPLICAS = 3  # trainings of a point under noise


def names(suite_name: str, split: str) -> list[str]:
    """Names of a noise-free family's problems."""
    return [_name(suite_name, f, f, split) for f in FUNCTIONS]


def noisy_names(suite_name: str, split: str) -> list[str]:
    """Names of the problems of a family with replicas: all functions, the noise shapes in turn."""
    shapes = list(SHAPES[split])
    # The shift by the function keeps shapes, dimensions and instances from going round in step.
    return [_name(f"{suite_name}+{shapes[(f + f // 4) % len(shapes)]}", f, 2 * f + 1, split) for f in FUNCTIONS]


def _name(head: str, function: int, turn: int, split: str) -> str:
    dimensions = DIMENSIONS[head.partition("+")[0]]
    dimension = dimensions[turn % len(dimensions)]
    instance = INSTANCES[split][(turn // 2 + function) % 5]
    return f"{head}/f{function:02d}/d{dimension:02d}/i{instance}"


@cache
def suite(name: str, dimension: int) -> Any:
    """COCO's suite of one dimension."""
    import cocoex

    return cocoex.Suite(name, "instances: 11-20", f"dimensions: {dimension}")


def problem(name: str) -> Problem:
    """The problem of a name such as `bbob/f03/d05/i17` or `bbob-mixint+ridge/f03/d05/i17`.

    Raises
    ------
    ModuleNotFoundError
        `coco-experiment` is not installed.
    """
    head, *numbers = name.split("/")
    suite_name, _, shape = head.partition("+")
    function, dimension, instance = (int(n[1:]) for n in numbers)
    split = "choose" if instance in INSTANCES["choose"] else "report"
    noise: Noise | None = SHAPES[split][shape] if shape else None
    coco = suite(suite_name, dimension).get_problem_by_function_dimension_instance(function, dimension, instance)
    integers = int(coco.number_of_integer_variables)

    def loss(natural: FloatArray) -> FloatArray:
        return np.array([coco(row) for row in natural])

    return Problem(
        name,
        f"{suite_name}-replicas" if noise else suite_name,
        split,
        hyppo.Space(
            {
                f"x{j + 1}": hyppo.Integer(int(low), int(high)) if j < integers else hyppo.Real(float(low), float(high))
                for j, (low, high) in enumerate(zip(coco.lower_bounds, coco.upper_bounds, strict=True))
            }
        ),
        loss,
        noise,
        replicas=REPLICAS if noise else 1,
    )
