"""Predictions of trained networks and their uncertainty: what a replica keeps, and how replicas are combined.

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

import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo.criterion import ENSEMBLE_LOSS, Spool, loss_of
from hyppo.errors import ObjectiveError, StudyError
from hyppo.stats import LossStats

if TYPE_CHECKING:
    from hyppo.replica import Replica

FILE = "predictions.npz"
WEIGHTS = "weights.*"
UNASKED_BYTES = 1 << 24  # what a replica keeps where nobody asked for predictions: 16 MiB, some 4 million outputs

Leaves = dict[str, np.ndarray[Any, Any]]
Batch = tuple[Any, Iterable[Any], Any]  # prediction, passes, targets (None where they are not known)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Mean and standard deviation of a trial's prediction, shaped as the network's output on the validation data.

    Attributes
    ----------
    mean, std : array, or tuple or dict of arrays where the network's output is one
        mu and sqrt(V), shape (examples, ...).
    targets : as `mean`, or None
        The validation targets, where the training knew them.
    replicas, passes : int
        How many trained networks and how many dropout passes, over all of them, are in it.
    """

    mean: Any
    std: Any
    targets: Any
    replicas: int
    passes: int


def array_of(leaf: Any) -> np.ndarray[Any, Any]:
    """A tensor of any framework as a numpy array; 16-bit floats become 32-bit ones.

    Raises
    ------
    ObjectiveError
        Not numbers.
    """
    if hasattr(leaf, "detach"):  # torch, on any device; numpy knows no bfloat16
        leaf = leaf.detach().cpu()
        leaf = leaf.float() if leaf.is_floating_point() and leaf.element_size() < 4 else leaf
        leaf = leaf.numpy()
    array = np.asarray(leaf)
    if array.dtype == np.float16 or array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufc":
        raise ObjectiveError(
            f"a prediction must be numbers (an array, or a tuple or dict of arrays), not {type(leaf).__name__} "
            f"of dtype {array.dtype}"
        )
    return np.atleast_1d(array)


def flatten(tree: Any, path: str = "") -> Leaves:
    """Arrays of an output by their path: `[0]` in a tuple or list, `.name` in a dict; what is None is left out.

    >>> sorted(flatten({"a": 1.0, "b": (2.0, 3.0)}))
    ['.a', '.b[0]', '.b[1]']
    """
    if tree is None:
        return {}
    if isinstance(tree, Mapping):
        pairs: Iterable[tuple[str, Any]] = ((f"{path}.{key}", value) for key, value in tree.items())
    elif isinstance(tree, tuple) or (isinstance(tree, list) and any(getattr(item, "ndim", 0) for item in tree)):
        pairs = ((f"{path}[{position}]", value) for position, value in enumerate(tree))
    else:
        return {path: array_of(tree)}
    return {name: leaf for path, value in pairs for name, leaf in flatten(value, path).items()}


def unflatten(leaves: Mapping[str, Any]) -> Any:
    """The output again: an array, a tuple, or a dict with string keys.

    >>> unflatten({".a": 1.0, ".b[0]": 2.0, ".b[1]": 3.0})
    {'a': 1.0, 'b': (2.0, 3.0)}
    """
    if not leaves:
        return None
    if "" in leaves:
        return leaves[""]
    branches: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves.items():
        end = min((at for at in (path.find(".", 1), path.find("[", 1)) if at > 0), default=len(path))
        branches.setdefault(path[:end], {})[path[end:]] = leaf
    if all(head.startswith("[") for head in branches):
        return tuple(unflatten(branch) for branch in branches.values())
    return {head[1:]: unflatten(branch) for head, branch in branches.items()}


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

    def save(self, directory: Path) -> Path:
        """Write the arrays into `directory`: the whole file is there, or none is.

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
    """One member of an npz file, batch after batch: numpy's savez would want the whole array, a second time."""
    first = batches[0]
    forms = {(batch.dtype, batch.shape[1:]) for batch in batches}
    if len(forms) > 1:
        seen = ", ".join(sorted(f"{dtype} (..., {str(shape)[1:]}" for dtype, shape in forms))
        raise ObjectiveError(
            f"the {name} of the batches do not fit one below the other ({seen}); the first axis is that of the "
            "examples, in every output, and the rest is the same in every batch"
        )
    shape = (sum(len(batch) for batch in batches), *first.shape[1:]) if first.shape else ()
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for batch in batches:
            member.write(batch.tobytes())


def passes_of(mc_dropout: int) -> int:
    """`mc_dropout` itself.

    Raises
    ------
    StudyError
        Not a number of passes.
    """
    if isinstance(mc_dropout, bool) or not isinstance(mc_dropout, int | np.integer) or mc_dropout < 0:
        raise StudyError(f"mc_dropout is a number of passes, 0 or more, not {mc_dropout!r}")
    return int(mc_dropout)


def asked_for(replica: "Replica", mc_dropout: int, predict: bool | None) -> bool | None:
    """Whether the user wants predictions: True, False, or None where nothing was said.

    A study of the ensemble's loss needs them, whatever the training says.

    Raises
    ------
    StudyError
        A number of passes that cannot be, or passes without predictions.
    """
    passes_of(mc_dropout)
    if mc_dropout and predict is False:
        raise StudyError(f"mc_dropout={mc_dropout} asks for predictions and predict=False for none")
    if replica.target == ENSEMBLE_LOSS and predict is False:
        raise StudyError(
            "the study's target is the ensemble_loss, which is one of predictions: leave out predict=False"
        )
    return True if mc_dropout or replica.target == ENSEMBLE_LOSS else predict


def keep(replica: "Replica", batches: Iterable[Batch], *, asked: bool) -> None:
    """Predict batch by batch and keep what comes in the replica's directory; with a criterion, the losses of it too.

    Where the user asked for predictions, what goes wrong fails the training. Where nobody asked, it must not: a good
    loss is worth more than a prediction that this network does not have, so a notice says what is missing.
    """
    collection = Collection()
    spool = None if replica.criterion is None else Spool(replica.directory)
    try:
        for prediction, passes, targets in batches:
            collection.add(prediction, passes if spool is None else spool.through(passes, flatten), targets)
            if not asked and collection.nbytes > UNASKED_BYTES:
                warnings.warn(
                    f"no predictions are kept: they are over {UNASKED_BYTES >> 20} MiB a replica; "
                    "ask for them with predict=True or mc_dropout=",
                    stacklevel=2,
                )
                return
        if collection.parts:
            collection.save(replica.directory)
        elif asked:
            raise StudyError("predictions were asked for, but there are no validation data to predict")
    except Exception as error:
        if asked:
            raise
        warnings.warn(
            f"no predictions are kept: {type(error).__name__}: {error} "
            "(predict=True makes this an error, predict=False keeps quiet)",
            stacklevel=2,
        )
        return
    if spool is not None and collection.parts:
        replica.losses = _single_losses(replica, collection, spool)
        spool.close()


def _single_losses(replica: "Replica", collection: Collection, spool: Spool) -> LossStats | None:
    """Statistics of the criterion of the trained network's prediction and of each of its passes."""
    assert replica.criterion is not None
    targets = collection.whole("targets")
    if targets is None:
        message = "the criterion needs the validation targets: a batch that is (inputs, targets), or Result(targets=)"
        if replica.target == ENSEMBLE_LOSS:
            raise ObjectiveError(message)
        warnings.warn(f"no losses of the predictions are known: {message}", stacklevel=3)
        return None
    losses = [loss_of(replica.criterion, collection.whole("prediction"), targets)]
    losses += [loss_of(replica.criterion, unflatten(one), targets) for one in spool]
    return LossStats.of(losses)


def combine(directories: Sequence[str | Path], weights: tuple[float, float] = (0.5, 0.5)) -> Predictions:
    """Prediction of a trial from what its replicas kept: exact, and one replica's arrays at a time.

    Parameters
    ----------
    directories : sequence of paths
        Folders of the replicas that count; those that kept no predictions are passed over.
    weights : (w1, w2)
        Of trained networks and of their dropout passes; (1, 0) is used where there are no passes.

    Raises
    ------
    StudyError
        No folder has predictions, or they are not shaped alike.

    Examples
    --------
    >>> import tempfile
    >>> folders = [Path(tempfile.mkdtemp()) for _ in range(2)]
    >>> for folder, value in zip(folders, (1.0, 3.0)):
    ...     kept = Collection()
    ...     kept.add([value])
    ...     _ = kept.save(folder)
    >>> both = combine(folders)
    >>> float(both.mean[0]), float(both.std[0])
    (2.0, 1.0)
    """
    files = [str(file) for folder in directories if (file := Path(folder) / FILE).is_file()]
    if not files:
        raise StudyError(
            f"none of the {len(directories)} replicas kept predictions; train with "
            "HyppoCallback(replica, predict=True) or mc_dropout=, or return hyppo.Result(loss, prediction=...)"
        )
    return _combined({file: partial(np.load, file) for file in files}, weights)


def _combined(
    networks: Mapping[str, Callable[[], AbstractContextManager[Mapping[str, Any]]]], weights: tuple[float, float]
) -> Predictions:
    """Predictions of networks from their arrays, opened one at a time; keys name them in messages."""
    counts: list[int] = []
    paths: list[str] = []
    first, opened = next(iter(networks)), list(networks.values())
    for position, (network, arrays_of) in enumerate(networks.items()):
        with arrays_of() as arrays:
            counts.append(int(arrays["passes"]))
            found = [name.removeprefix("prediction") for name in arrays if name.startswith("prediction")]
            paths = found if position == 0 else paths
            if found != paths:
                raise StudyError(f"the outputs {found} in {network} are not those in {first}, {paths}")
    passes = sum(counts)
    w1, w2 = weights if passes else (1.0, 0.0)

    def parts(path: str) -> Iterator[tuple[float, Any, Any]]:
        """(weight, values, variance within) of every trained network and of every replica's passes."""
        for arrays_of, count in zip(opened, counts, strict=True):
            with arrays_of() as arrays:
                yield w1 / len(opened), arrays["prediction" + path], 0.0
                if count:
                    yield w2 * count / passes, arrays["mean" + path], arrays["variance" + path].astype(np.float64)

    mean: dict[str, Any] = {}
    std: dict[str, Any] = {}
    for path in paths:
        shapes = {values.shape for _, values, _ in parts(path)}
        if len(shapes) > 1:
            raise StudyError(
                f"the replicas' predictions differ in shape: {sorted(shapes)}; "
                "every replica predicts the same validation data"
            )
        mu = sum(weight * values.astype(np.result_type(values, np.float64)) for weight, values, _ in parts(path))
        variance = sum(weight * (within + np.abs(values - mu) ** 2) for weight, values, within in parts(path))
        mean[path], std[path] = mu, np.sqrt(variance)
    with opened[0]() as arrays:
        targets = {name.removeprefix("targets"): arrays[name] for name in arrays if name.startswith("targets")}
    return Predictions(unflatten(mean), unflatten(std), unflatten(targets), len(opened), passes)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The trained networks of a trial, which predict new data together.

    `hyppo_lightning.load_ensemble` and `hyppo_keras.load_ensemble` make one.

    Attributes
    ----------
    networks : tuple
        One a replica, in the order of the replicas.
    forward : callable
        forward(network, data, passes) -> batches of (prediction, passes, targets).
    number : int
    params : dict
        Of the trial.

    Examples
    --------
    >>> both = Ensemble((1.0, 3.0), lambda slope, x, passes: [(slope * np.asarray(x), (), None)], 0, {})
    >>> both.predict([1.0, 2.0]).mean.tolist(), both.predict([1.0, 2.0]).std.tolist()
    ([2.0, 4.0], [1.0, 2.0])
    """

    networks: tuple[Any, ...]
    forward: Callable[[Any, Any, int], Iterable[Batch]]
    number: int
    params: Mapping[str, Any]

    def predict(self, data: Any, mc_dropout: int = 0, weights: tuple[float, float] = (0.5, 0.5)) -> Predictions:
        """Mean and standard deviation on `data`: inputs as an array, or a loader of batches as in training.

        Parameters
        ----------
        data
            Gone through once a network; targets beside the inputs come back as `.targets`.
        mc_dropout : int
            Passes of each network with its dropout layers active.
        weights : (w1, w2)
            Of networks and of their passes.

        Raises
        ------
        StudyError
            Not a number of passes, or no data; `ObjectiveError` where outputs do not fit together.
        """
        passes_of(mc_dropout)
        networks: dict[str, Callable[[], AbstractContextManager[Mapping[str, Any]]]] = {}
        for position, network in enumerate(self.networks):
            collection = Collection()
            for prediction, passes, targets in self.forward(network, data, mc_dropout):
                collection.add(prediction, passes, targets)
            if not collection.parts:
                raise StudyError("no data to predict: give inputs, or a loader to be gone through once a network")
            arrays: dict[str, Any] = {name: np.concatenate(batches) for name, batches in collection.parts.items()}
            networks[f"network {position}"] = partial(_open, arrays | {"passes": collection.passes})
        return _combined(networks, weights)


def _open(arrays: Mapping[str, Any]) -> AbstractContextManager[Mapping[str, Any]]:
    return nullcontext(arrays)


def keep_weights(replica: "Replica", name: str, nbytes: int, save: Callable[[Path], Any], asked: bool | None) -> None:
    """Have `save(path)` write the trained network into the replica's directory: the whole file is there, or none.

    Where nobody asked, they are kept up to `UNASKED_BYTES`, and what goes wrong is a notice.
    """
    if asked is False or (asked is None and nbytes > UNASKED_BYTES):
        return
    part = replica.directory / f"part-{os.getpid()}-{name}"
    try:
        save(part)
        os.replace(part, replica.directory / name)
    except Exception as error:
        if asked:
            raise
        warnings.warn(
            f"the weights are not kept: {type(error).__name__}: {error} (weights=True makes this an error, "
            "weights=False keeps quiet)",
            stacklevel=2,
        )
    finally:
        part.unlink(missing_ok=True)


def weights_in(directory: Path) -> Path | None:
    """The trained network that a replica has left there."""
    return min(directory.glob(WEIGHTS), default=None)


def discard(directory: Path) -> None:
    """Forget what an earlier attempt left, so that predictions, weights and loss are always of one training."""
    for path in (directory / FILE, *directory.glob(WEIGHTS)):
        path.unlink(missing_ok=True)
