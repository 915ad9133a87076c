"""Trainings on a real GPU: `make test-gpu`, which sets HYPPO_TEST_DEVICE=gpu. Skipped without it or without CUDA.

HYPPO_TEST_DEVICE=cpu runs the same scripts on the CPU, which tests the scripts and nothing of a GPU.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import hyppo

torch = pytest.importorskip("torch")
DEVICE = os.environ.get("HYPPO_TEST_DEVICE")
pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.slow,
    pytest.mark.skipif(DEVICE is None, reason="`make test-gpu` runs these"),
    pytest.mark.skipif(DEVICE == "gpu" and not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SCRIPT = Path(__file__).with_name("tune.py")
BIN = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # mpiexec of the venv comes first


def start(framework, log, epochs=2, launcher=(), **environment):
    command = [*launcher, sys.executable, str(SCRIPT), framework, DEVICE, str(log), str(epochs)]
    return subprocess.Popen(
        command, env=os.environ | {"PATH": BIN} | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(framework, log, epochs=2, launcher=(), **environment):
    process = start(framework, log, epochs, launcher, **environment)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, out + err
    return json.loads(out.splitlines()[-1])


def facts(log):
    return [json.loads(line) for line in Path(f"{log}.facts").read_text().splitlines()]


def test_lightning_trains_on_the_device_and_its_seed_repeats(path, tmp_path):
    manager = run("lightning", path)
    assert not manager["cuda"]  # the manager leaves the GPU alone
    study = hyppo.load(path)
    assert all(trial.state is hyppo.State.DONE for trial in study.trials)
    assert study.predictions(0).mean.shape == (256, 1)
    if DEVICE == "gpu":
        assert {fact["device"] for fact in facts(path) if "device" in fact} == {"cuda:0"}
        (placed, *_) = [fact for fact in facts(path) if "devices" in fact]
        assert placed["devices"] == [0]
        assert placed["visible"] not in (None, "")
    again = tmp_path / "again.h5"
    run("lightning", again)
    first, second = ([r.loss for t in hyppo.load(p).trials for r in t.replicas] for p in (path, again))
    np.testing.assert_allclose(first, second, rtol=1e-4)  # kernels of a GPU may add in another order


MPI = ("mpiexec", "-n", "3")


def skip_without(launcher):
    if launcher and shutil.which(launcher[0], path=BIN) is None:
        pytest.skip("there is no mpiexec beside this Python")


@pytest.mark.parametrize("launcher", [(), MPI])
def test_two_training_processes_share_one_gpu(path, launcher):
    skip_without(launcher)
    # Under mpiexec a process may start seconds after the other.
    manager = run("lightning", path, epochs=40, launcher=launcher, **({} if launcher else {"WORKERS": "2"}))
    assert not manager["cuda"]
    began = {}
    for fact in facts(path):
        if "began" in fact:
            began.setdefault(fact["pid"], []).append(fact["began"])
    assert len(began) == 2
    first, second = began.values()
    assert min(first) < max(second)
    assert min(second) < max(first)  # they trained at the same time


@pytest.mark.parametrize("framework", ["lightning", "keras"])
def test_ranks_that_train_together_need_a_gpu_each_under_lightning_and_may_share_one_under_keras(path, framework):
    skip_without(MPI)
    run(framework, path, launcher=MPI, DATA_PARALLEL="2", KERAS_BACKEND="torch")
    failures = [trial.replicas[0].failure for trial in hyppo.load(path).trials]
    if framework == "lightning" and DEVICE == "gpu" and torch.cuda.device_count() < 2:
        assert all("each on a GPU of its own" in failure.message for failure in failures)
    else:
        assert failures == [None, None]


def _sees_a_gpu(backend):
    library = pytest.importorskip(backend)
    match backend:
        case "tensorflow":
            return bool(library.config.list_physical_devices("GPU"))
        case "jax":
            return importlib.util.find_spec("jax_cuda13_plugin") or importlib.util.find_spec("jax_cuda12_plugin")
    return True


@pytest.mark.parametrize("backend", ["torch", "tensorflow", "jax"])
def test_keras_trains_on_the_device(path, backend):
    pytest.importorskip("keras")
    if DEVICE == "gpu" and not _sees_a_gpu(backend):
        pytest.skip(f"this {backend} sees no GPU")
    run("keras", path, KERAS_BACKEND=backend, WORKERS="2")
    assert all(trial.state is hyppo.State.DONE for trial in hyppo.load(path).trials)
    if DEVICE == "gpu":
        assert all("cuda" in fact["device"] or "GPU" in fact["device"] for fact in facts(path))


def test_nccl_in_a_group_of_one_is_cleared_for_the_next_training(path):
    run("nccl", path)
    seen = facts(path)
    assert [fact["backend"] for fact in seen] == ["nccl" if DEVICE == "gpu" else "gloo"] * 2
    assert len({fact["pid"] for fact in seen}) == 1


def test_a_training_that_breaks_its_gpu_costs_no_other_training(path):
    run("broken", path, TRIALS="4")
    study = hyppo.load(path)
    assert [trial.replicas[0].loss for trial in study.trials] == [1.0, 6.0, 6.0, 6.0]
    (fact,) = facts(path)
    assert ("assert" if DEVICE == "gpu" else "out of bounds") in fact["error"]


@pytest.mark.skipif(DEVICE == "cpu", reason="a CPU goes on after such an error")
def test_a_broken_gpu_of_the_scripts_own_process_ends_the_run_and_the_next_goes_on(path):
    process = start("broken", path, TRIALS="3", HERE="1")
    _, err = process.communicate(timeout=180)
    assert process.returncode != 0
    assert "LaunchError: this process can train no more" in err
    assert [trial.state for trial in hyppo.load(path).trials][:1] == [hyppo.State.DONE]
    run("broken", path, TRIALS="3", HERE="1")
    assert [trial.replicas[0].loss for trial in hyppo.load(path).trials] == [1.0, 6.0, 6.0]


@pytest.mark.parametrize("here", [{}, {"HERE": "1"}])
def test_a_training_without_memory_fails_alone_and_leaves_none_taken(path, here):
    run("memory", path, TRIALS="4", **here)
    trials = hyppo.load(path).trials
    assert [trial.replicas[0].loss for trial in trials] == [8.0, None, 8.0, 8.0]
    assert trials[1].replicas[0].failure.type == "OutOfMemoryError"
    if DEVICE == "gpu":
        assert trials[0].metrics["gpu_memory"] > 0.6 * torch.cuda.get_device_properties(0).total_memory


@pytest.mark.parametrize("framework", ["lightning", "mixed"])
def test_an_interrupted_training_goes_on_on_the_device(path, tmp_path, framework):
    process = start(framework, path, epochs=20)
    deadline = time.monotonic() + 120
    while not Path(f"{path}.facts").exists() or len(facts(path)) < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=120)
    before = len([fact for fact in facts(path) if "epoch" in fact and fact["trial"] == 0])
    assert before < 20
    run(framework, path, epochs=20)
    epochs = [fact["epoch"] for fact in facts(path) if "epoch" in fact and fact["trial"] == 0]
    assert epochs == list(range(20))  # none twice, none left out
    whole = tmp_path / "whole.h5"
    run(framework, whole, epochs=20)
    np.testing.assert_allclose(hyppo.load(path).trials[0].mean, hyppo.load(whole).trials[0].mean, rtol=1e-3)


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="there is no nvidia-smi")
def test_the_manager_holds_no_memory_of_the_gpu(path):
    process = start("lightning", path, epochs=10)
    seen = set()
    while process.poll() is None:
        query = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
        seen |= set(subprocess.run(query, capture_output=True, text=True, check=False).stdout.split())
        time.sleep(0.3)
    process.communicate()
    assert process.returncode == 0
    assert str(process.pid) not in seen
