"""A study file that goes on with other ranges and values of its parameters."""

import json
import math
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

import hyppo
from hyppo import Choice, Integer, Ordinal, Real, Space, Study
from hyppo.cli.watch import Watched
from hyppo.log.repair import examine
from hyppo.plots import tables

from .studies import SPACE, small_study

WIDER = Space(
    lr=Real(1e-6, 1.0, log=True),
    width=Integer(4, 1024, log=True),
    act=Choice(["relu", "silu", "tanh", "gelu"]),  # later values get other positions
    batch=Ordinal([16, 32, 64, 128, 256]),
)
NARROWER = Space({**SPACE.parameters, "lr": Real(1e-4, 1e-2, log=True), "act": Choice(["tanh", "gelu"])})


@pytest.fixture
def path(tmp_path):
    small_study(tmp_path / "study.h5")
    return tmp_path / "study.h5"


def known(study):
    return [(t.number, dict(t.params), t.state, t.replicas, dict(t.origin)) for t in study.trials]


def loss(params):
    return abs(math.log10(params["lr"]) + 5.5) + params["width"] / 1000


def drive(study, trials):
    """Ask for trials with losses whose optimum lies outside the space of `small_study`; their parameters."""
    asked = []
    for _ in range(trials):
        trial = study.ask()
        asked.append(dict(trial.params))
        study.tell(trial.number, [loss(trial.params)] * len(trial.seeds))
    return asked


@pytest.mark.parametrize("surrogate", ["gp", "rbf"])
def test_a_wider_space_keeps_all_trials_and_the_search_uses_them(path, surrogate):
    before = known(hyppo.load(path))
    with Study(WIDER, log=path, replicas=1, surrogate=surrogate, extend=True) as study:
        assert known(study) == before
        asked = drive(study, 8)
        assert all(params in WIDER for params in asked)
        assert any(params not in SPACE for params in asked)
        numbers = [t.number for t in study._known().settled_trials()]
    assert set(numbers) >= {number for number, _, state, *_ in before if state == "done"}
    after = hyppo.load(path)
    assert after.space == WIDER
    assert known(after)[: len(before)] == before
    Study(WIDER, log=path, replicas=1, surrogate=surrogate).ask()  # and from here on it is the file's own space


def test_the_file_follows_the_space(path):
    old = [dict(t.params) for t in hyppo.load(path).trials]
    with Study(WIDER, log=path, extend=True) as study:
        new = dict(study.ask().params)
        assert hyppo.load(path).space == WIDER  # also while it is being written
        with h5py.File(path) as file:
            assert Space.from_json(file.attrs["space"]) == WIDER
    with h5py.File(path) as file:
        params = file["trials/params"]
        assert list(params.attrs["names"]) == list(WIDER.names)
        choices = json.loads(params.attrs["choices"])
        assert choices == {"act": ["relu", "silu", "tanh", "gelu"]}
        rows = [[p["lr"], p["width"], choices["act"].index(p["act"]), p["batch"]] for p in (*old, new)]
        np.testing.assert_array_equal(params[:], rows)
        notes = [text.decode() for text in file["notes/text"][:]]
    assert sum(text.startswith("space changed: lr: ") for text in notes) == 1


KILLED = """
import os, signal, sys
from tests.test_extend import WIDER
import hyppo
trial = hyppo.Study(WIDER, log=sys.argv[1], extend=True).ask()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_session_leaves_the_new_space_and_its_trials(path):
    run = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60)
    assert run.returncode == -signal.SIGKILL
    study = hyppo.load(path)
    assert study.space == WIDER
    assert len(study.trials) == 25
    with Study(WIDER, log=path) as again:
        assert again.trials[24].params == study.trials[24].params
        again.ask()
    with h5py.File(path) as file:
        assert Space.from_json(file.attrs["space"]) == WIDER
        assert file["trials/params"].shape == (26, 4)
    assert examine(path).lost == ()


def test_values_that_the_list_has_no_more_are_unknown_numbers_in_the_file(path):
    Study(NARROWER, log=path, extend=True).ask()
    study = hyppo.load(path)
    with h5py.File(path) as file:
        column = file["trials/params"][:, 2]
    assert [bool(np.isnan(v)) for v in column] == [t.params["act"] == "relu" for t in study.trials]
    assert any(t.params["act"] == "relu" for t in study.trials)


def test_a_narrower_space_keeps_the_trials_outside_as_history(path):
    before = known(hyppo.load(path))
    outside = {number for number, params, *_ in before if params not in NARROWER}
    inside = {number for number, _, state, *_ in before if state == "done"} - outside
    assert outside
    assert inside
    for surrogate in ("gp", "rbf"):
        with Study(NARROWER, log=path, replicas=(1, 4), surrogate=surrogate, extend=True) as study:
            assert study.best.number in inside
            assert known(study)[: len(before)] == before
            first = len(study.trials)
            for _ in range(6):
                trial = study.ask()
                assert trial.params in NARROWER
                assert trial.number in inside or trial.number >= len(before)
                study.tell(trial.number, [loss(trial.params) + 0.1 * k for k in range(len(trial.seeds))])
            assert len(study.trials) > first
            assert study.best.number not in outside
    with Study(WIDER, log=path, extend=True) as wide:
        wide.ask()
        numbers = {t.number for t in wide._known().settled_trials()}
    assert numbers >= {number for number in outside if before[number][2] == "done"}


def test_a_finite_space_that_became_smaller_is_exhausted_by_its_own_points(tmp_path):
    def study(values, **options):
        return Study(Space(n=Ordinal(values)), log=tmp_path / "s.h5", replicas=1, extend=True, **options)

    with study([1, 2, 3, 4]) as wide:
        for _ in range(4):
            trial = wide.ask()
            wide.tell(trial.number, float(trial.params["n"]))
    with study([3, 4, 5]) as small:
        assert small.ask().params == {"n": 5}
        assert small.ask().params["n"] == 3, "the better of those that may be trained again"


def test_what_is_pending_or_failed_outside_is_not_trained_again(tmp_path):
    def study(low, train):
        space = Space(x=Real(low, 1.0))
        return Study(space, train, log=tmp_path / "s.h5", replicas=1, surrogate="random", isolate=False, extend=True)

    def fail(replica):
        raise ValueError("not yet")

    with study(-1.0, fail) as wide:
        for params in ({"x": -0.9}, {"x": 0.9}, {"x": -0.8}, {"x": 0.8}):
            wide.enqueue(params)
        wide.fail(0, "no")
        wide.fail(1, "no")
    trained = []

    def train(replica):
        trained.append(replica.params["x"])
        return replica.params["x"]

    narrow = study(0.0, train)
    narrow.run(trials=5, progress=False, retry_failed=True)
    assert sorted(trained)[-2:] == [0.8, 0.9]
    assert len(trained) == 3
    assert min(trained) >= 0.0
    first, _, third, *_ = narrow.trials
    assert (first.state, third.state) == ("failed", "failed")
    assert third.replicas[0].failure.type == "OutsideSpace"
    study(-1.0, train).run(trials=5, progress=False, retry_failed=True)
    assert sorted(trained)[:2] == [-0.9, -0.8]


def test_a_changed_space_is_refused_with_the_way_out(path):
    for use in (lambda study: study.ask(), lambda study: study.trials):
        with pytest.raises(hyppo.LogError, match=r"lr: .*extend=True.*study\.add"):
            use(Study(WIDER, log=path))
    assert hyppo.load(path).space == SPACE


@pytest.mark.parametrize(
    "space",
    [
        Space({**SPACE.parameters, "more": Real(0, 1)}),
        Space({name: p for name, p in SPACE.parameters.items() if name != "act"}),
        Space(dict(reversed(SPACE.parameters.items()))),
        Space({**SPACE.parameters, "batch": Choice([16, 32, 64, 128])}),
    ],
    ids=["added", "removed", "reordered", "another kind"],
)
def test_other_parameters_are_refused_even_so(path, space):
    with pytest.raises(hyppo.LogError, match="keeps its parameters"):
        Study(space, log=path, extend=True).ask()
    assert hyppo.load(path).space == SPACE


@pytest.mark.parametrize("space", [WIDER, NARROWER], ids=["wider", "narrower"])
def test_every_reader_takes_the_file(path, tmp_path, space):
    watched = Watched(path)
    watched.look()
    with Study(space, log=path, extend=True) as study:
        drive(study, 2)
        watched.look()
        assert not watched.trouble
        assert watched._study.space == space
    for arguments in (["show"], ["export", "-o", str(tmp_path / "s.csv")], ["check"]):
        command = [sys.executable, "-m", "hyppo", arguments[0], str(path), *arguments[1:]]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, (arguments, run.stdout, run.stderr)
    assert examine(path).lost == ()
    study = hyppo.load(path)
    assert len(study.to_frame()) == 26
    inside = tables.in_space(study)
    assert tables.positions(study, inside).shape == (len(inside), 4)


@pytest.mark.parametrize("space", [WIDER, NARROWER], ids=["wider", "narrower"])
def test_the_figures_take_the_file(path, space):
    pytest.importorskip("altair")
    with Study(space, log=path, extend=True) as study:
        drive(study, 2)
        inside = {t.number for t in tables.in_space(study)}
        for figure in (hyppo.plots.parallel(study), hyppo.plots.failures(study)):
            rows = json.loads(figure.to_json())["datasets"].values()
            assert {row["trial"] for table in rows for row in table if "trial" in row} <= inside
        hyppo.plots.parameters(study).to_json()


def test_no_trial_of_the_file_is_left_in_the_space(path):
    space = Space({**SPACE.parameters, "lr": Real(1.0, 2.0)})
    study = Study(space, log=path, extend=True)
    with pytest.raises(hyppo.StudyError, match=r"no trial has a finite loss yet .* with a loss but outside the space"):
        _ = study.best
    with study:
        assert study.ask().params in space


def test_the_argument_is_checked(path):
    with pytest.raises(hyppo.StudyError, match="extend: expected True or False"):
        Study(WIDER, log=path, extend="yes")
