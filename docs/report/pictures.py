"""A small real study for the pictures of the report: a network of scikit-learn on a regression set.

    python docs/report/pictures.py        # in a folder of its own: a minute or two on two cores

Writes friedman.h5, friedman.html, and a PNG of every figure; with chromium also report.png, the top of the page.
"""

import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.neural_network import MLPRegressor

import hyppo

warnings.filterwarnings("ignore", category=UserWarning)

SPACE = hyppo.Space(
    lr=hyppo.Real(1e-4, 1e-1, log=True),
    width=hyppo.Integer(4, 128, log=True),
    batch=hyppo.Ordinal([16, 32, 64, 128]),
    decay=hyppo.Real(1e-6, 1e-1, log=True),
    activation=hyppo.Choice(["relu", "tanh", "logistic"]),
)
MOST = 4000  # numbers in the activations of a batch, for an example of a limit that configurations can exceed


def train(replica):
    params = replica.params
    if params["width"] * params["batch"] > MOST:
        raise MemoryError(f"a batch of {params['batch']} x {params['width']} activations is too large")
    x, y = make_friedman1(1000, noise=1.0, random_state=0)
    x, y = x - 0.5, (y - y.mean()) / y.std()
    rows = np.random.default_rng(replica.data_seed).choice(500, 120, replace=False)  # other training rows each time
    network = MLPRegressor(
        hidden_layer_sizes=(params["width"],),
        activation=params["activation"],
        learning_rate_init=params["lr"],
        alpha=params["decay"],
        batch_size=params["batch"],
        random_state=replica.seed % 2**32,
    )
    loss = float("inf")
    for epoch in range(40):
        network.partial_fit(x[rows], y[rows])
        loss = float(np.mean((network.predict(x[500:]) - y[500:]) ** 2))
        replica.report(epoch, loss)
        if replica.should_stop:
            break
    size = sum(part.size for part in (*network.coefs_, *network.intercepts_))
    return hyppo.Result(loss, prediction=network.predict(x[500:]), targets=y[500:], metrics={"parameters": size})


study = hyppo.Study(SPACE, train, log="friedman.h5", replicas=3, seed=0, stopping="median")


def draw(study):
    """Draw the top of the report and every figure."""
    page = study.report("friedman.html").resolve()
    if shutil.which("chromium"):
        command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1100,1180"]
        options = ["--virtual-time-budget=20000", "--screenshot=report.png"]
        subprocess.run([*command, *options, page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    for name in hyppo.plots.__all__:
        arguments = [study, "lr"] if name == "parameter" else [study]
        getattr(hyppo.plots, name)(*arguments).save(Path(f"{name}.png"), scale_factor=1.0)


if __name__ == "__main__":
    study.enqueue({"lr": 1e-3, "width": 100, "batch": 32, "decay": 1e-4, "activation": "relu"}, name="baseline")
    study.enqueue({"lr": 1e-2, "width": 128, "batch": 128, "decay": 1e-4, "activation": "tanh"})  # too large: it fails
    study.run(trials=40, workers=2)
    study.confirm(replicas=6, against="baseline", workers=2)
    draw(study)
