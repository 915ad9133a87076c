"""Points that the user's function refuses are no part of the space; and a proposer of the user's own."""

import numpy as np
import pytest

import hyppo

SPACE = hyppo.Space(batch=hyppo.Integer(1, 12), lr=hyppo.Real(1e-4, 1e-1, log=True))


def divides(params):
    return 12 % params["batch"] == 0


@pytest.mark.parametrize("surrogate", ["auto", "gp", "rbf", "random"])
def test_refused_points_are_never_asked(surrogate):
    study = hyppo.Study(SPACE, feasible=divides, replicas=1, surrogate=surrogate, seed=2)
    for _ in range(20):
        trial = study.ask()
        assert divides(trial.params)
        study.tell(trial.number, abs(trial.params["batch"] - 7) + trial.params["lr"])
    batch = study.ask_batch(5)
    assert len(batch) == 5
    assert all(divides(trial.params) for trial in batch)


def test_a_finite_space_is_exhausted_by_what_is_left_of_it():
    space = hyppo.Space(batch=hyppo.Integer(1, 12), width=hyppo.Integer(1, 2))
    study = hyppo.Study(space, lambda replica: replica.params["batch"], feasible=divides, replicas=1, isolate=False)
    study.run(trials=100, progress=False)
    tried = {(trial.params["batch"], trial.params["width"]) for trial in study.trials}
    assert tried == {(batch, width) for batch in (1, 2, 3, 4, 6, 12) for width in (1, 2)}


def test_a_function_that_refuses_everything_ends_the_search():
    for space in (SPACE, hyppo.Space(batch=hyppo.Integer(1, 12))):
        with pytest.raises(hyppo.SpaceExhausted, match="feasible refused every point"):
            hyppo.Study(space, feasible=lambda params: False).ask()


def test_a_small_feasible_region_is_found():
    study = hyppo.Study(SPACE, feasible=lambda params: params["lr"] < 2e-4 and params["batch"] == 7, seed=1)
    assert study.ask().params["batch"] == 7


def test_a_region_too_small_to_be_met_by_chance_is_searched_from_a_point_in_it():
    space = hyppo.Space(x=hyppo.Real(0, 1), y=hyppo.Real(0, 1))
    study = hyppo.Study(space, feasible=lambda p: abs(p["x"] - 0.5) + abs(p["y"] - 0.5) < 0.003, replicas=1)
    study.enqueue({"x": 0.5, "y": 0.5})
    for _ in range(6):
        trial = study.ask()
        study.tell(trial.number, trial.params["x"] + trial.params["y"])
    assert len(study.trials) == 6
    assert study.best.estimate < 0.999


@pytest.mark.parametrize(
    ("feasible", "told"),
    [(lambda params: None, "expected True or False, got None"), (lambda params: params["no"], "raised KeyError: 'no'")],
)
def test_a_function_that_does_not_answer_is_named_with_the_point(feasible, told):
    with pytest.raises(hyppo.StudyError, match=rf"feasible\(.*'batch'.*{told}"):
        hyppo.Study(SPACE, feasible=feasible).ask()


def test_arguments_and_enqueued_points_are_checked():
    with pytest.raises(hyppo.StudyError, match="feasible: expected a function"):
        hyppo.Study(SPACE, feasible=True)
    with pytest.raises(hyppo.StudyError, match="feasible refuses"):
        hyppo.Study(SPACE, feasible=divides).enqueue({"batch": 5, "lr": 0.01})
    # What is known of a refused point is taken in all the same.
    assert hyppo.Study(SPACE, feasible=divides).add({"batch": 5, "lr": 0.01}, [1.0]).number == 0


class Smallest:
    """A proposer: half the learning rate of the best point."""

    def propose(self, known, count, generator):
        best = known.params[int(np.argmin(known.losses))]
        return [best | {"lr": max(best["lr"] / 2, 1e-4)}]


def test_a_study_takes_a_proposer_of_the_users_own(tmp_path):
    with hyppo.Study(SPACE, log=tmp_path / "own.h5", surrogate=Smallest(), replicas=1) as study:
        for _ in range(8):
            trial = study.ask()
            study.tell(trial.number, trial.params["lr"])
    study = hyppo.load(tmp_path / "own.h5")
    assert [trial.origin["by"] for trial in study.trials[4:6]] == ["user:Smallest"] * 2
    assert study.trials[4].params["lr"] == pytest.approx(min(t.params["lr"] for t in study.trials[:4]) / 2, rel=1e-6)
    assert study.best.mean == min(trial.mean for trial in study.trials)
