"""How often the intervals hold whose truth is known because everything is simulated.

python -m benchmarks.validity.simulated --draws 4000 --studies 60

    part          90 % intervals of
    comparison    the difference of two equal configurations, each confirmed n times, with and without effects of the
                  data seed as large as the spread of trainings
    until clear   the same after `--replicas 5,30`, which stops once one is better with probability 99.5 %
    score         the score of n confirmations, normal losses
    prediction    a new target, calibrated on n others, of which the networks' spread tells the noise ("told") or not
    study         the loss of the recommended configuration of a study of 60 trainings of a function of two parameters,
                  and its difference to a random baseline by `study.compare`, without confirmations

Errors are two standard errors.
"""

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

import hyppo
from benchmarks.validity.__main__ import mean_and_error
from hyppo.analysis.comparison import compare
from hyppo.analysis.confirmation import CLEAR, interval_of
from hyppo.analysis.conformal import Calibrator
from hyppo.config import Config
from hyppo.run.confirm import GROWTH
from hyppo.stats import Score, freedom, summary
from hyppo.training.predictions import Predictions

FloatArray = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator], float]
Interval = tuple[float, float]
FEWEST, MOST = 5, 30
SPREAD, TRAININGS = 0.15, 60  # of the studies
SPACE = hyppo.Space(x=hyppo.Real(-1, 1), y=hyppo.Real(-1, 1))
NOISES: dict[str, Noise] = {
    "normal": lambda generator: float(generator.normal()),
    "log-normal": lambda generator: float((generator.lognormal() - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)),
}


def holds(interval: Interval, truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def worst_half(losses: Sequence[float]) -> float:
    ranked = sorted(losses)[len(losses) // 2 :]
    return sum(ranked) / len(ranked)


def compared(generator: np.random.Generator, n: int, effect: float) -> bool:
    """Whether the interval of the difference of two equal configurations holds."""
    return holds(_comparison(generator.normal(size=(2, n)) + effect * generator.normal(size=n)).interval, 0.0)


def _comparison(losses: FloatArray) -> hyppo.Comparison:
    one, two = (dict(enumerate(row.tolist())) for row in losses)
    return compare(one, two, [], Config())


def until_clear(generator: np.random.Generator) -> tuple[bool, bool]:
    """The same for as many confirmations as it takes, and whether one was clearly better."""
    losses, n = generator.normal(size=(2, MOST)), FEWEST
    while True:
        found = _comparison(losses[:, :n])
        clear = max(found.probability, 1.0 - found.probability) >= CLEAR
        if clear or n == MOST:
            return holds(found.interval, 0.0), clear
        n = min(MOST, math.ceil(GROWTH * n))


def scored(generator: np.random.Generator, n: int, score: Score, truth: float) -> bool:
    return holds(interval_of(summary(generator.normal(size=n), score), freedom=freedom(n, score)), truth)


def predicted(generator: np.random.Generator, n: int, told: bool) -> float:
    """Share of 400 new targets in their intervals."""

    def data(count: int) -> Predictions:
        std = np.exp(0.5 * generator.normal(size=(count, 1)))
        error = generator.normal(size=(count, 1)) * (std if told else 1.0)
        return Predictions(np.zeros_like(std), 0.3 * std, error, replicas=3, passes=0)

    new = Calibrator.of(data(n)).apply(data(400))
    low, high = new.interval(0.9)
    return float(np.mean((low <= new.targets) & (new.targets <= high)))


def expected(params: dict[str, float]) -> float:
    x, y = params["x"], params["y"]
    return 2.25 * (x - 0.3) ** 2 + (y + 0.2) ** 2 + 0.3 * math.sin(5 * x) * math.cos(3 * y)


def studied(seed: int, noise: Noise, replicas: int | None) -> tuple[bool, bool | None]:
    """Whether the interval of the estimate holds, and that of the difference to the baseline if that is another."""
    generator, study = np.random.default_rng(seed), hyppo.Study(SPACE, seed=seed, replicas=replicas)
    x, y = generator.uniform(-1.0, 1.0, 2)
    study.enqueue({"x": x, "y": y}, name="baseline")
    spent = 0
    while spent < TRAININGS:
        trial = study.ask()
        count = len(trial.pending)
        study.tell(trial.number, [expected(trial.params) + SPREAD * noise(generator) for _ in range(count)])
        spent += count
    best, baseline = study.best, study.trials[0]
    truth = expected(best.params)
    both = None
    if best.number != 0:
        both = holds(study.compare("best", "baseline").interval, truth - expected(dict(baseline.params)))
    return holds(best.interval, truth), both


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--studies", type=int, default=10)
    options = parser.parse_args(arguments)
    draws, generator = options.draws, np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        for effect in (0.0, 1.0):
            held = [compared(generator, n, effect) for _ in range(draws)]
            say(f"comparison, {n} confirmations, effects {effect:g}", held)
    ends = [until_clear(generator) for _ in range(draws // 4)]
    say("until clear", [held for held, _ in ends])
    say("until clear: one of two equal ones called better", [clear for _, clear in ends])
    for score in ("mean", "median", "trimmed", worst_half, max):
        name = score if isinstance(score, str) else score.__name__
        for n in (3, 5, 10):
            truth = (
                0.0 if isinstance(score, str) else np.mean([score(row) for row in generator.normal(size=(20000, n))])
            )
            say(f"score {name} of {n}", [scored(generator, n, score, float(truth)) for _ in range(draws)])
    for n in (20, 100, 300):
        for told in (True, False):
            shares = [predicted(generator, n, told) for _ in range(draws // 4)]
            say(f"prediction, calibrated on {n}, spread {'told' if told else 'not told'}", shares)
    for name, noise in NOISES.items():
        for replicas in (None, 3):
            found = [studied(seed, noise, replicas) for seed in range(options.studies)]
            trained = f"{replicas or 'adaptive'} replicas, {name} noise"
            say(f"study, {trained}: estimate", [held for held, _ in found])
            say(f"study, {trained}: comparison", [both for _, both in found if both is not None])


def say(part: str, values: Sequence[float | bool]) -> None:
    """Print one row of the table."""
    print(f"| {part} | {mean_and_error([float(value) for value in values])} |", flush=True)


if __name__ == "__main__":
    main()
