"""Ranks that train one replica together with Keras: the same network as of one rank."""

import importlib.util
import json

import pytest

from .torchrun import free_ports, two_ranks

pytest.importorskip("keras")
pytest.importorskip("torch")  # carries the gradients

RANK = """
import json, os, sys
from pathlib import Path
import keras, numpy as np
import hyppo_keras
from hyppo.training.replica import Replica, Task
from hyppo.training.call import train
from tests import test_callback_keras

test_callback_keras.setup()
rank, folder = int(sys.argv[2]), Path(sys.argv[3])
generator = np.random.default_rng(0)
x = generator.normal(size=(101, 4)).astype("float32")
y = x.sum(1, keepdims=True)
kept = {}


def objective(replica):
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    if replica.trial == 3:
        model = test_callback_keras.of_two_optimizers(noise=0.0)
    if replica.trial == 1 and rank == 1:  # another network on one rank
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    batch = 20 // replica.world_size
    options = dict(shuffle=False, verbose=0, epochs=40 if replica.trial == 2 else 3, validation_split=0.2)
    hyppo_keras.fit(replica, model, x, y, batch, **options)
    kept[replica.world_size] = [weight.tolist() for weight in model.get_weights()]


def outcome(trial, world_size, **asked):
    place = folder / f"{trial}-{world_size}"
    return train(objective, Replica(Task(trial, 0, 7, {}, str(place)), rank=rank, world_size=world_size, **asked))


together = outcome(0, 2)
weights = {2: kept[2]}
other = outcome(1, 2)
stopped = outcome(2, 2, stop_asked=lambda: rank == 1)
alone = outcome(0, 1)
weights[1] = kept[1]
two, two_alone = outcome(3, 2), outcome(3, 1)
print(json.dumps({
    "alone": alone.curve, "together": together.curve, "weights": weights, "stopped": stopped.curve,
    "other": str(other.failure), "two": two.curve, "two alone": two_alone.curve,
    "failures": [str(one.failure) for one in (together, stopped, alone, two, two_alone) if one.failure],
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(250)
@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_two_ranks_train_the_network_of_one(tmp_path, backend):
    """With half the batch each: the mean of the gradients is that of the joint batch."""
    if not importlib.util.find_spec(backend):
        pytest.skip(f"no {backend} here")
    environ = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    ranks = two_ranks(RANK, str(tmp_path), MASTER_PORT=free_ports(1)[0], TORCHELASTIC_RUN_ID="one", **environ)
    said = []
    for code, out, errors in ranks:
        assert code == 0, errors
        said.append(json.loads(out.strip().splitlines()[-1]))
    assert [one["failures"] for one in said] == [[], []]
    for one in said:
        assert [loss for _, loss in one["together"]] == pytest.approx([loss for _, loss in one["alone"]], rel=1e-5)
        assert [loss for _, loss in one["two"]] == pytest.approx([loss for _, loss in one["two alone"]], rel=1e-5)
        for mine, alone in zip(one["weights"]["2"], one["weights"]["1"], strict=True):
            assert [*_flat(mine)] == pytest.approx([*_flat(alone)], rel=1e-4, abs=1e-6)
        assert len(one["stopped"]) == 1  # one rank was asked, both stop
        assert "the ranks of a replica must have the same network" in one["other"]
    assert said[0]["together"] == said[1]["together"]
    assert said[0]["weights"]["2"] == said[1]["weights"]["2"]


def _flat(values):
    for value in values:
        yield from _flat(value) if isinstance(value, list) else [value]
