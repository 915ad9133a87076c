"""Random generators that a training draws from although it did not make them."""

import functools
import random
import warnings

import numpy as np
import pytest

import hyppo
from hyppo.training.call import train
from hyppo.training.replica import Replica, Task

fresh = np.random.default_rng(0)
legacy = np.random.RandomState(0)
plain = random.Random(0)
shared = np.random.rand.__self__  # numpy's global generator under a name


def notices(objective):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        outcome = train(objective, Replica(Task(0, 0, 7, {}, ".")))
    assert outcome.failure is None
    return [str(one.message) for one in said if one.category is hyppo.HyppoWarning]


class Trainer:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, replica):
        return self.rng.random()

    def fit(self, replica):
        return self.rng.random()


def closure():
    rng = np.random.default_rng(0)
    return lambda replica: rng.random()


def of_torch():
    torch = pytest.importorskip("torch")
    generator = torch.Generator()
    return lambda replica: torch.rand(1, generator=generator)


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (lambda: lambda replica: fresh.random(), "fresh"),
        (lambda: lambda replica: legacy.rand(), "legacy"),
        (lambda: lambda replica: legacy.rand(5000).mean(), "legacy"),
        (lambda: lambda replica: plain.random(), "plain"),
        (of_torch, "generator"),
        (Trainer, "self.rng"),
        (lambda: Trainer().fit, "self.rng"),
        (closure, "rng"),
        (lambda: functools.partial(lambda replica, rng: rng.random(), rng=np.random.default_rng(0)), "rng"),
    ],
)
def test_a_draw_is_noticed(make, label):
    (said,) = notices(make())
    assert f"draws from `{label}`, made outside of it" in said
    assert "numpy.random.default_rng(replica.seed)" in said


def seeded_torch():
    torch = pytest.importorskip("torch")
    generator = torch.Generator()
    return lambda replica: torch.rand(1, generator=generator.manual_seed(replica.seed))


@pytest.mark.parametrize(
    "make",
    [
        lambda: lambda replica: 0.0,
        lambda: lambda replica: random.random() + np.random.rand() + shared.rand(),  # noqa: NPY002
        lambda: lambda replica: np.random.default_rng(replica.seed).random(),
        lambda: lambda replica: legacy.seed(replica.seed) or legacy.rand(),
        lambda: lambda replica: plain.seed(replica.seed) or plain.random(),
        seeded_torch,
    ],
)
def test_a_seeded_generator_is_not(make):
    assert notices(make()) == []
