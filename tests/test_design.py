"""Designs: on the lattice, no point twice, spanning the linear tail, smaller where the space is smaller."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyppo import Choice, Integer, Real, Space
from hyppo.search.design import design_size, sobol
from tests.test_space import spaces


@given(space=spaces, n=st.integers(0, 40), seed=st.integers(0, 1000))
def test_distinct_lattice_points(space, n, seed):
    unit = sobol(space, n, seed)
    assert np.array_equal(space.snap(unit), unit)
    assert len(set(space.keys(unit))) == len(unit)
    assert len(unit) == (n if space.size is None else min(n, space.size))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "space",
    [
        Space({f"x{i}": Real(0, 1) for i in range(20)}),
        Space({f"b{i}": Integer(0, 1) for i in range(20)}),
        Space({f"c{i}": Choice(["a", "b", "c"]) for i in range(8)} | {"one": Integer(3, 3)}),
        Space(a=Integer(0, 1), b=Integer(0, 1)),
        Space(a=Integer(3, 3)),
    ],
    ids=["real", "binary", "choice", "four points", "one point"],
)
def test_first_points_span_the_linear_tail(space, seed):
    unit = sobol(space, design_size(space.dimension), seed)
    tail = np.hstack([np.ones((len(unit), 1)), unit])
    assert np.linalg.matrix_rank(tail) == 1 + np.sum(space.levels > 1)


def test_a_longer_sobol_design_begins_with_the_shorter_one():
    space = Space({f"b{i}": Integer(0, 1) for i in range(12)})
    assert np.array_equal(sobol(space, 100, 4)[:13], sobol(space, 13, 4))


def test_seeds():
    space = Space(x=Real(0, 1), y=Real(0, 1))
    assert np.array_equal(sobol(space, 8, 1), sobol(space, 8, 1))
    assert not np.array_equal(sobol(space, 8, 1), sobol(space, 8, 2))
