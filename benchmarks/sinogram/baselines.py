"""Baselines of the networks: splines along the angle that continue from behind at 180 degrees."""

import numpy as np
import numpy.typing as npt

from benchmarks.sinogram.phantoms import FloatArray, half_turn


def interpolate(sinograms: npt.NDArray[np.floating], kept: npt.NDArray[np.bool_], degree: int) -> FloatArray:
    """Fill the missing views of sinograms by a periodic spline over the full turn, one detector at a time.

    Without the wrap the last gap would have one neighbour only, and every network would look better than it is.

    Parameters
    ----------
    sinograms : (..., A, N)
        Views over 180 degrees; the values of missing ones are ignored.
    kept : (A,) bool
        Which views were measured; at least two.
    degree : int
        1 is linear, 3 cubic interpolation.

    Returns
    -------
    (..., A, N) float64, equal to the input at the measured views.

    Raises
    ------
    ValueError
        `kept` does not fit the views, or keeps fewer than two.

    Examples
    --------
    >>> views = np.zeros((4, 4))
    >>> views[0] = [0, 0, 2, 0]
    >>> interpolate(views, np.array([True, False, True, False]), degree=1)[:, 2]
    array([2., 1., 0., 1.])
    """
    from scipy.interpolate import make_interp_spline

    sinograms = np.asarray(sinograms, dtype=np.float64)
    angles = sinograms.shape[-2]
    if kept.shape != (angles,):
        raise ValueError(f"kept must hold one flag for each of the {angles} views, got shape {kept.shape}")
    if kept.sum() < 2:
        raise ValueError(f"at least two measured views are needed to interpolate between them, got {kept.sum()}")
    measured = np.flatnonzero(kept)
    front = sinograms[..., measured, :]
    full = np.concatenate([front, half_turn(front), front[..., :1, :]], axis=-2)
    positions = np.concatenate([measured, measured + angles, measured[:1] + 2 * angles])
    spline = make_interp_spline(positions, full, k=degree, axis=-2, bc_type="periodic" if degree > 1 else None)
    # The turn starts at the first measured view: views before it are those one turn later.
    wanted = np.arange(angles)
    filled: FloatArray = spline(np.where(wanted < measured[0], wanted + 2 * angles, wanted))
    filled[..., measured, :] = front
    return filled
