"""The combined prediction of several trained networks: of a trial's replicas from their files, or on new data."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo.arguments import number, whole
from hyppo.errors import StudyError
from hyppo.training.predictions.classes import class_axis, entropy, is_probability
from hyppo.training.predictions.collection import FILE, Batch, Collection
from hyppo.training.predictions.output import flatten, unflatten

if TYPE_CHECKING:
    from hyppo.analysis.conformal import Calibrator


@dataclass(frozen=True, slots=True)
class Predictions:
    """Mean and standard deviation of a trial's prediction, shaped as the network's output on the validation data.

    Attributes
    ----------
    mean, std : array, or a tuple or dict of arrays if the network's output is one
        mu and sqrt(V), shape (examples, ...).
    targets : as `mean`, or None
        The validation targets, if the training knew them.
    replicas, passes : int
        Number of trained networks, and of dropout passes over all of them.
    entropy : as `mean`, or None
        Mean entropy of the single networks' probabilities, in nats, for outputs of classes; the entropy of `mean`
        minus this is the part due to disagreement among the networks.
    calibrator : Calibrator or None
        That of a calibrated ensemble; `std` and the probabilities in `mean` are then calibrated.
    """

    mean: Any
    std: Any
    targets: Any
    replicas: int
    passes: int
    entropy: Any = None
    calibrator: "Calibrator | None" = None

    def interval(self, level: float = 0.9) -> tuple[Any, Any]:
        """Lower and upper ends of the interval that holds a target with probability `level`, as arrays like `mean`.

        For a calibrated ensemble (`ensemble.calibrate(data)`) these are split conformal intervals. Otherwise they are
        those of a normal distribution, mu ± z sd, which do not contain the noise of the targets.

        Raises
        ------
        StudyError
            `level` is not between 0 and 1, an output of classes, or too little calibration data for the level.

        Examples
        --------
        >>> low, high = Predictions(np.zeros(2), np.ones(2), None, replicas=3, passes=0).interval(0.9)
        >>> [round(float(end[0]), 3) for end in (low, high)]
        [-1.645, 1.645]
        """
        level = number("level", level)
        if not 0.0 < level < 1.0:
            raise StudyError(f"level: expected a number between 0 and 1, got {level}")
        low, high = {}, {}
        for (path, mean), std in zip(flatten(self.mean).items(), flatten(self.std).values(), strict=True):
            if self.calibrator is None:
                half = NormalDist().inv_cdf((1.0 + level) / 2.0) * std
            else:
                half = self.calibrator.half_width(path, std, level)
            low[path], high[path] = mean - half, mean + half
        return unflatten(low), unflatten(high)

    def __repr__(self) -> str:
        arrays = flatten(self.mean)
        shapes = ", ".join(f"{path + ' ' if path else ''}{array.dtype} {array.shape}" for path, array in arrays.items())
        targets = "without targets" if self.targets is None else "with targets"
        return f"Predictions({shapes}; replicas={self.replicas}, passes={self.passes}, {targets})"


def combine(directories: Sequence[str | Path], weights: tuple[float, float] = (0.5, 0.5)) -> Predictions:
    """Prediction of a trial from the stored arrays of its replicas: exact, reading each array once.

    Parameters
    ----------
    directories : sequence of paths
        Folders of the replicas to combine; those without predictions are skipped.
    weights : (w1, w2)
        Weights of trained networks and of their dropout passes; (1, 0) if there are no passes.

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
    """Predictions of networks from their arrays, opened one at a time; keys name them in messages.

    Memory: mean, variance, and the arrays of one output of one network.
    """
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

    mean: dict[str, Any] = {}
    variance: dict[str, Any] = {}
    entropies: dict[str, Any] = {}
    weight_so_far = dict.fromkeys(paths, 0.0)

    def add(path: str, weight: float, values: Any, within: Any) -> None:
        """Update the weighted mean and variance (West 1979) by one set of predictions."""
        if path not in mean:
            mean[path] = values.astype(np.result_type(values, np.float64))
            variance[path] = np.zeros(values.shape) + weight * within
        elif mean[path].shape != values.shape:
            raise StudyError(
                f"the replicas' predictions differ in shape: {mean[path].shape} and {values.shape}; "
                "every replica predicts the same validation data"
            )
        else:
            step = values - mean[path]
            total = weight_so_far[path] + weight
            mean[path] += weight / total * step
            variance[path] += weight * within + weight * weight_so_far[path] / total * np.abs(step) ** 2
        weight_so_far[path] += weight

    targets = _targets(networks)
    for arrays_of, count in zip(opened, counts, strict=True):
        with arrays_of() as arrays:
            for path in paths:
                prediction = arrays["prediction" + path]
                add(path, w1 / len(opened), prediction, 0.0)
                axis = class_axis(prediction, targets[path]) if path in targets else None
                if axis is not None and is_probability(prediction, axis):
                    entropies[path] = entropies.get(path, 0.0) + entropy(prediction, axis) / len(opened)
                if count:
                    within = arrays["variance" + path].astype(np.float64)
                    add(path, w2 * count / passes, arrays["mean" + path], within)
    std = {path: np.sqrt(spread) for path, spread in variance.items()}
    return Predictions(unflatten(mean), unflatten(std), unflatten(targets), len(opened), passes, unflatten(entropies))


def _targets(networks: Mapping[str, Callable[[], AbstractContextManager[Mapping[str, Any]]]]) -> dict[str, Any]:
    """The targets of the networks, by output.

    Raises
    ------
    StudyError
        They are not the same for all networks that have any.
    """
    targets: dict[str, Any] = {}
    first = ""
    for network, arrays_of in networks.items():
        with arrays_of() as arrays:
            own = {name.removeprefix("targets"): arrays[name] for name in arrays if name.startswith("targets")}
        if own and not targets:
            targets, first = own, network
        if own and not _equal(targets, own):
            raise StudyError(
                f"the validation targets in {network} are not those in {first}, or come in another order, so their "
                "predictions cannot be averaged: give the split and the validation data a fixed seed, the same in each "
                "replica; with folds= they differ by design, and load_ensemble(study).predict(x) averages the "
                "predictions of new data"
            )
    return targets


def _equal(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two sets of arrays are equal to the last bit, NaN included."""
    return some.keys() == others.keys() and all(
        array.shape == others[name].shape and array.tobytes() == others[name].tobytes() for name, array in some.items()
    )


def call_with(build: Callable[..., Any], params: Mapping[str, Any]) -> Any:
    """Build a network from those parameters that `build` accepts.

    Raises
    ------
    StudyError
        `build` needs an argument that is not a parameter of the trial.

    Examples
    --------
    >>> call_with(lambda width, depth=2: (width, depth), {"width": 8, "batch": 32})
    (8, 2)
    """
    arguments = inspect.signature(build).parameters.values()
    named = {a.name for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)}
    every = any(a.kind is a.VAR_KEYWORD for a in arguments)
    taken = {name: value for name, value in params.items() if every or name in named}
    try:
        return build(**taken)
    except TypeError as error:
        name = getattr(build, "__name__", type(build).__name__)
        raise StudyError(
            f"{name}({', '.join(f'{key}={value!r}' for key, value in taken.items())}) makes no network ({error}); give "
            f"a function that does, such as lambda **params: {name}(params['width']), with the trial's parameters "
            f"{', '.join(params)}"
        ) from error


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
    calibrator: "Calibrator | None" = None

    def calibrate(self, data: Any, mc_dropout: int = 0, weights: tuple[float, float] = (0.5, 0.5)) -> "Ensemble":
        """The same ensemble with calibrated predictions: intervals, standard deviations, probabilities of classes.

        Real outputs get a factor on the standard deviation and split conformal intervals (`Predictions.interval`),
        classes a temperature on the mean probabilities of the networks; logits are turned into probabilities first.

        Parameters
        ----------
        data
            A loader of batches with targets that no training saw, and that did not choose the configuration: a few
            hundred examples. Gone through once or twice a network.
        mc_dropout, weights
            As for `predict`; use the same there.

        Raises
        ------
        StudyError
            No targets, fewer than ten, or targets that do not fit the outputs.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=200)
        >>> data = [(x, x + rng.normal(size=200))]
        >>> forward = lambda slope, batches, passes: [(slope * x, (), y) for x, y in batches]
        >>> ensemble = Ensemble((0.9, 1.1), forward, 0, {}).calibrate(data)
        >>> low, high = ensemble.predict(data).interval(0.9)
        >>> float(np.mean((low <= data[0][1]) & (data[0][1] <= high))) >= 0.9
        True
        """
        from hyppo.analysis.conformal import Calibrator

        raw = replace(self, calibrator=None)
        predictions = raw.predict(data, mc_dropout, weights)
        logits = Calibrator.logits_of(predictions)
        if logits is not None:
            predictions = replace(self, calibrator=logits).predict(data, mc_dropout, weights)
        return replace(self, calibrator=Calibrator.of(predictions, logits))

    def predict(self, data: Any, mc_dropout: int = 0, weights: tuple[float, float] = (0.5, 0.5)) -> Predictions:
        """Mean and standard deviation on `data`: inputs as an array, or a loader of batches as in training.

        Parameters
        ----------
        data
            Read once per network; targets in the batches are returned as `.targets`.
        mc_dropout : int
            Passes of each network with its dropout layers active.
        weights : (w1, w2)
            Weights of networks and of their passes.

        Raises
        ------
        StudyError
            Invalid number of passes, or no data; `ObjectiveError` if outputs cannot be combined.
        """
        whole("mc_dropout", mc_dropout, least=0)
        networks: dict[str, Callable[[], AbstractContextManager[Mapping[str, Any]]]] = {}
        for position, network in enumerate(self.networks):
            collection = Collection()
            for prediction, passes, targets in self.forward(network, data, mc_dropout):
                if self.calibrator is not None:
                    prediction = self.calibrator.probabilities(prediction)
                    passes = map(self.calibrator.probabilities, passes)
                collection.add(prediction, passes, targets)
            if not collection.parts:
                raise StudyError("no data to predict: give inputs, or a loader that can be read once per network")
            arrays: dict[str, Any] = {name: np.concatenate(batches) for name, batches in collection.parts.items()}
            networks[f"network {position}"] = partial(_open, arrays | {"passes": collection.passes})
        found = _combined(networks, weights)
        return found if self.calibrator is None else self.calibrator.apply(found)


def _open(arrays: Mapping[str, Any]) -> AbstractContextManager[Mapping[str, Any]]:
    return nullcontext(arrays)
