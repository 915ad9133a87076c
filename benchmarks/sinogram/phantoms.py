"""Random phantoms of ellipses, and their sinograms in closed form.

    symbol  shape     meaning
    N       -         detectors, and pixels along one side of the image
    A       -         angles over 180 degrees
    E       (e, 6)    ellipses: x, y, a, b, phi, density; lengths in half image widths, phi in radians, y upwards
    t       (N,)      detector positions, (i - N // 2) * 2 / N
    R       -         radius of the field of view, 1 - 1 / N; nothing is seen beyond it
    s       (A, N)    line integral over image width, the content of a sinogram

The geometry is that of `skimage.transform.radon`: the axis of rotation is the centre of pixel N // 2, so the view from
behind is the same view turned around, p(theta + 180, t) = roll(p[::-1], 1). Training data made in closed form comes
from no projector, so no projector's errors can be learned and then undone by the same projector ("inverse crime").

References
----------
Kak, A. C. & Slaney, M. (1988). Principles of Computerized Tomographic Imaging, section 3.1 (projection of an ellipse).
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floating = TypeVar("Floating", bound=np.floating)
FloatArray = npt.NDArray[np.float64]

SUPERSAMPLING = 3


def angles_of(count: int) -> FloatArray:
    """Viewing angles in degrees, evenly over half a turn, (count,)."""
    angles: FloatArray = np.arange(count, dtype=np.float64) * (180.0 / count)
    return angles


def half_turn(views: npt.NDArray[Floating]) -> npt.NDArray[Floating]:
    """The same views from behind, detector axis last: exact on the grid, for N // 2 is the axis of rotation.

    Detector 0 of an even N has no partner inside the field; it takes its own value's, which is air.

    Examples
    --------
    >>> half_turn(np.array([0.0, 1.0, 2.0, 3.0]))
    array([0., 3., 2., 1.])
    """
    mirrored = views[..., ::-1]
    return np.roll(mirrored, 1, axis=-1) if views.shape[-1] % 2 == 0 else mirrored


def field_radius(pixels: int) -> float:
    """R, such that the disc meets the outer edge of the pixels furthest from the axis."""
    return 1.0 - 1.0 / pixels


def random_phantom(rng: np.random.Generator) -> FloatArray:
    """Draw one phantom: a head (bright thin shell), a limb (plain body), or a torso larger than the field of view.

    Within are 3 to 10 ellipses, some of them hollow. Densities are those of `data.real_slice`: 1/2 is water, 1 is bone;
    they add where ellipses overlap.

    Returns
    -------
    (e, 6) float64, see the module's table.

    Examples
    --------
    >>> random_phantom(np.random.default_rng(0)).shape[1]
    6
    """
    kind = rng.choice(["head", "limb", "torso"])
    a, b = rng.uniform(0.9, 1.5, 2) if kind == "torso" else rng.uniform(0.45, 0.9, 2)
    # Off the axis: but for a torso, inside the field of view.
    x, y = rng.uniform(-1.0, 1.0, 2) * (0.3 if kind == "torso" else (0.95 - max(a, b)) / np.sqrt(2.0))
    tilt = rng.uniform(0, np.pi)
    room = 1.0
    tissue = 0.5
    ellipses = [(x, y, a, b, tilt, tissue)]
    if kind == "head":
        room = rng.uniform(0.86, 0.95)
        tissue = rng.uniform(0.15, 0.4)
        ellipses = [(x, y, a, b, tilt, 1.0), (x, y, a * room, b * room, tilt, tissue - 1.0)]
    largest = 0.6 if kind == "torso" else 0.25
    for _ in range(rng.integers(3, 11)):
        p, q = np.exp(rng.uniform(np.log(0.03), np.log(largest), 2))
        # Uniform over the part of the body in which the ellipse's larger axis fits.
        reach = np.sqrt(rng.random()) * (room - max(p, q) / min(a, b))
        turn = rng.uniform(0, 2 * np.pi)
        u, v = reach * a * np.cos(turn), reach * b * np.sin(turn)
        centre = (x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt))
        phi = rng.uniform(0, np.pi)
        # A void cannot hold less than nothing.
        contrast = rng.uniform(0.05, 0.6) * (1.0 if rng.random() < 0.65 else -tissue)
        ellipses.append((*centre, p, q, phi, contrast))
        if rng.random() < 0.3:
            core = rng.uniform(0.5, 0.85)
            ellipses.append((*centre, p * core, q * core, phi, -contrast * rng.uniform(0.5, 1.0)))
    return np.array(ellipses)


def sinogram_of(ellipses: FloatArray, angles: int, detectors: int) -> FloatArray:
    """Sinogram of a sum of ellipses, in closed form, averaged over each detector's width.

    Parameters
    ----------
    ellipses : (e, 6)
        See the module's table.
    angles, detectors : int
        A and N.

    Returns
    -------
    (A, N) float64, line integrals over image width.

    Examples
    --------
    A centred disc of radius 1/2 and density 1: its diameter is half the image width.

    >>> disc = np.array([[0.0, 0.0, 0.5, 0.5, 0.0, 1.0]])
    >>> sinogram_of(disc, angles=4, detectors=64)[:, 32].round(3)
    array([0.5, 0.5, 0.5, 0.5])
    """
    x, y, a, b, phi, density = ellipses.T[:, :, None, None]
    theta = np.deg2rad(angles_of(angles))[None, :, None]
    fine = (np.arange(detectors * SUPERSAMPLING) - SUPERSAMPLING // 2) / SUPERSAMPLING
    t = (fine - detectors // 2) * (2.0 / detectors)
    width2 = (a * np.cos(theta - phi)) ** 2 + (b * np.sin(theta - phi)) ** 2
    offset = t - (x * np.cos(theta) + y * np.sin(theta))
    # The ray runs through the ellipse from middle - half to middle + half, and through the field from -field to field.
    half = a * b * np.sqrt(np.clip(width2 - offset**2, 0.0, None)) / width2
    skew = (a**2 - b**2) * np.sin(theta - phi) * np.cos(theta - phi) / width2
    middle = y * np.cos(theta) - x * np.sin(theta) - offset * skew
    field = np.sqrt(np.clip(field_radius(detectors) ** 2 - t**2, 0.0, None))
    chord = np.clip(np.minimum(middle + half, field) - np.maximum(middle - half, -field), 0.0, None)
    # Lengths are in half widths: / 2 makes them widths.
    total = (density * chord).sum(axis=0) / 2.0
    averaged: FloatArray = total.reshape(angles, detectors, SUPERSAMPLING).mean(axis=2)
    return averaged


def image_of(ellipses: FloatArray, pixels: int) -> FloatArray:
    """Rasterise a phantom: mean density of each pixel, rows downwards, (pixels, pixels).

    Examples
    --------
    >>> disc = np.array([[0.0, 0.0, 0.5, 0.5, 0.0, 1.0]])
    >>> image_of(disc, 8)[4].round(1)
    array([0. , 0. , 0.8, 1. , 1. , 1. , 0.8, 0. ])
    """
    fine = (np.arange(pixels * SUPERSAMPLING) - SUPERSAMPLING // 2) / SUPERSAMPLING
    axis = (fine - pixels // 2) * (2.0 / pixels)
    across, up = axis[None, :], -axis[:, None]
    image = np.zeros((axis.size, axis.size))
    for x, y, a, b, phi, density in ellipses:
        u = (across - x) * np.cos(phi) + (up - y) * np.sin(phi)
        v = -(across - x) * np.sin(phi) + (up - y) * np.cos(phi)
        image += density * ((u / a) ** 2 + (v / b) ** 2 <= 1.0)
    image *= np.hypot(across, up) <= field_radius(pixels)
    averaged: FloatArray = image.reshape(pixels, SUPERSAMPLING, pixels, SUPERSAMPLING).mean(axis=(1, 3))
    return averaged
