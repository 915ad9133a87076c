"""Handwritten digits with Keras 3, on whichever backend is installed: `hyppo_keras.fit` in the place of `model.fit`.

    KERAS_BACKEND=tensorflow python keras_digits.py

Needs scikit-learn for the data.
"""

import hyppo_keras
import keras
from sklearn.datasets import load_digits

import hyppo

space = hyppo.Space(
    channels=hyppo.Integer(4, 32, log=True),
    hidden=hyppo.Integer(16, 128, log=True),
    batch=hyppo.Ordinal([32, 64, 128]),
    lr=hyppo.Real(1e-4, 1e-1, log=True),
    dropout=hyppo.Real(0.05, 0.6),
)


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


def train(replica):
    params = dict(replica.params)
    batch = params.pop("batch")
    digits = load_digits()
    images = digits.images[..., None].astype("float32") / 16
    # the last 400 images are for a test of what the search recommends
    x, y, validation = images[:1000], digits.target[:1000], (images[1000:1397], digits.target[1000:1397])
    early = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    options = {"batch_size": batch, "epochs": 10, "validation_data": validation, "callbacks": [early], "verbose": 0}
    model = network(**params)
    history = hyppo_keras.fit(replica, model, x, y, mc_dropout=20, **options)
    return min(history.history["val_loss"])


study = hyppo.Study(space, train, log="keras_digits.h5", replicas=3, seed=0)

if __name__ == "__main__":
    study.run(trials=25)
    print(study.best)
    predictions = study.predictions(study.best.number)
    print(f"accuracy of the mean prediction {(predictions.mean.argmax(1) == predictions.targets).mean():.1%}")
