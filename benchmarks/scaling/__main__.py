"""Commands of the scaling benchmark; each prints its figures and writes them as JSON. See docs/scaling.md.

python -m benchmarks.scaling simulate --groups 1024 --seconds 60 --trials 10000
python -m benchmarks.scaling regret --groups 64 --trials 300 --seeds 16
python -m benchmarks.scaling ranks --ranks 2 3 5 9 --seconds 0.35
python -m benchmarks.scaling hops --ranks 3
python -m benchmarks.scaling batches --ranks 9 --sigma 1
python -m benchmarks.scaling strong --slots 1 2 4 8 16 32
python -m benchmarks.scaling figure scaling.svg
"""

import argparse
import heapq
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scaling import problem
from benchmarks.scaling.simulation import Report, simulate
from hyppo.seeds import seed_for

DEADLINE = 1800.0  # s for one mpiexec


def _write(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _simulated(report: Report) -> str:
    parts = ", ".join(f"{name} {ms:.2f}" for name, ms in report.per_event.items())
    searches = report.spent["searches"]
    lines = [
        f"{report.groups} groups, {report.seconds:g} s trainings (sigma {report.sigma:g}), {report.trials} trials",
        f"  utilisation {report.utilisation:.2%} between start ({report.start:.1f} s) and drain ({report.drain:.1f} s)"
        f", {report.utilisation_in_all:.2%} of {report.elapsed:.1f} s in all",
        f"  asks per virtual second {report.asks_per_second:.2f}, {report.trials / report.spent['ask']:.0f} per second "
        f"of asking; manager ms per training: {parts}",
        f"  losses between ask and training: mean {report.stale_mean:.1f}, at most {report.stale_most}",
        f"  regret of the recommended point {report.regret:.4g}, of the best point tried {report.best_seen:.4g}",
    ]
    for some in np.array_split(np.arange(len(searches)), min(8, len(searches))):
        points = sum(searches[i][1] for i in some)
        seconds = sum(searches[i][2] for i in some)
        lines.append(
            f"  from trial {searches[some[0]][0]:6d}: {len(some)} searches of {points / len(some):.1f} points, "
            f"{seconds / len(some):.3f} s each, {1e3 * seconds / points:.1f} ms a point"
        )
    return "\n".join(lines)


def _simulate(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="hyppo-scaling-") as folder:
        report = simulate(
            given.groups,
            given.seconds,
            given.trials,
            Path(folder) / "study.h5",
            sigma=given.sigma,
            replicas=given.replicas,
            seed=given.seed,
            surrogate=given.surrogate,
        )
    print(_simulated(report))
    _write(given.out, f"simulate-{given.groups}-{given.seconds:g}-{given.trials}", asdict(report))


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of two geometric means, and its interval of two standard errors."""
    logs = [np.log(ours), np.log(theirs)]
    error = math.sqrt(sum(log.var(ddof=1) / log.size for log in logs if log.size > 1))
    ratio = float(np.mean(logs[0]) - np.mean(logs[1]))
    return math.exp(ratio), math.exp(ratio - 2.0 * error), math.exp(ratio + 2.0 * error)


def _regret(given: argparse.Namespace) -> None:
    """Serial, parallel with every loss known at every ask, and parallel as it is: at equal trials."""
    variants = {
        "serial": {"groups": 1, "free": True},
        f"{given.groups} groups, manager free": {"groups": given.groups, "free": True},
        f"{given.groups} groups": {"groups": given.groups, "free": False},
    }
    found: dict[str, list[float]] = {}
    for name, variant in variants.items():
        reports = [
            simulate(variant["groups"], given.seconds, given.trials, None, seed=seed, free=bool(variant["free"]))
            for seed in range(given.seeds)
        ]
        found[name] = [report.regret for report in reports]
        stale = np.mean([report.stale_mean for report in reports]), max(report.stale_most for report in reports)
        mean, low, high = _ratio(found[name], [1.0])
        ratio = _ratio(found[name], found["serial"])
        print(
            f"{name:>28}: regret median {np.median(found[name]):.4f}, geometric mean {mean:.4f} ({low:.4f} to "
            f"{high:.4f}), to serial {ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f}); "
            f"losses between ask and training mean {stale[0]:.1f}, at most {stale[1]}",
            flush=True,
        )
    _write(given.out, f"regret-{given.groups}-{given.seconds:g}-{given.trials}", found)


def _sleep(ranks: int, *arguments: str, module: str = "sleepers") -> dict[str, Any]:
    """One run of sleeping trainings on `ranks` ranks, of which the first asks."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    with tempfile.TemporaryDirectory(prefix="hyppo-scaling-") as folder:
        out = Path(folder) / "out.json"
        command = [str(mpiexec if mpiexec.exists() else "mpiexec"), "-n", str(ranks), sys.executable]
        command += ["-m", f"benchmarks.scaling.{module}", str(out), *arguments]
        subprocess.run(command, check=True, timeout=DEADLINE, env=os.environ)
        report: dict[str, Any] = json.loads(out.read_text())
    return report


def _row(report: dict[str, Any]) -> str:
    ms = {name: 1e3 * seconds for name, seconds in report.items() if name.endswith(("_median", "_p95"))}
    return (
        f"{report['slots']:3d} slots: {report['trainings']} trainings in {report['elapsed_warm']:.1f} s, "
        f"utilisation {report['utilisation']:.1%}, trainings per slot {report['per_slot'][0]}..{report['per_slot'][1]} "
        f"(fairness {report['fairness']:.3f}), stale mean {report['stale_mean']:.1f}, at most {report['stale_most']}\n"
        f"    overhead median {ms['overhead_median']:.1f} ms (p95 {ms['overhead_p95']:.1f}): to start "
        f"{ms['to_start_median']:.1f}, to log {ms['to_log_median']:.1f}; without waits for a search "
        f"{ms['not_searching_median']:.1f}; gap {ms['gap_median']:.1f} ms\n"
        f"    search median {ms['search_median']:.1f} ms, {report['search_share']:.0%} of the time; manager "
        f"{1e3 * report['manager_cpu'] / report['trainings']:.1f} ms of CPU a training"
    )


def _ranks(given: argparse.Namespace) -> None:
    reports = []
    for ranks in given.ranks:
        trials = str(given.trials_per_rank * max(1, ranks - 1))
        options = ["--seconds", str(given.seconds), "--sigma", str(given.sigma), "--surrogate", given.surrogate]
        reports.append(_sleep(ranks, "--trials", trials, *options))
        print(_row(reports[-1]), flush=True)
    _write(given.out, f"ranks-{given.seconds:g}-{given.surrogate}", reports)


def _hops(given: argparse.Namespace) -> None:
    """Time of each step of a replica's way."""
    options = ["--seconds", str(given.seconds), "--trials", str(given.trials)]
    report = _sleep(given.ranks, *options, module="hops")
    print(f"{'ms':>42} {'median':>8} {'mean':>8} {'p90':>8}")
    for name, figures in report.items():
        print(f"{name:>42} " + " ".join(f"{ms:8.2f}" for ms in figures))
    _write(given.out, f"hops-{given.ranks}", report)


def _batches(given: argparse.Namespace) -> None:
    """The same trainings, once as they end and once in batches."""
    options = ["--trials", str(given.trials), "--seconds", str(given.seconds), "--sigma", str(given.sigma)]
    asynchronous = _sleep(given.ranks, *options)
    synchronous = _sleep(given.ranks, *options, "--synchronous")
    print("asynchronous", _row(asynchronous))
    print("synchronous ", _row(synchronous))
    print(f"ratio of times {synchronous['elapsed_warm'] / asynchronous['elapsed_warm']:.2f}")
    _write(given.out, f"batches-{given.ranks}", {"asynchronous": asynchronous, "synchronous": synchronous})


def _strong(given: argparse.Namespace) -> None:
    """The same trainings on more and more slots, as they end and in batches."""
    options = ["--trials", str(given.trials), "--seconds", str(given.seconds), "--sigma", str(given.sigma)]
    reports: dict[str, list[dict[str, Any]]] = {"asynchronous": [], "synchronous": []}
    for name, its in reports.items():
        for slots in given.slots:
            its.append(_sleep(slots + 1, *options, *(["--synchronous"] if name == "synchronous" else [])))
            print(
                f"{name:>12} {slots:3d} slots: speed-up {its[-1]['speedup']:.2f}, {its[-1]['elapsed_warm']:.1f} s",
                flush=True,
            )
    _write(given.out, "strong", reports)


def _unhindered(report: dict[str, Any]) -> float:
    """Speed-up of the same trainings, handed out at no cost: the last ones to end keep it below the slots."""
    seeds = [seed_for(report["seed"], number, 0) for number in range(report["trials"])]
    times = [problem.seconds_of(seed, report["seconds"], report["sigma"]) for seed in seeds]
    ends = [0.0] * report["slots"]
    for seconds in times:
        heapq.heapreplace(ends, ends[0] + seconds)
    return sum(times) / max(ends)


def _figure(given: argparse.Namespace) -> None:
    """Speed-up against slots, from the results of `strong`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    reports = json.loads((given.out / "strong.json").read_text())
    one = reports["asynchronous"][0]
    figure, axes = pyplot.subplots(figsize=(5.0, 4.0), layout="constrained")
    slots = [report["slots"] for report in reports["asynchronous"]]
    axes.plot(slots, slots, "k:", linewidth=1.0, label="ideal: every slot always trains")
    bound = [_unhindered(report) for report in reports["asynchronous"]]
    axes.plot(slots, bound, "k-", linewidth=0.8, label="handed out at no cost")
    axes.plot(slots, [report["speedup"] for report in reports["asynchronous"]], "o-", label="as they end")
    axes.plot(slots, [report["speedup"] for report in reports["synchronous"]], "s--", label="synchronous batches")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set(xlabel="slots", ylabel="speed-up: seconds of training in a second")
    axes.set_title(f"{one['trainings']} trainings of {one['seconds']:g} s, sigma {one['sigma']:g}", fontsize="medium")
    axes.legend(frameon=False)
    figure.savefig(given.file)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/scaling"), help="folder of the JSON files")
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("simulate", help="groups on a virtual clock")
    command.add_argument("--groups", type=int, default=1024)
    command.add_argument("--seconds", type=float, default=60.0)
    command.add_argument("--trials", type=int, default=10_000)
    command.add_argument("--sigma", type=float, default=0.5)
    command.add_argument("--replicas", type=int, default=1)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--surrogate", default="auto")
    command.set_defaults(run=_simulate)

    command = commands.add_parser("regret", help="the cost of the lag of the asks, at equal trials")
    command.add_argument("--groups", type=int, default=64)
    command.add_argument("--seconds", type=float, default=1.0)
    command.add_argument("--trials", type=int, default=300)
    command.add_argument("--seeds", type=int, default=16)
    command.set_defaults(run=_regret)

    command = commands.add_parser("ranks", help="real ranks that sleep: overhead, utilisation, fairness")
    command.add_argument("--ranks", type=int, nargs="+", default=[2, 3, 5, 9, 17, 33, 64])
    command.add_argument("--seconds", type=float, default=0.35)
    command.add_argument("--sigma", type=float, default=0.5)
    command.add_argument("--surrogate", default="auto")
    command.add_argument("--trials-per-rank", type=int, default=40)
    command.set_defaults(run=_ranks)

    command = commands.add_parser("hops", help="the milliseconds of one replica, step by step")
    command.add_argument("--ranks", type=int, default=3)
    command.add_argument("--seconds", type=float, default=0.5)
    command.add_argument("--trials", type=int, default=40)
    command.set_defaults(run=_hops)

    command = commands.add_parser("batches", help="asynchronous against synchronous batches")
    command.add_argument("--ranks", type=int, default=9)
    command.add_argument("--seconds", type=float, default=1.0)
    command.add_argument("--sigma", type=float, default=1.0)
    command.add_argument("--trials", type=int, default=96)
    command.set_defaults(run=_batches)

    command = commands.add_parser("strong", help="the same trainings on more and more slots")
    command.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    command.add_argument("--seconds", type=float, default=0.5)
    command.add_argument("--sigma", type=float, default=1.0)
    command.add_argument("--trials", type=int, default=128)
    command.set_defaults(run=_strong)

    command = commands.add_parser("figure", help="picture of the results of `strong`")
    command.add_argument("file", type=Path)
    command.set_defaults(run=_figure)

    given = parser.parse_args(arguments)
    given.run(given)


if __name__ == "__main__":
    main()
