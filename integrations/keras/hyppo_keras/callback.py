"""`fit`, and the callback that reports, stops, and hands the result over."""

import hashlib
import inspect
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from hyppo.errors import StudyError
from hyppo.training.metric import STEP_PAUSE, Monitor
from hyppo.training.predictions import asked_for, keep, keep_weights
from hyppo.training.replica import Replica
from hyppo.training.resume import Saves
from hyppo_keras.criterion import CompiledLoss
from hyppo_keras.group import AveragedLogs, Group
from hyppo_keras.predict import batches
from hyppo_keras.resume import restore_state, save_state
from hyppo_keras.weights import WEIGHTS, WHOLE

TENSORFLOW = logging.getLogger("tensorflow")
SAMPLE = 1024  # elements of a weight that are hashed, at least if it has so many


def is_no_tracing_advice(record: logging.LogRecord) -> bool:
    """Filter for TensorFlow's advice about frequent retracing: a process that tunes traces many networks, once each."""
    return "retracing" not in record.getMessage()


class HyppoCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Report each epoch's loss, stop if the run asks for it, and store the result when `model.fit` ends.

    The loss is the monitored value for the weights at the end of `fit`: that of an earlier epoch if another callback
    has restored its weights; if they belong to no epoch (averaged weights), they are evaluated once more. The last
    epoch is always validated. The callback's place in the list does not matter. If a training calls `fit` several
    times, the last fit counts, and reports continue the count of the earlier fits.

    Parameters
    ----------
    replica : hyppo.Replica
        The argument of the training function.
    monitor : str
        Name of a metric in the epoch's logs.
    mode : {"min", "max"}
        With "max" the loss is minus the metric.
    mc_dropout : int
        Monte-Carlo-dropout passes over the validation data after the fit, for prediction uncertainty.
    predict : bool, optional
        Keep predictions on the validation data. By default, or with None, they are kept up to 16 MiB; True keeps any
        size, as mc_dropout > 0 does, False keeps none. If predictions fail, the training keeps its
        loss: a notice says why.
    weights : bool, optional
        Keep the trained network as `weights.keras` in the replica's directory, for `load_ensemble`, or only its
        weights if Keras cannot save it whole (a subclassed model without get_config). By default it is kept up to
        16 MiB; True keeps any size, False keeps none.
    resume : bool
        Save weights and optimisers in the replica's directory when the run stops, and every minute or so, at the end of
        an epoch. An interrupted training continues from this state. Other callbacks start again (a patience).
    metrics : sequence of str, optional
        Names of further metrics in the epoch's logs, kept as `trial.metrics`. `parameters` (trainable) is always kept.
    monitor_best : bool
        Use the best epoch: at the end of `fit` the network has the weights of the lowest loss, and loss, predictions
        and the kept network belong to these weights.

    Raises
    ------
    StudyError
        An invalid argument; and from `model.fit`: a second callback, a fit without epochs, a metric that is not in the
        logs of the first validation, a model of another Keras, a replica of several ranks (`hyppo_keras.fit` trains
        it).

    Examples
    --------
    ::

        def train(replica):
            model = build(**replica.params)
            model.fit(x, y, validation_split=0.2, epochs=20, callbacks=[HyppoCallback(replica)])
    """

    def __init__(
        self,
        replica: Replica,
        monitor: str = "val_loss",
        mode: str = "min",
        mc_dropout: int = 0,
        predict: bool | None = None,
        weights: bool | None = None,
        resume: bool = True,
        *,
        metrics: Sequence[str] = (),
        monitor_best: bool = False,
    ) -> None:
        super().__init__()
        self._monitor = Monitor(replica, monitor, mode, metrics, monitor_best)
        self._asked = asked_for(replica, mc_dropout, predict)
        self._passes = mc_dropout
        self._weights = weights
        self._resume = resume
        self._saves = Saves()
        self._group: Group | None = None  # of several ranks
        self._history: Any = None
        self._reset()

    def _reset(self) -> None:
        """Set the state of one fit."""
        self._stopped = False
        self._losses: dict[bytes, tuple[float, dict[str, float]]] = {}  # and metrics, by the weights' fingerprint
        self._best: Any = None  # weights of the lowest loss
        self._since = self._validation_began = self._validation_took = 0.0
        self._epoch_took = math.inf
        self._logged: Mapping[str, Any] = {}
        self._validation: Any = None
        self._validated: bytes | None = None  # fingerprint of the weights that this epoch's validation used
        self._candidate: Any = None  # and, with monitor_best, these weights

    def set_model(self, model: Any) -> None:
        check_model(model)
        super().set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        replica = self._monitor.replica
        if replica.target == "ensemble_loss" and (replica.criterion is None or replica.own_criterion is not None):
            # the study has none; one that is there belongs to an earlier fit of this training
            replica.criterion = CompiledLoss.of(getattr(self.model, "loss", None))
        TENSORFLOW.addFilter(is_no_tracing_advice)
        self._reset()
        self._monitor.begin()
        if replica.world_size > 1 and self._group is None:
            raise StudyError(
                f"{replica.world_size} ranks train this replica together: call hyppo_keras.fit(replica, model, ...) "
                "instead of model.fit: it divides the rows and averages the gradients; or leave out data_parallel"
            )
        # Callbacks end in the order of their list, and a later one may still restore other weights. Keras' History is
        # the last in the list and does nothing at the end: in its place this callback sees the final weights.
        self._history = getattr(self.model, "history", None)
        if self._history is not None:
            if getattr(self._history.on_train_end, "__func__", None) is HyppoCallback._store_result:
                raise StudyError("model.fit has more than one HyppoCallback; give it one: a training has one result")
            self._history.on_train_end = self._store_result
        if self._resume:
            self._best = restore_state(self.model, self._monitor)
        # The last epoch is always validated, independently of `validation_freq`; an interrupted epoch is not.
        own, last = self.model._should_eval, (self.params or {}).get("epochs", 0) - 1
        self.model.__dict__["_should_eval"] = lambda epoch, frequency: (
            not self._stopped and (epoch == last or own(epoch, frequency))
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._since = time.monotonic()
        self._validated = self._candidate = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        replica = self._monitor.replica
        if self._group is not None or not replica.should_stop:  # several ranks agree at the end of an epoch
            return
        steps = (self.params or {}).get("steps") or math.inf
        left = self._epoch_took  # s of the previous epoch; unknown in the first one, which has nothing to lose
        if batch:
            left = (time.monotonic() - self._since) / batch * (steps - batch) + self._validation_took
        if not left <= STEP_PAUSE:  # else it stops at the end of the epoch, which saves the state
            self._stopped = self.model.stop_training = True

    def on_test_begin(self, logs: Any = None) -> None:
        self._validation_began = time.monotonic()

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        # Not at the beginning or the end of the validation, when other callbacks (SwapEMAWeights) exchange the weights.
        # The logs hold the loss of the weights that are here now.
        if self._validated is None:
            self._validated = fingerprint(self.model)
            if self._monitor.best:
                self._candidate = self._weights_now()

    def on_test_end(self, logs: Any = None) -> None:
        self._validation_took = time.monotonic() - self._validation_began

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._stopped:
            return  # this epoch was cut: the training will continue from the state saved before it
        self._epoch_took = time.monotonic() - self._since
        self._logged = dict(logs or {})
        # Keras drops its iterator over the validation data before it ends the training
        self._validation = getattr(self.model, "_eval_epoch_iterator", None) or self._validation
        validated = any(name.startswith("val_") for name in self._logged)
        wanted = (self._monitor.metric, *self._monitor.metrics)
        self._monitor.check(self._logged, [name for name in wanted if validated or not name.startswith("val_")])
        if self._monitor.metric in self._logged:
            if not self._monitor.metric.startswith("val_"):
                self._validated = self._candidate = None  # a metric of the training
            if self._monitor.report(epoch, self._logged) and self._monitor.best:
                self._best = self._candidate or self._weights_now()
            loss = self._monitor.loss_in(self._logged)
            self._losses[self._validated or fingerprint(self.model)] = loss, self._monitor.beside_in(self._logged)
        if epoch + 1 >= (self.params or {}).get("epochs", math.inf):
            return  # it ends now, complete: there is nothing to stop or to save
        replica = self._monitor.replica
        stop = replica.should_stop if self._group is None else self._group.any(replica.should_stop)
        if self._resume and replica.rank == 0 and (stop or self._saves.due()):
            self._saves.save(lambda: save_state(self.model, self._monitor, epoch, self._best))
        if stop:
            self._stopped = self.model.stop_training = True

    def _weights_now(self) -> list[Any]:
        return [weight.copy() for weight in self.model.get_weights()]

    def on_train_end(self, logs: Any = None) -> None:
        if self._history is None:  # the user's own CallbackList, without a History
            self._store_result()

    def _store_result(self, logs: Any = None) -> None:
        try:
            self._end()
        finally:
            TENSORFLOW.removeFilter(is_no_tracing_advice)

    def _end(self) -> None:
        if self._history is not None:
            del self._history.on_train_end
        self.model.__dict__.pop("_should_eval", None)
        self.model._initial_epoch = None  # that of a restored state; else a later fit of this model would skip epochs
        if self._group is not None:
            self._group.leave(self.model)
        replica, monitor = self._monitor.replica, self._monitor
        if self._stopped:  # it will be continued, or its trial was stopped early: its result does not count
            monitor.store_result(self._logged, stopped=True)
            return
        if monitor.loss is None:
            if not self._logged:
                raise StudyError("model.fit trained no epoch (epochs=0?): there is no loss")
            raise monitor.missing(self._logged)
        if self._best is not None:
            self.model.set_weights(self._best)
        elif (left := fingerprint(self.model)) in self._losses:
            monitor.take(*self._losses[left])
        elif monitor.metric.startswith("val_") and self._validation is not None:
            data = self._validation.data_adapter
            evaluated = self.model.evaluate(
                (batch for batch in data.get_numpy_iterator()),
                steps=self._validation.steps_per_epoch or data.num_batches,
                verbose=0,
                return_dict=True,
            )
            logged = {**self._logged, **{f"val_{name}": value for name, value in evaluated.items()}}
            monitor.take(monitor.loss_in(logged), monitor.beside_in(logged))
        replica.log("parameters", sum(math.prod(weight.shape) for weight in self.model.trainable_weights))
        if self._asked is not False and replica.rank == 0:
            keep(replica, batches(self.model, self._validation, self._passes), asked=bool(self._asked))
        if replica.rank == 0:
            nbytes = sum(weight.nbytes for weight in self.model.get_weights())
            keep_weights(replica, {WHOLE: self.model.save, WEIGHTS: self.model.save_weights}, nbytes, self._weights)
        monitor.store_result(self._logged)


def check_model(model: Any) -> None:
    """Check that a model is one of this Keras.

    Raises
    ------
    StudyError
        It is a model of tf_keras (Keras 2), or not a model.
    """
    if isinstance(model, keras.Model):
        return
    module = type(model).__module__
    raise StudyError(
        f"model: expected a keras.Model of Keras {keras.__version__}, got {type(model).__name__} of {module}"
        + (
            "; tf_keras and TF_USE_LEGACY_KERAS=1 are Keras 2: build the model with `import keras`, or train in a "
            "plain function that calls replica.report and returns the loss"
            if module.startswith(("tf_keras", "tensorflow"))
            else ""
        )
    )


def fingerprint(model: Any) -> bytes:
    """Digest of a sample of all weights, which training changes nearly everywhere.

    Copying all weights from the device and hashing them at every epoch would take about a second per gigabyte.
    """
    digest = hashlib.blake2b(digest_size=16)
    for weight in model.weights:
        flat = keras.ops.reshape(weight, (-1,))
        sample = flat if flat.shape[0] <= SAMPLE else flat[:: flat.shape[0] // SAMPLE]
        digest.update(keras.ops.convert_to_numpy(sample).tobytes())
    return digest.digest()


def fit(
    replica: Replica,
    model: Any,
    *args: Any,
    monitor: str = "val_loss",
    mode: str = "min",
    mc_dropout: int = 0,
    predict: bool | None = None,
    weights: bool | None = None,
    resume: bool = True,
    metrics: Sequence[str] = (),
    monitor_best: bool = False,
    **kwargs: Any,
) -> Any:
    """`model.fit(*args, **kwargs)` with a `HyppoCallback`; returns its History.

    If several ranks train the replica together (`data_parallel`), each takes its part of the rows of x and y, and
    gradients and logs are averaged over the ranks; `batch_size` is the batch size of each rank. This needs Keras on
    torch or TensorFlow, and torch must be installed in both cases.

    Parameters
    ----------
    replica : hyppo.Replica
        The argument of the training function.
    model : keras.Model
        Compiled.
    monitor, mode, mc_dropout, predict, weights, resume, metrics, monitor_best
        As for `HyppoCallback`.

    Raises
    ------
    StudyError
        As `HyppoCallback` does; and several ranks on JAX, without torch, or with other networks or numbers of batches.

    Examples
    --------
    ::

        def train(replica):
            hyppo_keras.fit(replica, build(**replica.params), x, y, validation_split=0.2, epochs=20)
    """
    check_model(model)
    ours = HyppoCallback(
        replica,
        monitor=monitor,
        mode=mode,
        mc_dropout=mc_dropout,
        predict=predict,
        weights=weights,
        resume=resume,
        metrics=metrics,
        monitor_best=monitor_best,
    )
    taken = _arguments(model, args, kwargs)
    first: list[Any] = []
    if replica.world_size > 1:
        ours._group = Group(replica)
        taken = ours._group.shared_out(taken)
        first = [AveragedLogs(ours._group)]
    given = taken.get("callbacks")
    if isinstance(given, keras.callbacks.CallbackList):
        for callback in (*first, ours):
            callback.set_model(model)
        given.callbacks[:] = [*first, *given.callbacks, ours]
        for callback in first:
            callback.set_params(given.params)
        taken["callbacks"] = given
    else:
        taken["callbacks"] = [*first, *(given if isinstance(given, list | tuple) else [given] if given else []), ours]
    return model.fit(**taken)


def _arguments(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `model.fit` by name, also if the model has a `fit` of its own, as those of KerasHub have.

    Such a `fit` passes its `*args` and `**kwargs` on to that of Keras.
    """
    signature = inspect.signature(model.fit)
    kinds = {parameter.kind: name for name, parameter in signature.parameters.items()}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        names = [*inspect.signature(keras.Model.fit).parameters][1:]  # without self
        return dict(zip(names, args, strict=False)) | dict(kwargs)
    arguments = dict(signature.bind(*args, **kwargs).arguments)
    arguments.update(arguments.pop(kinds.get(inspect.Parameter.VAR_KEYWORD, ""), {}))
    return arguments
