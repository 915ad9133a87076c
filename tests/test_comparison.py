"""Configurations that the user asks for, comparisons of trials, and the spread by source."""

import math

import numpy as np
import pytest

import hyppo
from hyppo import LogError, Real, Space, SpaceError, Study, StudyError, spread_by_source
from hyppo.analysis.comparison import compare
from hyppo.config import Config
from hyppo.search.blocks import fit_blocks
from hyppo.search.columns import Columns

SPACE = Space(x=Real(-1, 1))
BASELINE = {"x": 0.5}


def square(replica):
    return replica.params["x"] ** 2 + 0.01 * (replica.seed % 7)


def quick(objective=square, **arguments):
    return Study(SPACE, objective, **({"replicas": 2, "isolate": False, "surrogate": "random"} | arguments))


# -- enqueue ----------------------------------------------------------------------------------------------------------


def test_enqueued_trials_are_asked_before_all_else():
    study = Study(SPACE)
    study.ask()
    first, second = study.enqueue(BASELINE, name="baseline"), study.enqueue({"x": -0.25})
    assert [t.number for t in study.ask_batch(2)] == [first.number, second.number] == [1, 2]
    assert study.ask().number == 3
    assert [(t.name, t.params["x"]) for t in study.trials[1:3]] == [("baseline", 0.5), (None, -0.25)]


def test_the_same_call_again_returns_the_same_trial(tmp_path):
    path = tmp_path / "study.h5"
    for _ in range(2):
        with quick(log=path) as study:
            assert study.enqueue(BASELINE, name="baseline").number == 0
            study.run(trials=3, progress=False)
    assert [t.name for t in hyppo.load(path).trials] == ["baseline", None, None]
    assert hyppo.load(path).trials[0].stats.n == 2


def test_an_enqueued_trial_outlives_the_process_that_asked_for_it(tmp_path):
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path) as study:
        study.enqueue(BASELINE, name="baseline")
    with Study(SPACE, log=path) as study:
        trial = study.ask()
        assert (trial.name, trial.number) == ("baseline", 0)
        study.tell(trial.number, [0.1])
    with Study(SPACE, log=path) as study:
        assert study.ask().number == 1


def test_a_run_trains_what_was_enqueued_first():
    order = []
    study = quick(lambda replica: order.append(replica.trial) or square(replica), replicas=1)
    study.run(trials=2, progress=False)
    study.enqueue(BASELINE)
    study.run(trials=4, progress=False)
    assert order == [0, 1, 2, 3]
    assert study.trials[2].params == BASELINE


def test_an_enqueued_trial_is_not_stopped_early():
    def train(replica):
        for step in range(5):
            replica.report(step, abs(replica.params["x"]))
            if replica.should_stop:
                break
        return abs(replica.params["x"])

    study = quick(train, replicas=1, stopping=hyppo.stopping.Median(first=1, fewest=1, quantile=0.5, margin=0))
    study.run(trials=8, progress=False)
    assert any(t.state == "pruned" for t in study.trials)
    study.enqueue({"x": 1.0}, name="worst")
    study.run(trials=9, progress=False)
    assert study.trials[8].state == "done"


@pytest.mark.parametrize("name", ["", " ", "best", 3])
def test_names_that_cannot_be(name):
    with pytest.raises(StudyError, match="name: expected"):
        Study(SPACE).enqueue(BASELINE, name=name)


def test_enqueue_refuses_another_point_under_a_name():
    study = Study(SPACE)
    study.enqueue(BASELINE, name="baseline")
    with pytest.raises(StudyError, match="'baseline' is trial 0"):
        study.enqueue({"x": 0.75}, name="baseline")
    with pytest.raises(SpaceError, match=r"params\['x'\]"):
        study.enqueue({"x": 9.0})
    assert len(study.trials) == 1


# -- blocks -----------------------------------------------------------------------------------------------------------


def simulated(generator, means, replicas, data=0.0, training=1.0):
    effects = data * generator.standard_normal(replicas)
    return [{r: m + effects[r] + training * generator.standard_normal() for r in range(replicas)} for m in means]


@pytest.mark.parametrize(("data", "training"), [(0.0, 1.0), (1.0, 1.0), (3.0, 1.0)])
def test_variances_by_source(data, training):
    generator = np.random.default_rng(0)
    found = [fit_blocks(simulated(generator, np.arange(12.0), 8, data, training)) for _ in range(200)]
    # The standard error of each mean of 200 is under 4 % (training) and 6 % (data) of the variance.
    assert np.mean([b.training for b in found]) == pytest.approx(training**2, rel=0.1)
    assert np.mean([b.data for b in found]) == pytest.approx(data**2, rel=0.2, abs=0.03)


def test_too_little_tells_no_sources():
    assert fit_blocks([{0: 1.0, 1: 2.0}]) is None
    assert fit_blocks([{0: 1.0}] * 20) is None
    with pytest.raises(StudyError, match="too few trials"):
        spread_by_source(Study(SPACE))


def test_the_spread_of_a_study_by_source():
    def train(replica):
        data, own = (np.random.default_rng(s).standard_normal() for s in (replica.data_seed, replica.seed))
        return 10 * replica.params["x"] ** 2 + 3.0 * data + own

    study = quick(train, replicas=8)
    study.run(trials=16, progress=False)
    source = spread_by_source(study)
    assert source.training == pytest.approx(1.0, rel=0.35)
    assert source.data > 1.5
    assert (source.trials, source.replicas) == (8, 64)
    assert "from the data" in str(source)


def test_replicas_of_one_index_share_the_seed_of_the_data_and_the_fold():
    seen = {}
    study = quick(
        lambda r: seen.setdefault((r.trial, r.index), (r.data_seed, r.fold, r.seed)) and 1.0, folds=3, replicas=4
    )
    study.run(trials=2, progress=False)
    for index in range(4):
        one, two = seen[0, index], seen[1, index]
        assert one[:2] == two[:2]
        assert one[2] != two[2]
        assert one[1] == index % 3
    assert len({data for data, _, _ in seen.values()}) == 4


def test_choosing_contenders_by_their_first_losses_is_no_effect_of_the_first_data_seed():
    """Trainings of equal expected loss, of which the luckiest eight of forty are repeated."""
    generator = np.random.default_rng(0)
    shares, differences = [], []
    for _ in range(30):
        study = Study(SPACE, surrogate="random")
        first = list(generator.standard_normal(40))
        for loss in first:
            study.tell(study.ask().number, loss)
        ranked = np.argsort(first)
        for number in ranked[:8]:
            study.tell(int(number), list(generator.standard_normal(5)))
        source = spread_by_source(study)
        shares.append(source.data**2 / source.total**2)
        differences.append(study.compare(int(ranked[0]), int(ranked[20])).difference)
    assert np.mean(shares) < 0.1
    # The first loss of the luckiest of forty is 2.16 too low on average, and one of its six.
    assert np.mean(differences) == pytest.approx(-2.16 / 6, abs=0.25)


def test_the_search_sees_no_effects_of_folds_and_of_data_seeds():
    """The best trials alone were trained on all folds or data seeds, of which the first is easy."""

    def loss(x, index):
        return x**2 + (0.0, 2.0, 2.0)[index % 3] + 0.01 * np.sin(7.0 * x * (index + 1))

    study = Study(SPACE, folds=3)
    for x in (0.0, 0.1, 0.2):
        study.add({"x": x}, [loss(x, index) for index in range(3)])
    for x in (0.5, 0.6, 0.7, 0.8, 0.9):
        study.add({"x": x}, [loss(x, 0)])

    def seen(config):
        columns = Columns(SPACE, config)
        columns.update(study.trials)
        return columns.observations()

    assert np.argmin([t.mean for t in study.trials]) == 3
    with_seeds, with_folds = seen(Config()), seen(Config(folds=3))
    for found in (with_seeds, with_folds):
        np.testing.assert_allclose(found.mean, [t.params["x"] ** 2 + 4 / 3 for t in study.trials], atol=0.05)
    assert with_folds.spread[0] < 0.05
    assert with_seeds.spread[0] > 1.0, "a fresh training has another data seed"
    assert study.best.params["x"] <= 0.2
    assert study.best.reason == "the best observed without the effects of folds, and the surrogate agrees"
    low, high = study.best.interval
    assert low < 4 / 3 + study.best.params["x"] ** 2 < high


def test_folds_that_no_training_has_seen_are_in_the_interval():
    """Fold k is worse by 2 k: two of five say little of their mean, 4, and all five everything."""

    def width(replicas):
        study = Study(SPACE, folds=5, replicas=replicas)
        for x in np.linspace(-1.0, 1.0, 9):
            study.add({"x": float(x)}, [x**2 + 2.0 * k + 0.2 * np.sin(7.0 * x * (k + 1)) for k in range(replicas)])
        low, high = study.best.interval
        assert low < 4.0 * (replicas == 5) + 1.0 * (replicas == 2) < high
        return high - low

    # The variance of the mean of 2 of 5, drawn without replacement, is that of the folds times 1 / 2 - 1 / 5.
    assert width(2) == pytest.approx(2 * 1.645 * np.sqrt(2.0 * 0.3), rel=0.1)
    assert width(5) < 0.8


def test_without_effects_nothing_is_removed():
    """Of 200 studies whose trainings do not use the data seed, at most 2 % are changed."""
    generator = np.random.default_rng(3)
    changed = 0
    for _ in range(200):
        study = Study(SPACE)
        for x in generator.permutation(np.linspace(0.0, 1.0, 21))[:12]:
            study.add({"x": float(x)}, list(x + generator.normal(size=4)))
        columns = Columns(SPACE, Config())
        columns.update(study.trials)
        changed += not np.array_equal(columns.observations().mean, [t.mean for t in study.trials])
    assert changed <= 4


def test_folds_belong_to_the_study_file(tmp_path):
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path, folds=5) as study:
        study.ask()
    assert hyppo.load(path).config.folds == 5
    with pytest.raises(LogError, match="folds=5, not None"), Study(SPACE, log=path) as study:
        study.ask()
    with pytest.raises(StudyError, match="folds: expected an integer of at least 2"):
        Study(SPACE, folds=1)


# -- comparison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "n"), [(0.0, (8, 8)), (2.0, (8, 8)), (2.0, (2, 8)), (0.0, (1, 5))])
def test_the_interval_of_a_difference_covers(data, n):
    """90 % intervals over 400 studies: within 4 standard errors, 6 %."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        a, b, *others = simulated(generator, [0.0, 1.0, *generator.uniform(0, 5, 10)], 8, data)
        a, b = ({r: losses[r] for r in range(k)} for losses, k in zip((a, b), n, strict=True))
        low, high = compare(a, b, others, Config()).interval
        held += low <= -1.0 <= high
    assert held / 400 == pytest.approx(0.9, abs=0.06)


def test_removing_the_blocks_sharpens_a_comparison():
    generator = np.random.default_rng(2)
    widths = []
    for _ in range(50):
        a, b, *others = simulated(generator, [0.0, 1.0, *range(10)], 8, data=3.0)
        a = {r: a[r] for r in range(2)}
        low, high = compare(a, b, others, Config()).interval
        renamed = {r + 100 * (i + 1): loss for i, (r, loss) in enumerate(a.items())}  # as if no data were shared
        wide_low, wide_high = compare(renamed, b, others, Config()).interval
        widths.append((high - low) / (wide_high - wide_low))
    assert np.median(widths) < 0.5


def test_compare_by_number_name_and_best():
    study = quick(replicas=4)
    study.enqueue({"x": 1.0}, name="baseline")
    study.run(trials=6, progress=False)
    found = study.compare("best", "baseline")
    assert found == study.compare(study.best.number, 0)
    assert found.difference < 0 < found.probability
    low, high = found.interval
    assert low < found.difference < high
    back = study.compare("baseline", "best")
    assert back.difference == pytest.approx(-found.difference)
    assert back.probability == pytest.approx(1 - found.probability)
    with pytest.raises(StudyError, match="no trial has the name 'mine'; names are"):
        study.compare("best", "mine")


def test_single_trainings_tell_no_spread():
    study = quick(replicas=1)
    study.run(trials=2, progress=False)
    found = study.compare(0, 1)
    assert found.interval == (-math.inf, math.inf)
    assert found.probability == 0.5


@pytest.mark.parametrize("score", ["mean", "median"])
@pytest.mark.parametrize("replicated", [1, 2, 3])
def test_few_trials_that_were_trained_twice_tell_the_spread_of_single_trainings(replicated, score):
    config = Config(score=score)
    generator, covered, draws = np.random.default_rng(replicated), 0, 400
    for _ in range(draws):
        draw = generator.normal(size=2 * replicated + 2)
        others = [{0: k + draw[2 * k + 2], 1: k + draw[2 * k + 3]} for k in range(replicated)]
        found = compare({0: draw[0]}, {0: 3.0 + draw[1]}, others, config)
        assert found.difference == pytest.approx(draw[0] - 3.0 - draw[1])
        covered += found.interval[0] <= -3.0 <= found.interval[1]
    assert abs(covered / draws - 0.9) < 3.5 * math.sqrt(0.09 / draws)
    once = [{0: 1.0}, {0: 2.0}]
    assert compare({0: 0.0}, {0: 1.0}, once, config).interval == (-math.inf, math.inf)


def test_a_trial_without_a_loss_is_not_compared():
    study = Study(SPACE)
    study.ask()
    with pytest.raises(StudyError, match="trial 0 has no loss"):
        study.compare(0, 0)
