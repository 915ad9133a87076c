"""A Keras model with a `train_step` of its own: one training of the configuration below."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

PARAMS = {"width": 32, "depth": 2, "lr": 1e-2, "weight": 0.1}


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


def train():
    params = dict(PARAMS)
    lr = params.pop("lr")
    noise = np.random.default_rng(0)  # the data are the same in every training
    t = noise.uniform(0, 1, (64, 1)).astype("float32")
    y = np.exp(-t) + 0.05 * noise.normal(size=t.shape).astype("float32")
    later = np.linspace(0, 3, 50, dtype="float32")[:, None]
    model = Decay(**params)
    model.compile(keras.optimizers.Adam(lr), "mse")
    validation = (later, np.exp(-later))
    options = {"batch_size": 16, "epochs": 20, "validation_data": validation, "verbose": 0}
    history = model.fit(t, y, **options)
    return history.history["val_loss"][-1]


if __name__ == "__main__":
    print(train())
