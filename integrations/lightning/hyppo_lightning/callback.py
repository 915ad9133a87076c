"""The callback that reports, stops, and hands the result over."""

import importlib.util
import inspect
import pickle
import sys
import warnings
from functools import partial
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from hyppo.errors import HyppoWarning, StudyError
from hyppo.training.metric import Monitor
from hyppo.training.predictions import asked_for, keep, keep_weights
from hyppo.training.replica import Replica
from hyppo.training.resume import Saves, random_state, set_random_state, state_name
from hyppo_lightning.group import check_group, watch_launchers
from hyppo_lightning.predict import batches
from hyppo_lightning.weights import WEIGHTS, save_weights

if TYPE_CHECKING:
    from lightning.pytorch import Callback as _Base
else:
    _Base = object

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
Weights = list[tuple[int, int]]


class HyppoCallback(_Base):
    """Report each epoch's loss, stop when asked, and hand the result over at the end of `trainer.fit`.

    The loss is the monitored value of the weights that `fit` leaves: where they have changed since the last
    validation (validation every k epochs, a stop within an epoch, averaged weights), they are validated once more.

    Parameters
    ----------
    replica : hyppo.Replica
        What the training function was given.
    monitor : str
        Name of a logged metric.
    mode : {"min", "max"}
        With "max" the loss is minus the metric.
    mc_dropout : int
        Monte-Carlo-dropout passes over the validation data after the fit, for prediction uncertainty.
    predict : bool, optional
        Keep predictions on the validation data. By default they are kept where they can be and are small; True makes
        their absence an error (as mc_dropout > 0 does), False keeps none.
    weights : bool, optional
        Keep the trained network as `weights.ckpt` in the replica's directory, for `load_ensemble`. By default up to
        16 MiB are; True keeps any, False none.
    resume : bool
        Save the Trainer's state in the replica's directory when a stop is asked, and every minute or so, at an epoch's
        end; a training that was interrupted goes on from there, unless `trainer.fit` is given a `ckpt_path`.

    Raises
    ------
    StudyError
        A mode or number of passes that cannot be; and from `trainer.fit`: a second callback, a second fit, a fit
        without training, a metric that was never logged, a Trainer that leaves the ranks of the replica.

    Examples
    --------
    ::

        def train(replica):
            trainer = lightning.Trainer(max_epochs=20, callbacks=[HyppoCallback(replica, monitor="val_loss")])
            trainer.fit(Net(**replica.params), train_loader, val_loader)
    """

    _based = False

    def __new__(cls, *args: Any, **kwargs: Any) -> "HyppoCallback":
        # The two packages are the same code twice, with classes that know nothing of each other, and 3 s to import:
        # the base is what the user's script has loaded by now, where a Trainer is about to be made.
        packages = tuple(name for name in PACKAGES if name in sys.modules)
        if not packages:
            packages = PACKAGES[:1] if importlib.util.find_spec("lightning") else PACKAGES[1:]
        for package in packages:
            watch_launchers(package, _replica_of)
        if not cls._based:
            bases = (cls, *(import_module(name).Callback for name in packages))
            cls = type(cls.__name__, bases, {"__module__": cls.__module__, "__doc__": cls.__doc__, "_based": True})
        return object.__new__(cls)

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
        self._monitor = Monitor(replica, monitor, mode)
        self._asked = asked_for(replica, mc_dropout, predict)
        self._passes = mc_dropout
        self._weights = weights
        self._resume = resume
        self._saves = Saves()
        self._saving = self._resuming = False
        self._epoch: int | None = None  # the last that was trained
        self._reported: int | None = None  # the last whose metric came
        self._seen: Any = None  # the metric as it stood then: Lightning leaves it in place until there is a new one
        self._validated: Weights | None = None  # the weights that it is of, where validation gave it
        self._trained = self._stopped = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        if sum(isinstance(callback, HyppoCallback) for callback in trainer.callbacks) > 1:
            raise StudyError("the Trainer has more than one HyppoCallback; give it one: a training has one result")
        check_group(trainer, self._monitor.replica)
        self._monitor.begin()
        # last, because others (weight averaging) may exchange the weights as training ends; a new list, since the
        # Trainer is walking along this one
        trainer.callbacks = [callback for callback in trainer.callbacks if callback is not self] + [self]

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        path = self._monitor.replica.location / f"{state_name(self._monitor.replica)}.ckpt"
        if not self._resume or trainer.ckpt_path or not path.is_file():
            return
        # A callback cannot choose fit's ckpt_path. What Lightning does with it comes in two halves, the second (loops
        # and optimisers) after this hook; some strategies have the first one at this very place.
        restore = trainer._checkpoint_connector._restore_modules_and_callbacks
        safe = {"weights_only": True} if "weights_only" in inspect.signature(restore).parameters else {}
        try:
            torch.load(str(path), map_location="cpu", mmap=True, weights_only=True)  # Lightning < 2.6 loads any pickle
        except pickle.UnpicklingError as error:
            warnings.warn(
                f"{path} of an interrupted training holds more than tensors and plain values, and loading such a file "
                "can run code: the training starts from the beginning. If you trust the file, name its classes to "
                f"torch.serialization.add_safe_globals before fit ({str(error).splitlines()[0]})",
                category=HyppoWarning,
                stacklevel=2,
            )
            return
        except Exception:  # a damaged file, which Lightning's own loading reports below
            pass
        self._resuming = True
        try:
            restore(path, **safe)
        except Exception as error:  # torch's and Lightning's own, and those of the user's hooks
            raise StudyError(
                f"{path} of an interrupted training does not load ({type(error).__name__}: {error}): network, "
                "optimiser or callbacks are others now, or the file is damaged; delete it to train from the beginning"
            ) from error

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._saving:  # into no checkpoint but that of this training
            checkpoint["hyppo"] = {
                "curve": list(self._monitor.replica.curve),
                "random": random_state(),
                "validated": self._validated is not None,
            }
            # Lightning goes on from an epoch's end, where its own checkpoints are made, but not from an epoch's start:
            # its counters are put back to there.
            for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
                counts["ready"] -= 1
                counts["completed"] -= 1

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._resuming:
            self._monitor.go_on(checkpoint["hyppo"]["curve"])
            if checkpoint["hyppo"]["validated"]:
                self._validated = []  # of other weights than those that fit leaves
            # now, not where training starts: the iterator over the data, which draws a seed, is made in between
            set_random_state(checkpoint["hyppo"]["random"])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._seen = self._metric(trainer)
        self._epoch = self._reported = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._report(trainer)  # what the module logged in its own on_train_epoch_end, which comes after the callbacks'
        if self._epoch is None:
            return  # nothing is trained yet
        # Here and not at the end of the epoch before: learning rates have had their step since, and a training that
        # has trained its last epoch ends by itself, whole.
        any_rank = trainer.strategy.reduce_boolean_decision
        stop = any_rank(self._monitor.replica.should_stop, all=False)
        if self._resume and (stop or any_rank(self._saves.due(), all=False)):
            self._saves.save(lambda: self._save(trainer))
        if stop:
            self._stopped = trainer.should_stop = True
            raise StopIteration  # which ends Lightning's loop before this epoch; should_stop alone would train a batch

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._before = self._metric(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking and self._metric(trainer) is not self._before:
            self._validated = weights_of(pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._epoch = trainer.current_epoch
        self._report(trainer)

    def _save(self, trainer: Any) -> None:
        path = self._monitor.replica.directory / f"{state_name(self._monitor.replica)}.ckpt"
        part = path.with_suffix(".part")
        self._saving = True
        try:
            trainer.save_checkpoint(part)
        finally:
            self._saving = False
        if trainer.is_global_zero:
            part.replace(path)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._trained = self._epoch is not None
        self._report(trainer)
        if self._stopped and self._monitor.loss is not None:
            # it goes on later or its trial was given up: nothing of it counts yet
            self._monitor.hand_over(trainer.callback_metrics)
            return
        if self._validated is not None and self._validated != weights_of(pl_module):
            trainer.validating = True  # as the training loop does around its own validations
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
            self._reported = None
            self._report(trainer)
        if self._monitor.loss is None:
            raise self._monitor.missing(trainer.callback_metrics)
        if self._asked is not False and trainer.is_global_zero:
            keep(self._monitor.replica, batches(trainer, pl_module, self._passes), asked=bool(self._asked))
        state = trainer.strategy.lightning_module_state_dict()  # of all ranks, where they share the weights out
        if trainer.is_global_zero:
            nbytes = sum(tensor.nbytes for tensor in state.values() if isinstance(tensor, torch.Tensor))
            keep_weights(self._monitor.replica, WEIGHTS, nbytes, partial(save_weights, state), self._weights)
        trainer.strategy.barrier("hyppo_predictions")
        self._monitor.hand_over(trainer.callback_metrics)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if not self._trained:
            raise StudyError(
                f"trainer.fit trained nothing (max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps}, "
                f"limit_train_batches={trainer.limit_train_batches}): there is no loss to hand over"
            )

    def _metric(self, trainer: Any) -> Any:
        return trainer.callback_metrics.get(self._monitor.metric)

    def _report(self, trainer: Any) -> None:
        """Report the metric once for the last trained epoch, if there is a new one."""
        value, before = self._metric(trainer), self._seen
        self._seen = value
        if self._epoch is not None and self._epoch != self._reported and value is not None and value is not before:
            self._reported = self._epoch
            self._monitor.report(self._epoch, float(value))


def _replica_of(trainer: Any) -> Replica | None:
    """Whose training a Trainer is; None where it is not of this package's concern: evaluation, or no callback."""
    ours = [callback for callback in trainer.callbacks if isinstance(callback, HyppoCallback)]
    return ours[0]._monitor.replica if ours and trainer.training else None


def weights_of(module: Any) -> Weights:
    """Where every weight and buffer lies, and how often it has been written: equal means that nothing changed."""
    tensors = chain(module.parameters(), module.buffers())
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
