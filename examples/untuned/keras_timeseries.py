"""Forecasting a noisy oscillation with a recurrent network in Keras 3: one training of the configuration below."""

import keras
import numpy as np

WINDOW, AHEAD = 32, 8  # samples seen, samples forecast

PARAMS = {"cell": "gru", "units": 24, "batch": 32, "lr": 1e-2, "dropout": 0.1}

CELLS = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}


def windows():
    """Two beating sines with noise of standard deviation 0.1, cut into (past, future)."""
    t = np.arange(1600)
    series = np.sin(0.21 * t) + 0.5 * np.sin(0.33 * t) + 0.1 * np.random.default_rng(0).normal(size=len(t))
    cut = np.lib.stride_tricks.sliding_window_view(series.astype("float32"), WINDOW + AHEAD)[::4]
    return cut[:, :WINDOW, None], cut[:, WINDOW:]


def train():
    past, future = windows()
    params = PARAMS
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
        verbose=0,
    )
    return history.history["val_mae"][-1]


if __name__ == "__main__":
    print(train())
