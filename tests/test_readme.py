"""The README's code runs as it stands, and what it names exists."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hyppo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def block(word):
    (found,) = [code for code in BLOCKS if word in code]
    return found


def run(code, folder, **environ):
    script = folder / "tune.py"
    script.write_text(code)
    command = [sys.executable, script.name]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environ, capture_output=True, text=True, timeout=110, check=True
    )


@pytest.mark.parametrize(
    ("word", "backend"), [("hyppo_lightning", "torch"), ("hyppo_keras", "tensorflow"), ("hyppo_keras", "torch")]
)
def test_the_examples_run(tmp_path, word, backend):
    printed = run(block(word), tmp_path, HYPPO_TRIALS="2", KERAS_BACKEND=backend).stdout
    trial, expected, observed, spread = printed.strip().splitlines()[-4:]
    assert re.match(r"trial \d: \{", trial)
    assert "interval" in expected
    assert observed.endswith("over 3 trainings")
    assert float(spread) > 0
    trials = hyppo.load(tmp_path / "study.h5").trials
    assert [len(t.replicas) for t in trials] == [3, 3]
    assert all(t.spread > 0 for t in trials)


def test_the_first_example_runs(tmp_path):
    pytest.importorskip("vl_convert")
    script = "def train(replica):\n    return replica.params['lr'] * replica.params['width']\n\n" + block(
        "study.report"
    )
    assert "expected loss" in run(script, tmp_path, HYPPO_TRIALS="3").stdout
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_ask_and_tell_runs(tmp_path):
    assert "'n': 1" in run(block("study.ask()"), tmp_path).stdout


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [t for t in targets if not t.startswith(("http:", "https:")) and not (page.parent / t).exists()]
    assert not missing


def with_errors(text):
    return {(value, error) for value, error in itertools.pairwise(text.split()) if error.startswith("±")}


def test_speed_ups_are_those_of_the_page():
    quoted = with_errors(README)
    assert quoted
    assert quoted <= with_errors((ROOT / "docs" / "benchmarks.md").read_text())
