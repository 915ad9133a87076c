"""Numbers of a training beside its loss: from the training to the trial, the study file, the table and the export."""

import csv
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import hyppo
from hyppo.arguments import number
from hyppo.errors import ObjectiveError, StudyError
from hyppo.training.call import train
from hyppo.training.metric import Monitor, higher_is_better
from hyppo.training.replica import Goal, Replica, Task

pytestmark = pytest.mark.timeout(60)
SPACE = hyppo.Space(x=hyppo.Real(0, 1))


def replica(tmp_path):
    return Replica(Task(0, 0, 7, {"x": 0.5}, str(tmp_path)))


def objective(replica):
    for step in range(3):
        replica.log("steps", step + 1)
    ballast = np.ones(10_000_000)
    replica.log("first", int(replica.index == 0))
    return hyppo.Result(ballast[0] + replica.index, metrics={"index": np.int64(replica.index), "nan": math.nan})


def test_from_the_training_to_the_file_and_the_export(tmp_path):
    path = tmp_path / "study.h5"
    with hyppo.Study(SPACE, objective, log=path, replicas=2) as study:
        study.run(trials=2, progress=False)
    loaded = hyppo.load(path)
    for trial in loaded.trials:
        assert trial.metrics.keys() == {"first", "index", "memory", "seconds", "steps"}
        assert (trial.metrics["steps"], trial.metrics["index"], trial.metrics["first"]) == (3.0, 0.5, 0.5)
        for record in trial.replicas:
            assert record.metrics["seconds"] == pytest.approx(record.end - record.start)
            assert record.metrics["memory"] > 8e7
    assert loaded.trials == study.trials
    frame = loaded.to_frame()
    assert frame["metrics.index"].tolist() == [0.5, 0.5]
    assert (frame["metrics.seconds"] > 0).all()

    def exported(*arguments):
        command = [sys.executable, "-m", "hyppo", "export", str(path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout

    rows = list(csv.DictReader(exported().splitlines()))
    assert [row["metrics.index"] for row in rows] == ["0.0", "1.0"] * 2
    assert all(float(row["metrics.memory"]) > 8e7 for row in rows)
    assert json.loads(exported("--format", "json"))["trials"][0]["replicas"][1]["metrics"]["index"] == 1.0


def test_a_failed_training_keeps_its_metrics(tmp_path):
    def fails(replica):
        replica.log("reached", 3 + replica.index)
        if replica.index == 0:
            raise RuntimeError("out of data")
        return 1.0

    with hyppo.Study(SPACE, fails, log=tmp_path / "s.h5", replicas=2) as study:
        study.run(trials=1, progress=False)
    (trial,) = hyppo.load(tmp_path / "s.h5").trials
    assert trial.replicas[0].failure.message == "out of data"
    assert trial.replicas[0].metrics["reached"] == 3.0
    assert trial.metrics["reached"] == 4.0, "the mean of those with a loss"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's peak")
def test_peak_memory_is_that_of_this_training(tmp_path):
    def large(replica):
        return float(np.ones(20_000_000)[0])

    peaks = [train(one, replica(tmp_path)).metrics["memory"] for one in (large, lambda replica: 1.0)]
    assert peaks[0] - peaks[1] > 1e8


@pytest.mark.parametrize(
    ("name", "value"), [("", 1.0), ("seconds", 1.0), (3, 1.0), ("a", "1"), ("a", None), ("a", [1.0]), ("a", 1j)]
)
def test_what_cannot_be_logged_says_so(tmp_path, name, value):
    with pytest.raises(StudyError, match=r"log\("):
        replica(tmp_path).log(name, value)


def test_text_belongs_in_a_file(tmp_path):
    with pytest.raises(StudyError, match=r"log\('net', value\): expected a number, got 'resnet'; .*replica\.directory"):
        replica(tmp_path).log("net", "resnet")


def scalars():
    """Scalars of each framework that is here."""
    found = [0.5, np.float32(0.5), np.array(0.5), np.array([0.5])]
    if (torch := pytest.importorskip("torch")) is not None:
        found += [torch.tensor(0.5), torch.tensor([0.5], requires_grad=True), torch.tensor(0.5, dtype=torch.bfloat16)]
    jax = pytest.importorskip("jax")
    return [*found, jax.numpy.array(0.5), jax.numpy.array(0.5, dtype=jax.numpy.bfloat16)]


def test_scalars_of_any_framework_are_numbers(tmp_path):
    for value in scalars():
        assert number("loss", value) == 0.5
        one = replica(tmp_path)
        one.report(np.int64(3), value)
        one.log("a", value)
        assert (one.curve, one.metrics) == ([(3, 0.5)], {"a": 0.5})
        assert train(lambda replica, value=value: value, replica(tmp_path)).loss == 0.5
        assert train(lambda replica, value=value: hyppo.Result(value), replica(tmp_path)).loss == 0.5
        study = hyppo.Study(SPACE)
        study.tell(study.ask().number, value)
        study.add({"x": 0.25}, [value, value])
        assert [trial.mean for trial in study.trials] == [0.5, 0.5]
    tensorflow = pytest.importorskip("tensorflow")
    assert number("loss", tensorflow.constant(0.5)) == number("loss", tensorflow.Variable([0.5])) == 0.5


def test_what_is_no_number_is_refused(tmp_path):
    for value in ("0.5", True, np.bool_(True), np.ones(2), 1j, {"loss": 1.0}):
        outcome = train(lambda replica, value=value: value, replica(tmp_path))
        assert outcome.failure.type == ObjectiveError.__name__, value
    for step, loss in (("one", 1.0), (1, "low"), (1, None)):
        with pytest.raises(StudyError, match="expected"):
            replica(tmp_path).report(step, loss)


@pytest.mark.parametrize("name", ["val_acc", "val/acc", "val_kappa", "val.mcc", "val_mAP", "nse", "valAccuracy", "R2"])
def test_names_that_are_usually_maximised(tmp_path, name):
    with pytest.warns(UserWarning, match='say mode="max"'):
        Monitor(replica(tmp_path), name, "min")


def test_names_that_are_not():
    assert not any(map(higher_is_better, ("val_loss", "mse", "val_accuracy_loss", "mapping", "error_rate", "l1")))


def test_the_goal_is_in_the_file(tmp_path):
    def maximises(replica):
        monitor = Monitor(replica, "val_acc", "max")
        monitor.report(0, {"val_acc": 0.75})
        monitor.store_result([])

    with hyppo.Study(SPACE, maximises, log=tmp_path / "s.h5", replicas=1) as study:
        study.run(trials=2, progress=False)
    loaded = hyppo.load(tmp_path / "s.h5")
    assert [trial.goal for trial in loaded.trials] == [Goal("val_acc", "max")] * 2
    assert loaded.goal == Goal("val_acc", "max")
    assert loaded.goal.shown(loaded.trials[0].mean) == 0.75
    assert hyppo.Study(SPACE).goal is None


def monitored(replica, returned):
    monitor = Monitor(replica, "val_acc", "max")
    monitor.report(0, {"val_acc": 0.75})
    monitor.store_result([])
    return returned


@pytest.mark.filterwarnings("ignore:.*The returned loss counts")
@pytest.mark.parametrize(
    ("returned", "loss", "metric"),
    [
        (0.5, -0.5, 0.75),
        (-0.5, -0.5, 0.75),
        (math.nan, None, 0.75),
        (hyppo.Result(2.0), 2.0, 0.75),
        (hyppo.Result(2.0, metrics={"val_acc": 0.25}), 2.0, 0.25),
    ],
)
def test_a_returned_loss_leaves_the_monitored_metric(tmp_path, returned, loss, metric):
    """As it was measured, unless the training itself logs it again."""
    outcome = train(lambda replica: monitored(replica, returned), replica(tmp_path))
    assert (outcome.loss, outcome.metrics["val_acc"]) == (loss, metric)


def maximises(replica):
    monitor = Monitor(replica, "val_acc", "max")
    for step in range(2):
        monitor.report(step, {"val_acc": 0.5 + 0.1 * replica.params["x"] + 0.01 * step})
    monitor.store_result([])


def test_a_maximised_metric_is_shown_in_its_own_sign(tmp_path):
    """In progress, in what is printed and shown, in the table; inside, its negative is minimised."""
    path = tmp_path / "s.h5"
    script = tmp_path / "tune.py"
    script.write_text(
        "import hyppo\nfrom tests.test_metrics import SPACE, maximises\n"
        f"study = hyppo.Study(SPACE, maximises, log={str(path)!r}, replicas=2, isolate=False, seed=1)\n"
        "if __name__ == '__main__':\n    study.run(trials=6)\n    print(study.best)\n"
    )
    command = [sys.executable, script]
    env = os.environ | {"PYTHONPATH": "."}
    run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True, env=env)
    study = hyppo.load(path)
    best = study.best
    assert (best.goal, study.trials[0].mean < 0.0) == (Goal("val_acc", "max"), True)
    assert best.goal.interval(-0.75, -0.5) == (0.5, 0.75)
    assert f"expected val_acc {-best.estimate:.5g}" in run.stdout
    assert "-0." not in run.stdout
    assert study.to_frame()["metrics.val_acc"].tolist() == [-trial.mean for trial in study.trials]
    shown = subprocess.run(
        [sys.executable, "-m", "hyppo", "show", str(path)], capture_output=True, text=True, timeout=50, check=True
    ).stdout
    shown = " ".join(shown.split())
    assert "for the val_acc of a fresh training" in shown
    assert f"mean {-best.mean:.6g}" in shown
    assert "-0." not in shown
