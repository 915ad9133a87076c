"""The study: ask, tell, fail, add, best; determinism; resuming."""

import copy
import json
import math
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import hyppo
from hyppo import Choice, Integer, Ordinal, Real, Space, SpaceError, SpaceExhausted, State, Study, StudyError
from hyppo.loop import Session
from hyppo.seeds import seed_for

SPACE = Space(x=Real(-2, 2), n=Integer(1, 8, log=True), act=Choice(["a", "b", "c"]), batch=Ordinal([16, 32]))


def loss(params, seed=0):
    return params["x"] ** 2 + 0.1 * params["n"] + {"a": 0, "b": 1, "c": 2}[params["act"]] + (seed % 97) * 1e-3


def drive(study, n):
    for _ in range(n):
        trial = study.ask()
        study.tell(trial.number, [loss(trial.params, seed) for seed in trial.seeds])


def history(study):
    return [(t.number, t.params, t.state, [(r.index, r.seed, r.loss) for r in t.replicas]) for t in study.trials]


# -- ask and tell -----------------------------------------------------------------------------------------------------


def test_an_ask_gives_number_params_and_seeds():
    study = Study(SPACE, replicas=2, seed=7)
    trial = study.ask()
    assert trial.number == 0
    assert set(trial.params) == {"x", "n", "act", "batch"}
    assert trial.seeds == (seed_for(7, 0, 0), seed_for(7, 0, 1))
    assert trial.state is State.PENDING
    assert study.ask().number == 1


def test_tell_settles_what_was_asked_and_a_later_tell_adds():
    study = Study(SPACE)
    number = study.ask().number
    study.tell(number, [1.0, 3.0])
    (trial,) = study.trials
    assert (trial.state, trial.mean, len(trial.replicas)) == (State.DONE, 2.0, 2)
    study.tell(number, [5.0])
    (trial,) = study.trials
    assert (trial.mean, trial.spread, [r.index for r in trial.replicas]) == (3.0, 2.0, [0, 1, 2])


def test_more_losses_than_asked_are_further_replicas():
    study = Study(SPACE, replicas=1, seed=3)
    number = study.ask().number
    study.tell(number, [1.0, 2.0, 3.0])
    assert [r.seed for r in study.trials[0].replicas] == [seed_for(3, 0, i) for i in range(3)]


def test_out_of_order_and_unknown_spread():
    study = Study(SPACE, replicas=1)
    first, second = study.ask(), study.ask()
    study.tell(second.number, [2.0])
    study.tell(first.number, 1.0)
    assert [t.settled < 10 for t in study.trials] == [True, True]
    assert study.trials[1].settled < study.trials[0].settled
    assert study.trials[0].spread is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_a_failed_replica(bad):
    study = Study(SPACE, replicas=2)
    number = study.ask().number
    study.tell(number, [bad, 1.0])
    (trial,) = study.trials
    assert [r.state for r in trial.replicas] == [State.FAILED, State.DONE]
    assert trial.replicas[0].failure.type == "NonFiniteLoss"
    assert (trial.state, trial.mean) == (State.DONE, 1.0)


def test_fail_costs_a_trial_and_never_becomes_a_loss():
    study = Study(SPACE)
    number = study.ask().number
    study.fail(number, "out of memory")
    assert study.trials[0].state is State.FAILED
    assert study.trials[0].mean is None
    assert "out of memory" in str(study.trials[0].replicas[0].failure)
    with pytest.raises(StudyError, match="no trial has a finite loss yet"):
        _ = study.best
    with pytest.raises(StudyError, match="nothing pending"):
        study.fail(number, "again")


def test_all_failing_still_asks_new_points():
    study = Study(SPACE)
    for _ in range(15):
        study.fail(study.ask().number, "boom")
    assert len({json.dumps(t.params) for t in study.trials}) == 15


def test_add_takes_in_what_is_known_elsewhere():
    study = Study(SPACE)
    trial = study.add({"x": 0.0, "n": 1, "act": "a", "batch": 16}, [0.1, 0.2])
    assert (trial.number, trial.state, trial.params["x"]) == (0, State.DONE, 0.0)
    assert study.best.number == 0
    with pytest.raises(SpaceError, match=r"params\['n'\]"):
        study.add({"x": 0.0, "n": 99, "act": "a", "batch": 16}, [0.1])


def test_results_of_one_point_that_are_added_one_by_one_are_its_replicas():
    study = Study(SPACE)
    for loss in (1.0, 2.0, float("nan"), 3.0):
        study.add({"x": 0.0, "n": 1, "act": "a", "batch": 16}, loss)
    for x in (0.5, 1.0, 1.5, 2.0):
        study.add({"x": x, "n": 1, "act": "a", "batch": 16}, 3.0 + x)
    best = study.best
    assert (best.number, best.mean, best.spread, best.replicas, best.failed) == (0, 2.0, 1.0, 3, 1)
    assert best.interval[0] <= best.mean <= best.interval[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.tell(5, [1.0]), "trial 5 was never asked"),
        (lambda s: s.tell("0", [1.0]), "a trial's number: expected an integer"),
        (lambda s: s.tell(0, []), "at least one"),
        (lambda s: s.tell(0, ["a"]), "expected numbers"),
        (lambda s: s.tell(0, [None]), "expected numbers"),
        (lambda s: s.tell(0, None), "expected numbers"),
        (lambda s: s.fail(-1, ""), "never asked"),
    ],
)
def test_errors_of_telling_change_nothing(call, message):
    study = Study(SPACE)
    study.ask()
    before = history(study)
    with pytest.raises(StudyError, match=message):
        call(study)
    assert history(study) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": {"x": 1}}, "expected a hyppo.Space"),
        ({"objective": 3}, "expected a function"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"risk": -1}, "risk"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": (3, 2)}, "replicas"),
        ({"replicas": 2.5}, "replicas"),
        ({"surrogate": "magic"}, "auto"),
    ],
)
def test_errors_of_construction(arguments, message):
    with pytest.raises(StudyError, match=message):
        Study(**({"space": SPACE} | arguments))


# -- the recommendation -----------------------------------------------------------------------------------------------


def test_best_has_enough_replicas():
    study = Study(SPACE, replicas=3, seed=0)
    drive(study, 15)
    lucky = study.ask()
    study.tell(lucky.number, [-100.0])  # one lucky training of a point
    best = study.best
    assert best.number != lucky.number
    assert best.replicas == 3
    assert best.interval[0] <= best.interval[1]
    assert best.reason
    assert best.mean == study.trials[best.number].mean


def test_without_explicit_replicas_nothing_is_required():
    study = Study(SPACE)
    study.tell(study.ask().number, [1.0])
    study.tell(study.ask().number, [0.5, 0.5])
    assert study.best.replicas in (1, 2)


def test_the_search_gets_there():
    study = Study(SPACE, replicas=1, seed=1)
    drive(study, 40)
    assert loss(study.best.params) < 0.35  # the optimum is 0.1


# -- small spaces -----------------------------------------------------------------------------------------------------


def test_a_small_space_is_exhausted_then_replicated():
    study = Study(Space(a=Integer(1, 2), b=Choice(["x", "y"])), replicas=1, seed=0)
    seen = []
    for i in range(4):
        trial = study.ask()
        seen.append((trial.params["a"], trial.params["b"]))
        study.tell(trial.number, [float(i)])
    assert len(set(seen)) == 4
    assert Session(study).exhausted
    again = study.ask()
    assert again.number < 4
    assert again.seeds == (seed_for(0, again.number, 1),)
    study.tell(again.number, [0.5])
    assert len(study.trials) == 4


def test_a_space_of_one_point():
    study = Study(Space(a=Integer(3, 3)), replicas=2)
    trial = study.ask()
    with pytest.raises(SpaceExhausted, match=r"all points of the space were tried \(1 trial\).*tell the losses"):
        study.ask()
    study.tell(trial.number, [1.0, 2.0])
    assert study.best.params == {"a": 3}


def test_a_space_whose_every_point_failed():
    study = Study(Space(a=Integer(3, 3)), replicas=1)
    study.fail(study.ask().number, "out of memory")
    with pytest.raises(SpaceExhausted, match=r"all points of the space were tried \(1 trial\).*each failed"):
        study.ask()


# -- determinism and resuming -----------------------------------------------------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.test_study import SPACE, Study, drive, history
study = Study(SPACE, replicas=2, seed=5)
drive(study, 22)
print(history(study))
"""


def test_same_seed_same_trajectory_whatever_the_hash_seed():
    root = os.path.dirname(os.path.dirname(__file__))
    runs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT.format(root=root)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(runs) == 1


def test_another_seed_is_another_trajectory():
    studies = [Study(SPACE, seed=seed) for seed in (0, 1)]
    assert studies[0].ask().params != studies[1].ask().params


def test_resuming_anywhere_equals_the_uninterrupted_run(tmp_path):
    whole = Study(SPACE, replicas=2, seed=5)
    drive(whole, 20)
    for k in range(20):
        with Study(SPACE, log=tmp_path / "study.h5", replicas=2, seed=5) as part:
            assert len(part.trials) == k
            drive(part, 1)
    assert history(hyppo.load(tmp_path / "study.h5")) == history(whole)


def test_pending_replicas_survive_a_restart(tmp_path):
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path, replicas=2, seed=5) as study:
        asked = study.ask()
    with Study(SPACE, log=path, replicas=2, seed=5) as study:
        (trial,) = study.trials
        assert (trial.seeds, trial.params) == (asked.seeds, asked.params)
        assert [t.seed for t in Session(study).tasks(trial)] == list(asked.seeds)


def test_constructing_touches_nothing(tmp_path):
    path = tmp_path / "study.h5"
    study = Study(SPACE, log=path)
    assert list(tmp_path.iterdir()) == []
    assert study.trials == ()
    assert list(tmp_path.iterdir()) == []


def test_a_log_of_another_space_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path) as study:
        drive(study, 1)
    other = Study(Space(x=Real(-2, 3)), log=path)
    with pytest.raises(hyppo.HyppoError, match="x: "):
        other.ask()
    with pytest.raises(hyppo.HyppoError, match="x: "):
        _ = other.trials
    assert len(hyppo.load(path).trials) == 1


def test_a_log_in_use_is_refused(tmp_path):
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path) as study:
        study.ask()
        with pytest.raises(hyppo.LogError, match="being written"):
            Study(SPACE, log=path).ask()
        assert len(hyppo.load(path).trials) == 1


def test_a_frame_without_losses_has_columns_of_numbers():
    study = Study(Space(x=Real(0, 1)))
    assert study.to_frame()["mean"].dtype == float  # before the first trial
    study.ask()
    frame = study.to_frame()
    assert [str(frame[name].dtype) for name in ("number", "mean", "u", "end", "params.x")] == [
        "int64", "float64", "float64", "float64", "float64",
    ]  # fmt: skip
    assert len(frame.nsmallest(3, "mean")) == 1


def test_to_frame(tmp_path):
    study = Study(SPACE, replicas=2)
    drive(study, 3)
    frame = study.to_frame()
    assert list(frame["number"]) == [0, 1, 2]
    params = {"params.x", "params.n", "params.act", "params.batch"}
    assert {"state", "mean", "spread", "replicas"} | params <= set(frame.columns)


def test_replicas_have_a_directory_of_their_own(tmp_path):
    study = Study(SPACE, log=tmp_path / "study.h5")
    assert Session(study).directory(3, 1) != Session(study).directory(3, 2)
    assert Session(study).directory(3, 1).is_relative_to(tmp_path)


# -- any order of calls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, pickle.dumps])
def test_copies_are_refused(way):
    with pytest.raises(StudyError, match="neither copied nor sent to another process; keep it out of the object"):
        way(Study(SPACE))


class AnyOrder(RuleBasedStateMachine):
    """Ask, tell, fail and add in any order, and now and then a restart."""

    @initialize(replicas=st.sampled_from([None, 1, 2]), finite=st.booleans())
    def start(self, replicas, finite):
        self.space = Space(a=Integer(1, 3), b=Choice(["x", "y"])) if finite else SPACE
        self.study = Study(self.space, replicas=replicas, seed=9)
        self.losses = {}

    def pending(self):
        return [t.number for t in self.study.trials if t.pending]

    @precondition(lambda self: len(self.study.trials) < 25)
    @rule()
    def ask(self):
        before = len(self.study.trials)
        try:
            trial = self.study.ask()
        except SpaceExhausted:
            assert Session(self.study).exhausted
            return
        assert trial.seeds
        assert len(self.study.trials) == before + (trial.number == before)

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), count=st.integers(1, 4))
    def tell(self, data, count):
        number = data.draw(st.sampled_from(self.pending()))
        values = data.draw(st.lists(st.floats(-10, 10) | st.just(math.nan), min_size=count, max_size=count))
        self.study.tell(number, values)
        self.losses.setdefault(number, []).extend(v for v in values if math.isfinite(v))

    @precondition(lambda self: self.pending())
    @rule(data=st.data())
    def fail(self, data):
        self.study.fail(data.draw(st.sampled_from(self.pending())), "why")

    @invariant()
    def what_was_told_is_known(self):
        for trial in self.study.trials:
            known = sorted(r.loss for r in trial.replicas if r.loss is not None)
            assert known == sorted(self.losses.get(trial.number, []))
            assert [r.seed for r in trial.replicas] == [seed_for(9, trial.number, r.index) for r in trial.replicas]

    @invariant()
    def no_point_twice(self):
        keys = [self.space.keys(self.space.encode(t.params)[None, :])[0] for t in self.study.trials]
        assert len(set(keys)) == len(keys)
        assert [t.number for t in self.study.trials] == list(range(len(keys)))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
