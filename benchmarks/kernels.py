"""Kernels and surrogates against numpy, scipy and scikit-learn, and against the machine.

    python -m benchmarks.kernels [--points 500] [--candidates 1000] [--columns 10]

Three rates of the machine are measured in the same run: dgemm (matrix product), dpotrf (Cholesky) and stream (triad).
A kernel's share is its operations a second (see the registry) of dgemm's; an algebraic step's, of dpotrf's; bytes are
what a kernel must read and write at least. Times are the least of several repeats: noise on a machine only adds.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.linalg import lapack
from threadpoolctl import threadpool_info

from hyppo._kernels.registry import REGISTRY
from hyppo.surrogates import ensemble, gp, rbf


def least_seconds(call: Callable[[], Any], budget: float = 0.3) -> float:
    """Shortest of as many calls as fit into `budget` seconds, three at least."""
    best, spent, calls = np.inf, 0.0, 0
    while calls < 3 or spent < budget:
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        best, spent, calls = min(best, seconds), spent + seconds, calls + 1
    return float(best)


def machine_rates() -> dict[str, float]:
    """dgemm and dpotrf in operations, stream in bytes a second."""
    generator = np.random.default_rng(0)
    a = generator.standard_normal((1000, 1000))
    out = np.empty_like(a)
    spd = np.asfortranarray(a @ a.T + 1000.0 * np.eye(1000))
    b, c = np.ones(8_000_000), np.ones(8_000_000)

    def triad() -> None:
        np.multiply(b, 1.0001, out=c)
        np.add(c, b, out=c)

    return {
        "dgemm": 2.0 * 1000**3 / least_seconds(lambda: np.matmul(a, a, out=out)),
        "dpotrf": 1000**3 / 3.0 / least_seconds(lambda: lapack.dpotrf(spd, lower=0)),
        # multiply reads one array and writes one, add reads two and writes one
        "stream": 5.0 * b.nbytes / least_seconds(triad),
    }


def kernel_rows(q: int, n: int, columns: int, rates: dict[str, float]) -> list[list[str]]:
    rows = []
    for name, entry in REGISTRY.items():
        arguments = entry.arguments(np.random.default_rng(0), q, n, columns)
        out = np.empty(entry.shape(q, n, columns))
        start = time.perf_counter()
        entry.kernel(*arguments, out)
        first = time.perf_counter() - start
        ours = least_seconds(lambda entry=entry, arguments=arguments, out=out: entry.kernel(*arguments, out))  # type: ignore[misc]
        theirs = least_seconds(lambda entry=entry, arguments=arguments: entry.reference(*arguments))  # type: ignore[misc]
        operations = entry.operations(q, n, columns) / ours
        moved = (out.nbytes + sum(a.nbytes for a in arguments if isinstance(a, np.ndarray))) / ours
        rows.append(
            [
                name,
                f"{ours * 1e6:.1f}",
                f"{theirs * 1e6:.1f}",
                f"{theirs / ours:.1f}",
                f"{operations / 1e9:.2f}",
                f"{100.0 * operations / rates['dgemm']:.0f} %",
                f"{100.0 * moved / rates['stream']:.0f} %",
                f"{first:.2f}",
            ]
        )
    return rows


def surrogate_rows(q: int, n: int, columns: int, rates: dict[str, float]) -> list[list[str]]:
    from scipy.interpolate import RBFInterpolator
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    generator = np.random.default_rng(0)
    x, query = generator.random((n, columns)), generator.random((q, columns))
    y = np.sin(x.sum(axis=1)) + 0.1 * generator.standard_normal(n)
    y = (y - y.mean()) / y.std()
    noise = np.full(n, 0.01)
    theta = gp.cold_start(columns, known_noise=True)
    kernel = ConstantKernel(1.0) * Matern(length_scale=np.exp(theta[:-2]), nu=2.5)

    def regressor(**options: Any) -> Any:
        return GaussianProcessRegressor(kernel, alpha=noise, **options)

    interpolant, outside_interpolant = rbf.fit(x, y), RBFInterpolator(x, y, kernel="cubic", degree=1)
    members = ensemble.fit(x, y, np.sqrt(noise), generator)
    process, outside_process = gp.condition(x, y, theta, noise=noise), regressor(optimizer=None).fit(x, y)
    target = gp.Posterior(x, y, noise, np.arange(columns), gp.prior(columns, known_noise=True))
    extra, extra_y, extra_noise = query[:1], y[:1], noise[:1]
    # LU of the interpolation system takes 2/3 n^3; the likelihood n^3/3 + 2/3 n^3; a posterior's std n^2 a candidate.
    cases: list[tuple[str, Callable[[], Any], Callable[[], Any] | None, float]] = [
        ("rbf fit", lambda: rbf.fit(x, y), lambda: RBFInterpolator(x, y, kernel="cubic", degree=1), n**3 * 2 / 3),
        ("rbf predict", lambda: interpolant.predict(query), lambda: outside_interpolant(query), q * n * 3.0 * columns),
        ("ensemble fit", lambda: ensemble.fit(x, y, np.sqrt(noise), generator), None, n**3 * 2 / 3),
        ("ensemble predict", lambda: members.predict(query), None, q * n * (3.0 * columns + 60.0)),
        (
            "gp condition",
            lambda: gp.condition(x, y, theta, noise=noise),
            lambda: regressor(optimizer=None).fit(x, y),
            n**3 / 3,
        ),
        (
            "gp likelihood and gradient",
            lambda: target(theta),
            lambda: outside_process.log_marginal_likelihood(np.log(np.r_[1.0, np.exp(theta[:-2])]), eval_gradient=True),
            float(n**3),
        ),
        (
            "gp predict mean and std",
            lambda: process.predict(query),
            lambda: outside_process.predict(query, return_std=True),
            float(q * n**2),
        ),
        ("gp append one", lambda: process.append(extra, extra_y, extra_noise), None, 2.0 * n**2),
        ("gp fit", lambda: gp.fit(x, y, noise=noise), lambda: regressor().fit(x, y), np.nan),
    ]
    rows = []
    for name, ours_call, theirs_call, operations in cases:
        ours = least_seconds(ours_call)
        theirs = least_seconds(theirs_call) if theirs_call else np.nan
        share = operations / ours / rates["dpotrf"]
        rows.append(
            [
                name,
                f"{ours * 1e3:.2f}",
                f"{theirs * 1e3:.2f}" if np.isfinite(theirs) else "-",
                f"{theirs / ours:.1f}" if np.isfinite(theirs) else "-",
                f"{100.0 * share:.0f} %" if np.isfinite(share) else "-",
            ]
        )
    return rows


def printed(title: str, headings: list[str], rows: list[list[str]], console: Console) -> None:
    table = Table(title=title)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kernels and surrogates against references and the machine.")
    parser.add_argument("--points", type=int, default=500, help="n")
    parser.add_argument("--candidates", type=int, default=1000, help="q")
    parser.add_argument("--columns", type=int, default=10, help="D")
    arguments = parser.parse_args()
    q, n, columns = arguments.candidates, arguments.points, arguments.columns
    console = Console()
    rates = machine_rates()
    threads = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    console.print(
        f"{os.cpu_count()} cores; BLAS threads {threads}, kernels 1 thread; load {os.getloadavg()[0]:.1f}; "
        f"dgemm {rates['dgemm'] / 1e9:.1f} and dpotrf {rates['dpotrf'] / 1e9:.1f} Gop/s, "
        f"stream {rates['stream'] / 1e9:.1f} GB/s; n = {n}, q = {q}, D = {columns}"
    )
    printed(
        "Kernels",
        ["kernel", "us", "reference us", "x", "Gop/s", "of dgemm", "of stream", "first call s"],
        kernel_rows(q, n, columns, rates),
        console,
    )
    printed(
        "Surrogates (reference: scipy's RBFInterpolator, scikit-learn's GaussianProcessRegressor)",
        ["step", "ms", "reference ms", "x", "of dpotrf"],
        surrogate_rows(q, n, columns, rates),
        console,
    )


if __name__ == "__main__":
    main()
