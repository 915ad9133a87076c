"""KerasTuner's build functions as spaces; the snippets of docs/coming-from.md run."""

import ast
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hyppo
from hyppo.training.replica import Replica, Task
from hyppo.training.resume import random_state

PAGE = (Path(__file__).parent.parent / "docs" / "coming-from.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)

keras = pytest.importorskip("keras")
import hyppo_keras  # noqa: E402 - where Keras is there
from hyppo_keras.build import HyperParameters  # noqa: E402


def block(word):
    (found,) = [code for code in BLOCKS if word in code]
    return found


def replica(**params):
    return Replica(Task(0, 0, 7, params, "."))


def test_calls_become_parameters():
    def build(hp):
        return [
            hp.Int("plain", 1, 4),
            hp.Int("stepped", 32, 128, 32),
            hp.Int("log", 8, 512, sampling="log"),
            hp.Int("doubled", 16, 130, step=2, sampling="log"),
            hp.Float("real", 0.0, 1.0),
            hp.Float("lr", 1e-4, 1e-1, sampling="log"),
            hp.Float("grid", 0.0, 0.5, step=0.1),
            hp.Float("decades", 1e-3, 1.0, step=10, sampling="log"),
            hp.Choice("batch", [16, 32, 64]),
            hp.Choice("act", ["relu", "gelu"]),
            hp.Choice("unordered", [1, 2, 3], ordered=False),
            hp.Boolean("flag"),
            hp.Fixed("width", 11),
        ]

    network = hyppo_keras.from_build(build)
    assert network.space == hyppo.Space(
        plain=hyppo.Integer(1, 4),
        stepped=hyppo.Integer(32, 128, step=32),
        log=hyppo.Integer(8, 512, log=True),
        doubled=hyppo.Ordinal([16, 32, 64, 128]),
        real=hyppo.Real(0, 1),
        lr=hyppo.Real(1e-4, 1e-1, log=True),
        grid=hyppo.Ordinal([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        decades=hyppo.Ordinal([1e-3, 1e-2, 1e-1, 1.0]),
        batch=hyppo.Ordinal([16, 32, 64]),
        act=hyppo.Choice(["relu", "gelu"]),
        unordered=hyppo.Choice([1, 2, 3]),
        flag=hyppo.Choice([False, True]),
    )
    params = hyppo.Study(network.space).ask().params
    assert network(replica(**params)) == [*(params[name] for name in network.space.names), 11]


def test_branches_are_found_and_flattened():
    def build(hp):
        asked = {"layers": hp.Int("layers", 1, 3)}
        for i in range(asked["layers"]):
            asked[f"units_{i}"] = hp.Int(f"units_{i}", 8, 64)
        kind = hp.Choice("kind", ["rnn", "conv"])
        with hp.conditional_scope("kind", ["conv"]):
            asked["size"] = hp.Int("size", 3, 7, step=2, default=5)
        if kind == "conv" and hp.Boolean("pool"):
            with hp.name_scope("pooling"):
                asked["by"] = hp.Choice("by", ["mean", "max"])
        return asked

    network = hyppo_keras.from_build(build)
    names = {"layers", "units_0", "units_1", "units_2", "kind", "size", "pool", "pooling/by"}
    assert set(network.space.names) == names
    point = dict(layers=2, units_0=8, units_1=9, units_2=10, size=7, pool=True, kind="conv", **{"pooling/by": "max"})
    assert network(replica(**point)) == {"layers": 2, "units_0": 8, "units_1": 9, "size": 7, "by": "max"}
    # in a scope that does not apply: the default
    assert network(replica(**point | {"kind": "rnn"}))["size"] == 5


def layers_and_dropout(hp):
    network = [hp.Int(f"units_{i}", 1, 2) for i in range(hp.Int("layers", 1, 3))]
    if hp.Boolean("dropout"):
        network.append(hp.Choice("rate", [0.1, 0.2], default=0.2))
    return network


def test_what_build_does_not_ask_for_is_inactive():
    space = hyppo_keras.from_build(layers_and_dropout).space
    assert space == hyppo.Space(space.parameters).inactive_if(
        {"units_1": {"layers": [1]}, "units_2": {"layers": [1, 2]}, "rate": {"dropout": [False]}}, {"rate": 0.2}
    )
    assert (space.combinations, space.size) == (96, (2 + 4 + 8) * 3)


def test_scopes_that_do_not_apply_make_inactive():
    def build(hp):
        hp.Choice("kind", ["rnn", "cnn", "mlp"])
        with hp.conditional_scope("kind", ["cnn", "mlp"]):
            hp.Boolean("pool", default=True)
            with hp.conditional_scope("pool", True):
                hp.Int("size", 2, 4)
        hp.Int("cell", 1, 3, parent_name="kind", parent_values="rnn")

    space = hyppo_keras.from_build(build).space
    assert space == hyppo.Space(space.parameters).inactive_if(
        {"pool": {"kind": ["rnn"]}, "size": {"kind": ["rnn"], "pool": [False]}, "cell": {"kind": ["cnn", "mlp"]}},
        {"pool": True},
    )


def test_networks_that_are_built_for_the_space_draw_no_number_of_the_script():
    def build(hp):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(hp.Int("units", 1, 2))])
        return np.random.rand() + float(model.count_params())  # noqa: NPY002 - users' code does

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    state = random_state()
    hyppo_keras.from_build(build)
    assert random_state() == state


def test_a_parameter_with_two_ways_to_it_stays_active():
    def build(hp):
        if hp.Boolean("a") or (hp.Boolean("b") and hp.Boolean("c")):
            hp.Int("n", 1, 3)
        if hp.Choice("broken", [False, True]):
            raise ValueError("no such network")
        hp.Int("last", 1, 3)

    space = hyppo_keras.from_build(build).space
    everything = {"a": False, "b": True, "c": True, "broken": False, "n": 2, "last": 3}
    assert space.native(everything) == {name: everything[name] for name in space.names}
    assert "last" not in space.inactive(everything | {"broken": True})  # of a call that failed nothing is known


def test_a_parameter_that_was_thought_inactive_is_named():
    network = hyppo_keras.from_build(
        lambda hp: (x := hp.Float("x", 0.0, 1.0), hp.Boolean("flag") or x > 0.999)[1] and hp.Int("n", 1, 3)
    )
    assert network.space.inactive({"x": 0.5, "flag": False, "n": 2}) == ("n",)
    with pytest.warns(hyppo.HyppoWarning, match=r"asks for 'n'.*default in all such trials"):
        network(replica(x=0.9999, flag=False, n=1))


def test_no_network_is_trained_twice(tmp_path):
    network = hyppo_keras.from_build(layers_and_dropout)
    flat = hyppo.Space(network.space.parameters)

    def study(space):
        return hyppo.Study(space, lambda r: float(sum(network(r))), log=tmp_path / "study.h5", isolate=False, seed=1)

    first = study(flat)  # a file of a time before conditions
    first.run(trials=8, progress=False)
    first.close()
    known = {str(network(t)) for t in first.trials}
    for trials in (20, 60):
        again = study(network.space)
        again.run(trials=trials, progress=False)
        again.close()
    networks = [str(network(t)) for t in again.trials]
    assert set(networks[8:]) & known == set()
    assert len(set(networks[8:])) == len(networks[8:])
    assert len(set(networks)) == network.space.size
    assert hyppo.load(tmp_path / "study.h5").best.params == again.best.params


def test_a_space_with_further_parameters():
    network = hyppo_keras.from_build(layers_and_dropout)
    space = hyppo.Space(network.space, batch=hyppo.Ordinal([16, 32]))
    assert space.size == 2 * network.space.size
    params = space.decode(np.zeros(space.dimension))
    own = {name: value for name, value in params.items() if name != "batch"}
    assert network(replica(**params)) == network(replica(**own))


def test_the_best_network_is_built():
    def build(hp):
        model = keras.Sequential([keras.Input((2,))])
        for i in range(hp.Int("layers", 1, 2)):
            model.add(keras.layers.Dense(hp.Int(f"units_{i}", 2, 9)))
        return model

    network = hyppo_keras.from_build(build)
    study = hyppo.Study(network.space, seed=0)
    study.add({"layers": 1, "units_0": 3, "units_1": 7}, losses=[0.5])
    study.add({"layers": 2, "units_0": 4, "units_1": 6}, losses=[0.1])
    assert [layer.units for layer in network(study.best).layers] == [4, 6]


def test_a_fit_of_a_hypermodel_that_is_ignored_is_said():
    class Model:
        def build(self, hp):
            return hp.Int("n", 1, 9)

        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, batch_size=hp.Choice("batch", [16, 32]), **kwargs)

    with pytest.warns(hyppo.HyppoWarning, match=r"Model\.fit is not called.*hyppo\.Space\(network\.space, batch="):
        network = hyppo_keras.from_build(Model())
    assert network.space.names == ("n",)


def test_hypermodels_and_defaults():
    class Model:
        def build(self, hp):
            return hp.Int("n", 1, 9, default=4), hp.get("n"), hp["n"], "n" in hp, "m" in hp

    assert hyppo_keras.from_build(Model())(replica(n=3)) == (3, 3, 3, True, False)
    assert HyperParameters({}).Int("n", 1, 9, default=4) == 4


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda hp: (hp.Int("n", 1, 4), hp.Int("n", 1, 8)), "one name is one parameter"),
        (lambda hp: hp.Float("x", 0.1, 0.9, sampling="reverse_log"), "reverse_log"),
        (lambda hp: hp.Int("n", 0, 8, step=2, sampling="log"), "min_value > 0"),
        (lambda hp: hp.get("n"), "asked for so far: nothing"),
        (lambda hp: hp.Boolean("b", parent_name="a", parent_values=[1]), "must be asked for before"),
        (lambda hp: None, "nothing to search"),
        (7, "expected a function of hp"),
    ],
)
def test_what_cannot_be_is_refused(build, words):
    with pytest.raises(hyppo.HyppoError, match=words):
        hyppo_keras.from_build(build)


def test_a_parameter_that_shows_up_late_is_named():
    network = hyppo_keras.from_build(lambda hp: hp.Float("x", 0.0, 1.0) > 0.9 and hp.Int("late", 1, 3))
    assert network.space.names == ("x",)
    with pytest.raises(hyppo.SpaceError, match=r"'late'.*whatever the other parameters are"):
        network(replica(x=0.95))


@pytest.mark.parametrize(("word", "names"), [("hyppo_keras", "units_2"), ("objective(replica)", "lr")])
@pytest.mark.timeout(200)
def test_snippets_run(tmp_path, word, names):
    (tmp_path / "tune.py").write_text(block(word))
    short = {"HYPPO_TRIALS": "2", "HYPPO_PROGRESS": "0", "HYPPO_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "tune.py"],
        cwd=tmp_path,
        env=os.environ | short,
        capture_output=True,
        text=True,
        timeout=190,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert names in done.stdout


def test_the_build_function_is_the_same_on_both_sides():
    def build(code):
        return next(ast.dump(n) for n in ast.parse(code).body if isinstance(n, ast.FunctionDef) and n.name == "build")

    assert build(block("import keras_tuner")) == build(block("hyppo_keras"))
    ast.parse(block("import optuna"))
