"""A small real study for the pictures of the report: a network of scikit-learn on handwritten digits."""

import warnings

from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import hyppo

warnings.filterwarnings("ignore", category=UserWarning)

SPACE = hyppo.Space(
    lr=hyppo.Real(1e-4, 1e-1, log=True),
    width=hyppo.Integer(4, 128, log=True),
    batch=hyppo.Ordinal([16, 32, 64, 128]),
    decay=hyppo.Real(1e-6, 1e-1, log=True),
    activation=hyppo.Choice(["relu", "tanh", "logistic"]),
)


def train(replica):
    params = replica.params
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, train_size=400, random_state=0)
    network = MLPClassifier(
        (params["width"],),
        activation=params["activation"],
        learning_rate_init=params["lr"],
        alpha=params["decay"],
        batch_size=params["batch"],
        random_state=replica.seed % 2**32,
    )
    loss = float("inf")
    for epoch in range(15):
        network.partial_fit(x_train, y_train, classes=range(10))
        loss = log_loss(y_test, network.predict_proba(x_test))
        replica.report(epoch, loss)
        if replica.should_stop:
            break
    return loss


study = hyppo.Study(SPACE, train, log="digits.h5", replicas=3, seed=0, stopping="median")

if __name__ == "__main__":
    study.enqueue({"lr": 1e-3, "width": 100, "batch": 64, "decay": 1e-4, "activation": "relu"}, name="baseline")
    study.run(trials=40, workers=2)
    study.report("digits.html")
    for name in ("convergence", "spread", "parallel", "parameters", "sobol", "learning_curves", "timeline"):
        getattr(hyppo.plots, name)(study).save(f"{name}.png", scale_factor=1.0)
