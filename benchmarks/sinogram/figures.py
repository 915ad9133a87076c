"""The picture of a finished search: scans filled by the recommended network, and the images made of them."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt

from benchmarks.sinogram.data import Float32Array, Scans, field_of_view, reconstruct, reconstruct_sparse

STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
}


def inpainting(path: Path, rows: dict[str, tuple[Scans, int, Float32Array]]) -> None:
    """Draw scans with their gaps, how they were filled, and the images reconstructed from them.

    Parameters
    ----------
    path : Path
        PNG to write.
    rows : dict
        Title -> (scans, which of them, (T, A, N) sinograms filled by T replicas of the network). Each takes two rows.
    """
    replicas = max(len(filled) for _, _, filled in rows.values())
    titles = ["measured", "linear interpolation", f"mean of {replicas} networks", "their spread", "truth"]
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(
            2 * len(rows), len(titles), figsize=(7.2, 3.05 * len(rows) + 0.3), layout="constrained", squeeze=False
        )
        for block, (title, (part, index, filled)) in enumerate(rows.items()):
            truth, linear = part.truth[index], part.linear[index]
            views = [part.measured[index], linear, filled.mean(axis=0), _spread(filled), truth]
            back = [reconstruct(f) for f in filled]
            # The measured views alone, as a baseline of the filled ones.
            sparse = reconstruct_sparse(part.measured[index], part.kept)
            images = [sparse, reconstruct(linear), reconstruct(views[2]), _spread(np.stack(back))]
            images.append(part.images[index].astype(np.float64))
            sinogram_peak, image_peak = float(truth.max()), float(part.images[index].max())
            above, below = axes[2 * block], axes[2 * block + 1]
            for column, (upper, lower) in enumerate(zip(above, below, strict=True)):
                shown = views[column]
                if column == 0:
                    shown = np.where(part.kept[:, None], shown, np.nan)
                if column == 3:
                    # Errors are small beside the signal: a scale of their own, stated below the picture.
                    upper.imshow(shown, cmap="magma", vmin=0, vmax=0.1 * sinogram_peak, aspect="auto")
                    lower.imshow(images[column], cmap="magma", vmin=0, vmax=0.1 * image_peak)
                    upper.set_xlabel("scale × 10", labelpad=2)
                    lower.set_xlabel("scale × 10", labelpad=2)
                else:
                    picture = upper.imshow(shown, cmap="gray", vmin=0, vmax=sinogram_peak, aspect="auto")
                    picture.cmap.set_bad("#35506e")
                    lower.imshow(images[column], cmap="gray", vmin=0, vmax=image_peak)
                if column in (1, 2):
                    upper.set_xlabel(f"{_psnr(truth, views[column], ~part.kept):.1f} dB", labelpad=2)
                if column in (0, 1, 2):
                    inside = field_of_view(truth.shape[1])
                    lower.set_xlabel(f"{_psnr(part.images[index], images[column], inside):.1f} dB", labelpad=2)
                if block == 0:
                    upper.set_title(titles[column])
                for axis in (upper, lower):
                    axis.set(xticks=[], yticks=[])
                    axis.set_box_aspect(1)
                    for spine in axis.spines.values():
                        spine.set_visible(False)
            above[0].set_ylabel(f"{title}\nsinogram (angle ↓)")
            below[0].set_ylabel("reconstruction\n(filtered back-projection)")
        figure.savefig(path)
        plt.close(figure)


def _spread(pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Standard deviation over replicas (T, ...); nothing can be said of one, and nothing is drawn."""
    spread: npt.NDArray[Any] = pictures.std(axis=0, ddof=1) if len(pictures) > 1 else np.zeros_like(pictures[0])
    return spread


def _psnr(truth: npt.NDArray[Any], other: npt.NDArray[Any], where: npt.NDArray[np.bool_]) -> float:
    from skimage.metrics import peak_signal_noise_ratio

    reference = truth.astype(np.float64)
    return float(peak_signal_noise_ratio(reference[where], other[where].astype(np.float64), data_range=reference.max()))
