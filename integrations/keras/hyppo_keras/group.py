"""The ranks that train one replica together: each on its rows, with gradients averaged before every step.

Keras itself cannot run `model.fit` over several processes on a CPU: TensorFlow's strategy fails in it. So the
`apply` of each optimiser gets the mean of the gradients over the ranks, by torch.distributed's gloo under torch and
under TensorFlow. Trained weights, optimiser and logs stay equal on all ranks, and so do the
decisions of other callbacks. Each rank computes the moving statistics of batch normalisation from its own rows, and
those of the first rank are kept.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from hyppo.errors import StudyError, notify
from hyppo.training.replica import Replica
from hyppo_keras.optimizers import optimizers


class Group:
    """The ranks of a replica.

    Parameters
    ----------
    replica : hyppo.Replica
        A replica with several ranks.

    Raises
    ------
    StudyError
        Keras runs on JAX, torch is not installed, or the process group has ranks of another training.
    """

    def __init__(self, replica: Replica) -> None:
        if keras.backend.backend() == "jax":
            raise StudyError(
                f"{replica.world_size} ranks train this replica together, which Keras on jax cannot: set "
                "KERAS_BACKEND to torch or tensorflow, or leave out data_parallel"
            )
        try:
            from torch import distributed
        except ImportError as error:
            raise StudyError(
                f"{replica.world_size} ranks train this replica together, and Keras on {keras.backend.backend()} "
                "exchanges gradients through torch, which is not installed (pip install torch): or leave out "
                "data_parallel"
            ) from error
        self._distributed = distributed
        self._compiled: Any = None  # the model's own jit_compile
        self.rank, self.size = replica.rank, replica.world_size
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
        tokens = self.gather(os.environ.get("TORCHELASTIC_RUN_ID"))
        if len(set(tokens)) > 1:
            raise StudyError(
                f"the process group holds ranks of {len(set(tokens))} trainings (TORCHELASTIC_RUN_ID {tokens}): a "
                "script must leave MASTER_PORT and torch.distributed to hyppo_keras.fit"
            )

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank."""
        values: list[Any] = [None] * self.size
        self._distributed.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it holds on any rank."""
        return any(self.gather(bool(flag)))

    def mean(self, flat: Any) -> Any:
        """Mean over the ranks of an array, shape (n,), float32."""
        import torch

        buffer = torch.from_numpy(np.array(flat, np.float32))
        self._distributed.all_reduce(buffer)
        return (buffer / self.size).numpy()

    # -- training data --------------------------------------------------------------------------------------------

    def shared_out(self, fit: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `Model.fit` for this rank: arrays are cut to its share of the rows, others stay unchanged.

        All shares have the same size. All ranks validate on all validation data. Data sets and loaders are not divided.
        """
        fit = dict(fit)
        x, y, weight = (fit.get(name) for name in ("x", "y", "sample_weight"))
        if not all(hasattr(array, "shape") for array in keras.tree.flatten(x)):
            notify(
                f"x is a {type(x).__name__}: each of the {self.size} ranks of a replica trains on all of its x; "
                "give each rank its own part, by replica.rank and replica.world_size",
                stacklevel=4,
            )
            return fit
        rows = len(keras.tree.flatten(x)[0])
        split = fit.pop("validation_split", 0.0)
        if split and fit.get("validation_data") is None:  # as Keras does: the last ones
            at = math.floor(rows * (1.0 - split))
            left = [_rows(array, slice(at, rows)) for array in (x, y, weight)]
            fit["validation_data"] = tuple(left if weight is not None else left[:2])
            rows = at
        own = slice(self.rank, rows // self.size * self.size, self.size)
        for name, array in (("x", x), ("y", y), ("sample_weight", weight)):
            fit[name] = _rows(array, own)
        return fit

    # -- synchronisation ------------------------------------------------------------------------------------------

    def join(self, model: Any, steps: Any) -> None:
        """Make a fit that begins train one network on all ranks; `steps` is the number of this rank's steps per epoch.

        Raises
        ------
        StudyError
            Networks or numbers of batches differ between ranks.
        """
        shapes = [weight.shape for weight in model.get_weights()]
        ranks = self.gather((shapes, steps))
        if any(other != ranks[0] for other in ranks):
            raise StudyError(
                "the ranks of a replica must have the same network and the same number of batches an epoch, and have "
                f"{[f'{len(shapes)} weights, {steps} batches' for shapes, steps in ranks]}: build and cut the data by "
                "replica.params and replica.seed, alike on every rank"
            )
        values = [model.get_weights() if self.rank == 0 else None]
        self._distributed.broadcast_object_list(values, src=0)
        model.set_weights(values[0])
        for optimizer in optimizers(model):
            optimizer.__dict__["apply"] = functools.partial(self._apply, optimizer.apply)
        if keras.backend.backend() == "tensorflow":  # XLA cannot call out
            self._compiled = model.jit_compile
            model.jit_compile = False
            model.make_train_function(force=True)

    def leave(self, model: Any) -> None:
        """The fit is over: a later one of the same model is of one rank again."""
        for optimizer in optimizers(model):
            optimizer.__dict__.pop("apply", None)
        if keras.backend.backend() == "tensorflow":
            model.jit_compile = self._compiled
            model.make_train_function(force=True)

    def _apply(self, own: Callable[..., Any], grads: Any, trainable_variables: Any = None) -> Any:
        return own(self._averaged(list(grads)), trainable_variables)

    def _averaged(self, grads: list[Any]) -> list[Any]:
        there = [keras.ops.convert_to_tensor(grad) for grad in grads if grad is not None]  # dense, an embedding's too
        flat = keras.ops.concatenate([keras.ops.reshape(keras.ops.cast(grad, "float32"), (-1,)) for grad in there])
        mean = _called(self.mean, flat)
        averaged, at = [], 0
        for grad in there:
            n = math.prod(grad.shape)
            averaged.append(keras.ops.cast(keras.ops.reshape(mean[at : at + n], grad.shape), grad.dtype))
            at += n
        left = iter(averaged)
        return [None if grad is None else next(left) for grad in grads]

    def average_logs(self, logs: dict[str, Any]) -> None:
        """Put the mean over the ranks into an epoch's logs, so that no callback decides otherwise than its peers."""
        ranks = self.gather({name: float(value) for name, value in logs.items()})
        for name in logs:
            logs[name] = float(np.mean([values[name] for values in ranks]))


def _rows(array: Any, rows: slice) -> Any:
    return None if array is None else keras.tree.map_structure(lambda one: one[rows], array)


def _called(mean: Any, flat: Any) -> Any:
    """`mean(flat)`, a function of numpy arrays, from inside a step that the backend may have compiled."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        result = tf.numpy_function(mean, [flat], tf.float32)
        result.set_shape(flat.shape)
        return result
    import torch

    return torch.from_numpy(mean(flat.detach().cpu().numpy())).to(flat.device)


class AveragedLogs(keras.callbacks.Callback):  # type: ignore[misc]
    """First among the callbacks of a group's fit: the others see the same logs on every rank."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self._group = group

    def on_train_begin(self, logs: Any = None) -> None:
        self._group.join(self.model, (self.params or {}).get("steps"))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs:
            self._group.average_logs(logs)
