"""`fit`, and the callback that reports, stops, and hands the result over."""

import hashlib
import inspect
import math
from collections.abc import Mapping
from typing import Any

import keras

from hyppo.errors import StudyError
from hyppo.training.metric import Monitor
from hyppo.training.predictions import asked_for, keep, keep_weights
from hyppo.training.replica import Replica
from hyppo.training.resume import Saves
from hyppo_keras.criterion import CompiledLoss
from hyppo_keras.group import AveragedLogs, Group
from hyppo_keras.predict import batches
from hyppo_keras.resume import restore_state, save_state
from hyppo_keras.weights import WEIGHTS


class HyppoCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Report each epoch's loss, stop when asked, and hand the result over at the end of `model.fit`.

    The loss is the monitored value of the weights that `fit` leaves: where another callback has brought back those of
    an earlier epoch, that epoch's; where they are of no epoch (averaged weights, validation every k epochs), they are
    evaluated once more. Its place in the list of callbacks does not matter.

    Parameters
    ----------
    replica : hyppo.Replica
        What the training function was given.
    monitor : str
        Name of a metric in the epoch's logs.
    mode : {"min", "max"}
        With "max" the loss is minus the metric.
    mc_dropout : int
        Monte-Carlo-dropout passes over the validation data after the fit, for prediction uncertainty.
    predict : bool, optional
        Keep predictions on the validation data. By default they are kept where they can be and are small; True makes
        their absence an error (as mc_dropout > 0 does), False keeps none.
    weights : bool, optional
        Keep the trained network as `weights.keras` in the replica's directory, for `load_ensemble`. By default up to
        16 MiB are; True keeps any, False none.
    resume : bool
        Save weights and optimiser in the replica's directory when a stop is asked, and every minute or so, at an
        epoch's end; a training that was interrupted goes on from there. What other callbacks remember (a patience)
        begins anew.

    Raises
    ------
    StudyError
        A mode or number of passes that cannot be; and from `model.fit`: a second callback, a second fit, a fit
        without epochs, a metric that is not in the logs, a replica of several ranks (`hyppo_keras.fit` trains it).

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
    ) -> None:
        super().__init__()
        self._monitor = Monitor(replica, monitor, mode)
        self._asked = asked_for(replica, mc_dropout, predict)
        self._passes = mc_dropout
        self._weights = weights
        self._resume = resume
        self._saves = Saves()
        self._stopped = False
        self._group: Group | None = None  # of several ranks
        self._losses: dict[bytes, float] = {}  # by the weights that they are of
        self._logged: Mapping[str, Any] = {}
        self._validation: Any = None
        self._history: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        replica = self._monitor.replica
        if replica.target == "ensemble_loss" and replica.criterion is None:
            replica.criterion = CompiledLoss.of(getattr(self.model, "loss", None))
        self._monitor.begin()
        if replica.world_size > 1 and self._group is None:
            raise StudyError(
                f"{replica.world_size} ranks train this replica together: call hyppo_keras.fit(replica, model, ...) "
                "instead of model.fit, which shares the rows out and averages the gradients; or leave out data_parallel"
            )
        # Callbacks end in the order of their list, and one after this may yet bring back other weights. Keras' own
        # History closes the list and does nothing at the end: in its place this callback sees what `fit` leaves.
        self._history = getattr(self.model, "history", None)
        if self._history is not None:
            if getattr(self._history.on_train_end, "__func__", None) is HyppoCallback._hand_over:
                raise StudyError("model.fit has more than one HyppoCallback; give it one: a training has one result")
            self._history.on_train_end = self._hand_over
        if self._resume and restore_state(self.model, self._monitor):
            # The validation data are seen in a validation only, and `validation_freq` may leave none to come.
            own, last = self.model._should_eval, (self.params or {}).get("epochs", 0) - 1
            self.model.__dict__["_should_eval"] = lambda epoch, frequency: epoch == last or own(epoch, frequency)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._logged = dict(logs or {})
        # Keras drops its iterator over the validation data before it ends the training
        self._validation = getattr(self.model, "_eval_epoch_iterator", None) or self._validation
        value = self._logged.get(self._monitor.metric)
        if value is not None:
            self._monitor.report(epoch, float(value))
            self._losses[fingerprint(self.model)] = float(self._monitor.loss or 0.0)
        elif not self._monitor.metric.startswith("val_") or any(name.startswith("val_") for name in self._logged):
            raise self._monitor.missing(self._logged)  # no later epoch will have it
        if epoch + 1 >= (self.params or {}).get("epochs", math.inf):
            return  # it ends now, whole: nothing is cut short, and nothing is left to go on with
        replica = self._monitor.replica
        stop = replica.should_stop if self._group is None else self._group.any(replica.should_stop)
        if self._resume and replica.rank == 0 and (stop or self._saves.due()):
            self._saves.save(lambda: save_state(self.model, replica, epoch))
        if stop:
            self._stopped = self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self._history is None:  # a CallbackList of the user's own, without one
            self._hand_over()

    def _hand_over(self, logs: Any = None) -> None:
        if self._history is not None:
            del self._history.on_train_end
        self.model.__dict__.pop("_should_eval", None)
        if self._group is not None:
            self._group.leave(self.model)
        if self._monitor.loss is None:
            if not self._logged:
                raise StudyError("model.fit trained no epoch (epochs=0?): there is no loss to hand over")
            raise self._monitor.missing(self._logged)
        if self._stopped:  # it goes on later or its trial was given up: nothing of it counts yet
            self._monitor.hand_over(self._logged)
            return
        left = fingerprint(self.model)
        if left in self._losses:
            self._monitor.loss = self._losses[left]
        elif self._monitor.metric.startswith("val_") and self._validation is not None:
            data = self._validation.data_adapter
            logs = self.model.evaluate(
                (batch for batch in data.get_numpy_iterator()),
                steps=self._validation.steps_per_epoch or data.num_batches,
                verbose=0,
                return_dict=True,
            )
            self._monitor.loss = self._monitor.sign * float(logs[self._monitor.metric.removeprefix("val_")])
        if self._asked is not False and self._monitor.replica.rank == 0:
            keep(self._monitor.replica, batches(self.model, self._validation, self._passes), asked=bool(self._asked))
        if self._monitor.replica.rank == 0:
            nbytes = sum(weight.nbytes for weight in self.model.get_weights())
            keep_weights(self._monitor.replica, WEIGHTS, nbytes, self.model.save, self._weights)
        self._monitor.hand_over(self._logged)


def fingerprint(model: Any) -> bytes:
    """Digest of all weights."""
    digest = hashlib.blake2b(digest_size=16)
    for weight in model.get_weights():
        digest.update(weight.tobytes())
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
    **kwargs: Any,
) -> Any:
    """`model.fit(*args, **kwargs)` with a `HyppoCallback`; returns its History.

    Where several ranks train the replica together (`data_parallel`), each takes its part of the rows of x and y, and
    gradients and logs are averaged over them; `batch_size` is each rank's. Keras runs on torch or TensorFlow for that,
    with torch installed beside it.

    Parameters
    ----------
    replica : hyppo.Replica
        What the training function was given.
    model : keras.Model
        Compiled.
    monitor, mode, mc_dropout, predict, weights, resume
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
    ours = HyppoCallback(
        replica, monitor=monitor, mode=mode, mc_dropout=mc_dropout, predict=predict, weights=weights, resume=resume
    )
    taken = dict(inspect.signature(model.fit).bind(*args, **kwargs).arguments)
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
