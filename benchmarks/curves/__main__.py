"""Epochs and recommended scores with each rule and without."""

import sys
from functools import partial

import numpy as np

import hyppo
from benchmarks.curves import table
from hyppo.stopping import Rule

RULES: tuple[str | None, ...] = (None, "median", "halving")


def study_of(rule: str | Rule | None, seed: int, trials: int) -> hyppo.Study:
    """A finished study on the table."""
    objective = partial(table.play, shift=3 * seed)
    study = hyppo.Study(table.SPACE, objective, replicas=3, seed=seed, stopping=rule, isolate=False)
    study.run(trials=trials, progress=False)
    return study


def epochs(study: hyppo.Study) -> int:
    return sum(len(replica.curve) for trial in study.trials for replica in trial.replicas)


def truth(study: hyppo.Study) -> float:
    """Mean final loss of the recommended point over all of the table's replicas."""
    return float(table.curves_of(study.best.params)[:, -1].mean())


def main(trials: int = 40, seeds: int = 8) -> None:
    finals = table.curves()[:, :, -1].mean(axis=1)
    print(
        f"{trials} trials of 3 replicas of {table.EPOCHS} epochs, {seeds} studies; best of the grid {finals.min():.4f}"
    )
    print(f"{'rule':<10}{'epochs':>8}{'saved':>8}{'recommended':>13}{'within the interval without a rule':>37}")
    whole = [study_of(None, seed, trials) for seed in range(seeds)]
    for rule in RULES:
        studies = whole if rule is None else [study_of(rule, seed, trials) for seed in range(seeds)]
        spent = sum(map(epochs, studies))
        inside = sum(truth(s) <= w.best.interval[1] for s, w in zip(studies, whole, strict=True))
        saved = 1 - spent / sum(map(epochs, whole))
        score = float(np.mean([truth(s) for s in studies]))
        print(f"{rule or 'none':<10}{spent:>8}{saved:>8.0%}{score:>13.4f}{f'{inside} of {seeds}':>37}")


if __name__ == "__main__":
    if sys.argv[1:] == ["tabulate"]:
        table.tabulate()
    else:
        main(*map(int, sys.argv[1:]))
