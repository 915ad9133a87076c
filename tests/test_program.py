"""The program that `hyppo run`, `confirm` and `slurm` take: a script, or a module after -m."""

import os
import shlex
import subprocess
import sys

import pytest

import hyppo
from hyppo.cli.program import Program
from hyppo.errors import LaunchError

TUNE = """
import sys
import hyppo
from .loss import loss

def train(replica):
    return loss(replica.params["x"])

study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log="study.h5", replicas=1)
study.run(trials=2)
print(sys.argv[1:], __name__, __package__, sys.path[0] == sys.argv[0].removesuffix("/project/tune.py"))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package with a module that runs a study, and much that is no program."""
    package = tmp_path / "project"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "loss.py").write_text("def loss(x):\n    return x * x\n")
    (package / "tune.py").write_text(TUNE)
    (package / "faulty.py").write_text("import no_such_library\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("import no_such_library\n")
    (tmp_path / "study.ipynb").write_text('{"cells": []}')
    (tmp_path / "study.dat").write_bytes(b"\x89HDF\r\n\x1a\n\0\0")
    (tmp_path / "unclosed.py").write_text("x = (\n")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "project", raising=False)
    return tmp_path


def command(*words, code=0, stdin=None):
    done = subprocess.run(
        [sys.executable, "-m", "hyppo", *words], capture_output=True, text=True, timeout=60, input=stdin
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_module_is_run_as_python_runs_it(folder):
    done = command("run", "--trials", "3", "-m", "project.tune", "-m", "large")
    assert done.stdout == "['-m', 'large'] __main__ project True\n"
    study = hyppo.load("study.h5")
    assert [r.loss == t.params["x"] ** 2 for t in study.trials for r in t.replicas] == [True] * 3
    done = command("confirm", "-m", "project.tune", "--replicas", "2")
    assert done.stdout.startswith("The recommended configuration")


def test_a_job_runs_the_module(folder):
    text = command("slurm", "-t", "10", "-m", "project.tune", "--trials", "4", "--", "-m", "large").stdout
    assert "#SBATCH --job-name=tune\n" in text
    (start,) = [line for line in text.splitlines() if " -m hyppo run " in line]
    assert shlex.split(start)[-8:] == ["--trials", "4", "-m", "project.tune", "--", "-m", "large", "&"]


@pytest.mark.parametrize("of", ["run", "confirm", "slurm"])
def test_the_help_shows_both(of):
    (usage,) = [line for line in command(of, "--help").stdout.splitlines() if "Usage:" in line]
    assert "SCRIPT | -m MODULE" in usage


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.py"], "missing.py does not exist"),
        (["project"], "project is a folder: name the script in it; a package goes after -m"),
        (["pipe"], "pipe is no file that training processes could read again: write the script to a file"),
        (["study.ipynb"], "study.ipynb is a notebook: .*jupyter nbconvert --to script study.ipynb"),
        (["study.dat"], "study.dat is not text: name the Python script"),
        (["-m", "project/tune.py"], "expected a module's name .* a script's path goes without the -m"),
        (["-m", "tune.py"], "expected a module's name .* a script's path goes without the -m"),
        (["-m", "project.tuna"], "no such module in .*; start this in the folder above the package"),
        (["-m", "projects.tune"], "no such module in .*; start this in the folder above the package"),
        (["-m", "project"], "-m project: a package without __main__.py; name a module in it"),
        (["-m", "math"], "not written in Python"),
        (["-m"], "-m: expected a script .* or a module .* first"),
        (["--epochs", "3", "tune.py"], "--epochs: expected a script .* first; options of the script go after it"),
        (["-"], "-: expected a script"),
    ],
)
def test_anything_else_is_an_error_that_says_what_to_do(folder, words, message):
    with pytest.raises(LaunchError, match=message):
        Program.of(words[0], words[1:])[0].load()


def test_a_script_from_a_pipe_is_an_error_that_says_what_to_do(folder):
    done = command("run", "/dev/stdin", stdin="print('read')\n", code=2)
    assert done.stderr.startswith("hyppo: /dev/stdin is no file that training processes could read again")
    assert done.stdout == ""


@pytest.mark.parametrize(("module", "place"), [("project.faulty", "project/faulty.py"), ("broken.x", "broken/")])
def test_an_error_of_the_module_or_its_package_is_shown_from_its_first_line_on(folder, module, place):
    first, second, *_, last = command("run", "-m", module, code=1).stderr.splitlines()
    assert first.startswith("Traceback")
    assert place in second
    assert last == "ModuleNotFoundError: No module named 'no_such_library'"


def test_a_job_is_refused_for_what_is_no_program_but_not_for_the_environment(folder):
    errors = command("slurm", "-t", "10", "unclosed.py", code=2).stderr
    assert errors == "hyppo: unclosed.py: SyntaxError: '(' was never closed (unclosed.py, line 1)\n"
    assert "no such module" in command("slurm", "-t", "10", "-m", "project.tuna", code=2).stderr
    assert "-m broken.tune &" in command("slurm", "-t", "10", "-m", "broken.tune").stdout
