"""Rules that stop trainings early: what they decide, what becomes of a trial, and that a signal's stop differs."""

import pickle
import signal
import time
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import hyppo
from benchmarks.curves import __main__ as benchmark
from benchmarks.curves import table
from hyppo.loop import Interrupt, Loop, Options, Progressed, Session, Stopped
from hyppo.search.evidence import Observations, with_censored
from hyppo.stopping import Curves, Halving, Median, rule_of
from hyppo.training.replica import Outcome
from hyppo.trial import State

from .test_run import Silent

pytestmark = pytest.mark.timeout(60)

SPACE = hyppo.Space(x=hyppo.Real(0, 1))
PLAIN = Median(quantile=0.5, first=2, fewest=4, margin=1.0)


def levels(*trials):
    return {number: dict(enumerate(replicas)) for number, replicas in enumerate(trials)}


# -- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [PLAIN, Halving()])
def test_the_worst_goes_and_the_best_stays(rule):
    there = levels([1.0], [2.0], [3.0], [4.0], [5.0], [6.0])
    assert rule.stops(5, 2, there, pruned=0)
    assert not rule.stops(0, 2, there, pruned=0)


@pytest.mark.parametrize("rule", [PLAIN, Halving()])
def test_no_rule_judges_by_noise(rule):
    apart = levels([1.0, 1.1], [2.0, 2.1], [3.0, 3.1], [4.0, 4.1], [4.5])
    assert rule.stops(4, 2, apart, pruned=0)
    # the same means, replicas that differ by as much as trials do
    noisy = levels([-1.0, 3.1], [0.0, 4.1], [1.0, 5.1], [2.0, 6.1], [4.5])
    assert not rule.stops(4, 2, noisy, pruned=0)
    # several replicas of its own make it certain
    certain = noisy | {4: dict(enumerate([3.0, 3.0, 6.0, 6.0, 4.5, 4.5, 4.5, 4.5, 4.5]))}
    assert rule.stops(4, 2, certain, pruned=0)


def test_a_trial_is_compared_with_the_mean_of_others_replicas():
    # by replicas the median would be that of the one trial with many
    there = levels([1.0] * 9, [4.0], [4.1], [4.2], [3.9])
    assert not replace(PLAIN, margin=0.0).stops(4, 2, there, pruned=0)


def test_the_bound_is_a_quantile_of_the_others():
    there = levels(*([float(number)] for number in range(11)))
    bounds = [max(t for t in range(11) if not Median(quantile=q).stops(t, 3, there, 0)) for q in (0.1, 0.4, 0.5, 0.9)]
    assert bounds == [0, 3, 4, 8]


def test_few_others_and_few_reports_do_not_decide():
    there = levels([1.0], [2.0], [3.0], [4.0], [9.0])
    assert not replace(PLAIN, fewest=5).stops(4, 2, there, pruned=0)
    assert replace(PLAIN, fewest=5).stops(4, 2, there, pruned=1)
    assert not replace(PLAIN, first=3).stops(4, 2, there, pruned=0)
    assert not Halving().stops(1, 2, levels([1.0], [9.0]), pruned=0)
    assert [reports for reports in range(1, 60) if Halving().stops(4, reports, there, 0)] == [2, 6, 18, 54]


def test_those_given_up_count_as_worse_where_they_did_not_come():
    survivors = levels([1.0], [2.0], [3.0], [4.0], [5.0])
    assert PLAIN.stops(4, 9, survivors, pruned=0)
    assert not PLAIN.stops(4, 9, survivors, pruned=6)


def test_diverged_curves_break_nothing():
    there = levels([float("inf"), float("inf")], [1.0], [2.0], [3.0], [float("inf")])
    for rule in (PLAIN, Halving()):
        assert rule.stops(4, 2, there, pruned=0)
        assert not rule.stops(1, 2, there, pruned=0)


def test_curves_keep_the_lowest_and_begin_again():
    curves = Curves()
    for step, loss in enumerate([3.0, float("nan"), 4.0]):
        curves.add(2, 0, step, loss)
    assert (curves.at(2), curves.reports(2, 0)) == ({2: {0: 3.0}}, 3)
    curves.begin(2, 0)
    curves.add(2, 0, 0, 5.0)
    assert (curves.at(0), curves.reports(2, 0), curves.at(7)) == ({2: {0: 5.0}}, 1, {})
    assert curves.at(2) == {}  # void until it is reported again


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rule_of("hyperband"), "hyperband"),
        (lambda: hyppo.Study(SPACE, stopping=True), "stopping: expected"),
        (lambda: Median(first=0), "first: expected an integer of at least 1"),
        (lambda: Median(margin=-1.0), "margin"),
        (lambda: Median(quantile=1.0), "quantile: expected a number in"),
        (lambda: Halving(factor=1), "factor: expected an integer of at least 2"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(hyppo.StudyError, match=words):
        make()


def direct(trials, number, rule, reports, pruned):
    """Both rules as their definitions say, from scratch."""
    means = {n: float(np.mean(list(of.values()))) for n, of in trials.items()}
    own = means.pop(number)
    spreads = [np.std(list(of.values()), ddof=1) for of in trials.values() if len(of) > 1]
    error = np.median(spreads) / np.sqrt(len(trials[number])) if spreads else 0.0
    if isinstance(rule, Median):
        ranked = sorted([*means.values(), *[np.inf] * pruned])
        enough = reports >= rule.first and len(ranked) >= rule.fewest
        return bool(enough and own > ranked[int(rule.quantile * (len(ranked) - 1))] + rule.margin * error)
    everybody = sorted([own, *means.values()])
    enough = reports in (2, 6, 18, 54) and len(everybody) >= rule.factor
    return bool(enough and own > everybody[-(-len(everybody) // rule.factor) - 1] + rule.margin * error)


@pytest.mark.parametrize("rule", [Median(first=1), Halving()])
def test_rules_over_growing_curves_decide_as_their_definitions(rule):
    """Reports, attempts begun anew, trials pruned and finished, in any order."""
    generator = np.random.default_rng(3)
    curves, seen, pruned, decided = Curves(), {}, set(), []
    for _ in range(600):
        trial, index, step = (int(generator.integers(n)) for n in (25, 3, 8))
        if generator.random() < 0.02:
            curves.begin(trial, index)
            seen.pop((trial, index), None)
        if generator.random() < 0.01:
            curves.prune(trial)
            pruned.add(trial)
        loss = float(np.round(generator.normal(trial, 4.0), 1))  # ties occur
        curves.add(trial, index, step, loss)
        reports = seen.setdefault((trial, index), [])
        reports.append((step, loss))
        levels = {}
        for (number, replica), curve in seen.items():
            last = max((at for at, (s, _) in enumerate(curve) if s == step), default=None)
            if last is not None:
                levels.setdefault(number, {})[replica] = min(value for _, value in curve[: last + 1])
        absent = len(pruned - set(levels))
        decided.append(curves.stopped_by(rule, trial, index, step))
        assert decided[-1] == direct(levels, trial, rule, len(reports), absent)
    assert 0.03 < np.mean(decided) < 0.9


def test_a_finished_trial_is_not_stopped():
    curves = Curves()
    for trial in range(6):
        for step in range(4):
            curves.add(trial, 0, step, float(trial))
    assert curves.stopped_by(Median(), 5, 0, 3)
    curves.finish(5)
    assert not curves.stopped_by(Median(), 5, 0, 3)


def test_a_report_among_ten_thousand_trials_costs_little():
    curves = Curves()
    for trial in range(10_000):
        curves.add(trial, 0, 1, (trial * 7919) % 10_007)
        curves.add(trial, 1, 1, (trial * 104_729) % 10_007)
        if trial % 2:
            curves.prune(trial)
    start = time.process_time()
    for trial in range(0, 2000, 2):
        curves.add(trial, 2, 1, float(trial))
        curves.stopped_by(Median(first=1), trial, 2, 1)
    # From scratch one decision takes 100 ms.
    assert time.process_time() - start < 1000 * 0.001


# -- studies ----------------------------------------------------------------------------------------------------------


def descend(replica):
    """Ends at x, give or take 0.01 from one training to the next."""
    loss = 9.0
    for epoch in range(10):
        loss = replica.params["x"] + 0.01 * (replica.seed % 10) / 10 + 1.0 / (epoch + 1)
        replica.report(epoch, loss)
        if replica.should_stop:
            break
    return loss


def study_of(objective=descend, **arguments):
    return hyppo.Study(SPACE, objective, **{"replicas": 3, "isolate": False, "stopping": PLAIN} | arguments)


def epochs(study):
    return sum(len(r.curve) for t in study.trials for r in t.replicas)


def test_it_is_off_by_default():
    study = study_of(stopping=None)
    study.run(trials=12, progress=False)
    assert epochs(study) == 12 * 3 * 10
    assert hyppo.Study(SPACE).stopping is None


@pytest.mark.parametrize("rule", ["median", "halving", replace(PLAIN, margin=0.0)])
def test_a_stopped_trial_is_pruned_whole(rule, tmp_path):
    study = study_of(stopping=rule, log=tmp_path / "s.h5", surrogate="random")
    study.run(trials=20, progress=False)
    pruned = [t for t in study.trials if t.state is State.PRUNED]
    assert 4 <= len(pruned) <= 16
    for trial in pruned:
        assert trial.mean is None
        assert not trial.pending
        (only,) = trial.replicas  # the further ones were dropped
        assert (only.state, only.loss, only.failure) == (State.PRUNED, None, None)
        assert 2 <= len(only.curve) < 10
        assert only.end >= only.start
    done = [t for t in study.trials if t.state is State.DONE]
    assert all(len(t.replicas) == 3 and all(len(r.curve) == 10 for r in t.replicas) for t in done)
    assert study.best.number in {t.number for t in done}
    assert epochs(study) < 0.75 * 20 * 3 * 10
    # the file keeps it, and the same command has nothing left to do
    before = study.trials
    again = study_of(stopping=rule, log=tmp_path / "s.h5", surrogate="random")
    again.run(trials=20, progress=False)
    assert again.trials == before


def test_a_pruned_point_is_not_asked_again():
    space = hyppo.Space(x=hyppo.Ordinal([i / 15 for i in range(16)]))
    study = hyppo.Study(space, descend, replicas=2, isolate=False, stopping="halving")
    study.run(trials=16, progress=False)
    assert len({t.params["x"] for t in study.trials}) == 16
    assert any(t.state is State.PRUNED for t in study.trials)
    assert study.best.params["x"] == 0.0


def test_in_a_process_of_its_own_a_stop_is_heard():
    def slow(replica):
        import time

        loss = 9.0
        for epoch in range(12):
            time.sleep(0.01)
            loss = replica.params["x"] + 1.0 / (epoch + 1)
            replica.report(epoch, loss)
            if replica.should_stop:
                break
        return loss

    study = study_of(slow, isolate=True, replicas=1, stopping="halving", surrogate="random")
    study.run(trials=12, progress=False, workers=2)
    states = {str(t.state) for t in study.trials}
    assert states == {"done", "pruned"}
    assert epochs(study) < 12 * 12


@pytest.mark.parametrize(
    ("returned", "noticed"),
    [
        (lambda reports: -reports[-1], True),
        (lambda reports: -max(reports), True),
        (lambda reports: 1 - max(reports), True),
        (lambda reports: reports[-1], False),
        (lambda reports: 0.123, False),
        (lambda reports: float("nan"), False),
    ],
)
def test_reports_of_a_metric_that_is_better_when_higher_are_noticed(returned, noticed, capfd):
    def accurate(replica):
        reports = [0.31, 0.87, 0.62]
        for epoch, accuracy in enumerate(reports):
            replica.report(epoch, accuracy)
        return returned(reports)

    study_of(accurate, isolate=True, replicas=1).run(trials=3, progress=False)
    said = capfd.readouterr().err
    assert said.count("Reports are losses too") == noticed
    assert not noticed or "(replica) reported 0." in said


def test_a_training_that_does_not_listen_keeps_its_loss():
    def deaf(replica):
        for epoch in range(5):
            replica.report(epoch, replica.params["x"])
        return replica.params["x"]

    study = study_of(deaf, surrogate="random")
    study.run(trials=10, progress=False)
    assert all(t.state is State.DONE and len(t.replicas) == 3 for t in study.trials)


def test_the_stop_of_a_signal_leaves_a_training_pending():
    interrupt = Interrupt()

    def interrupted(replica):
        loss = descend(replica)
        if replica.trial == 3:
            loop.workers.request_stop()
            interrupt.asked = signal.SIGTERM
            assert replica.should_stop
        return loss

    study = study_of(interrupted, replicas=1)
    from hyppo.launch.local import InProcess

    loop = Loop(Session(study), InProcess(interrupted), Options(trials=9, grace=0.1), Silent(), interrupt)
    loop.go()
    assert [str(t.state) for t in study.trials] == ["done", "done", "done", "pending"]


class Reporting:
    """Workers of two slots, whose trainings report and end by hand."""

    groups = (0, 0)

    def __init__(self):
        self.running, self.said, self.asked_to_stop = {}, [], []

    def submit(self, task, slot):
        self.running[task.index] = (task, Future())
        return self.running[task.index][1]

    def on_report(self, callback):
        pass

    def reports(self):
        said, self.said = self.said, []
        return said

    def request_stop(self, task):
        self.asked_to_stop.append(task.index)

    def stop(self, index):
        _, future = self.running.pop(index)
        future.set_exception(pickle.loads(pickle.dumps(Stopped(Outcome(None, None, 1.0, 2.0, ((1, 9.0),))))))

    def end(self, index, loss):
        _, future = self.running.pop(index)
        future.set_result(Outcome(loss, None, 1.0, 2.0, ((1, 9.0), (2, loss))))

    def close(self):
        pass


@pytest.fixture
def bad():
    """A loop in which trial 4 trains two replicas of three, and the rule has just given up the first."""
    session = Session(study_of(surrogate="random"))
    for x in (0.1, 0.2, 0.3, 0.4):
        curve = ((0, x), (1, x))
        session.settle([(task, Outcome(x, None, 1.0, 2.0, curve)) for task in session.tasks(session.study.ask())])
    loop = Loop(session, Reporting(), Options(trials=5), Silent(), Interrupt())
    loop._fill()
    loop.workers.said = [Progressed(4, 0, 0, 9.0), Progressed(4, 0, 1, 9.0)]
    loop._collect()
    assert loop.workers.asked_to_stop == [0]
    return loop


def replicas_of(loop):
    trial = loop.session.trials[4]
    return str(trial.state), [(r.index, str(r.state)) for r in trial.replicas]


def test_mates_that_run_are_stopped_with_the_first(bad):
    """Two replicas of one trial at a time: the rule stops one, and the other goes with it."""
    bad.workers.stop(0)
    bad._collect()
    assert bad.workers.asked_to_stop == [0, 1]
    assert replicas_of(bad)[0] == "pruned"
    bad.workers.stop(1)
    bad._collect()
    assert replicas_of(bad) == ("pruned", [(0, "pruned"), (1, "pruned")])
    assert bad._next(0) is None  # the third is dropped
    assert bad.settled == 14


def test_a_mate_that_ends_after_the_stop_does_not_stand_for_its_trial(bad):
    bad.workers.stop(0)
    bad._collect()
    bad.workers.end(1, 0.01)
    bad._collect()
    assert replicas_of(bad) == ("pruned", [(0, "pruned"), (1, "pruned")])
    assert bad.session.trials[4].mean is None
    assert bad.session.study.best.number != 4


@pytest.mark.parametrize("together", [False, True])
def test_a_trial_whose_loss_comes_before_the_stop_goes_on(bad, together):
    bad.workers.end(1, 9.0)
    if not together:
        bad._collect()
    bad.workers.stop(0)
    bad._collect()
    assert replicas_of(bad) == ("pending", [(0, "pending"), (1, "done"), (2, "pending")])
    bad._fill()
    assert sorted(bad.workers.running) == [0, 2]
    bad.workers.said = [Progressed(4, 0, step, 9.0) for step in range(4)]
    bad._collect()
    assert bad.workers.asked_to_stop == [0]  # once, when it had no loss


def test_what_is_left_of_a_trial_given_up_is_no_state_to_go_on_with(bad):
    folders = [bad.session.directory(4, index) for index in range(3)]
    for folder in folders:  # the third was interrupted in an earlier run
        folder.mkdir(parents=True)
        (folder / "resume.0123456789abcdef.ckpt").touch()
        (folder / "notes.txt").touch()
    bad.workers.stop(0)
    bad._collect()
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [["notes.txt"]] * 3


def test_an_executor_cannot_stop_early():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor, pytest.raises(hyppo.StudyError, match="stopping"):
        study_of().run(trials=2, executor=executor, progress=False)


def test_the_search_takes_pruned_points_for_the_upper_quartile():
    data = Observations(np.zeros((5, 1)), np.arange(5.0), np.full(5, 0.1), np.full(5, 3))
    assert with_censored(data, np.empty((0, 1))) is data
    shown = with_censored(data, np.array([[0.5], [0.7]]))
    assert shown.mean.tolist() == [0, 1, 2, 3, 4, 3, 3]
    assert shown.unit[5:, 0].tolist() == [0.5, 0.7]
    assert shown.count[5:].tolist() == [1, 1]
    assert np.isnan(shown.spread[5:]).all()
    assert shown.censored == 2


# -- real curves ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_fifths_of_the_epochs_are_saved_on_real_curves():
    """Three studies of 25 trials on the table of digits; the recommendation stays within the interval of the whole."""
    wholes, *others = (
        [benchmark.study_of(rule, seed, 25) for seed in range(3)] for rule in (None, "median", "halving")
    )
    for studies in others:
        assert sum(map(benchmark.epochs, studies)) <= 0.6 * sum(map(benchmark.epochs, wholes))
        inside = [benchmark.truth(s) <= w.best.interval[1] for s, w in zip(studies, wholes, strict=True)]
        assert sum(inside) >= 2


def test_the_table_plays_its_curves():
    study = hyppo.Study(table.SPACE, partial(table.play, shift=1), replicas=2, isolate=False)
    study.run(trials=1, progress=False)
    (trial,) = study.trials
    assert [[loss for _, loss in r.curve] for r in trial.replicas] == table.curves_of(trial.params)[[1, 2]].tolist()
