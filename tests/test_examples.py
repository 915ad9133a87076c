"""Every example runs as a user would run it, with fewer trials; alone, in its own folder."""

import ast
import difflib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
# example -> what it needs; the Keras ones share the backends, so that each runs on one of them
NEEDS = {
    "torch_loop": ("torch",),
    "lightning_digits": ("lightning", "sklearn"),
    "lightning_timeseries": ("lightning",),
    "lightning_gan": ("lightning",),
    "lightning_ddp": ("lightning",),
    "keras_digits": ("keras", "jax", "sklearn"),
    "keras_timeseries": ("keras", "tensorflow"),
    "keras_train_step": ("keras", "tensorflow"),
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)


def code_of(path):
    """Lines of a script without its docstring, comments and blank lines, and without the space or what is in its place.

    `ast.unparse` would undo the layout that a reader sees as changed lines, so that the lines are the file's own.
    """
    text = path.read_text()
    aside = set()
    for statement in ast.parse(text).body:
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        named = isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") in ("space", "PARAMS")
        if docstring or named:
            aside |= set(range(statement.lineno, statement.end_lineno + 1))
    lines = [line for number, line in enumerate(text.splitlines(), start=1) if number not in aside]
    return [line for line in lines if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize("name", NEEDS)
def test_ten_lines_make_a_script_a_study(name):
    untuned, tuned = code_of(EXAMPLES / "untuned" / f"{name}.py"), code_of(EXAMPLES / f"{name}.py")
    blocks = difflib.SequenceMatcher(None, untuned, tuned, autojunk=False).get_opcodes()
    changed = sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in blocks if kind != "equal")
    assert 5 <= changed <= 10
    assert "hyppo" not in (EXAMPLES / "untuned" / f"{name}.py").read_text()


def run(name, folder, script, *command, seconds=280):
    for library in NEEDS[name]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}")
    backend = next((library for library in NEEDS[name] if library in ("torch", "jax", "tensorflow")), "tensorflow")
    short = {"HYPPO_TRAININGS": "2", "HYPPO_PROGRESS": "0", "HYPPO_THREADS": "1", "HYPPO_OUTPUT": "file"}
    short |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*(command or [sys.executable]), script],
        cwd=folder,
        env=os.environ | short,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def check_study(name, folder, printed):
    assert re.search(r"^trial 0: \{", printed, re.M), printed
    assert "from one training to the next" in printed
    assert (folder / f"{name}.h5").exists()
    assert not (folder / f"{name}.h5.journal").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NEEDS)
def test_example(name, tmp_path):
    check_study(name, tmp_path, run(name, tmp_path, EXAMPLES / f"{name}.py"))


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", [name for name in NEEDS if name != "lightning_ddp"])
def test_untuned(name, tmp_path):
    assert re.search(r"\d\.\d", run(name, tmp_path, EXAMPLES / "untuned" / f"{name}.py", seconds=140))


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_untuned_ddp_under_torchrun(tmp_path):
    command = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    printed = run("lightning_ddp", tmp_path, EXAMPLES / "untuned" / "lightning_ddp.py", *command, seconds=140)
    assert re.search(r"\d\.\d", printed)


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.timeout(150)
def test_ddp_example_under_mpiexec(tmp_path):
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("there is no mpiexec")
    hyppo = Path(sys.executable).with_name("hyppo")
    command = (mpiexec, "-n", "3", sys.executable, hyppo, "run", "--data-parallel", "2")
    printed = run("lightning_ddp", tmp_path, EXAMPLES / "lightning_ddp.py", *command, seconds=140)
    check_study("lightning_ddp", tmp_path, printed)
    outputs = {path.name for path in tmp_path.glob("lightning_ddp.h5.d/trial-00000/replica-00/output*.txt")}
    assert outputs == {"output.txt", "output-1.txt"}  # both ranks trained
