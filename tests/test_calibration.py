"""Calibration: exact on small cases, and at its nominal level where the predictions are what they claim."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import integrate, stats

import hyppo
from hyppo.errors import StudyError
from hyppo.training.predictions import Predictions


def shown(path):
    run = subprocess.run(
        [sys.executable, "-m", "hyppo", "show", str(path)],
        env=os.environ | {"COLUMNS": "250"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return " ".join(run.stdout.split())


def normal(n=40_000, claimed=1.0, seed=0):
    """Targets that are normal around the mean; the predictions claim `claimed` of their standard deviation."""
    generator = np.random.default_rng(seed)
    mean, std = generator.normal(size=(n, 1)), generator.uniform(0.5, 2.0, size=(n, 1))
    return Predictions(mean, claimed * std, mean + std * generator.normal(size=(n, 1)), replicas=3, passes=0)


def test_coverage_is_the_level_where_the_predictions_are_right():
    found = hyppo.calibration(normal())
    for level, share in found.coverage.items():
        assert abs(share - level) < 5 * np.sqrt(level * (1 - level) / 40_000)  # five standard errors
    assert found.rmse == pytest.approx(found.std, rel=0.02)
    assert list(found.coverage) == [0.5, 0.9, 0.95]


def test_overconfident_predictions_cover_less_and_score_worse():
    right, half = hyppo.calibration(normal()), hyppo.calibration(normal(claimed=0.5))
    assert half.coverage[0.95] < 0.7 < right.coverage[0.95]
    assert half.crps > right.crps
    assert half.rmse == right.rmse


def test_crps_against_its_integral():
    mu, sd, y = 0.3, 0.8, 1.7
    expected = integrate.quad(lambda t: (stats.norm.cdf(t, mu, sd) - (t >= y)) ** 2, -10, 12, points=[y])[0]
    one = hyppo.calibration(Predictions(np.array([mu]), np.array([sd]), np.array([y]), replicas=2, passes=0))
    assert one.crps == pytest.approx(expected, rel=1e-6)
    certain = hyppo.calibration(Predictions(np.array([mu, 0.0]), np.zeros(2), np.array([y, 0.0]), replicas=2, passes=0))
    assert certain.crps == pytest.approx((y - mu) / 2)
    assert certain.coverage[0.5] == 0.5  # the second is exact


def test_missing_targets_are_left_out():
    whole = normal()
    missing = np.arange(40_000) % 4 == 0
    targets = np.where(missing[:, None], np.nan, whole.targets)
    found = hyppo.calibration(Predictions(whole.mean, whole.std, targets, replicas=3, passes=0))
    rest = [array[~missing] for array in (whole.mean, whole.std, whole.targets)]
    assert found == hyppo.calibration(Predictions(*rest, replicas=3, passes=0))
    assert found.outputs == 30_000
    with pytest.raises(StudyError, match="all targets are NaN"):
        hyppo.calibration(Predictions(whole.mean, whole.std, np.full((40_000, 1), np.nan), replicas=3, passes=0))


def test_outputs_of_any_form():
    a = normal(10)
    flat = Predictions(
        {"a": a.mean, "b": a.mean}, {"a": a.std, "b": a.std}, {"a": a.targets[:, 0], "b": a.targets}, 2, 0
    )
    assert hyppo.calibration(flat).outputs == 20
    assert hyppo.calibration(flat).crps == pytest.approx(hyppo.calibration(a).crps)


def test_what_cannot_be_compared_says_so(monkeypatch):
    a = normal(10)
    cases = {
        "no targets": Predictions(a.mean, a.std, None, 3, 0),
        "has no spread": Predictions(a.mean, a.std, a.targets, 1, 0),
        "as in a regression": Predictions(np.zeros((10, 3)), np.ones((10, 3)), np.zeros(10), 3, 0),
        "needs them alike": Predictions({"a": a.mean}, {"a": a.std}, a.targets, 3, 0),
    }
    for message, predictions in cases.items():
        with pytest.raises(StudyError, match=message):
            hyppo.calibration(predictions)
    monkeypatch.setitem(sys.modules, "scoringrules", None)
    with pytest.raises(StudyError, match=r"expected predictions, for example study.predictions.*got 'study.h5'"):
        hyppo.calibration("study.h5")
    with pytest.raises(StudyError, match=r"hyppo-uq\[report\]"):
        hyppo.calibration(a)
    assert hyppo.calibration(a, crps=False).crps is None


def objective(replica):
    generator = np.random.default_rng(replica.seed)
    y = np.linspace(0, 1, 50)
    return hyppo.Result(replica.params["x"], prediction=y + generator.normal(size=50), targets=y)


def test_shown_for_the_recommended_configuration(tmp_path):
    path = tmp_path / "study.h5"
    space = hyppo.Space(x=hyppo.Real(0, 1))
    with hyppo.Study(space, objective, log=path, isolate=False, replicas=3, surrogate="random") as study:
        study.run(trials=2, progress=False)
    found = hyppo.calibration(study.predictions(study.best.number))
    assert f"{found.coverage[0.9]:.0%} at 90%" in str(found)
    assert str(found) in shown(path)
    for file in tmp_path.rglob("predictions.npz"):
        file.unlink()
    assert "before calibration" not in shown(path)
