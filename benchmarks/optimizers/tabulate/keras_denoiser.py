"""A Keras autoencoder that removes noise from scikit-learn's digits; loss: squared error a pixel, on 200 images.

Layers and optimisers are Keras' own, on its JAX backend, whose stateless calls train all seeds at once.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 10
BATCH = 32
SPAN = 40  # updates between two looks, compiled as one
UPDATES = (40, 120, 360)
SPACE = hyppo.Space(
    code=hyppo.Ordinal([3, 12]),
    optimizer=hyppo.Choice(["adam", "sgd"]),
    rate=hyppo.Ordinal([1e-3, 3e-3, 1e-2, 3e-2, 1e-1]),
    noise=hyppo.Ordinal([0.1, 0.4]),
    updates=hyppo.Ordinal(UPDATES),
)


@cache
def _data() -> tuple[Any, Any, Any]:
    """Training images, validation images and the same under noise, (n, 64) in [0, 1]."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    pixels = load_digits().data[rng.permutation(1797)[:700]].astype(np.float32) / 16.0
    train, valid = pixels[:500], pixels[500:]
    return train, valid, (valid + 0.3 * rng.normal(size=valid.shape)).astype(np.float32)


@cache
def _compiled(code: int, optimizer: str) -> tuple[list[Any], Callable[..., Any], Callable[..., Any]]:
    """Initial state of all seeds, SPAN updates of all, losses of all."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax
    import jax.numpy as jnp
    import keras

    if keras.backend.backend() != "jax":
        raise RuntimeError("keras was imported with another backend: run this table with KERAS_BACKEND=jax")
    states = []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(24, "relu"),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(code),
                keras.layers.Dense(24, "relu"),
                keras.layers.Dense(64, "sigmoid"),
            ]
        )
        tool = keras.optimizers.Adam() if optimizer == "adam" else keras.optimizers.SGD(momentum=0.9, nesterov=True)
        tool.build(model.trainable_variables)
        states.append(
            [
                [v.value for v in variables]
                for variables in (model.trainable_variables, model.non_trainable_variables, tool.variables)
            ]
        )
    train, valid, noisy = (jnp.asarray(a) for a in _data())
    rate_at = next(k for k, v in enumerate(tool.variables) if v is tool._learning_rate)

    def error(weights: Any, others: Any, seen: Any, wanted: Any, training: bool) -> Any:
        made, others = model.stateless_call(weights, others, seen, training=training)
        return ((made - wanted) ** 2).mean(), others

    def update(state: Any, key: Any, rate: Any, noise: Any) -> Any:
        weights, others, tools = state
        rows, shift = jax.random.split(key)
        wanted = train[jax.random.randint(rows, (BATCH,), 0, len(train))]
        seen = wanted + noise * jax.random.normal(shift, wanted.shape)
        (_, others), slopes = jax.value_and_grad(error, has_aux=True)(weights, others, seen, wanted, True)
        tools = [*tools[:rate_at], rate, *tools[rate_at + 1 :]]
        weights, tools = tool.stateless_apply(tools, slopes, weights)
        return [weights, others, tools]

    def span(state: Any, key: Any, rate: Any, noise: Any) -> Any:
        keys = jax.random.split(key, SPAN)
        return jax.lax.scan(lambda s, k: (update(s, k, rate, noise), None), state, keys)[0]

    def look(state: Any) -> Any:
        return error(state[0], state[1], noisy, valid, False)[0]

    start = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return start, jax.jit(jax.vmap(span, in_axes=(0, 0, None, None))), jax.jit(jax.vmap(look))


def _train(params: Mapping[str, Any]) -> Any:
    state, span, look = _compiled(params["code"], params["optimizer"])
    import jax

    curve = []
    for part in range(1, max(UPDATES) // SPAN + 1):
        keys = jax.numpy.stack([jax.random.key(1000 * seed + part) for seed in range(SEEDS)])
        state = span(state, keys, np.float32(params["rate"]), np.float32(params["noise"]))
        if part * SPAN in UPDATES:
            curve.append(np.asarray(look(state), dtype=np.float64))
    return np.stack(curve, axis=1)


TABLE = Table(SPACE, _train)
