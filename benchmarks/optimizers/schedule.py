"""Many races, on several processes, one JSON line each; a race whose line is there is not run again."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.optimizers.peers import OPTIMIZERS
from benchmarks.optimizers.race import Entry, race

# Before numpy is imported in a worker: one compute thread each, or the time of an ask is that of the neighbours.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
SEEDS = {"choose": 1000, "report": 0}  # first seed of a split: runs that choose share no seed with those reported


def entries(
    problems: Iterable[str], optimizers: Sequence[str], split: str, seeds: int, budget: int, pending: int = 1
) -> list[Entry]:
    """All races, seeds outermost: a schedule cut short still has every optimiser on every problem."""
    names = list(problems)
    return [
        Entry(problem, optimizer, SEEDS[split] + seed, budget, pending)
        for seed in range(seeds)
        for problem in names
        for optimizer in optimizers
    ]


def at_equal_trainings(
    problems: Iterable[str],
    optimizers: Sequence[str],
    split: str,
    seeds: int,
    trainings: int,
    replicas: Sequence[int | None],
    pending: int = 1,
) -> list[Entry]:
    """All races at equal trainings; an optimiser that cannot choose its replicas runs with each number given.

    One that always chooses them runs without a number alone.
    """
    names = list(problems)
    return [
        Entry(problem, optimizer, SEEDS[split] + seed, trainings, pending, "trainings", r)
        for seed in range(seeds)
        for problem in names
        for optimizer in optimizers
        for r in replicas
        if OPTIMIZERS[optimizer].module == "study" or OPTIMIZERS[optimizer].replicates is (r is None)
    ]


def read(path: Path) -> list[dict[str, Any]]:
    """Records of a results file; a last line that was torn is left out."""
    if not path.exists():
        return []
    records = []
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines) - 1:
                raise ValueError(f"{path}:{number + 1}: not a JSON record; remove the line and run again") from None
    return records


def entry_of(record: dict[str, Any]) -> Entry:
    fields = ("problem", "optimizer", "seed", "budget", "pending", "unit", "replicas")
    return Entry(**{name: record[name] for name in fields if name in record})


def run(races: Sequence[Entry], path: Path, jobs: int = 1, time_limit: float | None = None, show: bool = True) -> int:
    """Run those races that have no line in `path` yet; returns how many were run.

    Parameters
    ----------
    races : sequence of Entry
    path : Path
        Results, appended to.
    jobs : int
        Processes.
    time_limit : float, optional
        Seconds after which no further race is started.
    """
    done = {entry_of(r) for r in read(path)}
    left = [entry for entry in races if entry not in done]
    if not left:
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        text = path.read_text()
        path.write_text(text[: text.rfind("\n") + 1])
    start = time.monotonic()
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    count = 0
    try:
        # Spawned, not forked: some peers start threads at import.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool, path.open("a") as file:
            pending: set[Future[dict[str, Any]]] = set()
            waiting = iter(left)
            while True:
                over = time_limit is not None and time.monotonic() - start > time_limit
                while not over and len(pending) < 2 * jobs and (entry := next(waiting, None)) is not None:
                    pending.add(pool.submit(race, entry))
                if not pending:
                    break
                future = next(as_completed(pending))
                pending.remove(future)
                record = future.result()
                file.write(json.dumps(record) + "\n")
                file.flush()
                count += 1
                if show:
                    print(f"{count}/{len(left)}  {time.monotonic() - start:6.0f} s  {_line(record)}", flush=True)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
    return count


def _line(record: dict[str, Any]) -> str:
    head = f"{record['optimizer']:<16} {record['problem']:<34} seed {record['seed']}"
    if record["error"]:
        return f"{head}  FAILED: {record['error'].strip().splitlines()[-1]}"
    return f"{head}  {record['final']:.6g}  {1000 * record['ask_seconds']:.0f} ms an ask"
