"""Predictions of trained networks and their uncertainty: the files of a replica, and how replicas are combined.

Notation, elementwise over the validation targets:

======  =====================================================================================
T       replicas, index j
N       Monte-Carlo-dropout passes of a replica, index n; may differ between replicas
f_j     prediction of replica j with dropout off, shape (examples, ...)
f_jn    its n-th pass with dropout on
m_j     mean over n of f_jn
v_j     population variance over n of f_jn
w1, w2  weights of trained networks and of passes, w1 + w2 = 1; w2 = 0 without passes
mu      w1/T sum_j f_j + w2/(T N) sum_jn f_jn
V       w1/T sum_j (f_j - mu)^2 + w2/(T N) sum_jn (f_jn - mu)^2
======  =====================================================================================

A replica keeps f_j, m_j and v_j. From these V is exact, because sum_n (f_jn - mu)^2 = N (v_j + (m_j - mu)^2).
The passes themselves are never kept: running sums take a batch at a time (Welford 1962).

References
----------
Dumont, V., et al. (2021). HYPPO: a surrogate-based multi-level parallelism tool for hyperparameter optimization.
    MLHPC workshop at SC21.
Gal, Y. and Ghahramani, Z. (2016). Dropout as a Bayesian approximation. ICML.
"""

from hyppo.training.predictions.collection import FILE, Batch, Collection, moments
from hyppo.training.predictions.ensemble import Ensemble, Predictions, call_with, combine
from hyppo.training.predictions.kept import (
    UNASKED_BYTES,
    all_unasked,
    asked_for,
    discard,
    keep,
    keep_weights,
    remove,
    unasked_in,
    weights_in,
)
from hyppo.training.predictions.networks import network_does_not_load, networks_of, possible_passes
from hyppo.training.predictions.output import flatten, unflatten

__all__ = [
    "FILE",
    "UNASKED_BYTES",
    "Batch",
    "Collection",
    "Ensemble",
    "Predictions",
    "all_unasked",
    "asked_for",
    "call_with",
    "combine",
    "discard",
    "flatten",
    "keep",
    "keep_weights",
    "moments",
    "network_does_not_load",
    "networks_of",
    "possible_passes",
    "remove",
    "unasked_in",
    "unflatten",
    "weights_in",
]
