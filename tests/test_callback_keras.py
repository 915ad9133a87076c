"""hyppo_keras through the real `model.fit`, on every backend: one process a backend, in which all checks run.

Run as a script, this file is that process: `KERAS_BACKEND=torch python test_callback_keras.py <folder>` prints one line
of JSON, {check: null or traceback}.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import pytest

BACKENDS = ("tensorflow", "torch", "jax")
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


# In the process of one backend


def setup():
    """Names that every check uses; Keras is imported here only."""
    global keras, np, hyppo_keras, StudyError, Replica, Task, train, combine
    import hyppo_keras
    import keras
    import numpy as np

    from hyppo.errors import StudyError
    from hyppo.training.call import train
    from hyppo.training.predictions import combine
    from hyppo.training.replica import Replica, Task

    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)


@check
def first_imported_inside_the_function(folder):
    """Runs first, before this process has Keras: the training that imports it gives the loss of the one after it."""
    assert not {"keras", "tensorflow", "torch", "jax"} & set(sys.modules)
    from hyppo.training.call import train
    from hyppo.training.replica import Replica, Task

    def objective(replica):
        import random

        import numpy as np

        drawn = np.random.rand() + random.random()  # noqa: NPY002 - users' code does
        import keras

        layers = [keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.compile("sgd", "mse")
        x = np.random.rand(32, 4)  # noqa: NPY002
        history = model.fit(x, x.sum(1), epochs=2, verbose=0, validation_split=0.2)
        return history.history["val_loss"][-1] + drawn + float(keras.ops.sum(keras.random.normal((3,))))

    first, second = (train(objective, Replica(Task(0, 0, 11, {}, str(folder)))) for _ in range(2))
    assert first.loss == second.loss is not None, (first, second)


@check
def a_model_may_have_a_fit_of_its_own(folder):
    """KerasHub's models take batch_size by name and pass the rest on as **kwargs."""

    class Named(keras.Sequential):
        def fit(self, x=None, y=None, batch_size=None, **kwargs):
            return super().fit(x=x, y=y, batch_size=batch_size, **kwargs)

    class Passed(keras.Sequential):
        def fit(self, *args, **kwargs):
            return super().fit(*args, **kwargs)

    def objective(replica):
        model = replica.params["kind"]([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        hyppo_keras.fit(replica, model, *data(), batch_size=8, epochs=2, verbose=0, validation_split=0.2)

    losses = []
    for kind in (keras.Sequential, Named, Passed):
        outcome = train(objective, Replica(Task(0, 0, 11, {"kind": kind}, str(folder / kind.__name__))))
        assert outcome.failure is None, outcome.failure.traceback
        assert len(outcome.curve) == 2
        losses.append(outcome.loss)
    assert losses[0] == losses[1] == losses[2], losses


@check
def predictions_of_many_networks_bring_no_advice_about_tracing(folder):
    """Runs in a process that has traced few functions: the share of new ones is what TensorFlow warns of."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("tensorflow").addHandler(handler)

    def objective(replica):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        hyppo_keras.fit(replica, model, *data(), epochs=1, verbose=0, validation_split=0.2)

    for trial in range(6):
        outcome = train(objective, Replica(Task(trial, 0, 11, {}, str(folder / str(trial)))))
        assert outcome.failure is None, outcome.failure.traceback
    logging.getLogger("tensorflow").removeHandler(handler)
    assert not [line for line in lines if "retracing" in line], lines


def data(n=40, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


def net(dropout=0.0, optimizer=None, **compiled):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.05), "mse", metrics=["mae"], **compiled)
    return model


def replica(folder, **kwargs):
    return Replica(Task(trial=3, index=1, seed=11, params={}, directory=str(folder)), **kwargs)


def fitted(folder, model=None, *args, one=None, **kwargs):
    """A whole training with hyppo_keras.fit, through `hyppo.training.call.train`."""
    kept = {}

    def objective(replica):
        kept["model"] = (model or net)()
        x, y = data()
        options = {"epochs": 2, "verbose": 0, "batch_size": 8, "validation_data": data(24, 1)} | kwargs
        kept["history"] = hyppo_keras.fit(replica, kept["model"], *(args or (x, y)), **options)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return train(objective, one or replica(folder)), kept


def validated(kept, validation=None):
    return kept["model"].evaluate(*(validation or data(24, 1)), verbose=0, return_dict=True)["loss"]


def error_of(outcome):
    assert outcome.loss is None, outcome.loss
    return str(outcome.failure)


def close(a, b, rtol=1e-5):
    np.testing.assert_allclose(a, b, rtol=rtol)


@check
def reports_hands_over_and_returns_history(folder):
    outcome, kept = fitted(folder)
    assert [step for step, _ in outcome.curve] == [0, 1]
    assert outcome.loss == outcome.curve[-1][1] == kept["history"].history["val_loss"][-1]
    assert isinstance(kept["history"], keras.callbacks.History)
    assert "on_train_end" not in vars(kept["history"])
    close(outcome.loss, validated(kept))


@check
def validation_split(folder):
    outcome, kept = fitted(folder, validation_data=None, validation_split=0.25, predict=True)
    x, y = data()
    close(outcome.loss, validated(kept, (x[30:], y[30:])))
    assert combine([folder]).mean.shape == (10, 1)


@check
def positional_arguments_as_in_model_fit(folder):
    def objective(replica):
        x, y = data()
        hyppo_keras.fit(replica, net(), x, y, 8, 2, 0, [keras.callbacks.TerminateOnNaN()], 0.25, monitor="val_mae")

    assert len(train(objective, replica(folder)).curve) == 2
    model = net()
    listed = keras.callbacks.CallbackList([keras.callbacks.TerminateOnNaN()], add_history=True, model=model)
    assert len(fitted(folder, lambda: model, callbacks=listed)[0].curve) == 2
    assert len(fitted(folder, callbacks=keras.callbacks.TerminateOnNaN())[0].curve) == 2


@check
def callback_on_the_users_own_fit(folder):
    def objective(replica):
        x, y = data()
        net(0.5).fit(
            x,
            y,
            epochs=2,
            verbose=0,
            validation_split=0.2,
            callbacks=[hyppo_keras.HyppoCallback(replica, mc_dropout=3)],
        )

    outcome = train(objective, replica(folder))
    assert outcome.loss == outcome.curve[-1][1], outcome.failure
    assert combine([folder]).passes == 3


@check
def restored_weights_and_their_loss(folder):
    """A learning rate that ruins a good network: the best epoch is the first; whatever the order of the callbacks."""

    def early():
        return keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)

    def ruin(epoch):
        return 0.01 if epoch == 0 else 5.0

    for last in (False, True):
        kept = {}

        def objective(replica, last=last, kept=kept):
            x, y = data()
            model = net()
            callbacks = [early(), keras.callbacks.LearningRateScheduler(ruin)]
            callbacks.insert(3 if last else 0, hyppo_keras.HyppoCallback(replica, predict=True))
            history = model.fit(x, y, epochs=6, verbose=0, validation_data=data(24, 1), callbacks=callbacks)
            kept.update(model=model, best=history.history["val_loss"][0], last=history.history["val_loss"][-1])

        outcome = train(objective, replica(folder))
        assert outcome.loss == kept["best"] != kept["last"], outcome
        close(outcome.loss, validated(kept))
        found = combine([folder])
        close(np.mean((found.mean - found.targets) ** 2), outcome.loss, 1e-4)


@check
def weights_of_no_epoch_are_evaluated(folder):
    averaged = lambda: net(optimizer=keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5))  # noqa: E731
    outcome, kept = fitted(folder, averaged)
    close(outcome.loss, validated(kept))
    assert outcome.loss != outcome.curve[-1][1]
    score, kept = fitted(folder, averaged, monitor="val_mae", mode="max")
    close(-score.loss, kept["model"].evaluate(*data(24, 1), verbose=0, return_dict=True)["mae"])


@check
def averages_that_are_validated_are_those_that_count(folder):
    """SwapEMAWeights puts averages into the network for the validation alone, or until the next epoch."""
    for swap_on_epoch in (False, True):
        averaged = lambda: net(optimizer=keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5))  # noqa: E731
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
        rise = keras.callbacks.LearningRateScheduler(lambda epoch: 0.02 if epoch == 0 else -0.02)
        outcome, kept = fitted(folder, averaged, callbacks=[swap, rise], monitor_best=True)
        losses = [loss for _, loss in outcome.curve]
        assert outcome.loss == min(losses) < losses[-1], losses
        close(outcome.loss, validated(kept))


@check
def the_last_epoch_is_validated(folder):
    for frequency, epochs in ((2, [1, 2]), (5, [2])):
        outcome, kept = fitted(folder, validation_freq=frequency, epochs=3)
        assert [step for step, _ in outcome.curve] == epochs
        close(outcome.loss, validated(kept))


@check
def best_epoch_counts(folder):
    """Its loss, its predictions and its network; resumed in between or not."""

    class Lowest(keras.callbacks.Callback):
        """Make the validation loss lowest after the second epoch."""

        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = abs(epoch - 1.0)

    folder.mkdir()
    best = folder / "best.weights.h5"
    saved = keras.callbacks.ModelCheckpoint(best, save_best_only=True, save_weights_only=True)
    options = {"monitor_best": True, "metrics": ["val_mae"], "epochs": 4}
    outcome, kept = fitted(folder / "a", callbacks=[Lowest(), saved], predict=True, **options)
    assert [loss for _, loss in outcome.curve] == [1.0, 0.0, 1.0, 2.0]
    assert outcome.loss == 0.0
    scored = kept["model"].evaluate(*data(24, 1), verbose=0, return_dict=True)
    close(outcome.metrics["val_mae"], scored["mae"])
    reference = net()
    reference.load_weights(best)
    for model in (kept["model"], keras.models.load_model(folder / "a" / "weights.keras")):
        for one, other in zip(model.get_weights(), reference.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    found = combine([folder / "a"])
    close(np.mean(np.abs(found.mean - found.targets)), scored["mae"], 1e-4)

    one = replica(folder / "b")
    one._stop_asked = lambda: len(one.curve) >= 3
    fitted(folder / "b", one=one, callbacks=[Lowest()], **options)
    again, kept = fitted(folder / "b", callbacks=[Lowest()], **options)
    assert again.loss == 0.0
    close(kept["model"].evaluate(*data(24, 1), verbose=0, return_dict=True)["mae"], again.metrics["val_mae"])


def of_two_optimizers(noise=0.3):
    """A network whose body and head have an optimiser each, built in their first steps; the compiled one is idle.

    The noise of its inputs is that of Keras' global generator.
    """
    backend = keras.backend.backend()

    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dropout(noise)])
            self.head = keras.layers.Dense(1)
            self.own = {"body": keras.optimizers.Adam(0.01)}
            self.second = keras.optimizers.SGD(0.05, momentum=0.9)

        def call(self, inputs, training=False):
            return self.head(self.body(inputs, training=training))

        def parts(self):
            return (self.own["body"], self.body.trainable_weights), (self.second, self.head.trainable_weights)

        def train_step(self, *arguments):
            *state, (x, y) = arguments
            step = {"tensorflow": self._tensorflow, "torch": self._torch, "jax": self._jax}[backend]
            return step(*state, x + noise * keras.random.normal(keras.ops.shape(x)), y)

        def _tensorflow(self, x, y):
            import tensorflow

            with tensorflow.GradientTape(persistent=True) as tape:
                loss = keras.ops.mean((self(x, training=True) - y) ** 2)
            for optimizer, weights in self.parts():
                optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return {"loss": loss}

        def _torch(self, x, y):
            import torch

            self.zero_grad()
            loss = keras.ops.mean((self(x, training=True) - y) ** 2)
            loss.backward()
            with torch.no_grad():
                for optimizer, weights in self.parts():
                    optimizer.apply([weight.value.grad for weight in weights], weights)
            return {"loss": loss.item()}

        def _jax(self, state, x, y):
            import jax

            trained, others, *rest = state

            def loss_of(trained):
                found, new = self.stateless_call(trained, others, x, training=True)
                return keras.ops.mean((found - y) ** 2), new

            (loss, others), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
            place = {id(weight): position for position, weight in enumerate(self.trainable_weights)}
            for optimizer, weights in self.parts():
                if not optimizer.built:
                    optimizer.build(weights)
                own = [place[id(weight)] for weight in weights]
                now = [variable.value for variable in optimizer.variables]
                stepped, now = optimizer.stateless_apply(now, [grads[at] for at in own], [trained[at] for at in own])
                for at, weight in zip(own, stepped, strict=True):
                    trained[at] = weight
                for variable, value in zip(optimizer.variables, now, strict=True):
                    variable.assign(value)
            return {"loss": loss}, (trained, others, *rest)

    model = Two()
    model.compile("sgd", "mse", run_eagerly=backend == "jax")  # eager steps may change variables on JAX too
    return model


@check
def every_optimizer_goes_on(folder):
    """Adam's and SGD's moments, dropout and noise of an interrupted training: the losses of an uninterrupted one."""
    options = {"monitor": "val_loss", "epochs": 4, "batch_size": 20}
    whole, kept = fitted(folder / "whole", of_two_optimizers, **options)
    one = replica(folder / "cut")
    one._stop_asked = lambda: len(one.curve) >= 2
    cut, _ = fitted(folder / "cut", of_two_optimizers, one=one, **options)
    assert (len(cut.curve), cut.whole) == (2, False), cut
    again, resumed = fitted(folder / "cut", of_two_optimizers, **options)
    assert again.curve == whole.curve, (again, whole)
    for one, other in zip(kept["model"].parts(), resumed["model"].parts(), strict=True):
        for mine, same in zip(one[0].variables, other[0].variables, strict=True):
            np.testing.assert_array_equal(mine.numpy(), same.numpy())
    assert int(one[0].iterations) == 8

    def other():
        model = of_two_optimizers()
        model.second = keras.optimizers.Adam(0.05)
        return model

    assert "an optimiser or a callback has changed" in error_of(fitted(folder / "cut", other, **options)[0])


@check
def networks_that_their_first_call_builds_go_on(folder):
    """TensorFlow makes this call after the fit has begun."""

    def late(built=False):
        layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        if built:
            model.build((None, np.int64(4)))
        return model

    whole, _ = fitted(folder / "whole", late, epochs=3)
    for place, other in ((folder / "cut", late), (folder / "built", lambda: late(built=True))):
        one = replica(place)
        one._stop_asked = lambda one=one: len(one.curve) >= 1
        fitted(place, other, one=one, epochs=3)
        assert list(place.glob("resume.*.json"))
        again, _ = fitted(place, other, epochs=3)
        assert again.curve == whole.curve, (again, whole)


@check
def metrics_beside_the_loss(folder):
    outcome, kept = fitted(folder, metrics=["val_mae", "mae"])
    history = kept["history"].history
    assert outcome.metrics["val_mae"] == history["val_mae"][-1]
    assert outcome.metrics["mae"] == history["mae"][-1]
    assert outcome.metrics["parameters"] == kept["model"].count_params()
    assert "'val_los' was never logged" in error_of(fitted(folder, metrics=["val_los"], epochs=50)[0])


@check
def a_returned_loss_leaves_the_metrics(folder):
    """The monitored one, too: as they were measured for the weights at the end of fit."""
    for mode, sign in (("min", 1), ("max", -1)):
        kept = {}

        def objective(replica, mode=mode, kept=kept):
            options = {"monitor": "val_mae", "mode": mode, "metrics": ["val_loss"], "validation_data": data(24, 1)}
            kept.update(hyppo_keras.fit(replica, net(), *data(), epochs=2, verbose=0, **options).history)
            return kept["val_mae"][0]

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outcome = train(objective, replica(folder))
        assert outcome.loss == sign * kept["val_mae"][0], outcome
        assert [outcome.metrics[name] for name in ("val_mae", "val_loss")] == [
            kept[name][-1] for name in ("val_mae", "val_loss")
        ]
        assert any("metrics, kept predictions and networks belong to" in str(one.message) for one in caught)


@check
def stops_within_a_long_epoch(folder):
    """Its state is that of the last whole epoch; within a short one it waits for the end."""

    class Slow(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.batches = getattr(self, "batches", 0) + 1
            if self.batches > 3:
                time.sleep(0.3)

    one = replica(folder)
    slow = Slow()
    one._stop_asked = lambda: getattr(slow, "batches", 0) >= 5
    outcome, _ = fitted(folder, one=one, epochs=2, batch_size=1, callbacks=[slow], resume=False)
    assert slow.batches < 10
    assert not outcome.whole
    assert outcome.curve == ()


@check
def subclassed_networks_keep_their_weights(folder):
    import hyppo

    folder.mkdir()

    class Bare(keras.Model):
        """Without get_config: Keras cannot save it whole."""

        def __init__(self, width):
            super().__init__()
            self.hidden = keras.layers.Dense(width, activation="relu")
            self.out = keras.layers.Dense(1)

        def call(self, x):
            return self.out(self.hidden(x))

    def made():
        model = Bare(5)
        model.compile(keras.optimizers.SGD(0.05), "mse")
        return model

    def objective(replica):
        fitted(None, made, one=replica, weights=True)

    space = hyppo.Space(width=hyppo.Integer(5, 5), batch=hyppo.Integer(1, 8))
    with hyppo.Study(space, objective, log=folder / "study.h5", replicas=2, isolate=False) as study:
        study.run(trials=1, progress=False)
    assert study.trials[0].stats.n == 2
    assert {path.name for path in study.checkpoints(0)} == {"weights.weights.h5"}
    x, _ = data(24, 1)
    ensemble = hyppo_keras.load_ensemble(study, 0, build=Bare)
    np.testing.assert_allclose(ensemble.predict(x).mean, study.predictions(0).mean, atol=1e-5)
    with pytest.raises(StudyError, match="give build="):
        hyppo_keras.load_ensemble(study, 0)


@check
def models_of_another_keras_are_refused(folder):
    class Model:
        __module__ = "tf_keras.src.engine.functional"

        def fit(self, x, callbacks):
            callbacks[0].set_model(self)

    for fit in (lambda r: hyppo_keras.fit(r, Model(), 1), lambda r: Model().fit(1, [hyppo_keras.HyppoCallback(r)])):
        assert "tf_keras and TF_USE_LEGACY_KERAS=1 are Keras 2" in error_of(train(fit, replica(folder)))


@check
def missing_metric_names_those_there_are(folder):
    message = error_of(fitted(folder, monitor="val_los", epochs=50)[0])
    assert "'val_los'" in message
    assert "val_loss" in message
    assert "val_mae" in message
    assert "needs validation data" in error_of(fitted(folder, validation_data=None)[0])


@check
def no_epoch_is_an_error(folder):
    assert "trained no epoch" in error_of(fitted(folder, epochs=0)[0])


@check
def nan_is_a_failure_of_the_training(folder):
    outcome, _ = fitted(folder, lambda: net(optimizer=keras.optimizers.SGD(1e30)))
    assert outcome.failure.type == "NonFiniteLoss", outcome


@check
def maximised_metric(folder):
    outcome, kept = fitted(folder, monitor="val_mae", mode="max")
    assert outcome.loss == -kept["history"].history["val_mae"][-1]


@check
def twice_is_an_error(folder):
    one = replica(folder)
    assert "more than one" in error_of(fitted(folder, one=one, callbacks=[hyppo_keras.HyppoCallback(one)])[0])


@check
def stops_when_asked(folder):
    one = replica(folder, stop_asked=lambda: len(one.curve) >= 2)
    outcome, _ = fitted(folder, one=one, epochs=50)
    assert len(outcome.curve) == 2


@check
def same_replica_same_loss(folder):
    first, second = (fitted(folder, lambda: net(0.3), mc_dropout=2)[0] for _ in range(2))
    assert first.loss == second.loss is not None, (first, second)
    assert first.curve == second.curve


@check
def predictions_and_passes(folder):
    outcome, kept = fitted(folder, lambda: net(0.5), mc_dropout=20)
    with np.load(folder / "predictions.npz") as arrays:
        assert int(arrays["passes"]) == 20
        assert arrays["variance"].shape == (24, 1)
        assert np.median(arrays["variance"]) > 0
        x, y = data(24, 1)
        close(arrays["prediction"], kept["model"].predict(x, verbose=0), 1e-4)
        np.testing.assert_array_equal(arrays["targets"], y)
        close(np.mean((arrays["prediction"] - y) ** 2), outcome.loss, 1e-4)
    close(kept["model"].predict(x, verbose=0), kept["model"].predict(x, verbose=0))


@check
def compiled_loss_of_the_mean_prediction(folder):
    """A study of the ensemble's loss, without criterion=: as evaluated by Keras, here on the mean prediction."""
    import hyppo

    def own(y, f):
        return keras.ops.mean(keras.ops.square(y - f), axis=-1)

    losses = ("mse", keras.losses.Huber(delta=0.5), own)
    for position, loss in enumerate(losses):

        def objective(replica, loss=loss):
            model = net(0.5)
            model.compile("sgd", loss)
            hyppo_keras.fit(replica, model, *data(), verbose=0, batch_size=8, validation_data=data(24, 1), mc_dropout=2)

        study = hyppo.Study(
            hyppo.Space(x=hyppo.Real(0, 1)),
            objective,
            target="ensemble_loss",
            log=folder / f"{position}.h5",
            replicas=2,
            isolate=False,
        )
        folder.mkdir(exist_ok=True)
        study.run(trials=1, progress=False)
        (trial,) = study.trials
        assert trial.state == "done", trial
        assert trial.losses.n == 6
        mean, targets = study.predictions(0).mean, study.predictions(0).targets
        found = keras.losses.get(loss)(targets.astype("float32"), mean.astype("float32"))
        close(trial.ensemble_loss, float(np.mean(keras.ops.convert_to_numpy(found))))
        alone = trial.replicas[0].losses
        assert alone.n == 3, alone
        study.close()

    def several(replica):
        model = net()
        model.compile("sgd", ["mse"])
        hyppo_keras.fit(replica, model, *data(), verbose=0, validation_split=0.2)

    one = Replica(Task(0, 0, 1, {}, str(folder), 1, "ensemble_loss"))
    assert "cannot be taken to the mean prediction" in error_of(train(several, one))
    assert one.curve == []


@check
def compiled_loss_of_the_last_fit(folder):
    """A training that compiles another loss for its second fit: the ensemble loss is that of the second."""
    import hyppo

    def objective(replica):
        model = net()
        for loss in ("mse", "mae"):
            model.compile("sgd", loss)
            hyppo_keras.fit(replica, model, *data(), verbose=0, validation_data=data(24, 1))

    folder.mkdir(exist_ok=True)
    space, log = hyppo.Space(x=hyppo.Real(0, 1)), folder / "study.h5"
    with hyppo.Study(space, objective, log=log, target="ensemble_loss", replicas=2, isolate=False) as study:
        study.run(trials=1, progress=False)
        (trial,) = study.trials
        assert trial.state == "done", trial
        for record in trial.replicas:
            close(record.losses.mean, record.loss, 1e-4)
        found = study.predictions(0)
        close(trial.ensemble_loss, float(np.mean(np.abs(found.mean - found.targets))), 1e-4)


@check
def ensemble_predicts_what_the_replicas_did(folder):
    import hyppo

    def build(width):
        inputs = keras.Input((4,))
        hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(width)(inputs))
        model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
        model.compile("adam", "mse")
        return model

    def objective(replica):
        model = build(**replica.params)
        hyppo_keras.fit(replica, model, *data(), verbose=0, validation_data=data(24, 1), predict=True)

    folder.mkdir(exist_ok=True)
    space = hyppo.Space(width=hyppo.Integer(2, 8))
    with hyppo.Study(space, objective, log=folder / "study.h5", replicas=2, isolate=False) as study:
        study.run(trials=1, progress=False)
    study = hyppo.load(folder / "study.h5")
    assert [path.name for path in study.best.checkpoints] == ["weights.keras"] * 2
    kept = study.predictions(0)
    x, y = data(24, 1)
    for ensemble in (hyppo_keras.load_ensemble(study), hyppo_keras.load_ensemble(study, 0, build=build)):
        batches = [(x[:16], y[:16]), (x[16:], y[16:])]
        for inputs in (x, Batches(batches), batches):
            found = ensemble.predict(inputs)
            close(found.mean, kept.mean, 1e-4)
            np.testing.assert_allclose(found.std, kept.std, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(found.targets, y)
    dropped = ensemble.predict(x, mc_dropout=3)
    assert dropped.passes == 6
    assert np.median(dropped.std) > np.median(kept.std)
    with pytest.raises(StudyError, match=r"give build=, which makes .* or custom_objects=; a damaged file") as caught:
        hyppo_keras.load_ensemble(study, build=lambda width: build(width + 1))
    assert "\n" not in str(caught.value)
    assert str(caught.value.__cause__).count("\n") > 1, "the whole text is that of the cause"
    with zipfile.ZipFile(study.best.checkpoints[0], "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.99"}))
    with pytest.raises(StudyError, match=f"does not load in Keras {keras.__version__}, and Keras 2.99 saved it"):
        hyppo_keras.load_ensemble(study)
    for path, text in ((study.checkpoints(0)[0], "give build="), (None, "weights=True")):
        if path is None:
            for file in study.checkpoints(0):
                file.unlink()
        else:
            path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(StudyError, match=text):
            hyppo_keras.load_ensemble(study)


class Batches:
    """A data set of batches, gone through any number of times."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


@check
def validation_data_without_end(folder):
    def rows():
        while True:
            for seed in range(3):
                yield data(8, seed)

    outcome, _ = fitted(folder, validation_data=rows(), validation_steps=3, predict=True)
    assert outcome.loss == outcome.curve[-1][1], outcome
    assert combine([folder]).mean.shape == (24, 1)


@check
def no_dropout_no_passes_and_a_notice(folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"verbose": 0, "validation_split": 0.2, "mc_dropout": 4}
        train(lambda replica: hyppo_keras.fit(replica, net(), *data(), **options) and None, replica(folder))
    assert any("no active dropout layer" in str(one.message) for one in caught)
    assert combine([folder]).passes == 0


@check
def predictions_asked_for_without_data(folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"verbose": 0, "monitor": "loss", "predict": True}
        one = replica(folder)
        outcome = train(lambda replica: hyppo_keras.fit(replica, net(), *data(), **options) and None, one)
    assert outcome.loss is not None
    assert any("no validation data" in str(one.message) for one in caught)


@check
def kinds_of_dropout(folder):
    """In a pass the network is stochastic, in between it is not, and what is no dropout stays in inference mode."""
    layers = keras.layers
    bodies = {
        "nested": keras.Sequential([layers.Dense(8), keras.Sequential([layers.Dropout(0.5)])]),
        "spatial": layers.SpatialDropout1D(0.5),
        "gaussian": layers.GaussianDropout(0.5),
        "alpha": layers.AlphaDropout(0.5),
        "LSTM": layers.LSTM(4, dropout=0.5),
        "GRU recurrent": layers.GRU(4, recurrent_dropout=0.5),
        "stacked cells": layers.RNN([layers.LSTMCell(4, dropout=0.5), layers.LSTMCell(4)]),
        "bidirectional": layers.Bidirectional(layers.LSTM(4, dropout=0.5)),
        "time distributed": layers.TimeDistributed(layers.Dropout(0.5)),
    }
    inputs = keras.Input((4, 3))
    x = np.random.default_rng(0).normal(size=(6, 4, 3)).astype("float32")
    made = {name: keras.Model(inputs, layers.BatchNormalization()(body(inputs))) for name, body in bodies.items()}
    made["attention"] = keras.Model(inputs, layers.Attention(dropout=0.5)([inputs, inputs]))
    made["additive"] = keras.Model(inputs, layers.AdditiveAttention(dropout=0.5)([inputs, inputs]))
    made["multi-head"] = keras.Model(inputs, layers.MultiHeadAttention(2, 4, dropout=0.5)(inputs, inputs))
    made["grouped query"] = keras.Model(inputs, layers.GroupQueryAttention(4, 2, 1, dropout=0.5)(inputs, inputs))

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.drop, self.norm = layers.Dropout(0.5), layers.BatchNormalization()

        def call(self, inputs, training=False):
            return self.norm(self.drop(inputs, training=training), training=training)

    made["subclassed"] = Subclassed()
    made["subclassed"](x)
    if keras.backend.backend() == "jax":  # compiles each for a second
        made = {name: made[name] for name in ("nested", "LSTM", "multi-head", "subclassed")}
    for name, model in made.items():
        model.compile(loss="mse", run_eagerly=name != "nested" and keras.backend.backend() == "tensorflow")
        before = model.predict_on_batch(x)
        weights = model.get_weights()
        found = hyppo_keras.predict.dropout_layers(model)
        assert found, name
        one_pass = hyppo_keras.predict.Passes(model, found)
        passes = np.stack([one_pass(x) for _ in range(3)])
        assert passes.std(0).max() > 1e-4, name
        np.testing.assert_array_equal(model.predict_on_batch(x), before, err_msg=name)
        for weight, same in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(weight, same, err_msg=name)
        assert not any("call" in vars(layer) for layer in found), name
    noisy = keras.Sequential([keras.Input((4, 3)), layers.GaussianNoise(0.9), layers.Dropout(0.5)])
    output = hyppo_keras.predict.Passes(noisy, hyppo_keras.predict.dropout_layers(noisy))(np.ones_like(x))
    assert set(np.unique(output)) == {0.0, 2.0}  # dropped or doubled, without noise
    idle = keras.Sequential([keras.Input((4, 3)), layers.Dropout(0.0), layers.LSTM(3)])
    assert hyppo_keras.predict.dropout_layers(idle) == []


@check
def passes_leave_the_state_of_recurrent_layers(folder):
    """A stateful network predicts as `predict_on_batch` does after a reset, with passes in between or not."""
    layers = [keras.layers.LSTM(4, stateful=True, dropout=0.5), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input(batch_shape=(8, 4, 3)), *layers])
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(16, 4, 3)).astype("float32")
    expected = np.concatenate([model.predict_on_batch(part) for part in (x[:8], x[8:])])
    for _ in range(2):  # the second time from the state at the end of the first
        found = []
        for prediction, passes, _ in hyppo_keras.weights.forward(model, x, 2):
            found.append(prediction)
            one, other = passes
            assert abs(one - other).max() > 1e-4
        np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5)


@check
def outputs_as_dict_and_generators_of_data(folder):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(4)(inputs))

    def model():
        heads = {name: keras.layers.Dense(width, name=name)(hidden) for name, width in (("a", 1), ("b", 2))}
        two = keras.Model(inputs, heads)
        two.compile("sgd", {"a": "mse", "b": "mse"})
        return two

    class Rows(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            x, y = data(5, index)
            return x, {"a": y, "b": np.repeat(y, 2, 1)}

    outcome, _ = fitted(folder, model, Rows(), batch_size=None, validation_data=Rows(), mc_dropout=2)
    assert outcome.loss is not None, outcome.failure
    mean = combine([folder]).mean
    assert (mean["a"].shape, mean["b"].shape) == ((15, 1), (15, 2))
    assert combine([folder]).targets["b"].shape == (15, 2)
    kept = keras.models.load_model(folder / "weights.keras")
    batches = list(hyppo_keras.weights.forward(kept, Rows(), 0))
    assert [prediction["b"].shape for prediction, _, _ in batches] == [(5, 2)] * 3


@check
def build_functions_make_any_layer(folder):
    """Networks that are built to see what a build(hp) asks for: with layers that hold random state, too."""

    def build(hp):
        layers = [keras.layers.Dense(hp.Int("units", 2, 4)), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.BatchNormalization()])
        model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-3, 1e-2, sampling="log")), "mse")
        return model

    assert hyppo_keras.from_build(build).space.names == ("units", "lr")


@check
def several_ranks_train_by_fit_alone(folder):
    def objective(replica):
        model = net()
        model.fit(*data(), validation_split=0.2, verbose=0, callbacks=[hyppo_keras.HyppoCallback(replica)])

    one = Replica(Task(0, 0, 7, {}, str(folder)), rank=0, world_size=2)
    assert "call hyppo_keras.fit(replica, model, ...)" in str(train(objective, one).failure)
    if keras.backend.backend() == "jax":
        failed = train(lambda replica: hyppo_keras.fit(replica, net(), *data(), verbose=0), one)
        assert "KERAS_BACKEND to torch or tensorflow" in str(failed.failure)


def main(folder):
    results = {}
    for name, function in CHECKS.items():
        place = Path(folder) / name
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                function(place)
                setup()
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
    print("\n" + json.dumps(results))


# In pytest


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = {}

    def run(backend):
        if backend not in found:
            env = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            env |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
            command = [sys.executable, __file__, str(tmp_path_factory.mktemp(backend))]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False)
            assert done.returncode == 0, done.stderr[-4000:]
            found[backend] = json.loads(done.stdout.strip().splitlines()[-1])
        return found[backend]

    return run


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_keras(backend, name, results):
    if not (importlib.util.find_spec("keras") and importlib.util.find_spec(backend)):
        pytest.skip(f"no {backend} here")
    problem = results(backend)[name]
    assert problem is None, problem


if __name__ == "__main__":
    main(sys.argv[1])
