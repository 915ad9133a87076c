"""Data of the benchmark: simulated scans of random phantoms, and of one real CT slice.

A scan keeps every k-th view of the angles. Each view that is kept is noisy (Poisson photon counts behind an object of
transmission exp(-ATTENUATION s)), the truth is noise-free. Training, validation and test phantoms come from three fixed
seeds: they are the data, and stay the same whatever the search is seeded with.

The real slice is `CT_small.dcm`, which ships inside the pydicom wheel (MIT; NEMA WG04 samples, downsized): real
anatomy, but a *simulated* scan of it, parallel-beam and forward projected with scikit-image. The search never sees it.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.sinogram.baselines import interpolate
from benchmarks.sinogram.phantoms import FloatArray, angles_of, field_radius, image_of, random_phantom, sinogram_of

Float32Array = npt.NDArray[np.float32]
Part = Literal["train", "validation", "test", "real"]

PHOTONS = 1e5
ATTENUATION = 4.0
# Brings a sinogram (0 to about 0.5) to the order of 1 for the network.
SCALE = 6.0
SEEDS: dict[Part, int] = {"train": 0, "validation": 1, "test": 2, "real": 3}


@dataclass(frozen=True)
class Setting:
    """Sizes of one benchmark: image width in pixels, views over 180 degrees, every `keep_every`-th of them measured."""

    detectors: int
    angles: int
    keep_every: int
    train: int = 512
    validation: int = 64
    test: int = 64
    # Sinograms that one training sees, whatever its batch size: trainings then differ by their hyperparameters only.
    samples: int = 1536

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """(A,) True if a view is measured."""
        kept: npt.NDArray[np.bool_] = np.arange(self.angles) % self.keep_every == 0
        return kept


SETTINGS = {
    "smoke": Setting(detectors=32, angles=32, keep_every=4),
    "demo": Setting(detectors=64, angles=64, keep_every=8, samples=2048),
}


@dataclass(frozen=True, eq=False)
class Scans:
    """Scans of n objects; all (n, A, N) float32 in line integral over image width, images (n, N, N).

    `measured` is zero if a view is missing; `linear` is `measured` with the gaps interpolated along the angle.
    """

    truth: Float32Array
    measured: Float32Array
    linear: Float32Array
    images: Float32Array
    kept: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def inputs(self) -> Float32Array:
        """Input of the network, (n, 2, A, N): the interpolated sinogram, scaled, and the mask of measured views."""
        mask = np.broadcast_to(self.kept.astype(np.float32)[:, None], self.truth.shape)
        return np.stack([self.linear * np.float32(SCALE), mask], axis=1)

    @property
    def targets(self) -> Float32Array:
        """Target of the network, (n, A, N): the truth, scaled."""
        return self.truth * np.float32(SCALE)


def scan(truth: FloatArray, images: FloatArray, setting: Setting, rng: np.random.Generator) -> Scans:
    """Measure the kept views of noise-free sinograms (n, A, N) with `PHOTONS` photons a detector."""
    counts = rng.poisson(PHOTONS * np.exp(-ATTENUATION * truth))
    noisy = -np.log(np.maximum(counts, 1) / PHOTONS) / ATTENUATION
    measured = np.where(setting.kept[:, None], noisy, 0.0)
    linear = interpolate(measured, setting.kept, degree=1)
    return Scans(
        truth=truth.astype(np.float32),
        measured=measured.astype(np.float32),
        linear=linear.astype(np.float32),
        images=images.astype(np.float32),
        kept=setting.kept,
    )


@lru_cache(maxsize=8)
def scans(setting: Setting, part: Part) -> Scans:
    """Load one part of the data: made once per process, the same in every process.

    Raises
    ------
    ModuleNotFoundError
        The real slice is requested and pydicom is not installed.

    Examples
    --------
    >>> scans(SETTINGS["smoke"], "validation").truth.shape
    (64, 32, 32)
    """
    rng = np.random.default_rng(SEEDS[part])
    if part == "real":
        image = real_slice(setting.detectors)
        return scan(forward_project(image, setting.angles)[None], image[None], setting, rng)
    count = {"train": setting.train, "validation": setting.validation, "test": setting.test}[part]
    phantoms = [random_phantom(rng) for _ in range(count)]
    truth = np.stack([sinogram_of(p, setting.angles, setting.detectors) for p in phantoms])
    # Nobody reconstructs the training phantoms.
    images = np.stack([image_of(p, setting.detectors) for p in phantoms if part != "train"] or [np.zeros((0, 0))])
    return scan(truth, images, setting, rng)


def field_of_view(pixels: int) -> npt.NDArray[np.bool_]:
    """The disc that every view sees, (pixels, pixels)."""
    axis = np.arange(pixels) - pixels // 2
    return np.hypot(axis[:, None], axis[None, :]) <= field_radius(pixels) * pixels / 2


def real_slice(pixels: int) -> FloatArray:
    """The CT slice that comes with pydicom, attenuation relative to water halved, (pixels, pixels) from 0 to 1.4.

    The body is cut off by the scanner's field of view, hence the circular mask. Nothing is downloaded.
    """
    from pydicom import dcmread
    from pydicom.data import get_testdata_file
    from skimage.transform import resize

    path = get_testdata_file("CT_small.dcm", download=False)
    if path is None:
        raise FileNotFoundError("pydicom's CT_small.dcm is missing from its wheel: reinstall pydicom>=3.0")
    dataset = dcmread(str(path))
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    image = np.clip(hounsfield + 1000.0, 0.0, 2800.0) / 2000.0
    resized: FloatArray = resize(image, (pixels, pixels), anti_aliasing=True)
    return resized * field_of_view(pixels)


def forward_project(image: FloatArray, angles: int) -> FloatArray:
    """Project an image (N, N) along `angles` views with scikit-image: (A, N), line integrals over image width."""
    from skimage.transform import radon

    sinogram: FloatArray = radon(image, theta=angles_of(angles), circle=True).T / image.shape[0]
    return sinogram


def reconstruct(sinogram: npt.NDArray[np.floating]) -> FloatArray:
    """Filtered back-projection (ramp filter) of a sinogram (A, N) with scikit-image: an image (N, N)."""
    return reconstruct_sparse(sinogram, np.ones(len(sinogram), dtype=np.bool_))


def reconstruct_sparse(sinogram: npt.NDArray[np.floating], kept: npt.NDArray[np.bool_]) -> FloatArray:
    """Filtered back-projection of the views that were kept, as if there were no others."""
    from skimage.transform import iradon

    views = np.asarray(sinogram[kept], dtype=np.float64).T * sinogram.shape[1]
    image: FloatArray = iradon(views, theta=angles_of(len(kept))[kept], filter_name="ramp", circle=True)
    return image
