"""A Keras model with a `train_step` of its own: a network that is held to a differential equation between its data.

The decay y' = -y is measured at a few early times with noise. Where nothing was measured the network is punished for
leaving the equation; how much, is searched for with the rest. `train_step` is TensorFlow's own, so this needs it.

    python keras_train_step.py
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import hyppo_keras
import keras
import numpy as np
import tensorflow as tf

import hyppo

space = hyppo.Space(
    width=hyppo.Integer(8, 64, log=True),
    depth=hyppo.Integer(1, 3),
    lr=hyppo.Real(1e-3, 3e-2, log=True),
    weight=hyppo.Real(1e-3, 10.0, log=True),
)


class Decay(keras.Model):
    def __init__(self, width, depth, weight):
        super().__init__()
        self.weight = weight
        self.network = keras.Sequential(
            [*(keras.layers.Dense(width, activation="tanh") for _ in range(depth)), keras.layers.Dense(1)]
        )
        self.equation = keras.metrics.Mean(name="equation")

    def call(self, t):
        return self.network(t)

    def train_step(self, data):
        t, y = data
        between = tf.random.uniform((64, 1), 0.0, 3.0)
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(between)
                decayed = self(between, training=True)
            residual = tf.reduce_mean((inner.gradient(decayed, between) + decayed) ** 2)
            loss = self.compute_loss(t, y, self(t, training=True)) + self.weight * residual
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.equation.update_state(residual)
        return {"loss": loss, "equation": self.equation.result()}


def train(replica):
    params = dict(replica.params)
    lr = params.pop("lr")
    noise = np.random.default_rng(0)  # the data are the same in every training
    t = noise.uniform(0, 1, (64, 1)).astype("float32")
    y = np.exp(-t) + 0.05 * noise.normal(size=t.shape).astype("float32")
    later = np.linspace(0, 3, 50, dtype="float32")[:, None]
    model = Decay(**params)
    model.compile(keras.optimizers.Adam(lr), "mse")
    validation = (later, np.exp(-later))
    options = {"batch_size": 16, "epochs": 20, "validation_data": validation, "verbose": 0}
    history = hyppo_keras.fit(replica, model, t, y, predict=True, **options)
    return history.history["val_loss"][-1]


study = hyppo.Study(space, train, log="keras_train_step.h5", replicas=3, seed=0)

if __name__ == "__main__":
    study.run(trials=25)
    print(study.best)
    predictions = study.predictions(study.best.number)
    print("standard deviation among replicas at t = 0 and 3:", predictions.std[[0, -1], 0].round(4))
