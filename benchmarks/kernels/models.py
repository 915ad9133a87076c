"""Fit, predict and acquisition beside scipy, scikit-learn and GPyTorch, at n = 50 to 10,000, and beside the machine.

One thread and CPU time; every model has the same data and the same hyperparameters. The machine's limits are n^3 / 3 at
the rate of dpotrf for a factor, n^3 for a likelihood with its gradient, q n^2 at the rate of dgemm for q standard
deviations, all measured in the same run.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.kernels.clock import Figure, least_seconds, machine_rates
from hyppo.acquisition import expected_improvement, weighted
from hyppo.space import FloatArray
from hyppo.surrogates import gp, rbf

COLUMNS = 10
CANDIDATES = 1000
SIZES = (50, 200, 1000, 3000, 10_000)
WITH_GRADIENT = 3000  # likelihoods with gradients up to this n: n^3 takes 20 s at 10,000
INTERPOLATED = 3000  # and systems of interpolation: 2/3 n^3, and twice the memory

Call = Callable[[], Any]


def seconds(call: Call) -> float:
    """CPU time: the least of several calls, or of one that takes more than a second."""
    start = time.process_time()
    call()
    once = time.process_time() - start
    return once if once > 1.0 else min(once, least_seconds(call, budget=0.2, fewest=2))


def gpytorch_calls(x: FloatArray, y: FloatArray, query: FloatArray, scale: float) -> dict[str, Call] | None:
    """GPyTorch by Cholesky factors at every size; None if it is not installed."""
    try:
        import gpytorch
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    inputs, targets, candidates = (torch.from_numpy(a) for a in (x, y, query))

    class Exact(gpytorch.models.ExactGP):  # type: ignore[misc]
        def __init__(self, likelihood: Any) -> None:
            super().__init__(inputs, targets, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(
                gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=x.shape[1])
            )

        def forward(self, where: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(where), self.covar_module(where))

    def made() -> Any:
        likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(noise=torch.full((len(y),), 0.01).double())
        model = Exact(likelihood).double()
        model.covar_module.base_kernel.lengthscale = scale
        model.covar_module.outputscale = 1.0
        return model

    def exactly(call: Call) -> Call:
        def run() -> Any:
            with gpytorch.settings.fast_computations(False, False, False), gpytorch.settings.max_cholesky_size(10**6):
                return call()

        return run

    def predicted(model: Any) -> Any:
        with torch.no_grad():
            posterior = model(candidates)
            return posterior.mean, posterior.variance

    def fitted() -> Any:
        # It factors when it first predicts.
        model = made().eval()
        with torch.no_grad():
            model(candidates[:1])
        return model

    trained = made().train()
    marginal = gpytorch.mlls.ExactMarginalLogLikelihood(trained.likelihood, trained)

    def gradient() -> None:
        trained.zero_grad()
        marginal(trained(inputs), targets).backward()

    ready = exactly(fitted)()
    return {
        "condition": exactly(fitted),
        "likelihood and gradient": exactly(gradient),
        "mean and std": exactly(lambda: predicted(ready)),
    }


def figures(sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """All steps at all sizes."""
    from scipy.interpolate import RBFInterpolator
    from scipy.spatial.distance import cdist
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    rates = machine_rates()
    theta = gp.cold_start(COLUMNS, known_noise=True)
    scale = float(np.exp(theta[0]))
    out: list[Figure] = []

    for n in sizes:
        generator = np.random.default_rng(0)
        x, query = generator.random((n, COLUMNS)), generator.random((CANDIDATES, COLUMNS))
        y = np.sin(x.sum(axis=1)) + 0.1 * generator.standard_normal(n)
        y = (y - y.mean()) / y.std()
        noise = np.full(n, 0.01)
        kernel = ConstantKernel(1.0) * Matern(length_scale=np.full(COLUMNS, scale), nu=2.5)
        regressor = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(x, y)
        process = gp.condition(x, y, theta, noise=noise)
        torch_calls = gpytorch_calls(x, y, query, scale) or {}

        def step(label: str, ours: Call, peers: dict[str, Call], limit: float | None, n: int = n) -> None:
            spent = seconds(ours)
            for name, call in peers.items():
                out.append(Figure(label, n, 1e3 * spent, "ms", name, 1e3 * seconds(call)))
            if limit is not None:
                out.append(Figure(label, n, 1e3 * spent, "ms", "the machine's limit", 1e3 * limit))

        def peers_of(key: str, sklearn: Call, calls: dict[str, Call] = torch_calls) -> dict[str, Call]:
            return {"scikit-learn": sklearn} | ({"GPyTorch": calls[key]} if key in calls else {})

        step(
            "gp: condition",
            lambda x=x, y=y, noise=noise: gp.condition(x, y, theta, noise=noise),  # type: ignore[misc]
            peers_of("condition", lambda r=regressor, x=x, y=y: r.fit(x, y)),  # type: ignore[misc]
            n**3 / 3.0 / rates["dpotrf"],
        )
        if n <= WITH_GRADIENT:
            target = gp.Posterior(x, y, noise, np.arange(COLUMNS), gp.prior(COLUMNS, known_noise=True))
            logs = np.log(np.r_[1.0, np.full(COLUMNS, scale)])
            step(
                "gp: likelihood and gradient",
                lambda target=target: target(theta),  # type: ignore[misc]
                peers_of(
                    "likelihood and gradient",
                    lambda r=regressor, logs=logs: r.log_marginal_likelihood(logs, eval_gradient=True),  # type: ignore[misc]
                ),
                n**3 / rates["dpotrf"],
            )
        step(
            f"gp: mean and std of {CANDIDATES:,}",
            lambda process=process, query=query: process.predict(query),  # type: ignore[misc]
            peers_of("mean and std", lambda r=regressor, query=query: r.predict(query, return_std=True)),  # type: ignore[misc]
            CANDIDATES * n**2 / rates["dgemm"],
        )
        step(
            f"gp: log expected improvement of {CANDIDATES:,}",
            lambda process=process, query=query: expected_improvement.log_ei(process, query, -1.0),  # type: ignore[misc]
            {},
            CANDIDATES * n**2 / rates["dgemm"],
        )
        del process, regressor, torch_calls
        step(
            f"least distances of {CANDIDATES:,}",
            lambda x=x, query=query: weighted.distances(query, x),  # type: ignore[misc]
            {"scipy": lambda x=x, query=query: cdist(query, x).min(axis=1)},  # type: ignore[misc]
            None,
        )
        if n > INTERPOLATED:
            continue
        interpolant, theirs = rbf.fit(x, y), RBFInterpolator(x, y, kernel="cubic", degree=1)
        step(
            "rbf: fit",
            lambda x=x, y=y: rbf.fit(x, y),  # type: ignore[misc]
            {"scipy": lambda x=x, y=y: RBFInterpolator(x, y, kernel="cubic", degree=1)},  # type: ignore[misc]
            n**3 * 2.0 / 3.0 / rates["dpotrf"],
        )
        step(
            f"rbf: mean of {CANDIDATES:,}",
            lambda model=interpolant, query=query: model.predict(query),  # type: ignore[misc]
            {"scipy": lambda model=theirs, query=query: model(query)},  # type: ignore[misc]
            None,
        )
    return out
