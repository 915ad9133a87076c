"""The predictions of one trained network: collected batch by batch, and their file in the replica's folder.

The passes themselves are never kept: running sums take a batch at a time (notation: `hyppo.training.predictions`).
"""

import hashlib
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyppo.errors import ObjectiveError
from hyppo.training.predictions.output import Leaves, flatten, unflatten

FILE = "predictions.npz"

Batch = tuple[Any, Iterable[Any], Any]  # prediction, passes, targets (None if unknown)


def moments(passes: Iterable[Any], like: Leaves) -> tuple[Leaves, Leaves, int]:
    """Mean and population variance over passes by running sums, and their number; two arrays, however many passes.

    Raises
    ------
    ObjectiveError
        A pass is not shaped as the prediction.
    """
    count = 0
    mean: Leaves = {}
    squares: Leaves = {}
    for one in passes:
        leaves = flatten(one)
        if _shapes(leaves) != _shapes(like):
            raise ObjectiveError(
                f"dropout pass {count} has the shapes {_shapes(leaves)}, the prediction {_shapes(like)}; "
                "every pass is an output on the same validation data"
            )
        count += 1
        for path, leaf in leaves.items():
            wide = leaf.astype(np.complex128 if leaf.dtype.kind == "c" else np.float64)
            if count == 1:
                mean[path], squares[path] = wide, np.zeros(wide.shape)
                continue
            step = wide - mean[path]
            mean[path] += step / count
            squares[path] += np.real(step * np.conj(wide - mean[path]))
    return mean, {path: total / count for path, total in squares.items()}, count


def _shapes(leaves: Leaves) -> dict[str, tuple[int, ...]]:
    return {path or "output": leaf.shape for path, leaf in leaves.items()}


def _stored(leaf: np.ndarray[Any, Any], like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Moments of 32-bit outputs are kept in 32 bits: they come from double sums, so this rounds once."""
    single = like.dtype in (np.float32, np.complex64)
    return leaf.astype({"f": np.float32, "c": np.complex64}[leaf.dtype.kind]) if single else leaf


class Collection:
    """Predictions of one trained network, batch by batch; memory beyond the arrays kept is one batch.

    Examples
    --------
    >>> kept = Collection()
    >>> kept.add([1.0, 2.0], passes=[[0.0, 2.0], [2.0, 2.0]])
    >>> kept.passes, float(kept.parts["variance"][0][0])
    (2, 1.0)
    """

    def __init__(self) -> None:
        self.parts: dict[str, list[np.ndarray[Any, Any]]] = {}
        self.passes: int | None = None
        self.nbytes = 0

    def add(self, prediction: Any, passes: Iterable[Any] = (), targets: Any = None) -> None:
        """Take one batch, shapes (examples, ...); `passes` is consumed one at a time.

        Raises
        ------
        ObjectiveError
            Passes of another shape, or another number of them, or an output that is no numbers.
        """
        leaves = flatten(prediction)
        if not leaves:
            raise ObjectiveError("the prediction is None: predict_step must return the network's output")
        mean, variance, count = moments(passes, leaves)
        if self.passes not in (None, count):
            raise ObjectiveError(f"a batch has {count} dropout passes, those before it {self.passes}")
        self.passes = count
        for kind, tree in (
            ("prediction", leaves),
            ("mean", {path: _stored(leaf, leaves[path]) for path, leaf in mean.items()}),
            ("variance", {path: _stored(leaf, leaves[path]) for path, leaf in variance.items()}),
            ("targets", flatten(targets)),
        ):
            for path, leaf in tree.items():
                # a copy: the framework may write the next batch into the same memory
                self.parts.setdefault(kind + path, []).append(leaf.copy())
                self.nbytes += leaf.nbytes

    def whole(self, kind: str) -> Any:
        """The arrays of all batches, as an output: of "prediction", "mean", "variance" or "targets"."""
        return unflatten(
            {name.removeprefix(kind): np.concatenate(b) for name, b in self.parts.items() if name.startswith(kind)}
        )

    def digest(self, kind: str) -> str:
        """Digest of the arrays of all batches, however these are cut; empty if there are none."""
        digest = hashlib.blake2b(digest_size=8)
        found = {name: batches for name, batches in sorted(self.parts.items()) if name.startswith(kind)}
        for name, batches in found.items():
            digest.update(name.encode())
            for batch in batches:
                digest.update(np.ascontiguousarray(batch).data)
        return digest.hexdigest() if found else ""

    def save(self, directory: Path) -> Path:
        """Write the arrays into `directory`, as a whole file or not at all.

        Raises
        ------
        ObjectiveError
            Batches whose outputs do not fit one below the other.
        """
        path = directory / FILE
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    _write(archive, "passes", [np.int64(self.passes or 0)])
                    for name, batches in self.parts.items():
                        _write(archive, name, batches)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return path


def _write(archive: zipfile.ZipFile, name: str, batches: Sequence[Any]) -> None:
    """Write one member of an npz file batch by batch: numpy's savez would need a second copy of the whole array."""
    first = batches[0]
    forms = {(batch.dtype, batch.shape[1:]) for batch in batches}
    if len(forms) > 1:
        seen = ", ".join(sorted(f"{dtype} (..., {str(shape)[1:]}" for dtype, shape in forms))
        raise ObjectiveError(
            f"the batches of `{name}` cannot be concatenated along axis 0 ({seen}): axis 0 is that of the examples in "
            "every output, and the other axes and the dtype must be the same in every batch"
        )
    shape = (sum(len(batch) for batch in batches), *first.shape[1:]) if first.shape else ()
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for batch in batches:
            member.write(batch.tobytes())
