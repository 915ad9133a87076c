"""Kernels against their references, their own Python, and a spoilt cache."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kernels.registry import REGISTRY
from hyppo._kernels.acquisition import MEET, log_h
from hyppo._kernels.matern import FARTHEST, exp_minus, matern_gradient, matern_matrix, matern_system
from hyppo._kernels.quasi_newton import bounded_step
from hyppo._kernels.rbf import cubic_matrix
from hyppo.surrogates import gp, rbf

NAMES = sorted(REGISTRY)
SIZES = [(7, 5, 3), (1, 1, 1), (0, 4, 2), (33, 40, 12), (3, 0, 2)]


def evaluated(name, arguments, q, n, D, python=False):
    entry = REGISTRY[name]
    out = np.full(entry.shape(q, n, D), 7.5)
    (entry.kernel.py_func if python else entry.kernel)(*arguments, out)
    return np.tril(out) if entry.lower else out


def expected(name, arguments):
    entry = REGISTRY[name]
    value = entry.reference(*arguments)
    return np.tril(value) if entry.lower else value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("q", "n", "D"), SIZES)
def test_equals_reference_and_python(name, q, n, D):
    arguments = REGISTRY[name].arguments(np.random.default_rng(q + n), q, n, D)
    compiled = evaluated(name, arguments, q, n, D)
    np.testing.assert_allclose(compiled, expected(name, arguments), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(compiled, evaluated(name, arguments, q, n, D, python=True), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("weighted_score", "bounded_step", "neighbours")])
def test_nan_goes_where_the_reference_lets_it_go(name):
    q, n, D = 4, 6, 3
    arguments = REGISTRY[name].arguments(np.random.default_rng(1), q, n, D)
    first = arguments[0]
    first.flat[0] = np.nan
    if name == "matern_matrix":
        arguments[1][:] = first.T
    if name == "yeo_johnson_variance":
        arguments[1][0] = np.nan
    compiled = evaluated(name, arguments, q, n, D)
    reference = expected(name, arguments)
    if name in (
        "cubic_matrix",
        "matern_matrix",
        "matern_system",
    ):  # the reference has it on the diagonal too, where the distance is 0
        off = ~np.eye(n, dtype=bool)
        compiled, reference = compiled[off], reference[off]
    assert np.isnan(compiled).any()
    np.testing.assert_allclose(compiled, reference, rtol=1e-10, atol=1e-10)


def test_nan_centre_spoils_every_distance():
    centres = np.array([[0.5], [np.nan], [0.1]])
    out = np.empty(2)
    REGISTRY["min_distance"].kernel(np.array([[0.0], [1.0]]), centres, out)
    assert np.isnan(out).all()


def test_cubic_matrix_leaves_the_border_alone():
    out = np.full((5, 5), 3.0)
    cubic_matrix(np.random.default_rng(0).random((3, 2)), out)
    assert (out[3:] == 3.0).all()
    assert (out[:, 3:] == 3.0).all()


def test_matern_gradient_is_that_of_the_matrix():
    """By finite differences of what the likelihood holds: 1/2 sum_ij W_ij K_ij, W = weights of both triangles."""
    generator = np.random.default_rng(2)
    n, x, owner = 6, generator.random((6, 3)), np.array([0, 1, 1])
    weights, alpha = generator.standard_normal((n, n)), generator.standard_normal(n)
    weights += weights.T

    def total(log_lengthscale):
        out = np.zeros((n, n))
        z = x / np.exp(log_lengthscale[owner])
        matern_matrix(z, np.ascontiguousarray(z.T), 1.7, np.zeros(n), out)
        return 0.5 * np.sum((weights - np.outer(alpha, alpha)) * (np.tril(out) + np.tril(out, -1).T))

    system, zt = np.empty((n, n)), np.ascontiguousarray(x.T)
    matern_system(zt, 1.7, np.zeros(n), system)
    system[np.tril_indices(n)] = weights[np.tril_indices(n)]  # as LAPACK leaves it: its own triangle overwritten
    out = np.empty(2)
    matern_gradient(zt, owner, system, alpha, np.empty((2, n)), out)
    for p in range(2):
        h = np.eye(2)[p] * 1e-5
        np.testing.assert_allclose(out[p], (total(h) - total(-h)) / 2e-5, rtol=1e-7)


def test_bounded_step_holds_what_is_pushed_against_its_bound():
    x, low, high = np.array([0.0, 0.5, 1.0]), np.zeros(3), np.ones(3)
    out = np.empty(6)
    bounded_step(x, np.array([1.0, -0.2, -3.0]), np.eye(3), low, high, 1.0, np.empty((4, 3)), out)
    np.testing.assert_allclose(out, [0.0, 0.7, 1.0, 0.2, -0.04, 0.2], rtol=1e-12)


def test_nothing_compiles_twice():
    """Fronts take any dimension, order and dtype; kernels see one type."""
    for D in (1, 4):
        x = np.asfortranarray(np.random.default_rng(D).random((8, D)))
        y = np.arange(8)
        rbf.fit(x[::2], y[::2]).predict(x.astype(np.float32))
        gp.fit(x[::2], y[::2], iterations=2).predict(np.repeat(x, 2, axis=1)[:, ::2])
    for name in (
        "cubic_matrix",
        "cubic_cross",
        "matern_matrix",
        "matern_cross",
        "matern_system",
        "matern_gradient",
        "bounded_step",
    ):
        assert len(REGISTRY[name].kernel.signatures) == 1, name


def test_kernel_keeps_its_name_and_text():
    for name, entry in REGISTRY.items():
        assert entry.kernel.__name__ == name
        assert "out[" in entry.kernel.__doc__


def test_log_h_is_continuous_where_its_formulas_meet():
    assert log_h(MEET) == pytest.approx(log_h(np.nextafter(MEET, 0.0)), abs=5e-14)


@pytest.mark.parametrize("damage", ["truncate_code", "empty_index", "garbage"])
def test_spoilt_cache_is_survived(tmp_path, damage):
    program = (
        "import numpy as np; from hyppo._kernels.distance import min_distance; out = np.empty(1);"
        "min_distance(np.zeros((1, 2)), np.ones((3, 2)), out); print(float(out[0]))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run():
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    assert run() == pytest.approx(np.sqrt(2.0))
    code, index = sorted(Path(tmp_path).rglob("*.nbc")), sorted(Path(tmp_path).rglob("*.nbi"))
    assert code
    assert index
    for path in code if damage == "truncate_code" else index:
        path.write_bytes(
            {"truncate_code": path.read_bytes()[:200], "empty_index": b"", "garbage": b"\x80not a pickle"}[damage]
        )
    assert run() == pytest.approx(np.sqrt(2.0))


def test_exp_minus():
    s = np.concatenate([np.linspace(0.0, FARTHEST, 2001), [1e-300, 1e-12]])
    np.testing.assert_allclose([exp_minus(v) for v in s], np.exp(-s), rtol=5e-14)
    assert np.isnan(exp_minus(np.nan))
