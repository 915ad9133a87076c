"""Every example runs as a user would run it, with fewer trials; alone, in its own folder."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hyppo

EXAMPLES = Path(__file__).parent.parent / "examples"
# example -> what it needs; the Keras ones share the backends, so that each runs on one of them
NEEDS = {
    "torch_loop": ("torch",),
    "lightning_digits": ("lightning", "sklearn"),
    "lightning_timeseries": ("lightning",),
    "lightning_gan": ("lightning",),
    "lightning_ddp": ("lightning",),
    "lightning_folds": ("lightning", "sklearn"),
    "keras_digits": ("keras", "jax", "sklearn"),
    "keras_timeseries": ("keras", "tensorflow"),
    "keras_train_step": ("keras", "tensorflow"),
    "keras_folds": ("keras", "jax", "sklearn"),
}
TRAININGS = {"lightning_folds": 10, "keras_folds": 10}  # two trials of five folds; else two trainings


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)


def untuned_scripts():
    """The script that each diff on the page was made from, by the name of its example: the diff undone."""
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    for name, diff in re.findall(r"`(\w+)\.py`\n\n```diff\n(.*?)```", page, re.S):
        script = (EXAMPLES / f"{name}.py").read_text()
        for hunk in diff.split("@@\n")[1:]:
            lines = hunk.splitlines(keepends=True)
            new = "".join(line[1:] for line in lines if line[0] in " +")
            old = "".join(line[1:] for line in lines if line[0] in " -")
            assert script.count(new) == 1, f"the page and examples/{name}.py differ:\n{new}"
            script = script.replace(new, old)
        yield name, script, diff


UNTUNED = {name: (script, diff) for name, script, diff in untuned_scripts()}


@pytest.mark.parametrize("name", UNTUNED)
def test_ten_lines_make_a_script_a_study(name):
    script, diff = UNTUNED[name]
    # the space stands in the place of the parameters, which the script had too
    diff = re.sub(r"^\+space = .*?^\+\)$", "", diff, flags=re.M | re.S)
    assert 5 <= len(re.findall(r"^\+.*\S", diff, re.M)) <= 12
    assert "hyppo" not in ast.unparse(ast.Module(ast.parse(script).body[1:], []))


def run(name, folder, script, *command, seconds=280):
    for library in NEEDS[name]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}")
    backend = next((library for library in NEEDS[name] if library in ("torch", "jax", "tensorflow")), "tensorflow")
    trainings = str(TRAININGS.get(name, 2))
    short = {"HYPPO_TRAININGS": trainings, "HYPPO_PROGRESS": "0", "HYPPO_THREADS": "1", "HYPPO_OUTPUT": "file"}
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
    assert re.search(r"^trial \d+: \{", printed, re.M), printed
    assert re.search(r"^expected .*interval", printed, re.M), printed
    assert (folder / f"{name}.h5").exists()
    assert not (folder / f"{name}.h5.journal").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NEEDS)
def test_example(name, tmp_path):
    printed = run(name, tmp_path, EXAMPLES / f"{name}.py")
    check_study(name, tmp_path, printed)
    if name in TRAININGS:  # folds differ more than trainings do
        share = re.search(r"from the data \((\d+)% of the variance\)", printed)
        assert share, printed
        assert int(share[1]) > 50


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", UNTUNED)
def test_untuned(name, tmp_path):
    script = tmp_path / f"{name}.py"
    script.write_text(UNTUNED[name][0])
    assert re.search(r"\d\.\d", run(name, tmp_path, script, seconds=140))


@pytest.mark.timeout(60)
def test_a_script_without_functions_is_run_as_it_is(tmp_path):
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    (tmp_path / "tune.py").write_text(re.search(r"```python\n(# tune.py\n.*?)```", page, re.S)[1])
    (tmp_path / "train.py").write_text(
        "import argparse, math, random\n"
        "parser = argparse.ArgumentParser()\n"
        "for name, kind in (('lr', float), ('width', int), ('seed', int), ('out', str)):\n"
        "    parser.add_argument('--' + name, type=kind, required=True)\n"
        "options = parser.parse_args()\n"
        "random.seed(options.seed)\n"
        "if __name__ == '__main__':\n"
        "    val_loss = math.log10(options.lr) ** 2 / options.width + random.random()\n"
        "    open(options.out + '/log.txt', 'w').write(str(val_loss))\n"
    )
    short = {"HYPPO_TRIALS": "2", "HYPPO_TRAININGS": "4", "HYPPO_PROGRESS": "0"}
    command = [sys.executable, tmp_path / "tune.py"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | short, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    check_study("study", tmp_path, done.stdout)
    logged = [float(path.read_text()) for path in tmp_path.glob("study.h5.d/trial-*/replica-*/log.txt")]
    records = [r.loss for t in hyppo.load(tmp_path / "study.h5").trials for r in t.replicas if r.loss is not None]
    assert sorted(logged) == sorted(records)
    assert len(set(records)) == len(records) >= 2


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
