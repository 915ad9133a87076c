"""Every argument that is a number takes the forms that users have numbers in, and refuses what is none."""

import math

import numpy as np
import pytest

import hyppo
from hyppo import HyppoError, Integer, Real, Result, Space, SpaceError, Study, StudyError, stopping
from hyppo.arguments import number, whole
from hyppo.config import Config
from hyppo.loop import Options, Session
from hyppo.loop.options import OVERRIDES
from hyppo.training.replica import Replica, Task

SPACE = Space(x=Real(0, 1))


def replica(folder="."):
    return Replica(Task(0, 0, 7, {}, str(folder)))


def told(loss):
    study = Study(SPACE)
    study.tell(study.ask().number, loss)
    return study.trials[0].mean


WHOLE = {
    "Study seed": lambda v: Study(SPACE, seed=v).seed,
    "Study replicas": lambda v: Study(SPACE, replicas=v).replicas[0],
    "Study replicas, pair": lambda v: Study(SPACE, replicas=(1, v)).replicas[1],
    "run trials": lambda v: Options(trials=v).trials,
    "run retries": lambda v: Options(retries=v).retries,
    "ask_batch": lambda v: len(Study(SPACE).ask_batch(v)),
    "Integer high": lambda v: Integer(1, v).high,
    "Integer step": lambda v: Integer(1, 9, step=v).step,
    "Integer value": lambda v: Integer(1, 9).index(v) + 1,
    "Median first": lambda v: stopping.Median(first=v).first,
    "Halving factor": lambda v: stopping.Halving(factor=v).factor,
    "report step": lambda v: (its := replica(), its.report(v, 0.5))[0].curve[0][0],
}
NUMBERS = {
    "Study risk": lambda v: Study(SPACE, risk=v).risk,
    "run time_limit": lambda v: Options(time_limit=v).time_limit,
    "run grace": lambda v: Options(grace=v).grace,
    "Real high": lambda v: Real(0, v).high,
    "Real value": lambda v: SPACE.native({"x": v})["x"],
    "Median margin": lambda v: stopping.Median(margin=v).margin,
    "tell": told,
    "tell a list": lambda v: told([v]),
    "report loss": lambda v: (its := replica(), its.report(0, v))[0].curve[0][1],
    "Result": lambda v: Result(v).loss,
}


@pytest.mark.parametrize("use", WHOLE.values(), ids=WHOLE)
def test_whole_numbers(use):
    for three in (3, 3.0, np.int64(3), np.uint8(3), np.float32(3), np.array(3)):
        assert use(three) == 3
        assert type(use(three)) is int
    for wrong in (True, np.bool_(True), "3", 2.5, math.nan, np.array([3, 3]), 3 + 0j):
        with pytest.raises(HyppoError, match="expected"):
            use(wrong)


@pytest.mark.parametrize("use", NUMBERS.values(), ids=NUMBERS)
def test_numbers(use):
    for half in (0.5, np.float64(0.5), np.float32(0.5), np.array(0.5), np.array([0.5])):
        assert use(half) == 0.5
        assert type(use(half)) is float
    for wrong in (True, np.bool_(True), "0.5", None, 0.5j, b"1"):
        if use is NUMBERS["run time_limit"] and wrong is None:
            continue  # no limit
        with pytest.raises(HyppoError, match="expected"):
            use(wrong)


def test_a_masked_loss_is_not_a_number():
    nothing = np.ma.array([1.0, 2.0], mask=True).mean()
    for masked in (nothing, np.ma.masked, np.ma.array(5.0, mask=True), np.ma.array([5], mask=[True])):
        assert math.isnan(number("loss", masked, finite=False))
        study = Study(SPACE, lambda replica, masked=masked: masked, isolate=False)
        study.run(trials=1, progress=False)
        assert study.trials[0].replicas[0].failure.type == "NonFiniteLoss"
        with pytest.raises(StudyError, match="expected an integer"):
            whole("n", masked)
    assert number("loss", np.ma.array([5.0])) == 5.0


def test_scalars_of_torch():
    torch = pytest.importorskip("torch")
    assert whole("n", torch.tensor(3)) == 3
    assert number("x", torch.tensor(0.5, requires_grad=True)) == 0.5
    assert told(torch.tensor(0.5, dtype=torch.bfloat16)) == 0.5
    with pytest.raises(StudyError, match="expected"):
        whole("n", torch.tensor(True))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["tensorflow", "jax"])
def test_scalars_of(library):
    module = pytest.importorskip(library)
    make = module.constant if library == "tensorflow" else module.numpy.array
    assert whole("n", make(3)) == 3
    assert number("x", make(0.5)) == 0.5
    with pytest.raises(StudyError, match="expected"):
        whole("n", make(True))


@pytest.mark.parametrize("high", [10**400, 10**5000, 2**63], ids=["400", "5000", "64 bits"])
def test_numbers_too_large_for_a_space(high):
    with pytest.raises(SpaceError, match="Integer: high: expected an integer of at most 64 bits"):
        Integer(0, high)
    with pytest.raises(HyppoError, match="expected"):
        Integer(0, 9).index(high)


def test_a_bound_beyond_all_floats_is_not_finite():
    with pytest.raises(SpaceError, match="Real: high: expected a finite number"):
        Real(0, 10**400)


def test_settings_do_not_change():
    study = Study(SPACE, risk=1)
    for name in ("risk", "seed", "surrogate", "target", "replicas", "stopping", "space", "log", "criterion"):
        with pytest.raises(StudyError, match=f"study.{name} cannot be changed"):
            setattr(study, name, 2)
    assert study.risk == study.config.risk == 1.0


def test_settings_go_through_the_study_file(tmp_path):
    path = tmp_path / "study.h5"
    with Study(SPACE, log=path, replicas=(2, 5), seed=3, risk=0.5, surrogate="gp") as study:
        study.ask()
    assert hyppo.load(path).config == study.config == Config.of(replicas=(2, 5), seed=3, risk=0.5, surrogate="gp")


def test_a_proposer_of_the_users_own(tmp_path):
    class Highest:
        def propose(self, known, count, generator):
            return [{"x": 1.0 - 0.01 * generator.random()} for _ in range(count)]

    path = tmp_path / "study.h5"
    with Study(SPACE, log=path, surrogate=Highest()) as study:
        for _ in range(6):
            trial = study.ask()
            study.tell(trial.number, [trial.params["x"]])
    assert trial.params["x"] >= 0.99
    assert hyppo.load(path).surrogate == "auto"
    with pytest.raises(StudyError, match="surrogate: expected one of"):
        Study(SPACE, surrogate=object())


def test_tab_completion_shows_what_users_call():
    loop_only = {"tasks", "settle", "exhausted", "directory"}
    assert not loop_only & set(dir(Study))
    assert loop_only < set(dir(Session))


def test_every_argument_of_a_run_but_the_executor_can_be_overridden():
    from hyppo.cli.slurm import options_of_run

    assert set(OVERRIDES) == set(Options.__dataclass_fields__) - {"executor"}
    assert set(OVERRIDES) > {option.name for option in options_of_run()} - {"steal"}
