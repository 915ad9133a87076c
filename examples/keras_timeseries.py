"""Forecasting a noisy oscillation with a recurrent network in Keras 3, on any backend; a callback on one's own fit.

KERAS_BACKEND=jax python keras_timeseries.py
"""

import keras
import numpy as np
from hyppo_keras import HyppoCallback

import hyppo

WINDOW, AHEAD = 32, 8  # samples seen, samples forecast

space = hyppo.Space(
    cell=hyppo.Choice(["gru", "lstm"]),
    units=hyppo.Integer(8, 48, log=True),
    batch=hyppo.Ordinal([32, 64, 128]),
    lr=hyppo.Real(1e-3, 3e-2, log=True),
    dropout=hyppo.Real(0.02, 0.4),
)

CELLS = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}


def windows():
    """Two beating sines with noise of standard deviation 0.1, cut into (past, future)."""
    t = np.arange(1600)
    series = np.sin(0.21 * t) + 0.5 * np.sin(0.33 * t) + 0.1 * np.random.default_rng(0).normal(size=len(t))
    cut = np.lib.stride_tricks.sliding_window_view(series.astype("float32"), WINDOW + AHEAD)[::4]
    return cut[:, :WINDOW, None], cut[:, WINDOW:]


def train(replica):
    past, future = windows()
    params = replica.params
    model = keras.Sequential(
        [
            keras.Input((WINDOW, 1)),
            CELLS[params["cell"]](params["units"], dropout=params["dropout"], recurrent_dropout=params["dropout"]),
            keras.layers.Dense(AHEAD),
        ]
    )
    model.compile(keras.optimizers.Adam(params["lr"]), "mse", metrics=["mae"])
    end = 280  # windows overlap: those that reach into the validation data are left out
    after = end + (WINDOW + AHEAD) // 4
    history = model.fit(
        past[:end],
        future[:end],
        batch_size=params["batch"],
        epochs=8,
        validation_data=(past[after:], future[after:]),
        callbacks=[HyppoCallback(replica, monitor="val_mae", mc_dropout=20)],
        verbose=0,
    )
    return history.history["val_mae"][-1]


study = hyppo.Study(space, train, log="keras_timeseries.h5", replicas=2, seed=0)

if __name__ == "__main__":
    study.run(trials=25)
    print(study.best)
    predictions = study.predictions(study.best.number)
    print("standard deviation of the forecast of each sample ahead:", predictions.std.mean(0).round(3))
