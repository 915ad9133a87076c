"""Noise-aware log expected improvement with pending points.

    symbol    shape   meaning
    f         -       latent score, without the noise
    best      float   least posterior mean of f over the visited points, never a lucky observation
    pending   (p, D)  points that train now

Under noise the improvement is that of the latent function: its standard deviation, not the observation's (Letham et al.
2019 without the outer expectation). Pending points enter as observations at their posterior mean: they reduce the
variance but leave the mean unchanged (Ginsbourger et al. 2010, "kriging believer").
"""

import numpy as np

from hyppo._kernels.acquisition import log_expected_improvement
from hyppo.errors import SurrogateError
from hyppo.space import FloatArray
from hyppo.surrogates.base import FittedModel, Prediction
from hyppo.surrogates.gp import GP


def with_pending(model: GP, pending: FloatArray, noise: float) -> GP:
    """The process as it will know the pending points, (p, D), its mean unchanged; `noise` is the v expected of each."""
    if pending.shape[0] == 0:
        return model
    return model.append(pending, model.predict_mean(pending), np.full(pending.shape[0], noise))


def log_ei(model: FittedModel, x: FloatArray, best: float) -> FloatArray:
    """log EI at x, (q, D) -> (q,).

    Raises
    ------
    SurrogateError
        `best` is not a finite number.
    """
    if not np.isfinite(best):
        raise SurrogateError(f"best: expected a finite number, got {best!r}")
    return log_ei_at(model.predict(x), best)


def log_ei_at(prediction: Prediction, best: float) -> FloatArray:
    """log EI from a known posterior, (q,)."""
    out = np.empty(prediction.mean.size)
    log_expected_improvement(
        np.ascontiguousarray(prediction.mean, dtype=np.float64),
        np.ascontiguousarray(prediction.std, dtype=np.float64),
        float(best),
        out,
    )
    return out
