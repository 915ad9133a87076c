"""Sensitivity of the fitted surrogate."""

import math

import numpy as np
import pytest

import hyppo
from hyppo import Choice, Integer, Ordinal, Real, Space, Study, StudyError

ISHIGAMI = Space({f"x{i}": Real(-math.pi, math.pi) for i in range(3)})


def fitted(space, loss, n):
    study = Study(space, seed=0)
    for point in hyppo.search.design.sobol(space, n, 7):
        params = space.decode(point)
        study.add(params, [loss(**params)])
    return study


def test_indices_of_a_known_function():
    # y = 4 a + 2 b: the shares are 16 / 20 and 4 / 20, c has none.
    space = Space(a=Real(0, 1), b=Real(0, 1), c=Choice(["x", "y", "z"]))
    found = hyppo.sensitivity(fitted(space, lambda a, b, c: 4 * a + 2 * b, 40))
    assert found.names == ("a", "b", "c")
    # The power transform bends the losses a little, and the surrogate is not the function.
    assert np.allclose(found.first, [0.8, 0.2, 0.0], atol=0.05)
    assert np.allclose(found.total, [0.8, 0.2, 0.0], atol=0.05)
    assert np.all(found.first_width >= 0)


def test_intervals_are_reproducible_and_take_nothing_from_numpys_global_generator():
    study = fitted(Space(a=Real(0, 1), b=Real(0, 1)), lambda a, b: 4 * a + 2 * b, 12)
    assert study.seed == 0
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = hyppo.sensitivity(study)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    again = hyppo.sensitivity(study)
    assert first.first_width.tolist() == again.first_width.tolist()


def test_indices_of_two_hundred_points_of_a_wavy_function():
    """Every sixteenth of them, from which a fit may start, tells nothing of x1."""
    found = hyppo.sensitivity(
        fitted(ISHIGAMI, lambda x0, x1, x2: math.sin(x0) * (1 + 0.1 * x2**4) + 7 * math.sin(x1) ** 2, 200)
    )
    assert np.allclose(found.first, [0.314, 0.442, 0.0], atol=0.12)
    assert np.allclose(found.total, [0.558, 0.442, 0.244], atol=0.12)


def test_an_interaction_is_seen():
    space = Space(a=Real(-1, 1), b=Real(-1, 1))
    found = hyppo.sensitivity(fitted(space, lambda a, b: a * b, 60))
    assert found.second[0, 1] > 0.7
    assert np.all(found.first < 0.2)


def test_partial_dependence_follows_the_function():
    space = Space(a=Real(0, 1), n=Integer(1, 5))
    study = fitted(space, lambda a, n: (a - 0.3) ** 2 + 0.01 * n, 40)
    found = hyppo.partial_dependence(study, "a", points=21)
    assert abs(found.values[int(np.argmin(found.mean))] - 0.3) < 0.1
    assert np.all(found.low <= found.high)
    assert hyppo.partial_dependence(study, "n").values == [1, 2, 3, 4, 5]


def test_partial_dependence_is_of_the_points_at_which_a_parameter_is_active():
    """Without dropout, half of the space, the loss is another, which the rate has no part in."""
    space = Space(dropout=Choice([False, True]), rate=Real(0, 0.5), depth=Ordinal([1, 2]))
    space = space.inactive_if({"rate": {"dropout": [False]}, "depth": {"dropout": [False]}}, {"rate": 0.25, "depth": 2})
    study = fitted(space, lambda dropout, rate, depth: 1 + 4 * rate + depth if dropout else 5.0, 60)
    rate, depth, dropout = (hyppo.partial_dependence(study, n, points=5) for n in ("rate", "depth", "dropout"))
    assert np.allclose(rate.mean, [2.5, 3.0, 3.5, 4.0, 4.5], atol=0.25)
    assert np.allclose([rate.low[0], rate.high[0]], [2, 3], atol=0.25)
    assert np.allclose(depth.mean, [3, 4], atol=0.25)
    assert np.allclose(dropout.mean, [5.0, 3.5], atol=0.5), "a mean on the scale of the fit"


def searched(space, loss, n, seed):
    study = Study(space, seed=seed)
    for _ in range(n):
        trial = study.ask()
        study.tell(trial.number, [loss(**trial.params)])
    return study


@pytest.mark.parametrize("seed", range(4))
def test_points_that_crowd_where_losses_are_low_do_not_hide_what_matters_elsewhere(seed):
    # More than half of the points lie in the corner with the lowest losses.
    study = searched(Space(a=Real(0, 1), b=Real(0, 1)), lambda a, b: 10 * a + b, 40, seed)
    found = hyppo.sensitivity(study)
    assert np.allclose(found.total, [100 / 101, 1 / 101], atol=0.05)
    line = hyppo.partial_dependence(study, "a", points=5)
    assert np.allclose(line.mean, [0.5, 3, 5.5, 8, 10.5], atol=0.4)


@pytest.mark.parametrize("seed", range(4))
def test_indices_of_a_search_over_five_parameters(seed):
    weights = np.array([8.0, 4.0, 2.0, 1.0, 0.5])
    space = Space({f"x{i}": Real(0, 1) for i in range(5)})
    study = searched(space, lambda **x: float(weights @ (np.array(list(x.values())) - 0.4) ** 2), 60, seed)
    # The variance of w (x - 0.4)^2 is proportional to w^2.
    assert np.allclose(hyppo.sensitivity(study).total, weights**2 / (weights @ weights), atol=0.1)


def test_bands_end_where_losses_do():
    # Skewed losses: beyond the largest the transform has no image, and its inverse is astronomical.
    study = fitted(Space(a=Real(0, 1), b=Real(0, 1)), lambda a, b: 0.1 + math.exp(8 * a - 8) + 0.3 * b**8, 12)
    worst = max(trial.replicas[0].loss for trial in study.trials)
    for name in "ab":
        found = hyppo.partial_dependence(study, name)
        assert np.all(found.unsure_high < 10 * worst)
        assert np.all(found.unsure_low > -10 * worst)


def test_one_parameter():
    assert hyppo.sensitivity(fitted(Space(a=Real(0, 1)), lambda a: a, 10)).total[0] == pytest.approx(1, abs=0.05)


def test_errors():
    study = Study(ISHIGAMI)
    with pytest.raises(StudyError, match="four points"):
        hyppo.sensitivity(study)
    with pytest.raises(StudyError, match="power of two"):
        hyppo.sensitivity(study, samples=1000)
    with pytest.raises(StudyError, match="expected one of"):
        hyppo.partial_dependence(study, "x9")
