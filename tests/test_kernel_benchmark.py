"""The benchmark of kernels, in small."""

import pytest

from benchmarks.kernels import asks, floors
from benchmarks.kernels.clock import Figure, in_turn, least_seconds


def test_a_figure_is_held_against_its_bar():
    assert Figure("mean", 10, 3.0, "ms", "floor", 2.0, 1.5).kept
    assert not Figure("mean", 10, 3.1, "ms", "floor", 2.0, 1.5).kept
    assert Figure("memory", 10, 100.0, "MB", bar=120.0).kept
    assert Figure("mean", 10, 3.0, "ms").kept is None


def test_times_are_positive():
    assert least_seconds(lambda: sum(range(2000)), budget=0.01) > 0.0
    assert all(seconds > 0.0 for seconds in in_turn([lambda: sum(range(20_000))] * 2, rounds=2))


def test_floors():
    figures = floors.figures(n=60, candidates=300, columns=3)
    assert [f.name.split()[0] for f in figures] == ["C", "rbf", "gp", "gp", "gp"]
    assert all(f.ours > 0.0 and (f.theirs is None or f.theirs > 0.0) for f in figures)


def test_an_ask_of_each_side():
    turn = asks.ours(12)
    assert turn() > 0.0
    pytest.importorskip("pySOT")
    assert asks.dycors(12)() > 0.0
