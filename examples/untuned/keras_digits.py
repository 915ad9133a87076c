"""Handwritten digits with Keras 3, on whichever backend is installed: one training of the configuration below."""

import keras
from sklearn.datasets import load_digits

PARAMS = {"channels": 16, "hidden": 64, "batch": 32, "lr": 1e-3, "dropout": 0.3}


def network(channels, hidden, lr, dropout):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(channels, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(hidden, activation="relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(lr), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train():
    params = dict(PARAMS)
    batch = params.pop("batch")
    digits = load_digits()
    images = digits.images[..., None].astype("float32") / 16
    # the last 400 images are for a test of what the search recommends
    x, y, validation = images[:1000], digits.target[:1000], (images[1000:1397], digits.target[1000:1397])
    early = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    options = {"batch_size": batch, "epochs": 10, "validation_data": validation, "callbacks": [early], "verbose": 0}
    model = network(**params)
    history = model.fit(x, y, **options)
    return min(history.history["val_loss"])


if __name__ == "__main__":
    print(train())
