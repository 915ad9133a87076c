"""Cost of a fresh process: the first ask, from an empty and from a filled kernel cache, and the memory of asks."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.kernels.clock import Figure

FIRST = """
import json, time
began = time.time()
import hyppo
from benchmarks.kernels.asks import SPACE, known, loss
study = hyppo.Study(SPACE, surrogate=SURROGATE)
for unit in known(50):
    study.add(SPACE.decode(unit), [loss(unit)])
study.ask()
seconds, cpu = time.time() - began, time.process_time()
import numpy as np
from benchmarks.kernels.registry import REGISTRY
from hyppo.surrogates import ensemble, gp, rbf
for columns in (1, 3, 20):
    x = np.asfortranarray(np.random.default_rng(0).random((40, columns)))
    for points in (x, x[::2], x.astype(np.float32), (100 * x).astype(np.int64) + np.arange(40)[:, None]):
        y = np.arange(len(points))
        gp.fit(points, y / len(points), iterations=2).predict(points)
        rbf.fit(points, y, ridge=1e-6).predict(points)
        ensemble.fit(points, y, 0.1 * y, np.random.default_rng(0), ridge=1e-6).predict(points)
most = max(len(entry.kernel.signatures) for entry in REGISTRY.values())
print(json.dumps({"seconds": seconds, "cpu": cpu, "most": most}))
"""

MEMORY = """
import json, re
import hyppo, hyppo.search
from benchmarks.kernels.asks import SPACE, known, loss
from hyppo.surrogates import ensemble, gp, outputs, pool, rbf, spread
from hyppo.acquisition import candidates, expected_improvement, weighted
import threadpoolctl
# Not getrusage: its peak outlives an exec, so a child starts with its parent's.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
units = known(2000)
imports = peak()
study = hyppo.Study(SPACE, seed=0, replicas=REPLICAS)
for unit in units:
    study.add(SPACE.decode(unit), [loss(unit) * (1 + 0.01 * r) for r in range(REPLICAS)])
added = peak()
for _ in range(10):
    trial = study.ask()
    study.tell(trial.number, [loss(SPACE.encode(trial.params)) * (1 + 0.01 * r) for r in range(len(trial.seeds))])
study.best
print(json.dumps({"imports": imports, "trials": added - imports, "asks": peak() - imports}))
"""


def _run(program: str, **environment: str) -> dict[str, Any]:
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | one | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def first_asks() -> list[Figure]:
    """First model-based ask at 50 points, imports included, by the clock and in CPU time."""
    out = []
    for surrogate in ("gp", "rbf"):
        program = FIRST.replace("SURROGATE", repr(surrogate))
        with tempfile.TemporaryDirectory() as folder:
            for cache, bar in (("empty", 15.0), ("filled", 3.0)):
                found = _run(program, NUMBA_CACHE_DIR=folder)
                name = f"first ask, {surrogate}, {cache} cache"
                out.append(Figure(name, 50, found["seconds"], "s", bar=bar))
                out.append(Figure(f"{name}, CPU", 50, found["cpu"], "s", bar=bar))
        out.append(Figure("compiled for how many types, at most", 0, float(found["most"]), "", bar=1.0))
    return out


def memory() -> list[Figure]:
    """Peak resident memory above the imports, at 2,000 points."""
    out = []
    for replicas in (1, 3):
        found = _run(MEMORY.replace("REPLICAS", str(replicas)))
        name = f"{replicas} replica{'s' if replicas > 1 else ''}"
        out.append(Figure(f"the imports, {name}", 2000, found["imports"], "MB"))
        out.append(Figure(f"2,000 trials, above the imports, {name}", 2000, found["trials"], "MB"))
        out.append(
            Figure(f"ten asks and a recommendation, the trials included, {name}", 2000, found["asks"], "MB", bar=120.0)
        )
    return out
