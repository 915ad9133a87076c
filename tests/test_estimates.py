"""Estimates hold: their intervals cover the expected loss as often as they say, whatever the losses look like."""

import random

import numpy as np
import pytest
from scipy.special import ndtri

import hyppo
from hyppo import surrogates
from hyppo.search.evidence import Observations
from hyppo.search.known import Known
from hyppo.search.recommend import estimate, recommend
from hyppo.space import Integer, Real, Space

pytestmark = pytest.mark.timeout(120)
SQUARE = Space(a=Real(0, 1), b=Real(0, 1))
STEPS = Space(a=Integer(0, 9), b=Integer(0, 9))


def known(space, unit, losses, risk=0.0):
    """All that a search knows of points and the losses of their replicas."""
    data = Observations(
        unit,
        np.array([np.mean(r) for r in losses]),
        np.array([np.std(r, ddof=1) if len(r) > 1 else np.nan for r in losses]),
        np.array([len(r) for r in losses], dtype=np.int64),
    )
    return Known(space, data, np.empty((0, space.dimension)), set(space.keys(unit)), risk=risk)


def normal(generator, truth, count):
    return truth + 0.05 * generator.standard_normal(count)


def heavy(generator, truth, count):
    """Student's t with three degrees of freedom: one training in fifty is off by three standard deviations."""
    return truth + 0.03 * generator.standard_t(3, count)


def accuracy(generator, truth, count):
    """The error on forty examples: steps of 1/40, so that replicas often tie."""
    return generator.binomial(40, np.clip(0.1 + truth, 0.0, 1.0), count) / 40.0 - 0.1


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("draw", [normal, heavy, accuracy])
def test_the_interval_of_the_recommendation_covers_the_expected_loss(draw, replicas):
    """In 30 of 40 studies at least: with a true coverage of 90 % fewer come once in 300. The observed mean is lucky."""
    covered, too_low, lucky = [], [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        unit = SQUARE.spread(generator.random((24, 2)))
        truth = np.sum((unit - generator.random(2)) ** 2, axis=1) * 0.4 + 0.05 * np.sin(9.0 * unit[:, 0])
        losses = [draw(generator, f, replicas) for f in truth]
        best = recommend(known(SQUARE, unit, losses))
        covered.append(best.interval[0] <= truth[best.row] <= best.interval[1])
        too_low.append(truth[best.row] - best.estimate)
        lucky.append(truth[best.row] - np.mean(losses[best.row]))
    assert sum(covered) >= 30
    assert abs(np.mean(too_low)) < 0.6 * np.mean(lucky)


def test_copies_are_no_proof_of_exact_losses():
    """Replicas with the same seed: the interval is as wide as that of the same trainings without copies."""
    generator = np.random.default_rng(3)
    unit = SQUARE.spread(generator.random((20, 2)))
    losses = [float(np.sum(u**2) + 0.1 * generator.standard_normal()) for u in unit]
    copies = estimate(known(SQUARE, unit, [[loss] * 3 for loss in losses]))
    single = estimate(known(SQUARE, unit, [[loss] for loss in losses]))
    np.testing.assert_allclose(copies.high - copies.low, single.high - single.low, rtol=0.2)
    np.testing.assert_allclose(copies.value, losses)
    assert (single.high - single.low).min() > 0.05


def test_rounding_of_a_mean_is_no_spread():
    """The mean of three times 0.1 + 0.2 differs from it in the last bit."""
    generator = np.random.default_rng(3)
    unit = SQUARE.spread(generator.random((20, 2)))
    losses = [[loss, loss, loss * (1.0 + 2e-16)] for loss in (0.1 + 0.2 + generator.random(20))]
    assert np.ptp(losses, axis=1).max() > 0.0
    found = estimate(known(SQUARE, unit, losses))
    assert (found.high - found.low).min() > 0.01


def test_seeds_that_a_training_sets_itself_give_no_narrow_interval():
    def seeds_itself(replica):
        random.seed(42)
        return abs(replica.params["a"] - 0.4) + 0.1 * hash(replica.params["b"]) % 7 + random.random()

    study = hyppo.Study(SQUARE, seeds_itself, replicas=3, isolate=False)
    study.run(trials=12, progress=False)
    low, high = study.best.interval
    assert high - low > 0.02 * (max(t.mean for t in study.trials) - study.best.mean)
    assert low <= study.best.mean <= high


def test_a_risk_is_no_part_of_the_estimate():
    """With risk the score is mean + risk * spread, and the estimate still that of the mean."""
    generator = np.random.default_rng(1)
    unit = STEPS.spread(generator.random((40, 2)))
    truth = 1.0 + np.sum((unit - 0.5) ** 2, axis=1)
    losses = [f + 0.1 * generator.standard_normal(6) for f in truth]
    best = recommend(known(STEPS, unit, losses, risk=2.0))
    assert abs(best.estimate - truth[best.row]) < 0.1
    assert best.interval[0] <= truth[best.row] <= best.interval[1]


def test_quantiles_of_a_mixture():
    mean, std = np.array([[0.0, -1.0], [0.0, 1.0]]), np.array([[1.0, 0.1], [1.0, 0.1]])
    lower = surrogates.levels.quantile(0.05, mean, std, np.array([[0.3, 0.3], [0.7, 0.7]]))[0]
    np.testing.assert_allclose(lower, ndtri(0.05), atol=1e-9)
    middle = surrogates.levels.quantile(0.25, mean, std, np.full((2, 2), 0.5))[1]
    np.testing.assert_allclose(middle, -1.0, atol=1e-6)  # the middle of the lower part, which holds half


def test_the_level_of_the_noise_is_found():
    generator = np.random.default_rng(0)
    x = generator.random((80, 2))
    y = np.sin(5.0 * x[:, 0]) + x[:, 1]
    y = (y - y.mean()) / y.std()
    owner = np.array([0, 1])
    start = surrogates.gp.cold_start(2, known_noise=False)
    for level in (-6.0, -2.0):
        noisy = y + np.exp(0.5 * level) * generator.standard_normal(80)
        found = surrogates.levels.fit(x, noisy, np.arange(-8.0, 1.0), (-3.0, 1.5), start=start, noise=None, owner=owner)
        assert abs(found.weight @ found.level - level) < 0.7
        assert [m.theta[-1] for m in found.models] == found.level.tolist()


def test_one_training_is_enough_for_a_clearly_better_point():
    """Other points were trained again, and this one, found last, was not yet: it need not wait for its second one."""
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), seed=0)
    rng = np.random.default_rng(0)
    for x in np.linspace(0.3, 1.0, 8):
        study.add({"x": x}, list(x + 0.02 * rng.normal(size=2)))
    lucky = study.add({"x": 0.32}, 0.29)
    assert study.best.number != lucky.number, "within the noise of points that were trained twice"
    better = study.add({"x": 0.05}, 0.05)
    assert study.best.number == better.number


def test_few_data_seeds_widen_the_interval():
    """Three data seeds tell the level of all others with an error of their spread over the root of three."""
    space = hyppo.Space(x=hyppo.Real(0, 1))
    rng = np.random.default_rng(0)
    widths = []
    for spread in (0.0, 1.0):
        effects = spread * np.array([-1.0, 0.2, 0.8])
        study = hyppo.Study(space, seed=0)
        for x in np.linspace(0.0, 1.0, 12):
            study.add({"x": x}, list((x - 0.3) ** 2 + effects + 0.02 * rng.normal(size=3)))
        low, high = study.best.interval
        widths.append(high - low)
    assert widths[0] < 0.2
    assert 2 * 1.645 * 0.4 < widths[1] < 2 * 1.645 * 1.2
