"""Replicate or explore: whether the next trainings go to a known point or to a new one.

    symbol  meaning
    m_i     posterior mean of the score at a visited point, transformed scale
    s_i     posterior standard deviation there
    v_i     variance of one more training there
    t_i     s_i^2 / sqrt(s_i^2 + v_i / r): by how much r further trainings move m_i, as a standard deviation
    gap_i   |m_i - min_{j != i} m_j|
    KG_i    t_i h(gap_i / t_i),  h(z) = phi(z) - z Phi(-z)

KG_i is what r further trainings of a point are expected to improve the recommended point's mean by: they can show that
a contender is better than the incumbent, or that the incumbent is worse than the runner-up. A new point's is the same
with its own posterior. The larger gain a training wins: bad points stay at the fewest replicas, the incumbent earns
more until its lead is certain or it has the most. The process is surer of what it has not seen than it should be, which
makes new points look idle: without the cap on the share of further replicas half of all trainings went there, and with
150 trainings the recommendation was no better for it.

References
----------
Frazier, Powell & Dayanik 2009, INFORMS J. Computing 21:599 (knowledge gradient, independent beliefs).
Binois, Huang, Gramacy & Ludkovski 2019, Technometrics 61:7 (replication or exploration).
"""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from hyppo.search.known import Known
from hyppo.search.propose import Proposal
from hyppo.search.threads import on_one_thread
from hyppo.space import FloatArray

SHARE = 1 / 3  # of all trainings that may be further replicas


def knowledge_gradient(gap: FloatArray, movement: FloatArray) -> FloatArray:
    """Expected gain t h(gap / t) of moving a mean by a standard deviation of `movement` across `gap`, (n,) each.

    >>> knowledge_gradient(np.array([0.0, 1.0]), np.array([1.0, 0.0])).round(4)
    array([0.3989, 0.    ])
    """
    t = np.maximum(movement, 1e-12)
    z = gap / t
    return np.asarray(t * np.maximum(np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi) - z * ndtr(-z), 0.0))


@on_one_thread
def contender(known: Known, eligible: npt.NDArray[np.bool_], proposal: Proposal, least: int) -> int | None:
    """Row of the visited point that deserves the next training more than `proposal` does; None where none does.

    Parameters
    ----------
    known : Known
    eligible : (n,) bool array
        Settled trials that may have a further replica.
    proposal : Proposal
        The new point that would be tried instead.
    least : int
        Trainings that a new point costs.
    """
    if not eligible.any() or not known.enough:
        return None
    evidence = known.evidence
    if evidence.noise is None:
        return None
    further = int(np.maximum(evidence.count - least, 0).sum())
    if further + 1 > SHARE * (int(evidence.count.sum()) + 1):
        return None
    model = known.model
    evidence = evidence.at(np.flatnonzero(evidence.settled))
    assert evidence.noise is not None
    visited = model.predict(evidence.x)
    variance = evidence.noise * evidence.count * model.noise_factor
    best_two = np.argsort(visited.mean, kind="stable")[:2]
    others = np.where(np.arange(evidence.n) == best_two[0], visited.mean[best_two[1]], visited.mean[best_two[0]])
    movement = visited.std**2 / np.sqrt(visited.std**2 + variance)
    gain = knowledge_gradient(np.abs(visited.mean - others), movement)
    gain[~eligible[evidence.row]] = -1.0
    at = int(np.argmax(gain))
    new = model.predict(known.space.features(proposal.unit[None]))
    moved = new.std**2 / np.sqrt(new.std**2 + np.median(variance) / least)
    best = float(visited.mean[best_two[0]])
    lead = float(new.mean[0]) - best
    # A new point below the incumbent gains its lead for certain, and what the trainings may still show.
    explore = float(knowledge_gradient(np.array([abs(lead)]), moved)[0]) + max(-lead, 0.0)
    return int(evidence.row[at]) if gain[at] > explore / least else None
