"""What represents the losses of a trial: mean, median, trimmed mean, or a function of the user's."""

import math
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import hyppo
from hyppo import Real, Space, Study, StudyError
from hyppo.analysis.comparison import compare
from hyppo.analysis.confirmation import in_short, interval_of
from hyppo.cli.watch import Watched
from hyppo.config import Config
from hyppo.stats import LossStats, freedom, summary

SPACE = Space(x=Real(-1, 1))
COMMAND = (sys.executable, "-m", "hyppo")


def worst_half(losses):
    return sum(sorted(losses)[len(losses) // 2 :]) / (len(losses) - len(losses) // 2)


@pytest.mark.parametrize("score", ["mean", "median", "trimmed", np.mean, worst_half])
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_scores_move_and_scale_with_the_losses(score, n):
    losses = np.random.default_rng(n).standard_normal(n)
    one, two = summary(losses, score), summary(3.0 + 2.0 * losses, score)
    assert two.n == one.n == n
    assert two.mean == pytest.approx(3.0 + 2.0 * one.mean)
    assert (one.std is None) == (n == 1)
    if n > 1:
        assert two.std == pytest.approx(2.0 * one.std)


@pytest.mark.parametrize("score", ["mean", "median", "trimmed", np.mean, worst_half])
def test_the_standard_deviation_tells_the_error_of_the_score(score):
    """std^2 / n is the variance of the score: within 15 % over 2000 normal samples of 30."""
    samples = np.random.default_rng(3).standard_normal((2000, 30))
    found = [summary(losses, score) for losses in samples]
    variance = np.var([stats.mean for stats in found])
    assert np.mean([stats.std**2 / 30 for stats in found]) == pytest.approx(variance, rel=0.15)


def test_the_mean_by_a_function_is_the_mean():
    losses = [1.0, 4.0, 2.0, 8.0]
    mean, function = summary(losses), summary(losses, lambda values: sum(values) / len(values))
    assert mean == LossStats.of(losses)
    assert (function.mean, function.std) == pytest.approx((mean.mean, mean.std))


def test_equal_losses_have_no_spread():
    for loss in np.arange(-99, 100) / 100:
        for count in range(2, 9):
            assert summary([loss] * count) == LossStats(count, loss, 0.0)


def test_losses_that_are_not_finite_do_not_count():
    assert summary([math.inf, 1.0, 3.0], "median").mean == 2.0
    assert summary([math.nan], "median") is None


@pytest.mark.parametrize(("score", "chosen"), [("mean", 1), ("median", 0), ("trimmed", 0), (max, 1)])
def test_a_study_searches_and_recommends_by_its_score(score, chosen, tmp_path):
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path, replicas=5, score=score, surrogate="random") as study:
        study.add({"x": 0.0}, [0.1, 0.1, 0.11, 0.12, 9.0])  # mostly best, once far off
        study.add({"x": 0.5}, [1.0, 1.1, 0.9, 1.0, 1.0])
        study.add({"x": 0.9}, [2.0, 2.1, 1.9, 2.0, 2.2])
        assert study.best.number == chosen
        assert min(study.trials, key=study.score).number == chosen
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again = hyppo.load(path)
    assert [f"score={w}" in str(one.message) for one in said for w in ["max"]] == ([True] if score is max else [])
    assert again.config.score == (score if isinstance(score, str) else "mean")
    assert again.best.number == (chosen if isinstance(score, str) else 1)


@pytest.mark.parametrize(
    ("first", "then", "noticed"),
    [
        (max, max, False),
        (max, min, True),
        (lambda losses: max(losses), lambda losses: sum(losses), True),
        (lambda losses: max(losses), lambda losses: sorted(losses)[-1], False),
        ("median", max, True),
        ("mean", "median", True),
    ],
    ids=["the same", "another", "another lambda", "an equal lambda", "a name and a function", "names"],
)
def test_another_score_is_noticed(first, then, noticed, tmp_path):
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path, score=first) as study:
        study.add({"x": 0.5}, [1.0, 1.1])
    with warnings.catch_warnings(record=True) as said, Study(SPACE, log=path, score=then) as study:
        warnings.simplefilter("always")
        study.add({"x": 0.6}, [1.0, 1.1])
    assert any("goes on with another score" in str(one.message) for one in said) == noticed


@pytest.mark.parametrize("score", ["median", "trimmed", worst_half])
def test_comparisons_by_a_score_cover(score):
    """90 % intervals of the difference of scores over 400 pairs of normal samples."""
    generator = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        a, b = (dict(enumerate(m + generator.standard_normal(12))) for m in (0.0, 1.0))
        low, high = compare(a, b, [], Config(score=score)).interval
        held += low <= -1.0 <= high
    assert held / 400 == pytest.approx(0.9, abs=0.06)


@pytest.mark.parametrize("score", ["median", "trimmed"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_intervals_of_few_losses_cover(score, n):
    """90 % intervals of the score of 2000 normal samples: within 3 %, 4.5 standard errors."""
    generator = np.random.default_rng(n)
    samples = [summary(losses, score) for losses in generator.standard_normal((2000, n))]
    intervals = [interval_of(stats, 0.9, freedom(n, score)) for stats in samples]
    assert np.mean([low <= 0.0 <= high for low, high in intervals]) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("score", ["median", "trimmed"])
def test_a_median_of_losses_in_steps_may_be_another_step(score):
    assert summary([0.0, 0.0, 1.0], score).std == pytest.approx(1.5)
    assert summary([0.0, 1.0, 1.0, 1.0], score).std == pytest.approx(4.0 / 3.0)
    assert summary([0.3, 0.3, 0.3], score).std == 0.0
    assert summary([0.1] * 9 + [9.0], score).std == 0.0, "one of ten far off"


@pytest.mark.parametrize("n", [3, 4])
def test_a_trimmed_mean_of_few_losses_is_their_median(n):
    losses = np.random.default_rng(n).standard_normal(n)
    assert summary(losses, "trimmed") == summary(losses, "median")


def test_the_recommendation_by_a_trimmed_mean_of_three_has_a_width():
    """Of three losses one is left, which seemed to be without noise."""
    generator = np.random.default_rng(0)
    study = Study(SPACE, replicas=3, score="trimmed")
    for x in np.linspace(-1, 1, 12):
        study.add({"x": float(x)}, list(x**2 + generator.normal(size=3)))
    low, high = study.best.interval
    assert 0.5 < high - low < 4.0


@pytest.mark.parametrize("folds", [None, 8])
@pytest.mark.parametrize("score", ["median", "trimmed"])
def test_medians_are_compared_without_the_effects_of_data_seeds_and_folds(score, folds):
    """One trial has all data seeds or folds, the other two; 90 % intervals of 200 studies within 3 standard errors."""
    generator, differences, covered = np.random.default_rng(5), [], 0
    for _ in range(200):
        effects = 3.0 * generator.standard_normal(8)
        a, b, *others = ({r: effects[r] + generator.standard_normal() for r in range(k)} for k in (8, 2, *[8] * 10))
        found = compare(a, b, others, Config(score=score, folds=folds))
        differences.append(found.difference)
        covered += found.interval[0] <= 0.0 <= found.interval[1]
    assert np.std(differences) < 1.2, "without removing effects 2"
    assert covered / 200 == pytest.approx(0.9, abs=0.065)


def test_a_median_is_confirmed_as_a_median():
    def train(replica):
        generator = np.random.default_rng(replica.seed)
        return (
            replica.params["x"] ** 2 + 0.01 * generator.standard_normal() + (50.0 if generator.random() < 0.15 else 0)
        )

    study = Study(SPACE, train, replicas=5, score="median", isolate=False, surrogate="random")
    study.enqueue({"x": 0.9}, name="baseline")
    study.run(trials=8, progress=False)
    found = study.confirm(replicas=9, against="baseline", progress=False)
    assert found.interval[1] < 0.81 + 0.1
    assert found.versus.probability > 0.99
    assert "median of 9 trainings" in found.text
    assert "The difference of the two medians is" in found.text
    assert in_short(found, study.best.goal, study.config).startswith("median loss ")
    assert str(study.front("loss", "metrics.seconds")).splitlines()[0].split(": ")[1].startswith("median loss ")


@pytest.mark.parametrize("risk", [0.0, 0.5])
def test_texts_say_median_where_the_number_is_a_median(tmp_path, risk):
    """Of a study whose recommendation has a median of 0.11 and a mean of 1.886."""
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path, replicas=5, score="median", risk=risk) as study:
        for k in range(4):  # the one far off is of another seed in each
            study.add({"x": 0.2 * k}, np.roll([k + 0.1, k + 0.1, k + 0.11, k + 0.12, k + 9.0], k))
    best = study.best
    assert (best.number, best.goal.metric, best.observed, best.mean) == (0, "median loss", 0.11, pytest.approx(1.886))
    estimate, observed = str(best).splitlines()[1:]
    assert estimate.startswith("expected median loss 0.1")
    assert observed == "observed median loss 0.11, mean 1.886 ± 3.98 over 5 trainings"
    html = study._repr_html_()
    assert "expected median loss 0.1" in html
    assert "observed median loss 0.11, mean 1.886 ± 3.98 over 5" in html

    shown, said = (
        " ".join(subprocess.run([*COMMAND, name, str(path)], capture_output=True, text=True, check=True).stdout.split())
        for name in ("show", "watch")
    )
    assert "for the median loss of fresh trainings" in shown
    assert "observed median loss 0.11, mean 1.886, spread 3.977, over 5 replicas" in shown
    assert f"best observed, by {'score' if risk else 'median'}" in shown
    assert re.search(r"trial median( score)? mean spread replicas", shown)
    assert f"risk {risk:g}, target mean_loss, score median" in shown
    assert "estimate median loss 0.1" in said
    assert "observed median loss 0.11, mean 1.886 ± 4 over 5 replicas" in said
    assert "best median 0.11" in [line.plain[-16:].strip() for line in looked(path).lines(80, 24)]


def looked(path):
    view = Watched(path)
    view.look()
    return view


def test_progress_names_the_median(capsys):
    def train(replica):
        return replica.params["x"] ** 2 + (50.0 if replica.index == 4 else 0.0)

    study = Study(SPACE, train, replicas=5, score="median", isolate=False, surrogate="random")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyppo.run.progress.INCUMBENT_AFTER", 0.0)
        study.run(trials=4)
    assert re.search(r"incumbent: trial \d, median loss [\d.e-]+, spread 22 \(x=", capsys.readouterr().err)


def test_the_ensemble_loss_is_named_as_what_is_expected():
    def train(replica):
        return hyppo.Result(1.0, prediction=np.full(4, replica.params["x"]), targets=np.zeros(4))

    study = Study(
        SPACE, train, target="ensemble_loss", score="median", criterion=lambda f, y: float(np.mean((f - y) ** 2)),
        replicas=2, isolate=False, surrogate="random",
    )  # fmt: skip
    study.run(trials=4, progress=False)
    assert (study.best.goal.metric, study.best.observed) == ("ensemble loss", None)
    assert "expected ensemble loss" in str(study.best)


@pytest.mark.parametrize("score", ["best", 3, lambda losses: "a", lambda losses: losses[5], lambda losses: math.nan])
def test_scores_that_cannot_be(score):
    with pytest.raises(StudyError, match="score: expected"):
        Study(SPACE, score=score)
