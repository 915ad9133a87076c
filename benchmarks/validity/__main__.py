"""Does a result hold when someone trains again? Studies on tables of real trainings, whose truth is known.

python -m benchmarks.validity --trainings 60 --seeds 2

Each study searches one table, then confirms its recommendation with ten new trainings, in turn with a baseline, which
is a random configuration that was enqueued. A training draws one of the recorded losses of its configuration with
replacement, so that trainings are independent and the truth is known exactly. Four ways to report a result are
compared: the study's estimate, the observed mean of the recommended configuration, the luckiest observation of the same
trainings, and the best observation of a search that trains every configuration once with the same seed, on as many
trainings.

    symbol     meaning
    truth      mean loss of a configuration over all recorded trainings
    d          distance between the best and the median configuration of the table
    optimism   (truth - reported loss) / d of the configuration that is reported
    regret     (truth - best truth) / d of it
    coverage   share of the 90 % intervals that hold the truth
    verdict    share of confirmations that are right: they hold exactly if the predicted interval holds the truth
    compared   share of comparisons with the baseline whose more probable side is truly better
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers import problems
from benchmarks.optimizers.problems import Problem

CONFIRMATIONS = 10
REPORTED = {  # loss that is reported -> configuration that it is reported of
    "estimate": "estimate",
    "observed mean": "estimate",
    "luckiest": "luckiest",
    "one seed": "one seed",
}


@dataclass(frozen=True)
class Report:
    """What one study reported, in units of d above the best configuration; shares are 0 or 1."""

    problem: str
    seed: int
    optimism: dict[str, float]
    regret: dict[str, float]
    covered: bool
    width: float
    verdict: bool
    compared: bool | None


def objective_of(problem: Problem, seed: int) -> Callable[[hyppo.Replica], float]:
    def train(replica: hyppo.Replica) -> float:
        return problem.resampled(dict(replica.params), seed, replica.index)

    return train


def with_one_seed(problem: Problem, seed: int, trainings: int) -> tuple[float, dict[str, Any]]:
    """The lowest loss of a search that trains each configuration once, with the same seed, and that configuration."""
    study = hyppo.Study(problem.space, seed=seed, replicas=1)
    for _ in range(trainings):
        trial = study.ask()
        study.tell(trial.number, problem.with_seed(trial.params, seed))
    return min(((t.mean, dict(t.params)) for t in study.trials if t.mean is not None), key=lambda pair: pair[0])


def run(problem: Problem, seed: int, trainings: int) -> Report:
    """One study, its confirmation, and the truth about both."""
    study = hyppo.Study(problem.space, objective_of(problem, seed), seed=seed, isolate=False)
    rng = np.random.default_rng([seed, trainings])
    unit = problem.space.spread(rng.random((1, problem.space.dimension)))[0]
    study.enqueue(problem.space.decode(unit), name="baseline")
    study.run(trainings=trainings, progress=False)
    best = study.best
    other = study.trials[0]
    against = "baseline" if best.number != 0 and other.mean is not None else None
    confirmation = study.confirm(CONFIRMATIONS, against=against, progress=False)

    assert problem.samples is not None
    trained = problem.samples[~np.isnan(problem.samples).all(axis=1)]
    means = np.nanmean(trained, axis=1)
    lowest, distance = float(means.min()), float(np.median(means) - means.min())
    firsts = [(r.loss, t.params) for t in study.trials for r in t.replicas if r.loss is not None]
    lucky_loss, lucky = min(firsts, key=lambda pair: pair[0])
    truth, lucky_truth = problem.expected(best.params), problem.expected(lucky)
    single_loss, single = with_one_seed(problem, seed, trainings)
    single_truth = problem.expected(single)
    low, high = best.interval
    holds = low <= truth <= high
    compared = None
    if confirmation.versus is not None:
        better = truth < problem.expected(other.params)
        compared = (confirmation.versus.probability > 0.5) == better
    return Report(
        problem.name,
        seed,
        {
            "estimate": (truth - best.estimate) / distance,
            "observed mean": (truth - best.mean) / distance,
            "luckiest": (lucky_truth - lucky_loss) / distance,
            "one seed": (single_truth - single_loss) / distance,
        },
        {
            "estimate": (truth - lowest) / distance,
            "luckiest": (lucky_truth - lowest) / distance,
            "one seed": (single_truth - lowest) / distance,
        },
        holds,
        (high - low) / distance,
        confirmation.held == holds,
        compared,
    )


def mean_and_error(values: Sequence[float | bool]) -> str:
    """Mean and two standard errors."""
    array = np.asarray(values, dtype=np.float64)
    error = 2.0 * array.std(ddof=1) / math.sqrt(array.size) if array.size > 1 else math.nan
    return f"{array.mean():.3f} ± {error:.3f}"


def table(reports: Sequence[Report]) -> str:
    """The measures of some studies as a Markdown table."""
    compared = [r.compared for r in reports if r.compared is not None]
    lines = [
        "| reported | optimism | regret |",
        "|---|---|---|",
        *(
            f"| {name} | {mean_and_error([r.optimism[name] for r in reports])} | "
            f"{mean_and_error([r.regret[key] for r in reports])} |"
            for name, key in (
                ("estimate", "estimate"),
                ("observed mean", "estimate"),
                *((s, s) for s in ("luckiest", "one seed")),
            )
        ),
        "",
        f"coverage of the 90 % interval {mean_and_error([r.covered for r in reports])}, "
        f"median width {np.median([r.width for r in reports]):.2f} d",
        f"right verdicts of {CONFIRMATIONS} confirmations {mean_and_error([r.verdict for r in reports])}",
        f"right comparisons with the baseline {mean_and_error(compared)}",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--split", choices=["report", "choose"], default="report", help="choose: those on which defaults are chosen"
    )
    parser.add_argument("--problems", default="network*,recorded*", help="patterns, separated by commas")
    parser.add_argument("--out", type=Path, help="JSON file for the single studies")
    given = parser.parse_args(arguments)
    names = problems.names(given.split, pattern=given.problems)
    reports = [
        run(problems.problem(name), seed, given.trainings) for name in names for seed in range(100, 100 + given.seeds)
    ]
    print(f"{len(reports)} studies of {given.trainings} trainings on {len(names)} tables\n")
    print(table(reports))
    if given.out is not None:
        given.out.write_text(json.dumps([asdict(r) for r in reports], indent=1) + "\n")


if __name__ == "__main__":
    main()
