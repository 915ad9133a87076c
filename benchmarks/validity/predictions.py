"""Do calibrated prediction intervals hold? 90 % intervals on data that neither trained, chose nor calibrated.

python -m benchmarks.validity.predictions --sinogram build/demo

Regression sets of scikit-learn: half of the rows train three networks, a quarter calibrates them, a quarter tests the
intervals; repeated with other splits. Phantoms: the networks of the recommended trial of a finished
`python -m benchmarks.sinogram run`; of the test phantoms, which that search never saw, one half calibrates and the
other half tests, on the views that were not measured.

    column        meaning
    coverage      share of the test targets inside the 90 % intervals: mean over the splits, two standard errors
    before        the same without calibration
    width         mean width of the intervals / width of plain split conformal ones (mean ± quantile of the errors)
"""

import argparse
import json
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import hyppo
from benchmarks.validity.__main__ import mean_and_error
from hyppo.training.predictions import Ensemble, Predictions

LEVEL = 0.9
NETWORKS = 3
FloatArray = npt.NDArray[np.float64]
Measured = tuple[float, float, float]  # coverage, coverage before calibration, relative width


def ensemble_of(networks: Sequence[Any]) -> Ensemble:
    """Functions of an array as an ensemble."""

    def outputs(network: Any, data: Any, passes: int) -> list[tuple[Any, tuple[()], Any]]:
        return [(network(x), (), y) for x, y in data]

    return Ensemble(networks, outputs, 0, {})


def measured(networks: Sequence[Any], calibration: tuple[Any, Any], test: tuple[Any, Any]) -> Measured:
    """Calibrate on one part of the data, measure on another."""
    raw = ensemble_of(networks)
    calibrated = raw.calibrate([calibration]).predict([test])
    low, high = calibrated.interval(LEVEL)
    plain = 2.0 * split_conformal(raw.predict([calibration]))
    return covered(calibrated), covered(raw.predict([test])), float(np.mean(high - low)) / plain


def covered(predictions: Predictions) -> float:
    low, high = predictions.interval(LEVEL)
    return float(np.mean((low <= predictions.targets) & (predictions.targets <= high)))


def split_conformal(predictions: Predictions) -> float:
    """Half the width of plain split conformal intervals: one quantile of the absolute errors."""
    errors = np.sort(np.abs(predictions.targets - predictions.mean), axis=None)
    return float(errors[min(int(np.ceil((errors.size + 1) * LEVEL)), errors.size) - 1])


def regressions() -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """scikit-learn's regression sets that need no download."""
    from sklearn import datasets

    for name, (x, y) in {
        "diabetes": datasets.load_diabetes(return_X_y=True),
        "friedman1": datasets.make_friedman1(800, noise=1.0, random_state=0),
        "friedman2": datasets.make_friedman2(800, noise=100.0, random_state=0),
        "friedman3": datasets.make_friedman3(800, noise=0.2, random_state=0),
    }.items():
        yield name, (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


def regression(x: FloatArray, y: FloatArray, seed: int) -> Measured:
    """Train, calibrate and test on one split of a regression set."""
    from sklearn.neural_network import MLPRegressor

    order = np.random.default_rng(seed).permutation(len(y))
    train, calibrate, test = np.split(order, [len(y) // 2, 3 * len(y) // 4])
    networks = []
    for replica in range(NETWORKS):
        network = MLPRegressor(hidden_layer_sizes=(32,), max_iter=60, random_state=NETWORKS * seed + replica)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # trained for 60 epochs, converged or not
            networks.append(network.fit(x[train], y[train]).predict)
    return measured(networks, (x[calibrate], y[calibrate]), (x[test], y[test]))


def phantoms(folder: Path, splits: int) -> list[Measured]:
    """Halves of the test phantoms, filled by the recommended networks of a finished search."""
    from benchmarks.sinogram.data import SETTINGS, scans
    from hyppo.loop import Session

    about = json.loads((folder / "search.json").read_text())
    setting = SETTINGS[about["size"]]
    network = import_module(f"benchmarks.sinogram.network_{about['framework']}")
    study = hyppo.load(folder / "study.h5")
    best, session, part = study.best, Session(study), scans(setting, "test")
    filled = [
        network.fill(best.params, session.directory(best.number, r.index), part, setting)[:, ~part.kept]
        for r in study.trials[best.number].replicas
        if r.loss is not None
    ]
    truth = part.truth[:, ~part.kept].astype(np.float64)
    networks = [lambda rows, output=output: output[rows].astype(np.float64) for output in filled]
    found = []
    for seed in range(splits):
        first, second = np.array_split(np.random.default_rng(seed).permutation(len(truth)), 2)
        found.append(measured(networks, (first, truth[first]), (second, truth[second])))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--sinogram", type=Path, help="folder of a finished sinogram benchmark")
    given = parser.parse_args(arguments)
    found = {name: [regression(x, y, seed) for seed in range(given.splits)] for name, x, y in regressions()}
    if given.sinogram is not None:
        found["phantoms"] = phantoms(given.sinogram, given.splits)
    print("| data | coverage | before | width |\n|---|---|---|---|")
    for name, rows in found.items():
        print(f"| {name} | " + " | ".join(map(mean_and_error, zip(*rows, strict=True))) + " |")


if __name__ == "__main__":
    main()
