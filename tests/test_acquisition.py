"""Acquisition: exact numbers, and candidates that are free points of the lattice."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from hyppo.acquisition import candidates, expected_improvement, weighted
from hyppo.errors import SurrogateError
from hyppo.space import Choice, Integer, Ordinal, Real, Space
from hyppo.surrogates import gp
from hyppo.surrogates.base import Prediction

MIXED = Space(
    lr=Real(1e-4, 1e-1, log=True),
    width=Integer(8, 64, log=True),
    depth=Integer(1, 4),
    act=Choice(["relu", "gelu", "tanh"]),
    batch=Ordinal([16, 32, 64]),
    bias=Choice([True, False]),
    fixed=Integer(3, 3),
)


class Known:
    """A fitted model whose posterior is given."""

    def __init__(self, mean, std):
        self.mean, self.std = np.asarray(mean, float), np.asarray(std, float)

    def predict(self, x):
        return Prediction(self.mean, self.std)


def log_ei_by_quadrature(mean, std, best):
    """log of std * integral of t pdf(t - z) over t > 0; a positive integrand has no cancellation, at any z."""
    z = (best - mean) / std
    # pdf(t - z) = pdf(z) exp(t z - t^2/2): the factor pdf(z) is taken out, so that z = -40 does not underflow.
    scale = 1.0 / max(1.0, -z)
    value, _ = quad(lambda t: t * math.exp(t * z - t * t / 2.0), 0.0, 60.0 * scale, epsabs=0.0, epsrel=1e-13, limit=400)
    return math.log(std) - z * z / 2.0 - 0.5 * math.log(2.0 * math.pi) + math.log(value)


@pytest.mark.parametrize(
    "z", [-40.0, -30.0, -20.0, -12.0, -8.0, -5.0, -4.0, -3.001, -2.999, -2.5, -1.5, -1.0, -0.3, 0.0, 0.7, 2.0]
)
@pytest.mark.parametrize("std", [1e-6, 1.0, 30.0])
def test_log_ei_is_exact(z, std):
    mean = 0.25 - z * std
    z = (0.25 - mean) / std  # as rounding leaves it
    value = expected_improvement.log_ei(Known([mean], [std]), np.zeros((1, 1)), 0.25)[0]
    assert value == pytest.approx(log_ei_by_quadrature(mean, std, 0.25), rel=1e-12, abs=1e-12)


def test_log_ei_without_uncertainty_and_far_away():
    values = expected_improvement.log_ei(Known([1.0, 3.0, 2.0, 1e8], [0.0, 0.0, 0.0, 1.0]), np.zeros((4, 1)), 2.0)
    np.testing.assert_array_equal(values[:3], [0.0, -np.inf, -np.inf])
    assert np.isfinite(values[3])
    assert expected_improvement.log_ei(Known([], []), np.zeros((0, 1)), 0.0).shape == (0,)
    with pytest.raises(SurrogateError, match="best"):
        expected_improvement.log_ei(Known([1.0], [1.0]), np.zeros((1, 1)), np.nan)


def test_log_ei_rises_with_uncertainty_and_falls_with_the_mean():
    z = np.zeros((50, 1))
    rising = expected_improvement.log_ei(Known(np.ones(50), np.linspace(0.1, 3.0, 50)), z, 0.0)
    falling = expected_improvement.log_ei(Known(np.linspace(-3.0, 30.0, 50), np.ones(50)), z, 0.0)
    assert (np.diff(rising) > 0.0).all()
    assert (np.diff(falling) < 0.0).all()


def test_pending_points_take_uncertainty_but_no_value():
    generator = np.random.default_rng(0)
    x, y = generator.random((10, 2)), generator.standard_normal(10)
    model = gp.condition(x, y, np.log([0.4, 0.4, 1.0, 0.01]))
    pending, query = generator.random((3, 2)), generator.random((20, 2))
    assert expected_improvement.with_pending(model, np.empty((0, 2)), 1.0) is model
    informed = expected_improvement.with_pending(model, pending, 1.0)
    before, after = model.predict(query), informed.predict(query)
    np.testing.assert_allclose(after.mean, before.mean, atol=1e-9)
    assert (after.std <= before.std + 1e-12).all()
    assert (informed.predict(pending).std < 0.5 * model.predict(pending).std).all()
    best = float(y.min())
    assert (
        expected_improvement.log_ei(informed, pending, best) < expected_improvement.log_ei(model, pending, best)
    ).all()


def test_weighted_score_exactly():
    scores = weighted.score(np.array([1.0, 2.0, 3.0]), np.array([0.0, 4.0, 1.0]), 0.3)
    np.testing.assert_allclose(scores, [0.7, 0.15, 0.3 + 0.7 * 0.75])
    # What all candidates share decides nothing.
    np.testing.assert_allclose(weighted.score(np.ones(3), np.array([0.0, 4.0, 1.0]), 0.5), [1.0, 0.5, 0.875])
    np.testing.assert_allclose(weighted.score(np.array([0.0, 1.0]), np.ones(2), 0.5), [0.0, 0.5])
    assert weighted.score(np.empty(0), np.empty(0), 0.5).shape == (0,)
    with pytest.raises(SurrogateError, match="weight"):
        weighted.score(np.ones(2), np.ones(2), 1.5)
    with pytest.raises(SurrogateError, match="one value a point"):
        weighted.score(np.ones(2), np.ones(3), 0.5)


def test_distances():
    x, centres = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 3.0], [1.0, 0.0]])
    np.testing.assert_allclose(weighted.distances(x, centres), [1.0, 1.0])
    assert np.isinf(weighted.distances(x, np.empty((0, 2)))).all()


# -- candidates ------------------------------------------------------------------------------------------------------


def on_lattice(space, unit):
    np.testing.assert_array_equal(space.snap(unit), unit)
    assert ((unit >= 0.0) & (unit <= 1.0)).all()


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.4, 5.0])
def test_what_the_mask_marks_moves_and_nothing_else(sigma):
    generator = np.random.default_rng(0)
    base = candidates.uniform(MIXED, generator, 300)
    mask = candidates.moving(MIXED, generator, np.full(300, 0.3))
    assert mask.any(axis=1).all()
    assert not mask[:, MIXED.names.index("fixed")].any()
    moved = candidates.perturb(MIXED, generator, base, np.full(300, sigma), mask)
    on_lattice(MIXED, moved)
    np.testing.assert_array_equal(MIXED.level_of(moved) != MIXED.level_of(base), mask)


def test_a_choice_jumps_to_every_other_value_alike():
    space = Space(a=Choice(list(range(5))))
    generator = np.random.default_rng(1)
    base = np.repeat(space.unit_of(np.array([[2]])), 4000, axis=0)
    moved = space.level_of(candidates.perturb(space, generator, base, np.zeros(4000), np.ones((4000, 1), bool)))
    counts = np.bincount(moved[:, 0], minlength=5)
    assert counts[2] == 0
    # Multinomial of 1000 each with standard deviation 27: five of them, once in a million seeds.
    assert np.abs(counts[[0, 1, 3, 4]] - 1000).max() < 140


def test_probability_of_moving():
    space = Space({f"x{i}": Real(0, 1) for i in range(20)})
    mask = candidates.moving(space, np.random.default_rng(0), np.full(5000, 0.25))
    assert mask.mean() == pytest.approx(0.25, abs=0.01)
    assert candidates.moving(space, np.random.default_rng(0), np.zeros(50)).sum(axis=1).tolist() == [1] * 50


def test_constant_space_does_not_move():
    space = Space(a=Integer(3, 3), b=Real(1.0, 1.0))
    generator = np.random.default_rng(0)
    mask = candidates.moving(space, generator, np.ones(4))
    assert not mask.any()
    np.testing.assert_array_equal(
        candidates.perturb(space, generator, np.zeros((4, 2)), np.ones(4), mask), np.zeros((4, 2))
    )


def test_free_drops_taken_and_doubles_in_order():
    space = Space(a=Integer(0, 4))
    unit = space.unit_of(np.array([[3], [1], [3], [0], [1]]))
    left = candidates.free(space, unit, set(space.keys(space.unit_of(np.array([[0]])))))
    assert space.level_of(left)[:, 0].tolist() == [3, 1]
    assert candidates.free(space, np.empty((0, 1)), set()).shape == (0, 1)


def test_enumeration_is_complete():
    space = Space(a=Integer(0, 2), b=Choice("xy"[i] for i in range(2)), c=Ordinal([1, 5, 9]))
    points = candidates.enumerate_points(space, 0, 18)
    assert len(set(space.keys(points))) == space.size == 18
    np.testing.assert_array_equal(candidates.enumerate_points(space, 5, 9), points[5:9])


def test_fresh_finds_the_last_point_of_a_large_space():
    space = Space(a=Integer(0, 199), b=Integer(0, 199))
    generator = np.random.default_rng(0)
    everything = candidates.enumerate_points(space, 0, 40_000)
    taken = set(space.keys(everything)) - set(space.keys(everything[[31_007]]))
    np.testing.assert_array_equal(
        candidates.fresh(space, generator, taken, 100, np.empty((0, 2))), everything[[31_007]]
    )
    assert candidates.fresh(space, generator, taken | set(space.keys(everything)), 100, everything).shape == (0, 2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30))
def test_candidates_are_free_lattice_points(seed, count):
    generator = np.random.default_rng(seed)
    visited = candidates.uniform(MIXED, generator, 30)
    taken = set(MIXED.keys(visited))
    for pool in (
        candidates.uniform(MIXED, generator, count),
        candidates.around(MIXED, generator, visited[:3], count),
        candidates.dycors(MIXED, generator, visited[0], 0.2, 0.5, count),
    ):
        assert pool.shape == (count, MIXED.dimension)
        on_lattice(MIXED, pool)
    fresh = candidates.fresh(MIXED, generator, taken, count, np.empty((0, MIXED.dimension)))
    chosen = candidates.evolve(MIXED, generator, fresh, lambda u: -np.abs(u - 0.3).sum(axis=1), taken)
    on_lattice(MIXED, chosen[None, :])
    assert not taken & set(MIXED.keys(chosen[None, :]))


def test_evolution_improves_on_its_pool():
    space = Space({f"x{i}": Real(0, 1) for i in range(4)})
    generator = np.random.default_rng(0)
    pool = candidates.uniform(space, generator, 100)

    def worth(unit):
        return -((unit - 0.37) ** 2).sum(axis=1)

    found = candidates.evolve(space, generator, pool, worth, set(), rounds=6)
    assert worth(found[None, :])[0] > 0.2 * worth(pool).max()
