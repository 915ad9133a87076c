"""Command line: `python -m benchmarks.optimizers {run,report,list,tabulate}`."""

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.optimizers import problems, schedule
from benchmarks.optimizers.peers import OPTIMIZERS

OUT = Path("build/optimizers/results.jsonl")
QUICK = {"budget": 30, "seeds": 2, "per_family": 2, "optimizers": "hyppo,optuna-tpe,pysot-dycors,random"}


def main(arguments: list[str] | None = None) -> int:
    """Run, report or list; returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.optimizers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the races that have no result yet")
    run.add_argument("--split", choices=["choose", "report"], default="report")
    run.add_argument(
        "--preset", choices=["quick"], help="a few minutes: " + ", ".join(f"{k} {v}" for k, v in QUICK.items())
    )
    run.add_argument("--budget", type=int, default=50, help="evaluations of a race (default 50)")
    run.add_argument(
        "--trainings", type=int, help="trainings of a race: equal trainings instead of --budget evaluations"
    )
    run.add_argument("--replicas", default="1,3", help="trainings of a point of optimisers that do not choose them")
    run.add_argument("--seeds", type=int, default=10, help="races of an optimiser at a problem (default 10)")
    run.add_argument("--optimizers", default="hyppo,optuna-tpe,random", help="names with commas, or 'all'")
    run.add_argument("--per-family", type=int, help="problems of each family (default all)")
    run.add_argument("--problems", default="*", help="patterns with commas, such as 'bbob+*,network/*'")
    run.add_argument("--pending", type=int, default=1, help="points out at a time (default 1: sequential)")
    run.add_argument("--jobs", type=int, default=1, help="processes")
    run.add_argument("--time-limit", type=float, help="seconds after which no race is started")
    run.add_argument("--out", type=Path, default=OUT)
    report = commands.add_parser("report", help="tables and figures of results")
    report.add_argument("results", type=Path, nargs="?", default=OUT)
    report.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    report.add_argument("--figures", type=Path, help="folder (default: beside the page, named after it)")
    listing = commands.add_parser("list", help="problems and optimisers")
    listing.add_argument("--split", choices=["choose", "report"], default="report")
    listing.add_argument("--per-family", type=int)
    tabulate = commands.add_parser("tabulate", help="train the networks that the tables are of, again")
    tabulate.add_argument("tables", nargs="*", help="default: all")
    options = parser.parse_args(arguments)
    return {"run": _run, "report": _report, "list": _list, "tabulate": _tabulate}[options.command](options)


def _run(options: argparse.Namespace) -> int:
    if options.preset == "quick":
        vars(options).update(QUICK)
    wanted = list(OPTIMIZERS) if options.optimizers == "all" else options.optimizers.split(",")
    unknown = [o for o in wanted if o not in OPTIMIZERS]
    if unknown:
        print(f"--optimizers: {unknown} unknown; there are {list(OPTIMIZERS)}", file=sys.stderr)
        return 2
    absent = {o: missing for o in wanted if (missing := OPTIMIZERS[o].absent()) is not None}
    for o, missing in absent.items():
        print(f"{o} left out: {missing} is not installed")
    if problems.missing():
        print(problems.missing())
    names = problems.names(options.split, options.per_family, options.problems)
    present = [o for o in wanted if o not in absent]
    if options.trainings:
        replicas = [None, *map(int, options.replicas.split(","))]
        races = schedule.at_equal_trainings(
            names, present, options.split, options.seeds, options.trainings, replicas, options.pending
        )
    else:
        races = schedule.entries(names, present, options.split, options.seeds, options.budget, options.pending)
    schedule.run(races, options.out, options.jobs, options.time_limit)
    return 0


def _report(options: argparse.Namespace) -> int:
    from benchmarks.optimizers.reference import reference
    from benchmarks.optimizers.report import report

    figures = options.figures or options.page.with_suffix("")
    folder = options.results.parent / "reference"
    print(report(schedule.read(options.results), options.page, figures, partial(reference, folder=folder)))
    return 0


def _list(options: argparse.Namespace) -> int:
    for name in problems.names(options.split, options.per_family):
        p = problems.problem(name)
        print(f"{name:<36} {p.family:<18} {p.space.dimension:>2} parameters, {p.replicas} replicas")
    for name, optimizer in OPTIMIZERS.items():
        absent = optimizer.absent()
        print(
            f"{name:<20} "
            + (f"absent: needs {absent}" if absent else f"{optimizer.distribution} {optimizer.version()}")
        )
    return 0


def _tabulate(options: argparse.Namespace) -> int:
    from benchmarks.optimizers.tabulate import TABLES, tabulate

    for name in options.tables or TABLES:
        tabulate(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
