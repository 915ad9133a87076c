"""Run the benchmark: search with N ranks, then evaluate the recommendation on data that the search never saw."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import hyppo
from benchmarks.sinogram.baselines import interpolate
from benchmarks.sinogram.data import SETTINGS, Float32Array, Part, Scans, scans
from benchmarks.sinogram.metrics import METRICS, evaluate, evaluate_unfilled
from hyppo.loop import Session

ROOT = Path(__file__).resolve().parents[2]
# Stop after so many trials, or ask for nothing new after so many seconds; then confirm the recommendation by so many
# trainings with new seeds. Without a number of replicas every trial gets one, and contenders more.
BUDGETS: dict[str, dict[str, int]] = {
    "smoke": {"trials": 12, "replicas": 2},
    "demo": {"time_limit": 270, "confirm": 6},
}
EVALUATED: tuple[Part, ...] = ("validation", "test", "real")
CAPTIONS: dict[Part, str] = {
    "validation": "validation phantoms (the search saw these)",
    "test": "test phantoms (the search never saw these)",
    "real": "real CT slice, simulated scan (the search never saw it)",
}

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
# Lines are not wrapped: paths stay whole.
console = Console(soft_wrap=True)


class Size(StrEnum):
    smoke = "smoke"
    demo = "demo"


class Framework(StrEnum):
    lightning = "lightning"
    keras = "keras"


@app.callback()
def main() -> None:
    """Sinogram inpainting: tune a small U-Net that fills the missing views of sparse CT scans."""


@app.command()
def run(
    size: Annotated[
        Size, typer.Option(help="smoke: 32 x 32, 12 trials x 2, under a minute; demo: 64 x 64, 6 to 7 minutes.")
    ] = Size.smoke,
    ranks: Annotated[
        int, typer.Option(min=1, help="MPI ranks. One of them manages from two on: 3 train two networks at a time.")
    ] = 1,
    framework: Annotated[Framework, typer.Option(help="Framework of the networks.")] = Framework.lightning,
    out: Annotated[Path | None, typer.Option(help="Folder for all results. [default: build/SIZE]")] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the search and the trainings; the data are always the same.")
    ] = 0,
    trials: Annotated[int | None, typer.Option(min=1, help="Stop after so many trials, those done included.")] = None,
    replicas: Annotated[int | None, typer.Option(min=2, help="Trainings of each trial.")] = None,
    time_limit: Annotated[float | None, typer.Option(min=1, help="Ask for nothing new after so many seconds.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the folder's earlier search first.")] = False,
) -> None:
    """Search, evaluate, draw: study.h5, summary.json, report.html and three PNGs in the folder.

    If the folder holds a study, the run goes on with it: --trials counts those done, --time-limit from now. --fresh
    starts anew.

    Each trial is one configuration, trained with several seeds. The recommended configuration is then compared with
    linear and cubic interpolation on phantoms and on a real CT slice that the search never saw.
    """
    began = time.monotonic()
    budget: dict[str, Any] = BUDGETS[size] if trials is None and time_limit is None else {}
    if replicas or "replicas" in BUDGETS[size]:
        budget = {**budget, "replicas": replicas or BUDGETS[size]["replicas"]}
    budget |= {name: given for name, given in {"trials": trials, "time_limit": time_limit}.items() if given}
    folder = out or Path("build") / size
    settle_folder(folder, {"size": size.value, "framework": framework.value, "seed": seed}, fresh)
    code = search(ranks, ["--size", size, "--framework", framework, "--out", str(folder), "--seed", str(seed)], budget)
    searched = time.monotonic() - began
    study = load(folder / "study.h5", code)
    summary = {
        **summarise(study, size, framework, folder),
        "size": size.value,
        "framework": framework.value,
        "ranks": ranks,
        "seed": seed,
        "search_seconds": round(searched, 1),
        "seconds": round(time.monotonic() - began, 1),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    show(summary, folder)
    try:
        hyppo.plots.convergence(study).save(folder / "convergence.png", scale_factor=2)
        hyppo.plots.parameters(study).save(folder / "parameters.png", scale_factor=2)
        console.print(f"Report with all figures: {study.report(folder / 'report.html')}")
    except hyppo.StudyError as error:
        console.print(f"No report: {error}", markup=False)
    raise typer.Exit(code)


def load(path: Path, code: int) -> hyppo.Study:
    """The study of a search, however it ended, if there is something to recommend.

    Raises
    ------
    typer.Exit
        There is nothing to recommend.
    """
    try:
        study = hyppo.load(path)
        _ = study.best
    except hyppo.HyppoError as error:
        console.print(f"Nothing to recommend: {error}.", style="red", markup=False)
        raise typer.Exit(code or 1) from None
    return study


def settle_folder(folder: Path, identity: dict[str, Any], fresh: bool) -> None:
    """Make the folder ready: empty, or with the same search in it to go on with.

    Raises
    ------
    typer.Exit
        The folder holds another search.
    """
    record = folder / "search.json"
    if fresh:
        for leftover in ("study.h5", "study.h5.journal", "search.json", "summary.json", "report.html"):
            (folder / leftover).unlink(missing_ok=True)
        shutil.rmtree(folder / "study.h5.d", ignore_errors=True)
    if record.exists():
        held = json.loads(record.read_text())
        if held != identity:
            console.print(
                f"[red]{folder} holds another search ({_words(held)}; asked for: {_words(identity)}).[/red]\n"
                "Give another --out, or --fresh to delete that search."
            )
            raise typer.Exit(2)
        console.print(f"Going on with the search in {folder} (--fresh starts anew).")
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(identity) + "\n")


def _words(identity: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in identity.items())


def search(ranks: int, arguments: list[str], budget: dict[str, Any]) -> int:
    """Run `benchmarks.sinogram.search`, under MPI from two ranks on; returns its exit code.

    Raises
    ------
    typer.Exit
        The search was interrupted; the exit code is then 130.
    """
    command = [sys.executable, "-m", "benchmarks.sinogram.search", *arguments]
    for name, value in budget.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    if ranks > 1:
        command = [mpiexec(), "-n", str(ranks), *command]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    # Open MPI refuses to run as root, and more ranks than cores, unless told; other MPIs do not know these.
    environment.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
    environment.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    environment.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
    # Each training rank takes its own trial: three replicas do not divide well between two ranks.
    if ranks > 1:
        environment.setdefault("HYPPO_TRIAL_GROUPS", str(ranks - 1))
    process = subprocess.Popen(command, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # The terminal has interrupted the ranks as well; a second Ctrl-C tells them to make haste, not this process.
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
        console.print("Interrupted. All finished trainings are kept: the same command goes on.")
        raise typer.Exit(130) from None
    if code:
        console.print(f"[red]The search ended with code {code}; its message is above.[/red] The same command goes on.")
    return code if 0 <= code < 256 else 1


def mpiexec() -> str:
    """Path of `mpiexec`: this environment's own, else the system's.

    Raises
    ------
    typer.Exit
        There is none.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        console.print(
            "[red]--ranks above 1 needs MPI, and there is no mpiexec.[/red]\n"
            "Install it with pip install 'hyppo-uq[mpi]', or load the cluster's module, or use --ranks 1."
        )
        raise typer.Exit(2)
    return found


def summarise(study: hyppo.Study, size: str, framework: str, folder: Path) -> dict[str, Any]:
    """Evaluate the recommended trial's networks, the very ones whose mean loss recommended it, and draw.

    `network` holds the mean of each metric over the replicas: the average result of one training. `ensemble` is the
    mean of the replicas' predictions, `unfilled` the image from the measured views alone.
    """
    from benchmarks.sinogram import figures

    best = study.best
    setting = SETTINGS[size]
    network = import_module(f"benchmarks.sinogram.network_{framework}")
    directories = [
        Session(study).directory(best.number, replica.index)
        for replica in study.trials[best.number].replicas
        if replica.loss is not None
    ]
    missing = [str(directory) for directory in directories if not (directory / network.WEIGHTS).exists()]
    if missing:
        console.print(f"[red]No weights in {missing[0]}: the folder beside the study file was moved or deleted.[/red]")
        raise typer.Exit(1)
    results: dict[str, Any] = {}
    filled: dict[Part, Float32Array] = {}
    with console.status("Evaluating the recommended configuration ..."):
        for part in EVALUATED:
            data = scans(setting, part)
            filled[part] = np.stack([network.fill(best.params, directory, data, setting) for directory in directories])
            results[part] = compare(filled[part], data)
        phantom = typical(filled["test"], scans(setting, "test"))
        figures.inpainting(
            folder / "inpainting.png",
            {
                "real CT slice": (scans(setting, "real"), 0, filled["real"][:, 0]),
                "test phantom": (scans(setting, "test"), phantom, filled["test"][:, phantom]),
            },
        )
    replicas = [r for t in study.trials for r in t.replicas]
    return {
        "recommended": {
            "trial": best.number,
            "params": best.params,
            "estimate": best.estimate,
            "mean": best.mean,
            "spread": best.spread,
            "replicas": best.replicas,
            "interval": [float(end) if np.isfinite(end) else None for end in best.interval],
            "confirmations": [r.loss for r in study.trials[best.number].confirmations if r.loss is not None],
        },
        **results,
        "trials": sum(trial.state is not hyppo.State.PENDING for trial in study.trials),
        "trainings": sum(r.loss is not None for r in replicas),
        "failed": sum(r.failure is not None for r in replicas),
    }


def compare(filled: Float32Array, data: Scans) -> dict[str, dict[str, float]]:
    """Metrics of a network's replicas (T, n, A, N) and of the baselines on the same scans."""
    single = [evaluate(one, data) for one in filled]
    return {
        "network": {name: float(np.mean([metrics[name] for metrics in single])) for name in METRICS},
        "ensemble": evaluate(filled.mean(axis=0), data),
        "linear": evaluate(data.linear, data),
        "cubic": evaluate(interpolate(data.measured, data.kept, degree=3).astype(np.float32), data),
        "unfilled": evaluate_unfilled(data),
    }


def typical(filled: Float32Array, data: Scans) -> int:
    """Of the half that linear interpolation fills worst, the scan with the median gain: not the network's best."""
    error = ((filled.mean(axis=0) - data.truth) ** 2).mean(axis=(1, 2))
    linear = ((data.linear - data.truth) ** 2).mean(axis=(1, 2))
    hard = np.argsort(linear)[len(linear) // 2 :]
    gain = error[hard] / linear[hard]
    return int(hard[np.argsort(gain)[len(gain) // 2]])


def show(summary: dict[str, Any], folder: Path) -> None:
    """Print the recommendation, and a table for each part of the data."""
    best = summary["recommended"]
    console.print(
        f"\n[bold]Recommended: trial {best['trial']}[/bold] ({summary['trials']} trials finished, "
        f"{summary['trainings']} trainings, {summary['failed']} failed, {summary['search_seconds']:.0f} s)"
    )
    console.print("  " + ", ".join(f"{name} = {_value(value)}" for name, value in best["params"].items()))
    low, high = (10.0**end if end is not None else np.inf for end in best["interval"])
    console.print(
        f"  expected: {10.0 ** best['estimate']:.2f} of linear interpolation's error (90 % interval {low:.2f} to "
        f"{high:.2f}); observed: {10.0 ** best['mean']:.2f}, mean of {best['replicas']} trainings"
    )
    if best["confirmations"]:
        losses = best["confirmations"]
        console.print(f"  confirmed: {10.0 ** np.mean(losses):.2f}, mean of {len(losses)} trainings with new seeds")
    for part in EVALUATED:
        table = Table("filled by", title=CAPTIONS[part], title_justify="left", title_style="bold")
        for heading in ("PSNR (dB)", "SSIM", "error", "image PSNR", "image SSIM"):
            table.add_column(heading, justify="right")
        rows = summary[part]
        unfilled = rows["unfilled"]
        table.add_row("nothing", "", "", "", f"{unfilled['fbp_psnr']:.2f}", f"{unfilled['fbp_ssim']:.3f}")
        for key, label in (
            ("linear", "linear"),
            ("cubic", "cubic"),
            ("network", "one network"),
            ("ensemble", f"mean of {best['replicas']}"),
        ):
            row = rows[key]
            table.add_row(
                label, f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", f"{row['nmse']:.3f}", f"{row['fbp_psnr']:.2f}",
                f"{row['fbp_ssim']:.3f}", style="bold" if key == "network" else None,
            )  # fmt: skip
        console.print(table)
    console.print(f"{folder}: study.h5, summary.json, inpainting.png, convergence.png, parameters.png")
    console.print(f"See also: hyppo show {folder / 'study.h5'}")


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
