"""`docs/study-file.md` against a real file: it names every dataset and attribute, and h5py alone reads them back."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

import hyppo
from hyppo import Choice, Integer, Ordinal, Real, Space, Study
from hyppo.curve import Curve
from hyppo.stats import LossStats
from hyppo.training.replica import Failure, Goal
from hyppo.trial import Asked, ReplicaRecord, Settled, State

PAGE = (Path(__file__).parent.parent / "docs/study-file.md").read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "study.h5"
    space = Space(x=Real(0, 1), n=Integer(1, 4), act=Choice(["relu", None, True]), batch=Ordinal([16, 32]))
    with Study(space, log=path, replicas=2, seed=2**70, surrogate="random") as made:
        for i in range(5):
            trial = made.ask()
            curve = Curve.of([(k if i % 2 else 10 * k, 1.0 / (k + 1)) for k in range(3 + i)])
            done = ReplicaRecord(
                0, trial.seeds[0], State.DONE, 0.5 + i, 1.0, 2.0, None, curve, f"node{i % 2}", 1 + i,
                LossStats(3, 0.25, 0.125), 0.75, {"seconds": 1.5, "auc": 0.1 * i}, Goal("val_auc", "max"),
            )  # fmt: skip
            failure = Failure("ValueError", f'"quoted" {i % 2}', "Traceback")
            failed = ReplicaRecord(1, trial.seeds[1], State.FAILED, None, 1.0, 2.0, failure, host="node0")
            made._record(Settled(trial.number, (done, failed), closed=True, time=3.0))
        made._record(Asked(2, made.trials[2].params, ((5, 77),), {"by": "replicate"}, 4.0))
        made.note("a note")
    return hyppo.load(path)


@pytest.fixture(scope="module")
def file(study):
    with h5py.File(study.log) as opened:
        yield opened


def test_everything_in_a_file_is_on_the_page_and_nothing_else(file):
    datasets, attributes = set(), {("/", name) for name in file.attrs}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            datasets.add(f"/{name}")
        attributes.update((f"/{name}", attribute) for attribute in item.attrs)

    file.visititems(visit)
    assert set(re.findall(r"^\| `(/[\w/]+)` \|", PAGE, re.M)) == datasets
    rows = dict(re.findall(r"^\| `(/[\w/]+)` \|(.*)$", PAGE, re.M))
    for name, attribute in attributes:
        assert f"`{attribute}`" in (PAGE if name == "/" else rows[name]), (name, attribute)
    described = PAGE.split("| attribute of `/`")[1].split("| dataset |")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", described, re.M)) == set(file.attrs)


def test_attributes(file, study):
    assert (file.attrs["format"], file.attrs["format_version"]) == ("hyppo-study", 1)
    assert file.attrs["hyppo_version"] == hyppo.__version__
    assert len(file.attrs["uuid"]) == 36
    assert abs(file.attrs["created"] - file["events/time"][0]) < 600
    assert json.loads(file.attrs["space"])["batch"] == {"kind": "ordinal", "values": [16, 32]}
    assert int(file.attrs["seed"]) == study.seed == 2**70
    assert json.loads(file.attrs["config_json"])["replicas"] == [2, 2]
    assert (file.attrs["seq"], file.attrs["closed"]) == (len(file["events/kind"]), 1)


def test_events(file):
    names = {number: name for name, number in json.loads(file["events/kind"].attrs["names"]).items()}
    kinds = [names[kind] for kind in file["events/kind"][:]]
    assert kinds == ["began", *["asked", "settled"] * 5, "asked further", "note"]
    assert file["events/trial"][:].tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 2, -1]
    assert file["events/closed"][:].tolist() == [0, *[0, 1] * 5, 0, 0]
    assert file["events/count"][:].tolist() == [0, *[2, 2] * 5, 1, 0]
    assert file["events/time"].attrs["units"].startswith("seconds since 1970")


def test_trials(file, study):
    names = list(file["trials/params"].attrs["names"])
    choices = json.loads(file["trials/params"].attrs["choices"])
    for t in study.trials:
        row = dict(zip(names, file["trials/params"][t.number], strict=True))
        values = {n: choices[n][int(v)] if n in choices else v for n, v in row.items()}
        assert values == t.params == json.loads(file["trials/params_json"][t.number])
        assert json.loads(file["trials/origin"][t.number]) == t.origin
    assert file["trials/trial"][:].tolist() == [t.number for t in study.trials]
    assert len(file["trials/time"]) == len(study.trials)


def test_asks(file, study):
    asked = list(zip(*(file[f"asks/{name}"][:].tolist() for name in ("trial", "replica", "seed")), strict=True))
    first = [(t.number, r.index, r.seed) for t in study.trials for r in t.replicas if r.index < 2]
    assert asked == [*first, (2, 5, 77)]
    assert file["further/trial"][:].tolist() == [2]
    assert json.loads(file["further/params_json"][0]) == study.trials[2].params
    assert json.loads(file["further/origin"][0]) == {"by": "replicate"}


def test_replicas(file, study):
    table = {name: data[:] for name, data in file["replicas"].items()}
    states = list(file["replicas/status"].attrs["names"])
    metrics = list(file["metrics"].asstr()[:])
    ended = [(t, r) for t in study.trials for r in t.replicas if r.state is not State.PENDING]
    for i, (t, r) in enumerate(ended):
        assert (table["trial"][i], table["replica"][i], table["seed"][i]) == (t.number, r.index, r.seed)
        assert states[table["status"][i]] == r.state
        assert r.loss == (None if np.isnan(table["loss"][i]) else table["loss"][i])
        assert (table["start"][i], table["end"][i], table["attempts"][i]) == (r.start, r.end, r.attempts)
        assert file["hosts"].asstr()[table["host"][i]] == r.host
        assert table["seq"][i] == 3 + 2 * t.number
        length, at = table["epochs"][i], table["curve_at"][i]
        assert table["curve"][i][:length].tolist() == r.curve.losses.tolist()
        assert np.isnan(table["curve"][i][length:]).all()
        if at >= 0:
            assert file["curves/step"][at : at + length].tolist() == r.curve.steps.tolist()
            assert file["curves/loss"][at : at + length].tolist() == r.curve.losses.tolist()
        else:
            assert r.curve.counts_up
        if r.state is State.DONE:
            found = (table["losses"][i], table["losses_mean"][i], table["losses_std"][i])
            assert found == (r.losses.n, r.losses.mean, r.losses.std)
            assert table["ensemble_loss"][i] == r.ensemble_loss
            assert dict(zip(metrics, table["metrics"][i], strict=True)) == r.metrics
            goal = table["goal"][i]
            assert (file["goals/metric"].asstr()[goal], file["goals/mode"].asstr()[goal]) == ("val_auc", "max")
            assert table["failure"][i] == -1
        else:
            row = table["failure"][i]
            texts = [file[f"failures/{name}"].asstr()[row] for name in ("type", "message", "traceback")]
            assert [texts[0], json.loads(texts[1]), texts[2]] == [
                r.failure.type,
                r.failure.message,
                r.failure.traceback,
            ]
            assert (table["losses"][i], table["goal"][i]) == (0, -1)
            assert np.isnan(table["ensemble_loss"][i])


def test_notes(file, study):
    texts = file["notes/text"].asstr()[:]
    assert texts[1] == "a note"
    assert json.loads(texts[0])["command"]
    assert len(file["notes/time"]) == 2
    assert study.provenance
