"""The commands, run as a user runs them."""

import csv
import io
import json
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from hyppo import Choice, Integer, Real, Space, Study


def hyppo(*arguments, code=0):
    run = subprocess.run(
        [sys.executable, "-m", "hyppo", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == code, run.stderr
    return run


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "study.h5"
    with Study(Space(x=Real(0, 1), n=Integer(1, 4), act=Choice(["a, b", "c"])), log=path, replicas=2) as study:
        for k in range(6):
            trial = study.ask()
            study.tell(
                trial.number, [trial.params["x"] + 0.1 * seed for seed in range(2)] if k else [float("nan"), 1.0]
            )
        study.fail(study.ask().number, "out of memory")
    return path


def test_help_lists_what_works():
    text = hyppo("--help").stdout
    assert all(command in text for command in ("run", "show", "export"))
    assert "hyppo" in hyppo("--version").stdout


@pytest.mark.parametrize("command", ["watch", "confirm", "slurm"])
def test_help_fills_the_lines_of_a_narrow_terminal(command):
    head = hyppo(command, "--help").stdout.split("╭")[0]
    for paragraph in re.split(r"\n\s*\n", head.strip())[1:]:  # after the usage
        lines = [line.strip() for line in paragraph.strip("\n").splitlines()]
        if "  hyppo slurm" in paragraph:
            assert all(line.startswith("hyppo slurm ") for line in lines[1:]), "commands to copy fit on their lines"
            continue
        for line, following in pairwise(lines):
            assert len(line) + 1 + len(following.split()[0]) > 78, paragraph


def test_show(study_file):
    text = hyppo("show", study_file).stdout
    assert "7: 6 done, 1 failed" in text
    assert "recommended" in text
    assert "out of memory" in text
    assert "NonFiniteLoss" in hyppo("show", study_file, "--failures").stdout


def test_show_tells_what_was_stopped_early(tmp_path):
    def descend(replica):
        loss = 9.0
        for epoch in range(10):
            loss = replica.params["x"] + 1.0 / (epoch + 1)
            replica.report(epoch, loss)
            if replica.should_stop:
                break
        return loss

    path = tmp_path / "study.h5"
    study = Study(
        Space(x=Real(0, 1)), descend, log=path, replicas=2, stopping="halving", surrogate="random", isolate=False
    )
    study.run(trials=12, progress=False)
    pruned = sum(t.state == "pruned" for t in study.trials)
    assert 1 < pruned < 12
    text = " ".join(hyppo("show", path).stdout.split())
    assert f"12: {12 - pruned} done, {pruned} pruned" in text
    assert f"{2 * (12 - pruned)} with a loss, 0 failed, {pruned} stopped early, 0 pending" in text
    assert f"stopped {pruned} trials early, after 2 to" in text
    assert "reports (others: 10)" in text


def test_export_csv(study_file):
    rows = list(csv.DictReader(io.StringIO(hyppo("export", study_file).stdout)))
    assert len(rows) == 14
    assert {row["params.act"] for row in rows} <= {"a, b", "c"}
    assert [row["state"] for row in rows[:2]] == ["failed", "done"]
    assert float(rows[3]["loss"]) == float(rows[2]["loss"]) + 0.1


def test_export_json(study_file, tmp_path):
    out = tmp_path / "study.json"
    hyppo("export", study_file, "-o", out)
    record = json.loads(out.read_text())
    assert [t["number"] for t in record["trials"]] == list(range(7))
    assert record["trials"][0]["replicas"][0]["failure"]["type"] == "NonFiniteLoss"
    assert record["space"]["n"] == {"kind": "integer", "low": 1, "high": 4, "step": 1, "log": False}


def test_reading_leaves_nothing_behind(study_file):
    before = sorted(study_file.parent.iterdir())
    content = study_file.read_bytes()
    hyppo("show", study_file)
    assert sorted(study_file.parent.iterdir()) == before
    assert study_file.read_bytes() == content


def test_a_missing_or_foreign_file_is_one_line_on_stderr(tmp_path):
    assert hyppo("show", tmp_path / "none.h5", code=2).stderr.startswith("hyppo: ")
    foreign = tmp_path / "foreign.h5"
    foreign.write_text("not HDF5")
    message = hyppo("show", foreign, code=2).stderr
    assert message.startswith("hyppo: ")
    assert "Traceback" not in message
