"""Time of the models beside the least that the machine allows: one thread.

    symbol  meaning
    q       candidates
    n       points
    D       columns

The mean of n radial functions at q candidates is a product of the candidates with the points, which gives the
distances, the function of each of them, and a sum. Its floor here is the product of numpy and that function alone,
compiled, over the finished product. A posterior's standard deviation is a triangular solve, q n^2 operations; a
likelihood with its gradient a factor and an inverse, n^3.
"""

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from benchmarks.kernels.clock import Figure, in_turn, machine_rates
from hyppo._kernels.matern import FARTHEST, ROOT5, exp_minus
from hyppo.space import FloatArray
from hyppo.surrogates import gp, rbf

BAR = 1.5
ROWS = 1000  # of the product at a time: as a whole it would not fit into memory


@njit(fastmath={"reassoc", "contract", "arcp", "nsz"})
def cubic(square, out):  # type: ignore[no-untyped-def]
    """out = r^3 of r^2, element by element."""
    for i in range(square.size):
        out[i] = square[i] * math.sqrt(square[i])


@njit(fastmath={"reassoc", "contract", "arcp", "nsz"})
def matern(square, out):  # type: ignore[no-untyped-def]
    """out = c(r) of r^2, element by element."""
    for i in range(square.size):
        s = ROOT5 * math.sqrt(square[i])
        s = FARTHEST if s > FARTHEST else s
        out[i] = (1.0 + s + s * s * (1.0 / 3.0)) * exp_minus(s)


def figures(n: int = 1000, candidates: int = 100_000, columns: int = 10) -> list[Figure]:
    """Means, mean and standard deviation, likelihood and gradient, each beside its floor."""
    generator = np.random.default_rng(0)
    x, query = generator.random((n, columns)), generator.random((candidates, columns))
    y = np.sin(x.sum(axis=1)) + 0.1 * generator.standard_normal(n)
    y = (y - y.mean()) / y.std()
    noise = np.full(n, 0.01)
    theta = gp.cold_start(columns, known_noise=True)
    interpolant, process = rbf.fit(x, y), gp.condition(x, y, theta, noise=noise)
    target = gp.Posterior(x, y, noise, np.arange(columns), gp.prior(columns, known_noise=True))
    block, transposed = np.empty((ROWS, n)), np.ascontiguousarray(x.T)
    transformed = np.empty(block.size)

    def product() -> None:
        for start in range(0, candidates, ROWS):
            np.matmul(query[start : start + ROWS], transposed, out=block[: candidates - start])

    def floor(transform: Callable[[FloatArray, FloatArray], None]) -> Callable[[], None]:
        def run() -> None:
            for start in range(0, candidates, ROWS):
                np.matmul(query[start : start + ROWS], transposed, out=block[: candidates - start])
                transform(block.reshape(-1), transformed)

        return run

    some = query[: min(candidates, 4 * n)]
    seconds = in_turn(
        [
            product,
            floor(cubic),
            lambda: interpolant.predict(query),
            floor(matern),
            lambda: process.predict_mean(query),
            lambda: process.predict(some),
            lambda: target(theta),
        ]
    )
    rates = machine_rates()
    of_product, of_cubic, ours_cubic, of_matern, ours_matern, ours_std, ours_likelihood = (1e3 * s for s in seconds)
    all_of_it = 1e3 * n**3 / rates["dpotrf"]
    std_floor = 1e3 * some.shape[0] * n**2 / rates["dgemm"]
    floor_name = "C @ X.T and the compiled function"
    return [
        Figure("C @ X.T alone", n, of_product, "ms"),
        Figure("rbf mean", n, ours_cubic, "ms", floor_name, of_cubic, BAR),
        Figure("gp mean", n, ours_matern, "ms", floor_name, of_matern, BAR),
        Figure(f"gp mean and std, {some.shape[0]:,}", n, ours_std, "ms", "q n^2 / dgemm rate", std_floor, BAR),
        Figure("gp likelihood and gradient", n, ours_likelihood, "ms", "n^3 / dpotrf rate", all_of_it, BAR),
    ]
