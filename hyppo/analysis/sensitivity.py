"""Which parameters matter: Sobol indices and partial dependence of the fitted surrogate.

    symbol  shape   meaning
    S1      (d,)    first-order index: share of the variance that a parameter explains alone
    ST      (d,)    total-order index: share that involves it, alone or together with others
    S2      (d, d)  second-order index: share of a pair beyond both alone; NaN on and below the diagonal

The surrogate is a Gaussian process of the kind that proposes points, its mean over the space's own measure (every value
of a list equally likely, logarithms for log parameters). The scale is that of the fit: losses after a power transform,
so that a few diverged trainings do not dominate. For it each point counts by the share of the space that is nearest to
it, because the points of a search crowd where losses are low. Estimators are SALib's (Saltelli et al. 2010; Sobol
2001).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo.arguments import one_of, takes_study, whole
from hyppo.errors import StudyError
from hyppo.seeds import Purpose, generator_for
from hyppo.space import FloatArray, IntArray, Space

if TYPE_CHECKING:
    from hyppo.study import Study

MOST_DRAWN = 16  # points drawn for each over which a partial dependence is averaged, to find those that are active


@dataclass(frozen=True)
class Sensitivity:
    """Sobol indices of the fitted surrogate, with 95 % bootstrap half-widths.

    The half-widths are those of the estimator; they do not include the surrogate's own uncertainty.

    Attributes
    ----------
    names : tuple of str
    first, first_width : (d,) arrays
    total, total_width : (d,) arrays
    second, second_width : (d, d) arrays
        NaN on and below the diagonal.
    """

    names: tuple[str, ...]
    first: FloatArray
    first_width: FloatArray
    total: FloatArray
    total_width: FloatArray
    second: FloatArray
    second_width: FloatArray


@dataclass(frozen=True)
class PartialDependence:
    """How the loss goes with one parameter, the others averaged over the part of the space in which it is active.

    Attributes
    ----------
    name : str
    values : list
        Native values of the parameter, in its order.
    mean, low, high : (k,) arrays
        Mean over the others, and the middle 90 % of it, in units of the loss. The mean is taken on the scale of the
        fit, where a few large losses weigh little: it is not the mean of the losses if these are far from normal. (Of
        (1 + a) exp(4 b), from 80 points, it is 30 to 43 % below.)
    unsure_low, unsure_high : (k,) arrays
        90 % interval of the surrogate for the mean, in units of the loss, from the mean of its standard deviation over
        the others: somewhat too wide, since errors at different points partly cancel.
    """

    name: str
    values: list[Any]
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    unsure_low: FloatArray
    unsure_high: FloatArray


@takes_study
def sensitivity(study: "Study", samples: int = 1024) -> Sensitivity:
    """Sobol indices of a study's surrogate.

    Parameters
    ----------
    study : Study
        With at least four trials that have a loss.
    samples : int
        Base samples, a power of two; the surrogate is evaluated at `samples * (2 d + 2)` points.

    Raises
    ------
    StudyError
        Too few trials, constant losses, or SALib is not installed.

    References
    ----------
    Saltelli et al. 2010, Computer Physics Communications 181:259.

    Examples
    --------
    >>> import hyppo
    >>> study = hyppo.Study(hyppo.Space(a=hyppo.Real(0, 1), b=hyppo.Real(0, 1)), surrogate="random", seed=0)
    >>> for _ in range(20):
    ...     trial = study.ask()
    ...     study.tell(trial.number, [10 * trial.params["a"] + trial.params["b"]])
    >>> indices = sensitivity(study, samples=256)
    >>> bool(indices.total[0] > 0.9 > 0.1 > indices.total[1])
    True
    """
    try:
        from SALib.analyze import sobol as analyze
        from SALib.sample import sobol as sample
    except ModuleNotFoundError:
        raise StudyError("sensitivity needs SALib: pip install 'hyppo-uq[report]'") from None
    if samples < 2 or samples & (samples - 1):
        raise StudyError(f"samples: expected a power of two, got {samples!r}")
    space, surface = study.space, study.surface()
    d = space.dimension
    # SALib wants two groups at least: a dummy beside a single parameter, cut off again below.
    names = [*space.names, ""] if d == 1 else list(space.names)
    problem = {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
    uniform = sample.sample(problem, samples, calc_second_order=True, seed=study.seed)
    y = surface.mean(space.spread(uniform[:, :d]))
    if not np.ptp(y) > 0.0:
        raise StudyError("the surrogate is constant over the space: no parameter matters as far as it knows")
    # A seed of 0 means none to SALib: its intervals would come from numpy's global generator.
    found = analyze.analyze(problem, (y - y.mean()) / y.std(), calc_second_order=True, seed=study.seed + 1)
    return Sensitivity(
        space.names,
        np.asarray(found["S1"])[:d],
        np.asarray(found["S1_conf"])[:d],
        np.asarray(found["ST"])[:d],
        np.asarray(found["ST_conf"])[:d],
        np.asarray(found["S2"])[:d, :d],
        np.asarray(found["S2_conf"])[:d, :d],
    )


@takes_study
def partial_dependence(study: "Study", name: str, points: int = 25, samples: int = 512) -> PartialDependence:
    """How a study's surrogate goes with one parameter.

    Parameters
    ----------
    study : Study
        With at least four trials that have a loss.
    name : str
        The parameter.
    points : int
        Values evaluated; all of them if the parameter has fewer.
    samples : int
        Points over which the other parameters are averaged, at most; fewer if the parameter is hardly ever active.

    Raises
    ------
    StudyError
        An unknown name, or too few trials.

    References
    ----------
    Friedman 2001, Annals of Statistics 29:1189.
    """
    space = study.space
    one_of("name", name, space.names)
    points, samples = whole("points", points, least=1), whole("samples", samples, least=1)
    surface = study.surface()
    axis = space.names.index(name)
    parameter = space.parameters[name]
    level = np.unique(np.linspace(0, parameter.levels - 1, min(points, parameter.levels)).astype(np.int64))
    generator = generator_for(study.seed, Purpose.EFFECTS)
    others = space.spread(generator.random((MOST_DRAWN * samples, space.dimension)))
    others = others[_active(space, others, axis)][:samples]
    mean, low, high, unsure_low, unsure_high = np.empty((5, level.size))
    for k, coordinate in enumerate(parameter.unit(level)):
        others[:, axis] = coordinate
        found = surface.predict(others)
        y = found.mean
        half = 1.645 * found.std.mean()
        ends = (*np.quantile(y, [0.05, 0.95]), y.mean() - half, y.mean() + half)
        mean[k], low[k], high[k], unsure_low[k], unsure_high[k] = surface.loss(np.array([y.mean(), *ends]))
    values = [parameter.value(int(i)) for i in level]
    return PartialDependence(name, values, mean, low, high, unsure_low, unsure_high)


def _active(space: Space, unit: FloatArray, axis: int) -> IntArray:
    """Points at which the parameter `axis` is active, (q, d) -> (m,); all if it is so at none."""
    lowest, highest = unit.copy(), unit.copy()
    lowest[:, axis], highest[:, axis] = 0.0, 1.0
    # An inactive parameter has its default at either end.
    active = np.flatnonzero(space.level_of(lowest)[:, axis] != space.level_of(highest)[:, axis])
    return active if active.size else np.arange(unit.shape[0])
