"""Calibrated predictions: coverage on data that neither trained nor calibrated, at no greater width."""

import numpy as np
import pytest

import hyppo
from benchmarks.validity.predictions import regression, regressions
from hyppo.analysis.calibration import ClassCalibration
from hyppo.analysis.conformal import Temperature
from hyppo.errors import StudyError
from hyppo.training.predictions import Ensemble


def batches(network, data, passes):
    return [(network(x), (), y) for x, y in data]


def ensemble_of(*networks):
    return Ensemble(networks, batches, 0, {})


def within(interval, y):
    low, high = interval
    return float(np.mean((low <= y) & (y <= high))), float(np.mean(high - low))


def plain(predictions, level):
    """Half the width of plain split conformal intervals."""
    error = np.sort(np.abs(predictions.targets - predictions.mean), axis=None)
    return error[min(int(np.ceil((error.size + 1) * level)), error.size) - 1]


class TestReal:
    def noisy(self, rng, n):
        """Noise that depends on x, and networks that disagree where it is large."""
        x = rng.uniform(0, 1, n)
        return x, np.sin(6 * x) + (0.05 + x) * rng.normal(size=n)

    def networks(self):
        return [lambda x, k=k: np.sin(6 * x) + 0.3 * k * x for k in (-1, 0, 1)]

    def test_missing_targets_are_left_out(self):
        x, y = self.noisy(np.random.default_rng(0), 300)
        missing = np.arange(300) % 3 == 0
        with_gaps = ensemble_of(*self.networks()).calibrate([(x, np.where(missing, np.nan, y))]).predict([(x, y)])
        without = ensemble_of(*self.networks()).calibrate([(x[~missing], y[~missing])]).predict([(x, y)])
        assert np.array_equal(with_gaps.interval(0.9), without.interval(0.9))
        assert np.array_equal(with_gaps.std, without.std)
        with pytest.raises(StudyError, match="at least 10 targets, got 9"):
            ensemble_of(*self.networks()).calibrate([(x, np.where(np.arange(300) < 9, y, np.nan))])

    @pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
    def test_intervals_cover_as_they_say_and_adapt(self, level):
        covered, width, plain_width = [], [], []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            ensemble = ensemble_of(*self.networks()).calibrate([self.noisy(rng, 300)])
            x, y = self.noisy(rng, 300)
            share, wide = within(ensemble.predict([(x, y)]).interval(level), y)
            covered.append(share)
            width.append(wide)
            plain_width.append(2 * plain(ensemble_of(*self.networks()).predict([self.noisy(rng, 300)]), level))
        # 60 x 300 draws, each study's own error of the quantile included: two standard errors are 0.008
        assert np.mean(covered) == pytest.approx(level, abs=0.015)
        assert np.mean(width) < (1.2 if level == 0.5 else 0.95) * np.mean(plain_width)

    def test_the_standard_deviation_is_that_of_the_errors(self):
        rng = np.random.default_rng(0)
        ensemble = ensemble_of(*self.networks()).calibrate([self.noisy(rng, 2000)])
        x, y = self.noisy(rng, 2000)
        predictions = ensemble.predict([(x, y)])
        assert np.mean((y - predictions.mean) ** 2 / predictions.std**2) == pytest.approx(1.0, abs=0.15)
        held = hyppo.calibration(predictions, crps=False)
        assert held.coverage[0.9] == pytest.approx(0.9, abs=0.03)

    def test_a_single_network_can_be_calibrated(self):
        rng = np.random.default_rng(0)
        ensemble = ensemble_of(np.sin).calibrate([(np.zeros(200), rng.normal(size=200))])
        share, _ = within(ensemble.predict([(np.zeros(2000), None)]).interval(0.9), rng.normal(size=2000))
        assert share == pytest.approx(0.9, abs=0.06)

    def test_outputs_of_several_names_and_images(self):
        rng = np.random.default_rng(0)

        def network(x):
            return {"image": np.zeros((len(x), 4, 4)), "size": np.zeros(len(x))}

        def data(n):
            return [(np.zeros(n), {"image": rng.normal(size=(n, 4, 4)), "size": 10 * rng.normal(size=n)})]

        predictions = ensemble_of(network, network).calibrate(data(100)).predict(data(100))
        low, high = predictions.interval(0.9)
        assert high["image"].shape == (100, 4, 4)
        assert np.mean(high["size"] - low["size"]) > 5 * np.mean(high["image"] - low["image"])

    def test_too_little_data_says_how_much_is_needed(self):
        ensemble = ensemble_of(np.sin)
        with pytest.raises(hyppo.StudyError, match="at least 10"):
            ensemble.calibrate([(np.zeros(5), np.zeros(5))])
        calibrated = ensemble.calibrate([(np.zeros(12), np.arange(12.0))])
        with pytest.raises(hyppo.StudyError, match="needs at least 99 targets"):
            calibrated.predict([(np.zeros(3), None)]).interval(0.99)
        with pytest.raises(hyppo.StudyError, match=r"needs targets: .*such as \[\(x, y\)\]"):
            ensemble.calibrate([(np.zeros(20), None)])
        with pytest.raises(hyppo.StudyError, match="between 0 and 1"):
            calibrated.predict([(np.zeros(3), None)]).interval(90)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diabetes", "friedman1", "friedman2", "friedman3"])
def test_networks_on_regression_sets(name):
    pytest.importorskip("sklearn")
    x, y = {found: data for found, *data in regressions()}[name]
    covered, before, width = np.mean([regression(x, y, seed) for seed in range(8)], axis=0)
    assert 0.87 <= covered <= 0.93
    assert before < 0.7
    assert width <= 1.05


class TestClasses:
    def data(self, rng, n, sharpness):
        """Logits of networks that are `sharpness` times as sure as they should be."""
        logits = rng.normal(size=(n, 4))
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        y = (p.cumsum(1) > rng.uniform(size=(n, 1))).argmax(1)
        return logits * sharpness, y

    @pytest.mark.parametrize("sharpness", [0.4, 3.0])
    def test_temperature_mends_overconfident_and_timid_networks(self, sharpness):
        rng = np.random.default_rng(1)
        ensemble = ensemble_of(lambda z: z, lambda z: z)
        test = [self.data(rng, 4000, sharpness)]
        before = hyppo.calibration(ensemble.predict(test))
        calibrated = ensemble.calibrate([self.data(rng, 4000, sharpness)])
        predictions = calibrated.predict(test)
        after = hyppo.calibration(predictions)
        assert isinstance(after, ClassCalibration)
        np.testing.assert_allclose(predictions.mean.sum(1), 1.0)
        assert calibrated.calibrator.outputs[""].value == pytest.approx(sharpness, rel=0.1)
        assert after.ece < 0.03 < 0.08 < before.ece
        assert after.log_loss < before.log_loss
        assert after.accuracy == before.accuracy
        with pytest.raises(hyppo.StudyError, match="for classes"):
            predictions.interval(0.9)

    def test_probabilities_stay_probabilities(self):
        p = np.array([[0.9, 0.1], [0.2, 0.8]] * 20)
        ensemble = ensemble_of(lambda x: p[: len(x)]).calibrate([(np.zeros(40), np.array([0, 1] * 20))])
        fitted = ensemble.calibrator.outputs[""]
        assert isinstance(fitted, Temperature)
        assert not fitted.logits
        assert fitted.value < 1  # always right: sharper

    def test_entropy_is_split(self):
        agree = ensemble_of(lambda x: np.full((4, 2), 0.5), lambda x: np.full((4, 2), 0.5))
        sure = np.array([[1.0, 0.0]] * 4)
        differ = ensemble_of(lambda x: sure, lambda x: sure[:, ::-1])
        data = [(np.zeros(4), np.array([0, 1, 0, 1]))]
        alike, apart = (hyppo.calibration(e.predict(data)) for e in (agree, differ))
        assert alike.entropy == pytest.approx(np.log(2))
        assert alike.disagreement == pytest.approx(0.0, abs=1e-9)
        assert apart.disagreement == pytest.approx(np.log(2))

    def test_images_of_torch_have_classes_on_the_second_axis(self):
        logits = np.zeros((2, 3, 5, 5))
        logits[:, 1] = 4.0
        found = hyppo.calibration(ensemble_of(lambda x: logits).predict([(np.zeros(2), np.ones((2, 5, 5), int))]))
        assert found.accuracy == 1.0
        assert found.examples == 50
