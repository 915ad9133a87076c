"""The callback that reports losses, stops the training, and returns its result."""

import hashlib
import importlib.util
import inspect
import pickle
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from hyppo.errors import StudyError, notify
from hyppo.training.metric import STEP_PAUSE, Monitor
from hyppo.training.predictions import UNASKED_BYTES, asked_for, keep, keep_weights
from hyppo.training.replica import Replica
from hyppo.training.resume import Saves, does_not_load, random_state, set_random_state, state_name
from hyppo_lightning.group import check_group, watch_launchers
from hyppo_lightning.predict import batches
from hyppo_lightning.prepare import lock_preparation
from hyppo_lightning.roots import redirect_roots
from hyppo_lightning.weights import WEIGHTS, form_of, gathered, save_weights

if TYPE_CHECKING:
    from lightning.pytorch import Callback as _Base
else:
    _Base = object

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
GROUP_EVERY = 20  # batches between two checks of should_stop with several ranks, which have to agree
SAMPLE = 1024  # elements of a weight that are hashed, at least if it has so many
Weights = list[tuple[int, int, bytes]]


class HyppoCallback(_Base):
    """Report the loss at each validation, stop if the run asks for it, and store the result when `trainer.fit` ends.

    The loss is the monitored value for the weights at the end of `fit`. If these have changed since the last validation
    (validation every k epochs, a stop within an epoch, averaged weights), they are validated once more. Reports count
    epochs if the Trainer validates at the end of epochs, and validations from 0 if it validates within epochs. If a
    training calls `fit` several times, the last fit counts, and reports continue the count of the earlier fits.

    Parameters
    ----------
    replica : hyppo.Replica
        The argument of the training function.
    monitor : str
        Name of a logged metric.
    mode : {"min", "max"}
        With "max" the loss is minus the metric.
    mc_dropout : int
        Monte-Carlo-dropout passes over the validation data after the fit, for prediction uncertainty.
    predict : bool, optional
        Keep predictions on the validation data. By default, or with None, they are kept up to 16 MiB; True keeps any
        size, as mc_dropout > 0 does, False keeps none. If predictions fail, the training keeps its
        loss: a notice says why.
    weights : bool, optional
        Keep the trained network as `weights.ckpt` in the replica's directory, for `load_ensemble`. By default it is
        kept up to 16 MiB; True keeps any size, False keeps none.
    resume : bool
        Save the Trainer's state in the replica's directory when the run stops, and every minute or so at the end of an
        epoch, or after a validation within one. An interrupted training continues from this state, unless
        `trainer.fit` gets a `ckpt_path`.
    metrics : sequence of str, optional
        Names of further logged metrics, kept as `trial.metrics`. `parameters` (trainable) is always kept.
    monitor_best : bool
        Use the best validation: at the end of `fit` the network has the weights of the lowest loss, and loss,
        predictions and the kept network belong to these weights.

    Raises
    ------
    StudyError
        An invalid argument; and from `trainer.fit`: a second callback, a fit without training, a metric that is not
        logged by the first validation, a Trainer that does not train on the replica's ranks.

    Examples
    --------
    ::

        def train(replica):
            trainer = lightning.Trainer(max_epochs=20, callbacks=[HyppoCallback(replica, monitor="val_loss")])
            trainer.fit(Net(**replica.params), train_loader, val_loader)
    """

    _based = False

    def __new__(cls, *args: Any, **kwargs: Any) -> "HyppoCallback":
        # The two packages are the same code twice, with unrelated classes, and take 3 s to import: so the base is the
        # one that the user's script has already loaded, since it is about to create a Trainer.
        packages = tuple(name for name in PACKAGES if name in sys.modules)
        if not packages:
            packages = PACKAGES[:1] if importlib.util.find_spec("lightning") else PACKAGES[1:]
        for package in packages:
            watch_launchers(package, _replica_of)
            redirect_roots(package, _replica_among)
            lock_preparation(package, _replica_of)
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
        *,
        metrics: Sequence[str] = (),
        monitor_best: bool = False,
    ) -> None:
        self._monitor = Monitor(replica, monitor, mode, metrics, monitor_best)
        self._asked = asked_for(replica, mc_dropout, predict)
        self._passes = mc_dropout
        self._weights = weights
        self._resume = resume
        self._saves = Saves()
        self._reset()

    def _reset(self) -> None:
        """Set the state of one fit."""
        self._saving = self._saving_within = self._resuming = False
        self._by_epoch = True  # reports count epochs, not validations
        self._epoch: int | None = None  # the last that was trained
        self._reported: int | None = None  # the last that was reported
        self._seen: Any = None  # its metric at that time: Lightning keeps the value until there is a new one
        self._validated: Weights | None = None  # the weights that it belongs to, if it comes from a validation
        self._checked = self._has_validated = False
        self._trained = self._stopped = False
        self._used: Weights | None = None  # weights that the present validation uses
        self._candidate: dict[str, Any] | None = None  # and, with monitor_best, a copy of them on the CPU
        self._best: dict[str, Any] | None = None  # weights of the lowest loss, on the CPU
        self._form: int | None = None  # of a validation batch
        self._since = 0.0  # start of the epoch
        self._validation_took = 0.0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        if sum(isinstance(callback, HyppoCallback) for callback in trainer.callbacks) > 1:
            raise StudyError("the Trainer has more than one HyppoCallback; give it one: a training has one result")
        check_group(trainer, self._monitor.replica)
        if self._monitor.best and not whole_networks(trainer.strategy):
            raise StudyError(
                f"monitor_best=True needs the whole network on each rank, and {type(trainer.strategy).__name__} shards "
                "it: leave monitor_best out, or return ModelCheckpoint's best_model_score from the training function"
            )
        self._reset()
        self._monitor.begin()
        # last, because other callbacks (weight averaging) may exchange the weights at the end of training; a new list,
        # because the Trainer is iterating over this one
        trainer.callbacks = [callback for callback in trainer.callbacks if callback is not self] + [self]

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        path = self._monitor.replica.location / f"{state_name(self._monitor.replica)}.ckpt"
        if not self._resume or trainer.ckpt_path or not path.is_file():
            return
        # A callback cannot set fit's ckpt_path. Lightning restores from it in two steps, the second (loops and
        # optimisers) after this hook; some strategies do the first step at this point too.
        restore = trainer._checkpoint_connector._restore_modules_and_callbacks
        safe = {"weights_only": True} if "weights_only" in inspect.signature(restore).parameters else {}
        try:
            torch.load(str(path), map_location="cpu", mmap=True, weights_only=True)  # Lightning < 2.6 loads any pickle
        except pickle.UnpicklingError as error:
            notify(
                f"{path} of an interrupted training holds more than tensors and plain values, and loading such a file "
                "can run code: the training starts from the beginning. If you trust the file, name its classes to "
                f"torch.serialization.add_safe_globals before fit ({str(error).splitlines()[0]})",
                stacklevel=2,
            )
            return
        except Exception:  # a damaged file: Lightning's loading below reports it
            pass
        self._resuming = True
        try:
            restore(path, **safe)
        except Exception as error:  # errors of torch, of Lightning and of the user's hooks
            raise does_not_load(path, error) from error

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._saving:  # only in this callback's checkpoint, not in the user's
            checkpoint["hyppo"] = {
                "curve": self._monitor.curve,
                "random": random_state(),
                "validated": self._validated is not None,
                "loss": self._monitor.loss,
                "beside": self._monitor.beside,
                "best": self._best,
            }
            if self._saving_within:
                return
            # Lightning can continue from the end of an epoch, where it makes its own checkpoints, but not from the
            # start of one: set its counters back to the end of the epoch before.
            for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
                counts["ready"] -= 1
                counts["completed"] -= 1

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._resuming:
            state = checkpoint["hyppo"]
            self._monitor.go_on(state["curve"])
            if state["loss"] is not None:
                self._monitor.take(state["loss"], state["beside"])
            self._best = state["best"]
            if state["validated"]:
                self._validated = []  # of other weights than those at the end of fit
            # now, not when training starts: the iterator over the data, which draws a seed, is created in between
            set_random_state(state["random"])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._seen = self._metric(trainer)
        self._epoch = self._reported = None
        interval = trainer.val_check_batch  # in batches; None if it is a time
        self._by_epoch = not trainer.enable_validation or (
            trainer.check_val_every_n_epoch is not None
            and interval is not None
            and interval >= trainer.num_training_batches
        )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self._stopped:
            raise StopIteration
        self._since = time.monotonic()
        if self._epoch is None:
            return  # nothing is trained yet
        self._report(trainer, pl_module)  # the metrics that the module's on_train_epoch_end logged after the callbacks'
        self._check(trainer)
        # Here and not at the end of the epoch before: the learning-rate schedules have made their step since, and a
        # training that has finished its last epoch ends by itself, complete.
        any_rank = trainer.strategy.reduce_boolean_decision
        stop = any_rank(self._monitor.replica.should_stop, all=False)
        if self._resume and (stop or any_rank(self._saves.due(), all=False)):
            self._saves.save(lambda: self._save(trainer))
        if stop:
            self._stopped = trainer.should_stop = True
            raise StopIteration  # which ends Lightning's loop before this epoch; should_stop alone would train a batch

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._trained = True
        replica, any_rank = self._monitor.replica, trainer.strategy.reduce_boolean_decision
        if replica.world_size > 1 and (batch_idx + 1) % GROUP_EVERY:
            return
        if not any_rank(replica.should_stop, all=False):
            return
        took = (time.monotonic() - self._since) / (batch_idx + 1)
        left = took * (trainer.num_training_batches - batch_idx - 1) + self._validation_took
        if any_rank(left <= STEP_PAUSE, all=False):
            return  # train to the end of the epoch: from there a training continues bit for bit as if uninterrupted
        if self._resume:
            self._saves.save(lambda: self._save(trainer, within=True))
        self._stopped = trainer.should_stop = True
        raise StopIteration

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._before = self._metric(trainer)
        self._validation_began = time.monotonic()
        self._used = self._candidate = None

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._form = form_of(batch)
        # The metric belongs to the weights that are here now: others (WeightAveraging) may exchange them at the
        # start and the end of the validation, and DDP copies the buffers of the first rank in the first batch.
        # Sharded weights have another form within a validation.
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        if self._used is None and fitting and whole_networks(trainer.strategy):
            self._used = weights_of(trainer)
            if self._monitor.best:
                self._candidate = copy_of_weights(pl_module)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._has_validated = True
        self._validation_took = time.monotonic() - self._validation_began
        if self._metric(trainer) is not self._before:
            self._validated = self._used or weights_of(trainer)
        else:
            self._candidate = None  # the metric is one of the training
        if self._by_epoch:
            return
        self._report(trainer, pl_module, validating=True)
        if self._monitor.metric.startswith("val") and not _logs_at_epoch_end(pl_module):
            self._check(trainer)
        if self._resume and trainer.strategy.reduce_boolean_decision(self._saves.due(), all=False):
            self._saves.save(lambda: self._save(trainer, within=True))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self._stopped:
            return
        self._epoch = trainer.current_epoch
        self._report(trainer, pl_module)

    def _check(self, trainer: Any) -> None:
        """Check the names of the metrics once, after the first validation and all its hooks have finished."""
        if self._has_validated and not self._checked:
            self._checked = True
            self._monitor.check(trainer.callback_metrics)

    def _save(self, trainer: Any, *, within: bool = False) -> None:
        """Save the state of the training, at an epoch's start or `within` one."""
        path = self._monitor.replica.directory / f"{state_name(self._monitor.replica)}.ckpt"
        part = path.with_suffix(".part")
        self._saving, self._saving_within = True, within
        try:
            trainer.save_checkpoint(part)
        finally:
            self._saving = False
        if trainer.strategy.broadcast(part.is_dir()):
            self._resume = False
            if trainer.is_global_zero:
                shutil.rmtree(part)
            raise StudyError(f"{type(trainer.strategy).__name__} writes each rank's shard to a file of its own")
        if trainer.is_global_zero:
            part.replace(path)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        replica = self._monitor.replica
        self._report(trainer, pl_module)
        if self._stopped:  # it will be continued, or its trial was stopped early: its result does not count
            self._monitor.store_result(trainer.callback_metrics, stopped=True)
            return
        if not self._trained:
            return  # on_fit_end says so
        unknown = self._monitor.loss is None and not self._has_validated and trainer.enable_validation
        changed = self._validated is not None and self._validated != weights_of(trainer)
        if unknown or trainer.strategy.reduce_boolean_decision(changed, all=False):
            trainer.validating = True  # as the training loop does around its validations
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
            self._reported = None
            self._report(trainer, pl_module)
        if self._monitor.loss is None:
            raise self._monitor.missing(trainer.callback_metrics)
        if self._best is not None:
            pl_module.load_state_dict(self._best)
        whole = whole_networks(trainer.strategy)
        if self._asked is not False and not whole:
            notify(
                f"no predictions are kept: {type(trainer.strategy).__name__} shards the network over the ranks "
                "(predict=False silences this notice)",
                stacklevel=2,
            )
        elif self._asked is not False and trainer.is_global_zero:
            keep(replica, batches(trainer, pl_module, self._passes), asked=bool(self._asked))
        if whole:
            replica.log("parameters", sum(p.numel() for p in pl_module.parameters() if p.requires_grad))
        state = trainer.strategy.lightning_module_state_dict()  # a collective call if the ranks share the weights
        nbytes = sum(tensor.nbytes for tensor in state.values() if isinstance(tensor, torch.Tensor))
        if self._weights or (self._weights is None and nbytes <= UNASKED_BYTES):
            state = gathered(state)
        if trainer.is_global_zero:
            keep_weights(replica, {WEIGHTS: partial(save_weights, state, self._form)}, nbytes, self._weights)
        trainer.strategy.barrier("hyppo_predictions")
        self._monitor.store_result(trainer.callback_metrics)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if not self._trained:
            raise StudyError(
                f"trainer.fit trained nothing (max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps}, "
                f"limit_train_batches={trainer.limit_train_batches}): there is no loss"
            )

    def _metric(self, trainer: Any) -> Any:
        return trainer.callback_metrics.get(self._monitor.metric)

    def _report(self, trainer: Any, pl_module: Any, *, validating: bool = False) -> None:
        """Report the metric if there is a new one of a trained network: once an epoch, or once a validation."""
        value, before = self._metric(trainer), self._seen
        self._seen = value
        if value is None or value is before or not self._trained:
            return
        if self._by_epoch and (self._epoch is None or self._epoch == self._reported):
            return
        if not self._by_epoch and self._validated is not None and not validating:
            return  # at the end of an epoch Lightning logs the same value again
        self._reported = self._epoch
        step = self._epoch if self._by_epoch and self._epoch is not None else len(self._monitor.curve)
        if self._monitor.report(step, trainer.callback_metrics) and self._monitor.best:
            self._best = self._candidate or copy_of_weights(pl_module)


def _logs_at_epoch_end(module: Any) -> bool:
    """Whether a LightningModule may log a metric after the last validation of an epoch."""
    return not type(module).on_train_epoch_end.__module__.endswith("core.hooks")


def whole_networks(strategy: Any) -> bool:
    """Whether every rank of a Trainer's strategy holds the whole network, so that one can predict alone."""
    names = {kind.__name__ for kind in type(strategy).__mro__}
    return bool(names & {"SingleDeviceStrategy", "DDPStrategy"}) and "DeepSpeedStrategy" not in names


def _replica_among(callbacks: Any) -> Replica | None:
    """The replica of the HyppoCallback among a Trainer's callbacks."""
    given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    return next((callback._monitor.replica for callback in given if isinstance(callback, HyppoCallback)), None)


def _replica_of(trainer: Any) -> Replica | None:
    """The replica that a Trainer trains; None if it has no HyppoCallback or only evaluates."""
    ours = [callback for callback in trainer.callbacks if isinstance(callback, HyppoCallback)]
    return ours[0]._monitor.replica if ours and trainer.training else None


def weights_of(trainer: Any) -> Weights:
    """Address, number of writes and fingerprint of every weight and buffer: if equal, no weight has changed.

    The number does not count writes through `.data`, as those of WeightAveraging. Sharded weights, which that callback
    does not take, have no fingerprint: reading them between two batches disturbs FSDP.
    """
    module, whole = trainer.lightning_module, whole_networks(trainer.strategy)
    return [
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, fingerprint(tensor) if whole else b"")
        for tensor in chain(module.parameters(), module.buffers())
    ]


def fingerprint(tensor: torch.Tensor) -> bytes:
    """Digest of a sample of a weight."""
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLE)].contiguous().cpu()
    return hashlib.blake2b(sample.view(torch.uint8).numpy().tobytes(), digest_size=16).digest()


def copy_of_weights(module: Any) -> dict[str, Any]:
    """A state dict on the CPU; of tensors that may be trained further, even if it is made within a validation."""
    with torch.inference_mode(False):
        return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
