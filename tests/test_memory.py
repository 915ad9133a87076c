"""The search's memory: typed, kept as JSON, and readable from study files of earlier versions."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import hyppo
from hyppo.search.columns import Columns
from hyppo.search.memory import VERSION, LocalStep, Memory, ProcessStep, Step, step_of

STEPS = [
    Step("design"),
    Step("design", batch=2),
    ProcessStep(theta=(0.1, -0.5, -6.25), fitted_at=7, known_noise=True, spread=(0.25, 1.0, 0.0)),
    LocalStep(batch=3, radius=0.1, successes=1, failures=4, best=-0.125),
]


@pytest.fixture
def old(tmp_path):
    """A study file of version 0.1.0: adaptive replicas, turns of both surrogates, failures, a batch."""
    path = tmp_path / "old.h5"
    path.write_bytes(gzip.decompress((Path(__file__).parent / "data/study-0.1.0.h5.gz").read_bytes()))
    return path


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.by)
def test_a_step_survives_json(step):
    assert step_of(json.loads(json.dumps(step.to_json(), allow_nan=False))) == step


def test_memory_is_the_last_step_of_each_and_the_turns():
    local, process = STEPS[3], STEPS[2]
    memory = Memory.of([local, Step("design"), local, process, local])
    assert (memory.process, memory.local) == (process, local)
    assert (memory.local_steps, memory.since_process) == (3, 1)
    assert memory.spread == process.spread


@pytest.mark.parametrize("origin", [{}, {"by": "test"}, {"by": "x" * 300}, {"by": "added"}])
def test_other_origins_leave_nothing_to_remember(origin):
    assert Memory().after(step_of(origin)) == Memory()


def test_a_newer_step_is_refused_with_what_to_do():
    with pytest.raises(hyppo.StudyError, match=rf"version {VERSION + 1}.*newer"):
        step_of({"by": "gp", "version": VERSION + 1})


@pytest.mark.parametrize("by", ["gp", "rbf"])
def test_a_step_that_lacks_something_is_refused_by_name(by):
    with pytest.raises(hyppo.StudyError, match=rf"step of the search by '{by}'.*KeyError"):
        step_of({"by": by})


def test_a_file_of_the_first_version_is_read(old):
    study = hyppo.load(old)
    assert {trial.origin["by"] for trial in study.trials} == {"design", "gp", "rbf"}
    assert all("version" not in trial.origin for trial in study.trials)
    assert max(len(trial.replicas) for trial in study.trials) == 5
    columns = Columns(study.space)
    columns.update(study.trials)
    last = [trial.origin for trial in study.trials if trial.origin["by"] == "gp"][-1]
    assert columns.memory.process.theta == tuple(last["theta"])
    assert columns.memory.local_steps == sum(trial.origin["by"] == "rbf" for trial in study.trials)
    assert columns.memory.spread is None
    assert study.best.number == 18


def test_a_study_of_the_first_version_goes_on(old):
    space, generator = hyppo.load(old).space, np.random.default_rng(0)
    with hyppo.Study(space, log=old, replicas=(2, 5), seed=7) as study:
        before = len(study.trials)
        asked = [study.ask()]
        while len(study.trials) < before + 6:
            study.tell(asked[-1].number, generator.standard_normal(len(asked[-1].seeds)))
            asked.append(study.ask())
    study = hyppo.load(old)
    new = study.trials[before:]
    assert {trial.origin["by"] for trial in new} == {"gp", "rbf"}
    assert {trial.origin["version"] for trial in new} == {VERSION}
    assert study.trials[-1].params == asked[-1].params


def test_an_adaptive_ask_fits_once(monkeypatch):
    """One fit of the process and one of the spread's, though the ask weighs a new point against further replicas."""
    from hyppo.surrogates import gp

    study, generator = (
        hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1), y=hyppo.Real(0, 1)), replicas=(2, 5)),
        iter(range(99)),
    )
    for _ in range(12):
        trial = study.ask()
        noise = np.random.default_rng(next(generator)).standard_normal(len(trial.seeds))
        study.tell(trial.number, trial.params["x"] + 0.1 * noise)
    fits, fit = [], gp.fit
    monkeypatch.setattr(gp, "fit", lambda x, y, **options: fits.append(options["starts"]) or fit(x, y, **options))
    study.ask()
    assert len(fits) <= 2
    assert all(starts for starts in fits), "each starts from its last optimum"


def test_pruned_trials_are_known_to_every_part_of_the_search_and_chosen_by_none():
    from hyppo.trial import ReplicaRecord, State, Trial

    space = hyppo.Space(x=hyppo.Integer(0, 9))
    losses = {x: (x - 3.0) ** 2 for x in (0, 2, 5, 7, 9)}
    trials = [
        Trial(n, {"x": x}, (ReplicaRecord(0, 1, State.DONE, loss=loss),), settled=n)
        for n, (x, loss) in enumerate(losses.items())
    ]
    trials.append(Trial(5, {"x": 4}, (ReplicaRecord(0, 1, State.PRUNED),)))
    columns = Columns(space)
    columns.update(trials)
    known = columns.known()
    assert known.evidence.settled.tolist() == [True] * 5 + [False]
    assert known.evidence.score[-1] == np.quantile(list(losses.values()), 0.75)
    from hyppo.search.recommend import recommend
    from hyppo.search.surface import surface

    # The pruned point lies beside the best one, and all models see it.
    trials[5] = Trial(5, {"x": 4}, (ReplicaRecord(0, 1),))
    without = Columns(space)
    without.update(trials)
    where = space.encode_all([{"x": 4}])
    assert surface(known).mean(where) > surface(without.known()).mean(where)
    assert recommend(known).row == 1
