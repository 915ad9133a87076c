"""Kernels, surrogates and asks against peers and against the machine, on one thread.

    python -m benchmarks.kernels                 # loops, floors, asks, memory, first: some two minutes
    python -m benchmarks.kernels loops           # every kernel beside its reference
    python -m benchmarks.kernels floors          # models beside the limits of the machine
    python -m benchmarks.kernels asks            # ask and tell beside pySOT DYCORS, at n = 50 to 2,000
    python -m benchmarks.kernels memory first    # a fresh process: peak memory, first ask
    python -m benchmarks.kernels models          # beside scipy, scikit-learn and GPyTorch, at n = 50 to 10,000

`--json FILE` keeps the figures too. Peers that are not installed are left out.
"""

import argparse
import importlib.util
import json
import os
from pathlib import Path

from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.kernels import asks, floors, fresh, loops, models
from benchmarks.kernels.clock import Figure, machine_rates, show

SECTIONS = ("loops", "floors", "asks", "memory", "first", "models")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--points", type=int, default=500, help="n of the loops")
    parser.add_argument("--candidates", type=int, default=1000, help="q of the loops")
    parser.add_argument("--columns", type=int, default=10, help="D of the loops")
    parser.add_argument("--sizes", help="n of asks or models: 50,200")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    sections = arguments.sections or [s for s in SECTIONS if s != "models"]
    if unknown := set(sections) - set(SECTIONS):
        parser.error(f"unknown sections {sorted(unknown)}; there are {', '.join(SECTIONS)}")
    sizes = tuple(int(n) for n in arguments.sizes.split(",")) if arguments.sizes else None
    console = Console(width=130)
    figures: dict[str, list[Figure]] = {}
    with threadpool_limits(limits=1):
        rates = machine_rates()
        dgemm, dpotrf, stream = (rates[name] / 1e9 for name in ("dgemm", "dpotrf", "stream"))
        console.print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; one thread, CPU time; "
            f"dgemm {dgemm:.1f} and dpotrf {dpotrf:.1f} Gop/s, stream {stream:.1f} GB/s"
        )
        for section in sections:
            if section == "loops":
                loops.table(arguments.candidates, arguments.points, arguments.columns, console)
            elif section == "floors":
                figures[section] = floors.figures()
                show("Models beside the machine", figures[section], console)
            elif section == "asks":
                if importlib.util.find_spec("pySOT") is None:
                    console.print("asks left out: pySOT is not installed; pip install -e '.[peers]'")
                    continue
                figures[section] = asks.figures(sizes or asks.SIZES)
                show("Ask and tell, ten mixed parameters", figures[section], console)
            elif section == "memory":
                figures[section] = fresh.memory()
                show("Peak memory", figures[section], console)
            elif section == "first":
                figures[section] = fresh.first_asks()
                show("A fresh process", figures[section], console)
            else:
                figures[section] = models.figures(sizes or models.SIZES)
                show("Models beside peers", figures[section], console)
    if arguments.json:
        rows = [{"section": section} | figure.row() for section, found in figures.items() for figure in found]
        arguments.json.write_text(json.dumps({"rates": rates, "figures": rows}, indent=1))


if __name__ == "__main__":
    main()
