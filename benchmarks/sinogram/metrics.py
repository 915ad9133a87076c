"""How good a filled sinogram is, by itself and by the image that is reconstructed from it.

Both are needed: networks that fill sinograms plausibly have been seen to reconstruct badly.
"""

import numpy as np
import numpy.typing as npt

from benchmarks.sinogram.data import Scans, field_of_view, reconstruct

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
        - `fbp_psnr`, `fbp_ssim`: the same after filtered back-projection; PSNR inside the field of view.

    Raises
    ------
    ValueError
        Where the shapes differ.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    if filled.shape != scans.truth.shape:
        raise ValueError(f"filled sinograms must have the truth's shape {scans.truth.shape}, got {filled.shape}")
    missing = ~scans.kept
    inside = field_of_view(scans.truth.shape[-1])
    rows = []
    for fill, truth, image in zip(filled.astype(np.float64), scans.truth.astype(np.float64), scans.images, strict=True):
        back = reconstruct(fill)
        truth_image = image.astype(np.float64)
        image_peak = truth_image[inside].max()
        rows.append(
            (
                peak_signal_noise_ratio(truth[missing], fill[missing], data_range=truth.max()),
                structural_similarity(truth, fill, data_range=truth.max()),
                peak_signal_noise_ratio(truth_image[inside], back[inside], data_range=image_peak),
                structural_similarity(truth_image, back, data_range=image_peak),
            )
        )
    psnr, ssim, fbp_psnr, fbp_ssim = np.mean(rows, axis=0)
    return {
        "psnr": float(psnr),
        "ssim": float(ssim),
        "nmse": squared_error(filled, scans) / squared_error(scans.linear, scans),
        "fbp_psnr": float(fbp_psnr),
        "fbp_ssim": float(fbp_ssim),
    }
