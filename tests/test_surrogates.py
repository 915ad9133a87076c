"""Surrogates: theorems, gradients, and an outside implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyppo.errors import SurrogateError
from hyppo.surrogates import ensemble, gp, outputs, rbf, spread
from hyppo.surrogates.base import Prediction


def points(n, D, seed=0):
    return np.random.default_rng(seed).random((n, D))


# -- contract of every surrogate ------------------------------------------------------------------------------------

FITS = {
    "rbf": lambda x, y: rbf.fit(x, y),
    "ensemble": lambda x, y: ensemble.fit(x, y, np.zeros(len(y)), np.random.default_rng(0)),
    "gp": lambda x, y: gp.fit(x, y),
    "gp with noise": lambda x, y: gp.fit(x, y, noise=np.full(len(y), 0.01)),
}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
class TestContract:
    def test_shapes(self, fit):
        model = fit(points(9, 3), np.arange(9.0))
        for q in (0, 1, 5):
            prediction = model.predict(points(q, 3, seed=q))
            assert isinstance(prediction, Prediction)
            assert prediction.mean.shape == prediction.std.shape == (q,)
            assert (prediction.std >= 0.0).all()

    def test_leaves_its_arguments_alone_and_is_frozen(self, fit):
        x, y = points(6, 2), np.arange(6.0)
        kept_x, kept_y = x.copy(), y.copy()
        model = fit(x, y)
        query = points(4, 2, seed=1)
        first = model.predict(query)
        second = model.predict(query)
        np.testing.assert_array_equal(first.mean, second.mean)
        np.testing.assert_array_equal(x, kept_x)
        np.testing.assert_array_equal(y, kept_y)
        with pytest.raises(AttributeError):
            model.x = x

    def test_memory_order_and_dtype_do_not_matter(self, fit):
        x, y = points(8, 3), np.arange(8.0)
        query = points(5, 3, seed=2)
        one = fit(x, y).predict(query).mean
        two = fit(np.asfortranarray(x), y.astype(int)).predict(np.repeat(query, 2, axis=0)[::2]).mean
        np.testing.assert_array_equal(one, two)

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_fewer_points_than_dimensions(self, fit, n):
        prediction = fit(points(n, 6), np.arange(float(n))).predict(points(5, 6, seed=3))
        assert np.isfinite(prediction.mean).all()

    def test_errors_name_the_argument(self, fit):
        with pytest.raises(SurrogateError, match="x: expected finite"):
            fit(np.array([[0.0], [np.nan]]), [0.0, 1.0])
        with pytest.raises(SurrogateError, match="expected finite"):
            fit([[0.0], [1.0]], [0.0, np.inf])
        with pytest.raises(SurrogateError, match="expected points of shape"):
            fit([0.0, 1.0], [0.0, 1.0])
        model = fit(points(4, 2), np.arange(4.0))
        with pytest.raises(SurrogateError, match=r"expected points of shape \(n, 2\)"):
            model.predict(points(3, 3))


# -- radial basis functions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "D"), [(1, 1), (2, 3), (12, 2), (40, 5)])
def test_rbf_interpolates_at_nodes(n, D):
    x, y = points(n, D), np.random.default_rng(1).standard_normal(n)
    np.testing.assert_allclose(rbf.fit(x, y).predict(x).mean, y, atol=2e-6)


def test_rbf_reproduces_linear_functions():
    x, query = points(20, 4), points(30, 4, seed=1) * 3.0 - 1.0
    slope = np.array([1.0, -2.0, 0.5, 3.0])
    np.testing.assert_allclose(rbf.fit(x, x @ slope + 7.0).predict(query).mean, query @ slope + 7.0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10), seed=st.integers(0, 1000))
def test_cubic_rbf_is_invariant_to_shifts_rotations_and_scale(shift, scale, seed):
    generator = np.random.default_rng(seed)
    x, y, query = generator.random((15, 3)), generator.standard_normal(15), generator.random((8, 3))
    rotation, _ = np.linalg.qr(generator.standard_normal((3, 3)))

    def mapped(p):
        return scale * (p @ rotation) + shift

    np.testing.assert_allclose(
        rbf.fit(mapped(x), y).predict(mapped(query)).mean, rbf.fit(x, y).predict(query).mean, rtol=1e-6, atol=1e-6
    )


def test_rbf_is_linear_in_the_outputs_and_shares_its_factor():
    x, query = points(12, 2), points(5, 2, seed=1)
    y = np.random.default_rng(0).standard_normal((12, 3))
    together = rbf.fit(x, y).values(query)
    for m in range(3):
        np.testing.assert_allclose(together[:, m], rbf.fit(x, y[:, m]).predict(query).mean, atol=1e-10)
    np.testing.assert_allclose(rbf.fit(x, y.sum(axis=1)).predict(query).mean, together.sum(axis=1), atol=1e-9)


def test_rbf_agrees_with_scipy():
    from scipy.interpolate import RBFInterpolator

    x, y, query = points(30, 3), np.random.default_rng(0).standard_normal(30), points(10, 3, seed=4)
    ours = rbf.fit(x, y, ridge=0.01).predict(query).mean
    np.testing.assert_allclose(ours, RBFInterpolator(x, y, kernel="cubic", degree=1, smoothing=0.01)(query), atol=1e-8)


def test_rbf_ignores_columns_that_say_nothing():
    """Constant and one-hot columns make the tail's matrix rank-deficient, which must not matter."""
    x, y, query = points(15, 2), np.random.default_rng(0).standard_normal(15), points(5, 2, seed=1)
    constant = rbf.fit(np.hstack([x, np.full((15, 1), 0.3)]), y).predict(np.hstack([query, np.full((5, 1), 0.3)]))
    np.testing.assert_allclose(constant.mean, rbf.fit(x, y).predict(query).mean, atol=1e-8)


def test_rbf_says_which_assumption_failed():
    with pytest.raises(SurrogateError, match="two nodes are equal"):
        rbf.fit([[0.0], [0.5], [0.5], [1.0]], [0.0, 1.0, 2.0, 3.0])
    assert np.isfinite(rbf.fit([[0.0], [0.5], [0.5], [1.0]], [0.0, 1.0, 2.0, 3.0], ridge=1e-3).predict([[0.5]]).mean)
    with pytest.raises(SurrogateError, match="ridge"):
        rbf.fit([[0.0]], [0.0], ridge=-1.0)
    with pytest.raises(SurrogateError, match="at least one"):
        rbf.fit(np.empty((0, 2)), np.empty(0))


# -- ensemble --------------------------------------------------------------------------------------------------------


def test_ensemble_members_take_ends_of_the_interval():
    x, loss, half = points(10, 2), np.arange(10.0), np.full(10, 0.25)
    model = ensemble.fit(x, loss, half, np.random.default_rng(0), members=200)
    at_nodes = model.values(x) - loss[:, None]
    np.testing.assert_allclose(np.unique(at_nodes.round(6)) + 0.0, [-0.5, 0.0, 0.5], atol=1e-6)
    # Over members the three ends are equally likely: std = 2 u sqrt(2/3), within four standard errors of 200 draws
    np.testing.assert_allclose(model.predict(x).std, 0.5 * np.sqrt(2.0 / 3.0), rtol=0.15)


def test_ensemble_without_spread_is_the_interpolant():
    x, y, query = points(10, 2), np.random.default_rng(0).standard_normal(10), points(5, 2, seed=3)
    prediction = ensemble.fit(x, y, np.zeros(10), np.random.default_rng(0)).predict(query)
    np.testing.assert_allclose(prediction.mean, rbf.fit(x, y).predict(query).mean, atol=1e-10)
    np.testing.assert_allclose(prediction.std, 0.0, atol=1e-10)
    with pytest.raises(SurrogateError, match="spread"):
        ensemble.fit(x, y, -np.ones(10), np.random.default_rng(0))
    with pytest.raises(SurrogateError, match="members"):
        ensemble.fit(x, y, np.ones(10), np.random.default_rng(0), members=1)


# -- Gaussian process ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_gp_gradient_equals_finite_differences(known, seed):
    generator = np.random.default_rng(seed)
    x, y = generator.random((14, 4)), generator.standard_normal(14)
    owner = np.array([0, 1, 1, 2])
    hyper = gp.prior(3, known)
    noise = generator.random(14) if known else np.ones(14)
    target = gp.Posterior(x, y, noise, owner, hyper)
    theta = hyper.mean + 0.5 * generator.standard_normal(5)
    _, gradient = target(theta)
    for i in range(theta.size):
        h = np.eye(theta.size)[i] * 1e-5
        difference = (target(theta + h)[0] - target(theta - h)[0]) / 2e-5
        np.testing.assert_allclose(gradient[i], difference, rtol=2e-6, atol=2e-6)


def test_gp_agrees_with_scikit_learn():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    generator = np.random.default_rng(0)
    x, y, query = generator.random((25, 3)), generator.standard_normal(25), generator.random((40, 3))
    noise = generator.random(25) * 0.3 + 0.01
    theta = np.log([0.4, 0.9, 2.0, 1.7, 1.3])
    model = gp.condition(x, y, theta, noise=noise)
    kernel = ConstantKernel(1.7) * Matern(length_scale=[0.4, 0.9, 2.0], nu=2.5)
    outside = GaussianProcessRegressor(kernel, alpha=noise * 1.3 + gp.JITTER, optimizer=None).fit(x, y - model.mu)
    mean, std = outside.predict(query, return_std=True)
    prediction = model.predict(query)
    np.testing.assert_allclose(prediction.mean, mean + model.mu, rtol=1e-9)
    np.testing.assert_allclose(model.predict_mean(query), prediction.mean, rtol=1e-12, atol=1e-12)
    # Beside the process's own variance stands that of its estimated mean.
    matrix = kernel(x) + np.diag(noise * 1.3 + gp.JITTER)
    ones = np.linalg.solve(matrix, np.ones(25))
    assert model.mu == pytest.approx(ones @ y / ones.sum())
    extra = (1.0 - kernel(query, x) @ ones) ** 2 / ones.sum()
    np.testing.assert_allclose(prediction.std, np.sqrt(std**2 + extra), rtol=1e-8)
    evidence = -outside.log_marginal_likelihood_value_ - 0.5 * 25 * np.log(2.0 * np.pi)
    flat = gp.Prior(theta, np.full(5, np.inf), theta - 1, theta + 1)
    assert gp.Posterior(x, y, noise, np.arange(3), flat)(theta)[0] == pytest.approx(evidence, rel=1e-10)


def test_gp_fit_is_a_stationary_point_of_its_posterior():
    generator = np.random.default_rng(3)
    x = generator.random((40, 2))
    y = np.sin(5.0 * x[:, 0]) + 0.1 * generator.standard_normal(40)
    y = (y - y.mean()) / y.std()
    model = gp.fit(x, y, iterations=200)
    hyper = gp.prior(2, known_noise=False)
    _, gradient = gp.Posterior(x, y, np.ones(40), np.arange(2), hyper)(model.theta)
    inside = (model.theta > hyper.low + 1e-6) & (model.theta < hyper.high - 1e-6)
    assert np.abs(gradient[inside]).max() < 0.02
    assert model.lengthscales[1] > 3.0 * model.lengthscales[0]  # the second column says nothing


def test_gp_append_equals_conditioning_on_all():
    generator = np.random.default_rng(1)
    x, y, noise = generator.random((20, 3)), generator.standard_normal(20), generator.random(20)
    theta = np.log([0.5, 0.7, 1.0, 1.2, 0.8])
    whole = gp.condition(x, y, theta, noise=noise)
    part = gp.condition(x[:13], y[:13], theta, noise=noise[:13]).append(x[13:17], y[13:17], noise[13:17])
    part = part.append(x[17:], y[17:], noise[17:])
    query = generator.random((9, 3))
    np.testing.assert_allclose(part.predict(query).mean, whole.predict(query).mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(part.predict(query).std, whole.predict(query).std, rtol=1e-9)
    np.testing.assert_allclose(np.triu(part.factor), np.triu(whole.factor), atol=1e-10)


@pytest.mark.parametrize("deviation", [0.0, 0.05])
def test_gp_at_its_data_is_the_sum_of_process_and_deviation(deviation):
    """Against the joint normal distribution of function and data, which is written out here."""
    x, noise = points(12, 2), np.linspace(0.01, 0.3, 12)
    y = np.sin(5 * x[:, 0]) + 0.3 * np.random.default_rng(1).standard_normal(12)
    theta = [-0.5, 0.3, 0.2, 0.4]
    model = gp.condition(x, y, theta, noise=noise)
    own = noise * np.exp(0.4) + gp.JITTER
    far = np.sqrt(5.0) * np.linalg.norm((x[:, None] - x) / np.exp(theta[:2]), axis=2)
    function = np.exp(0.2) * (1 + far + far**2 / 3) * np.exp(-far) + deviation * np.eye(12)
    inverse = np.linalg.inv(function + np.diag(own))
    precision = inverse.sum()
    centre = inverse.sum(axis=0) @ y / precision
    rest = 1.0 - function @ inverse.sum(axis=1)
    at = model.at_data(deviation)
    np.testing.assert_allclose(at.mean, centre + function @ inverse @ (y - centre), atol=1e-6)
    covariance = function - function @ inverse @ function + np.outer(rest, rest) / precision
    rows = np.array([7, 0, 3])
    np.testing.assert_allclose(at.covariance(rows), covariance[np.ix_(rows, rows)], atol=1e-6)
    np.testing.assert_allclose(at.std(rows), np.sqrt(np.diag(covariance)[rows]), atol=1e-6)
    if deviation == 0.0:
        prediction = model.predict(x)
        np.testing.assert_allclose(at.mean, prediction.mean, atol=1e-7)
        np.testing.assert_allclose(at.std(rows), prediction.std[rows], atol=1e-6)


def test_gp_left_out_points_are_predicted_from_the_others():
    x, y, noise = points(9, 2), np.cos(4 * points(9, 2)[:, 1]), np.linspace(0.01, 0.2, 9)
    model = gp.condition(x, y, [0.1, -0.2, 0.0, 0.0], noise=noise)
    residual, variance = model.leave_one_out(np.arange(9))
    for i in range(9):
        others = np.delete(np.arange(9), i)
        matrix = model._cross(x) + np.diag(model.noise)
        weight = np.linalg.solve(matrix[np.ix_(others, others)], matrix[others, i])
        np.testing.assert_allclose(residual[i], y[i] - model.mu - weight @ (y[others] - model.mu), atol=1e-7)
        np.testing.assert_allclose(variance[i], matrix[i, i] - weight @ matrix[others, i], atol=1e-7)


def test_gp_trusts_points_by_their_noise():
    x, y = np.array([[0.0], [0.5], [1.0]]), np.array([0.0, 1.0, 0.0])
    theta = np.log([0.3, 1.0, 1.0])
    sure = gp.condition(x, y, theta, noise=[1e-6, 1e-6, 1e-6])
    unsure = gp.condition(x, y, theta, noise=[1e-6, 2.0, 1e-6])
    assert sure.predict([[0.5]]).mean[0] == pytest.approx(1.0, abs=1e-3)
    assert unsure.predict([[0.5]]).mean[0] < 0.6
    assert unsure.predict([[0.5]]).std[0] > 10.0 * sure.predict([[0.5]]).std[0]


def test_gp_columns_of_one_parameter_share_a_lengthscale():
    x, y = points(10, 4), np.arange(10.0)
    model = gp.fit(x, y, owner=[0, 0, 0, 1])
    assert model.lengthscales.shape == (2,)
    with pytest.raises(SurrogateError, match="owner"):
        gp.fit(x, y, owner=[0, 0, 2, 2])


def test_gp_warm_start_is_no_worse_and_equal_points_are_survived():
    x, y = points(30, 3), np.sin(points(30, 3).sum(axis=1) * 4.0)
    first = gp.fit(x, y)
    again = gp.fit(x, y, starts=[first.theta])
    target = gp.Posterior(x, y, np.ones(30), np.arange(3), gp.prior(3, known_noise=False))
    assert target(again.theta)[0] <= target(first.theta)[0] + 1e-9
    twice = gp.fit(np.zeros((5, 2)), [0.0, 1.0, 0.5, -1.0, 0.0], noise=np.zeros(5))
    assert np.isfinite(twice.predict([[0.0, 0.0], [1.0, 1.0]]).mean).all()
    with pytest.raises(SurrogateError, match="theta"):
        gp.condition(x, y, [0.0])
    with pytest.raises(SurrogateError, match="noise"):
        gp.fit(x, y, noise=-np.ones(30))


# -- outputs and spread ----------------------------------------------------------------------------------------------


def test_yeo_johnson_agrees_with_scipy():
    from scipy.stats import yeojohnson, yeojohnson_llf

    u = np.concatenate([np.random.default_rng(0).standard_normal(50), [0.0, 6.0, -6.0]])
    for power in (-2.0, -0.5, 0.0, 1.0, 2.0, 2.5):
        np.testing.assert_allclose(outputs.yeo_johnson(u, power), yeojohnson(u, power), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(outputs.yeo_johnson_inverse(outputs.yeo_johnson(u, power), power), u, atol=1e-9)
    skewed = np.exp(np.random.default_rng(1).standard_normal(200))
    fitted = outputs.fit(skewed)
    z = np.clip((skewed - fitted.centre) / fitted.scale, fitted.low, fitted.high)
    at, near = yeojohnson_llf(fitted.power, z), [yeojohnson_llf(fitted.power + h, z) for h in (-0.01, 0.01)]
    assert at >= max(near) - 1e-3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=40),
    st.sampled_from([1e-12, 1.0, 1e12]),
)
def test_outputs_keep_the_order_and_come_back(losses, unit):
    y = np.array(losses) * unit
    fitted = outputs.fit(y)
    t = fitted.forward(y)
    assert np.isfinite(t).all()
    order = np.argsort(y)
    assert (np.diff(t[order]) >= -1e-9).all()
    base = np.log(y) if fitted.logarithm else y
    inside = (
        (y < fitted.ceiling)
        & (fitted.low < (base - fitted.centre) / fitted.scale)
        & ((base - fitted.centre) / fitted.scale < fitted.high)
    )
    np.testing.assert_allclose(fitted.inverse(t)[inside], y[inside], rtol=1e-6, atol=1e-6 * fitted.scale)


def test_outputs_derivative_equals_finite_differences():
    for width in (1.0, 5.0):  # the second spans many decades
        y = np.exp(width * np.random.default_rng(0).standard_normal(30))
        fitted = outputs.fit(y)
        assert fitted.logarithm is (width > 1.0)
        h = 1e-6 * y
        difference = (fitted.forward(y + h) - fitted.forward(y - h)) / (2.0 * h)
        np.testing.assert_allclose(fitted.derivative(y), difference, rtol=1e-5)


@pytest.mark.parametrize("losses", [[], [3.0], [0.0, 0.0], [1e300, -1e300, 5.0], [1e-300, 2e-300], [1e9, 1e9 + 1e-6]])
def test_outputs_of_degenerate_losses_are_finite(losses):
    fitted = outputs.fit(losses)
    assert np.isfinite(fitted.forward(losses)).all()
    assert np.isfinite(fitted.inverse(fitted.forward(losses))).all()


def test_outputs_keep_the_bulk_apart_beside_what_diverged():
    y = np.r_[np.linspace(0.3, 0.5, 20), 1e4, 1e12, 1e300]
    t = outputs.fit(y).forward(y)
    assert np.ptp(t[:20]) > 0.1
    assert (np.diff(t) >= 0.0).all()


def test_merge_equals_statistics_of_all_replicas():
    generator = np.random.default_rng(0)
    groups = [generator.standard_normal(n) for n in (3, 1, 2, 4)]
    names = [b"a", b"b", b"a", b"b"]
    merged = outputs.merge(
        names,
        np.array([g.mean() for g in groups]),
        np.array([g.std(ddof=1) if g.size > 1 else np.nan for g in groups]),
        np.array([g.size for g in groups]),
    )
    np.testing.assert_array_equal(merged.row, [0, 1])
    for k, name in enumerate((b"a", b"b")):
        everything = np.concatenate([g for g, other in zip(groups, names, strict=True) if other == name])
        assert merged.count[k] == everything.size
        assert merged.mean[k] == pytest.approx(everything.mean())
        assert merged.variance[k] == pytest.approx(everything.var(ddof=1))
        assert merged.freedom[k] == everything.size - 1


def test_spread_is_shrunk_towards_the_pool():
    assert spread.shrink(np.array([1.0]), np.array([0.0])) is None
    variance, freedom = np.array([0.0, 0.02, 9.9]), np.array([2.0, 2.0, 0.0])
    pooled = np.exp(spread.level(variance, freedom)[0])
    shrunk = spread.shrink(variance, freedom)
    np.testing.assert_allclose(shrunk, [4.0 * pooled / 6.0, (4.0 * pooled + 2.0 * 0.02) / 6.0, pooled])
    assert 0.002 < pooled < 0.02


def test_the_level_of_the_noise_is_robust():
    generator = np.random.default_rng(0)
    freedom = np.full(30, 3.0)
    variance = 0.01 * generator.chisquare(3.0, 30) / 3.0
    mean, std = spread.level(variance, freedom)
    assert abs(mean - np.log(0.01)) < 3.0 * std < 0.6
    wild = np.append(variance, 1e4)
    assert spread.level(wild, np.append(freedom, 3.0))[0] < mean + 0.5
    # Losses in steps often tie, which says that the noise is small and not that there is none.
    tied, _ = spread.level(np.where(np.arange(30) % 2, variance, 0.0), freedom)
    assert np.log(0.003) < tied < mean
    assert spread.level(np.zeros(2), np.ones(2))[0] > np.log(1e-6)


def test_shrunk_spread_keeps_what_many_replicas_say():
    # Many replicas keep their own.
    assert spread.shrink(np.array([0.0, 4.0]), np.array([1e6, 1e6]))[0] < 1e-4
