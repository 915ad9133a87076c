"""Loss surfaces like those of trained models, in closed form: log scales, choices, parameters that matter only if
another has a certain value, a plateau on which nothing is learnt and a cliff beyond which training diverges.

A `kind` fixes the parameters and their gates; an instance draws optima, weights and interactions. Instances 11 to
15 are for choosing defaults, 16 to 20 for reporting.
"""

import zlib
from dataclasses import dataclass

import numpy as np

import hyppo
from benchmarks.optimizers.problems.noise import normal
from benchmarks.optimizers.problems.problem import FloatArray, Noise, Problem, natural

INSTANCES = {"choose": range(11, 16), "report": range(16, 21)}
PLATEAU = 2.3  # loss of a model that has learnt nothing (ten classes guessed: ln 10)
REPLICAS = 3


@dataclass(frozen=True)
class Kind:
    """Parameters of a model, the rate whose upper end diverges, pairs that interact, and gates.

    A gate `child: (parent, values)` makes the child matter only if the parent has one of the values.
    """

    space: hyppo.Space
    rate: str
    pairs: tuple[tuple[str, str], ...]
    gates: dict[str, tuple[str, tuple[object, ...]]]


KINDS = {
    "mlp": Kind(
        hyppo.Space(
            lr=hyppo.Real(1e-5, 1.0, log=True),
            batch=hyppo.Ordinal([8, 16, 32, 64, 128, 256]),
            width=hyppo.Integer(8, 512, log=True),
            depth=hyppo.Integer(1, 5),
            activation=hyppo.Choice(["relu", "gelu", "tanh", "selu"]),
            optimizer=hyppo.Choice(["sgd", "adam", "rmsprop"]),
            momentum=hyppo.Real(0.5, 0.99),
            dropout=hyppo.Real(0.0, 0.7),
        ),
        "lr",
        (("lr", "batch"), ("lr", "width"), ("width", "dropout"), ("lr", "momentum")),
        {"momentum": ("optimizer", ("sgd", "rmsprop"))},
    ),
    "cnn": Kind(
        hyppo.Space(
            lr=hyppo.Real(1e-5, 1.0, log=True),
            weight_decay=hyppo.Real(1e-7, 1e-1, log=True),
            batch=hyppo.Ordinal([16, 32, 64, 128]),
            filters=hyppo.Integer(4, 64, step=4),
            kernel=hyppo.Ordinal([3, 5, 7]),
            blocks=hyppo.Integer(1, 6),
            norm=hyppo.Choice(["none", "batch", "group"]),
            groups=hyppo.Ordinal([2, 4, 8]),
            augment=hyppo.Choice([False, True]),
            strength=hyppo.Real(0.0, 1.0),
            warmup=hyppo.Integer(0, 10),
            dropout=hyppo.Real(0.0, 0.6),
        ),
        "lr",
        (("lr", "batch"), ("lr", "warmup"), ("filters", "blocks"), ("weight_decay", "dropout"), ("filters", "dropout")),
        {"groups": ("norm", ("group",)), "strength": ("augment", (True,))},
    ),
    "boosting": Kind(
        hyppo.Space(
            eta=hyppo.Real(1e-3, 1.0, log=True),
            rounds=hyppo.Integer(10, 1000, log=True),
            depth=hyppo.Integer(1, 12),
            booster=hyppo.Choice(["trees", "dropped trees", "linear"]),
            drop_rate=hyppo.Real(0.0, 0.5),
            subsample=hyppo.Real(0.2, 1.0),
            penalty=hyppo.Real(1e-4, 1e2, log=True),
        ),
        "eta",
        (("eta", "rounds"), ("depth", "rounds"), ("depth", "penalty"), ("eta", "subsample")),
        {"drop_rate": ("booster", ("dropped trees",)), "depth": ("booster", ("trees", "dropped trees"))},
    ),
}


def names(split: str) -> list[str]:
    """Names of the noise-free surfaces: two instances of each kind."""
    return [f"surface/{kind}/i{INSTANCES[split][k]}" for k in (0, 1) for kind in KINDS]


def noisy_names(split: str) -> list[str]:
    """Names of the noisy surfaces: three other instances of each kind."""
    return [f"surface+training/{kind}/i{INSTANCES[split][k]}" for k in (2, 3, 4) for kind in KINDS]


def _training_spread(unit: FloatArray, height: FloatArray) -> FloatArray:
    """Small for good models, large if training only sometimes succeeds; zero for a model that never learns."""
    return np.asarray(0.08 + 0.5 * height * np.exp(-0.25 * height))


TRAINING = Noise("training", _training_spread, normal)


def problem(name: str) -> Problem:
    """The problem of a name such as `surface/mlp/i12` or `surface+training/cnn/i18`."""
    head, kind_name, instance = name.split("/")
    number = int(instance[1:])
    kind = KINDS[kind_name]
    space = kind.space
    rng = np.random.default_rng([zlib.crc32(kind_name.encode()), number])
    column = {n: j for j, n in enumerate(space.names)}
    d = space.dimension
    choices = {n: p.levels for n, p in space.parameters.items() if isinstance(p, hyppo.Choice)}
    # Few parameters matter much, most a little: the usual finding on networks.
    weight = rng.permutation(np.exp(-0.45 * np.arange(d))) * rng.uniform(0.7, 1.3, d) * 1.6
    weight[column[kind.rate]] = rng.uniform(1.5, 2.5)
    optimum = rng.uniform(0.15, 0.85, d)
    optimum[column[kind.rate]] = rng.uniform(0.35, 0.65)
    power = rng.uniform(1.2, 2.4, d)
    # A choice costs something by itself, and moves the optimum of the rate.
    cost = {n: rng.permutation(np.linspace(0.0, rng.uniform(0.1, 0.5), levels)) for n, levels in choices.items()}
    move = {n: rng.uniform(-0.12, 0.12, levels) for n, levels in choices.items()}
    interaction = {pair: rng.uniform(-0.9, 0.9) for pair in kind.pairs}
    phase, ripple = rng.uniform(0.0, 2.0 * np.pi, d), rng.uniform(0.0, 0.03)
    floor, cliff = rng.uniform(0.05, 0.3), rng.uniform(0.80, 0.92)
    gates = {
        child: np.array([space.parameters[parent].value(i) in allowed for i in range(space.parameters[parent].levels)])
        for child, (parent, allowed) in kind.gates.items()
    }

    def loss(values: FloatArray) -> FloatArray:
        unit = _unit(space, values)
        level = {n: values[:, column[n]].astype(np.int64) for n in choices}
        active = np.ones_like(unit)
        for child, allowed in gates.items():
            active[:, column[child]] = allowed[level[kind.gates[child][0]]]
        off = unit - optimum
        for n in choices:
            off[:, column[kind.rate]] -= move[n][level[n]]
            off[:, column[n]] = 0.0
        off *= active
        total = (weight * np.abs(off) ** power).sum(axis=1)
        for n in choices:
            total += cost[n][level[n]]
        for (a, b), size in interaction.items():
            product = off[:, column[a]] * off[:, column[b]]
            total += size * product + abs(size) * np.abs(product)  # never rewards leaving both optima
        total += ripple * (1.0 - np.cos(6.0 * np.pi * off + phase) * active).mean(axis=1)
        learnt = floor + (PLATEAU - floor) * np.tanh(total / (PLATEAU - floor))
        beyond = unit[:, column[kind.rate]] - cliff - 0.1 * (unit[:, 1] - 0.5)
        return np.asarray(learnt + (PLATEAU - learnt) / (1.0 + np.exp(-60.0 * beyond)))

    noise = TRAINING if "+" in head else None
    return Problem(
        name,
        "surface-noisy" if noise else "surface",
        "choose" if number in INSTANCES["choose"] else "report",
        space,
        loss,
        noise,
        replicas=REPLICAS if noise else 1,
    )


def _unit(space: hyppo.Space, values: FloatArray) -> FloatArray:
    """Natural values back to [0, 1], without the lattice's rounding of reals, (q, d) -> (q, d)."""
    lowest, highest = (natural(space, np.full((1, space.dimension), u))[0] for u in (0.0, 1.0))
    out = np.empty(values.shape)
    for j, p in enumerate(space.parameters.values()):
        if isinstance(p, hyppo.Real | hyppo.Integer) and p.log:
            out[:, j] = np.log(values[:, j] / lowest[j]) / np.log(highest[j] / lowest[j])
        else:
            out[:, j] = (values[:, j] - lowest[j]) / (highest[j] - lowest[j])
    return out
