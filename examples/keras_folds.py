"""Cross-validation with Keras 3: each replica validates on another fold, and the loss is the mean over the folds.

    KERAS_BACKEND=jax python keras_folds.py

Needs scikit-learn for the data.
"""

import hyppo_keras
import keras
import numpy as np
from sklearn.datasets import load_diabetes

import hyppo

FOLDS = 5

space = hyppo.Space(
    width=hyppo.Integer(4, 64, log=True),
    lr=hyppo.Real(1e-3, 1e-1, log=True),
    noise=hyppo.Real(0.01, 1.0, log=True),
)


def data(replica):
    """Training data with noise added to the inputs, and the fold to validate on."""
    x, y = load_diabetes(return_X_y=True)
    x, y = x / x.std(0), (y - y.mean()) / y.std()
    # The same folds in all trials. What else decides the data is drawn with `data_seed`, which trials share too.
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    training, validation = fold != replica.fold, fold == replica.fold
    noise = np.random.default_rng(replica.data_seed).normal(size=x[training].shape)
    return x[training] + replica.params["noise"] * noise, y[training], (x[validation], y[validation])


def train(replica):
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(replica.params["width"], activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(replica.params["lr"]), "mse")
    x, y, validation = data(replica)
    hyppo_keras.fit(replica, model, x, y, batch_size=64, epochs=20, validation_data=validation, verbose=0)


# Each configuration is trained once on every fold.
study = hyppo.Study(space, train, log="keras_folds.h5", replicas=FOLDS, folds=FOLDS, seed=0)

if __name__ == "__main__":
    study.run(trials=20)
    print(study.best)
    print(hyppo.spread_by_source(study))  # how much of the spread is due to the folds
