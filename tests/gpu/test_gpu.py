"""Trainings on a real GPU; `make test-gpu`. Skipped with a notice on a machine without CUDA.

HYPPO_TEST_DEVICE=cpu runs the same scripts on the CPU, which tests the scripts and nothing of a GPU.
"""

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
DEVICE = os.environ.get("HYPPO_TEST_DEVICE", "gpu")
pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.slow,
    pytest.mark.skipif(DEVICE == "gpu" and not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SCRIPT = Path(__file__).with_name("tune.py")


def start(framework, log, epochs=2, **environment):
    command = [sys.executable, str(SCRIPT), framework, DEVICE, str(log), str(epochs)]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(framework, log, epochs=2, **environment):
    process = start(framework, log, epochs, **environment)
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


def test_two_training_processes_share_one_gpu(path):
    run("lightning", path, epochs=8, WORKERS="2")
    began = {}
    for fact in facts(path):
        if "began" in fact:
            began.setdefault(fact["pid"], []).append(fact["began"])
    assert len(began) == 2
    first, second = began.values()
    assert min(first) < max(second)
    assert min(second) < max(first)  # they trained at the same time


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_keras_trains_on_the_device(path, backend):
    pytest.importorskip("keras")
    library = pytest.importorskip(backend)
    if backend == "tensorflow" and DEVICE == "gpu" and not library.config.list_physical_devices("GPU"):
        pytest.skip("this TensorFlow sees no GPU")
    run("keras", path, KERAS_BACKEND=backend, WORKERS="2")
    assert all(trial.state is hyppo.State.DONE for trial in hyppo.load(path).trials)
    if DEVICE == "gpu":
        assert all("cuda" in fact["device"] or "GPU" in fact["device"] for fact in facts(path))


def test_nccl_in_a_group_of_one_is_cleared_for_the_next_training(path):
    run("nccl", path)
    seen = facts(path)
    assert [fact["backend"] for fact in seen] == ["nccl" if DEVICE == "gpu" else "gloo"] * 2
    assert len({fact["pid"] for fact in seen}) == 1


def test_an_interrupted_training_goes_on_on_the_device(path, tmp_path):
    process = start("lightning", path, epochs=20)
    deadline = time.monotonic() + 120
    while not Path(f"{path}.facts").exists() or len(facts(path)) < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=120)
    before = len([fact for fact in facts(path) if "epoch" in fact and fact["trial"] == 0])
    assert before < 20
    run("lightning", path, epochs=20)
    epochs = [fact["epoch"] for fact in facts(path) if "epoch" in fact and fact["trial"] == 0]
    assert epochs == list(range(20))  # none twice, none left out
    whole = tmp_path / "whole.h5"
    run("lightning", whole, epochs=20)
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
