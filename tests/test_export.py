"""`hyppo export`: every format, odd names and values, and what is never overwritten."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hyppo
import hyppo.log
from hyppo import Choice, Integer, Real, Space, Study
from hyppo.curve import Curve
from hyppo.log.journal import journal_of
from hyppo.training.replica import Failure
from hyppo.trial import ReplicaRecord, Settled, State

ODD = ['=1+1"', "a\nb", "-x", "@cmd", "\x1b[2J", "", "ü"]


def export(*arguments, code=0, **named):
    run = subprocess.run(
        [sys.executable, "-m", "hyppo", "export", *map(str, arguments)], capture_output=True, timeout=60, **named
    )
    assert run.returncode == code, run.stderr
    if code:
        assert run.stderr.startswith(b"hyppo: ")
        assert b"Traceback" not in run.stderr
    return run


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "study.h5"
    space = Space(
        {"x": Real(0, 1), "n": Integer(1, 4), "=act": Choice([*ODD, None, True, 2]), "state": Choice(["a", "b"])}
    )
    with Study(space, log=path, replicas=1, surrogate="random") as study:
        for value in (*ODD, None, True, 2):
            study.add({"x": 0.25, "n": 3, "=act": value, "state": "a"}, [0.5])
        number = study.ask().number
        failure = Failure("=Error", "lone \ud800 and\nnewline", "Traceback\n  ...")
        curve = Curve.of([(0, float("nan")), (5, float("inf")), (6, 0.5)])
        record = ReplicaRecord(0, 2**64 - 1, State.FAILED, failure=failure, curve=curve, host="+node")
        study._record(Settled(number, (record,), time=7.0))
        study.note("a note of mine")
    return path


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_is_one_line_a_replica_and_no_formula(study_file):
    text = export(study_file).stdout.decode()
    assert len(text.splitlines()) == 12
    assert "\x1b" not in text
    table = rows(text)
    assert [row["params.=act"] for row in table[:10]] == [
        "'=1+1\"", "a\\nb", "'-x", "'@cmd", "\\x1b[2J", "", "ü", "", "True", "2"
    ]  # fmt: skip
    last = table[-1]
    assert (last["state"], last["params.state"]) == ("failed", last["params.state"])
    assert last["failure"] == "'=Error: lone \\ud800 and\\nnewline"
    assert last["host"] == "'+node"
    assert int(last["seed"]) == 2**64 - 1
    assert (last["reports"], last["loss"]) == ("3", "")


def test_json_holds_all_that_the_file_holds(study_file, tmp_path):
    out = tmp_path / "study.json"
    export(study_file, "-o", out)
    record = json.loads(out.read_bytes(), parse_constant=lambda constant: pytest.fail(constant))
    study = hyppo.load(study_file)
    header, events = hyppo.log.read_log(study_file)
    assert (record["uuid"], record["created"], record["hyppo_version"]) == (header.uuid, header.created, header.version)
    assert record["config"] == header.config
    assert record["config"]["target"] == "mean_loss"
    assert [n["text"] for n in record["notes"]] == ["a note of mine"]
    assert len(record["events"]) == len(events)
    assert [t["params"] for t in record["trials"]] == [dict(t.params) for t in study.trials]
    last = record["trials"][-1]["replicas"][0]
    assert last["failure"]["message"] == "lone \ud800 and\nnewline"
    assert last["curve"] == [[0, None], [5, None], [6, 0.5]]
    assert {"ensemble_loss", "losses"} <= last.keys()


def test_parquet(study_file, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "study.parquet"
    export(study_file, "-o", out)
    table = parquet.read_table(out)
    columns = table.to_pydict()
    assert columns["seed"][-1] == 2**64 - 1
    assert columns["params.x"][:2] == [0.25, 0.25]
    assert [json.loads(v) if v is not None else None for v in columns["params.=act"][:10]] == [*ODD, None, True, 2]
    assert columns["steps"][-1] == [0, 5, 6]
    assert columns["failure"][-1] == "=Error: lone \\ud800 and\nnewline"
    assert str(table.schema.field("loss").type) == "double"


def test_parquet_without_pyarrow(study_file, tmp_path):
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError")
    run = export(study_file, "-o", tmp_path / "s.parquet", code=2, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert b"pip install pyarrow" in run.stderr


@pytest.mark.parametrize(
    ("output", "form", "message"),
    [
        ("x.xlsx", None, "does not write .xlsx files"),
        ("x.xlsx", "csv", "does not write .xlsx files"),
        ("x.h5", None, "does not write .h5 files"),
        ("x.json", "csv", "would be a csv file with the ending .json"),
        ("none/x.csv", None, "No such file or directory"),
        ("folder.csv", None, "Is a directory"),
        ("/dev/full", None, "No space left on device"),
    ],
)
def test_an_output_that_cannot_be(output, form, message, study_file, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    run = export(study_file, "-o", tmp_path / output, *(["-f", form] if form else []), code=2)
    assert message in run.stderr.decode()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.csv"]


def test_a_study_or_journal_is_not_overwritten(study_file, tmp_path):
    """Also under a name that looks like a table's, and through a link."""
    for name in ("study.csv", "other.csv"):
        (tmp_path / name).write_bytes(study_file.read_bytes())
    (tmp_path / "link.csv").symlink_to("other.csv")
    running = Study(Space(x=Real(0, 1)), log=tmp_path / "run.csv", replicas=1)
    running.ask()
    journal = journal_of(tmp_path / "run.csv")
    (tmp_path / "journal.csv").symlink_to(journal.name)
    before = {p: p.read_bytes()[:8] for p in tmp_path.iterdir()}
    for name in ("study.csv", "other.csv", "link.csv", "run.csv", "journal.csv"):
        run = export(tmp_path / "study.csv", "-o", tmp_path / name, code=2)
        assert b"not overwritten" in run.stderr
    assert {p: p.read_bytes()[:8] for p in tmp_path.iterdir()} == before
    assert len(hyppo.load(tmp_path / "run.csv").trials) == 1
    running.close()


def test_an_output_below_a_file_is_refused(study_file, tmp_path):
    run = export(study_file, "-o", study_file / "study.csv", code=2)
    assert b"study.csv cannot be written: Not a directory" in run.stderr
    assert b"Traceback" not in run.stderr


def test_a_full_disk_leaves_the_former_file(study_file, tmp_path):
    out = tmp_path / "s.json"
    out.write_text("former")
    command = f"ulimit -f 1; trap '' XFSZ; exec {sys.executable} -B -m hyppo export {study_file} -o {out}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert run.returncode == 2, run.stderr
    assert b"cannot be written: File too large" in run.stderr
    assert out.read_text() == "former"
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]
    export(study_file, "-o", out)
    assert len(json.loads(out.read_text())["trials"]) == 11


def test_a_closed_pipe_and_a_full_standard_output(study_file):
    run = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m hyppo export {study_file} -f json | head -c 5; echo; echo ${{PIPESTATUS[0]}}",
        ],
        capture_output=True,
        timeout=60,
    )
    assert run.stdout.split()[-1] == b"0"
    assert run.stderr == b""
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "hyppo", "export", str(study_file)], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert run.returncode == 2
    assert b"standard output cannot be written" in run.stderr
    command = f"{sys.executable} -m hyppo export {study_file} >&-"
    run = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert run.returncode == 2
    assert run.stderr.startswith(b"hyppo: standard output is closed")
