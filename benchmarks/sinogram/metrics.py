"""How good a filled sinogram is, by itself and by the image that is reconstructed from it.

Both are needed: networks that fill sinograms plausibly have been seen to reconstruct badly.
"""

import numpy as np
import numpy.typing as npt

from benchmarks.sinogram.data import Scans, field_of_view, reconstruct, reconstruct_sparse
from benchmarks.sinogram.phantoms import FloatArray

METRICS = ("psnr", "ssim", "nmse", "fbp_psnr", "fbp_ssim")


def squared_error(filled: npt.NDArray[np.floating], scans: Scans) -> float:
    """Mean squared error over the missing views of all scans."""
    missing = ~scans.kept
    return float(np.mean((filled[:, missing].astype(np.float64) - scans.truth[:, missing]) ** 2))


def evaluate(filled: npt.NDArray[np.floating], scans: Scans) -> dict[str, float]:
    """Compare filled sinograms (n, A, N) with the truth; means over the n scans.

    Returns
    -------
    dict
        - `psnr`: dB, over the missing views of a sinogram, against its maximum;
        - `ssim`: of the whole sinogram, structural similarity in [-1, 1];
        - `nmse`: squared error over the missing views, 1 being linear interpolation's;
        - `fbp_psnr`, `fbp_ssim`: of the image after filtered back-projection, PSNR inside the field of view.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    if filled.shape != scans.truth.shape:
        raise ValueError(f"filled sinograms must have the truth's shape {scans.truth.shape}, got {filled.shape}")
    missing = ~scans.kept
    rows = []
    for fill, truth in zip(filled.astype(np.float64), scans.truth.astype(np.float64), strict=True):
        rows.append(
            (
                peak_signal_noise_ratio(truth[missing], fill[missing], data_range=truth.max()),
                structural_similarity(truth, fill, data_range=truth.max()),
            )
        )
    psnr, ssim = np.mean(rows, axis=0)
    return {
        "psnr": float(psnr),
        "ssim": float(ssim),
        "nmse": squared_error(filled, scans) / squared_error(scans.linear, scans),
        **_evaluate_images([reconstruct(fill) for fill in filled], scans),
    }


def evaluate_unfilled(scans: Scans) -> dict[str, float]:
    """`fbp_psnr` and `fbp_ssim` of back-projecting the measured views alone: filling has to be worth it."""
    return _evaluate_images([reconstruct_sparse(views, scans.kept) for views in scans.measured], scans)


def _evaluate_images(images: list[FloatArray], scans: Scans) -> dict[str, float]:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    inside = field_of_view(scans.truth.shape[-1])
    rows = []
    for image, truth in zip(images, scans.images.astype(np.float64), strict=True):
        peak = truth[inside].max()
        rows.append(
            (
                peak_signal_noise_ratio(truth[inside], image[inside], data_range=peak),
                structural_similarity(truth, image, data_range=peak),
            )
        )
    psnr, ssim = np.mean(rows, axis=0)
    return {"fbp_psnr": float(psnr), "fbp_ssim": float(ssim)}
