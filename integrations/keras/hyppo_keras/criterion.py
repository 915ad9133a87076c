"""The compiled loss of a Keras network as the criterion of its predictions."""

from dataclasses import dataclass
from typing import Any

import keras

from hyppo.errors import ObjectiveError
from hyppo.training.criterion import pack, register_default

register_default("hyppo_keras")


@dataclass(frozen=True)
class CompiledLoss:
    """The loss of `model.compile(loss=loss)` as a criterion.

    It travels as class and state: Keras pickles a loss by its configuration, and that of some, Huber's for one, leaves
    out their arguments.

    >>> CompiledLoss.of("mse")([[1.0], [3.0]], [[1.0], [1.0]])
    2.0
    """

    loss: Any

    @staticmethod
    def of(loss: Any) -> "CompiledLoss":
        """The criterion of one compiled loss.

        Raises
        ------
        ObjectiveError
            None, several, or one that cannot be sent to the process of the study.
        """
        try:
            if isinstance(loss, dict | list | tuple) or loss is None:
                raise TypeError(f"{loss!r} is not one loss")
            found = CompiledLoss(keras.losses.get(loss))
            pack(found)
        except Exception as error:  # whatever a loss of the user's own raises
            raise ObjectiveError(
                f'target="ensemble_loss": the compiled loss cannot be taken to the mean prediction ({error}); '
                "give the study criterion=f, the loss f(mean prediction, targets) as a number"
            ) from error
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.loss, keras.losses.Loss):
            return _again, (type(self.loss), vars(self.loss))
        return CompiledLoss, (self.loss,)

    def __call__(self, prediction: Any, targets: Any) -> float:
        targets, prediction = (keras.ops.convert_to_tensor(a, "float32") for a in (targets, prediction))
        # a function gives a loss an example, a Loss object their mean
        return float(keras.ops.mean(self.loss(targets, prediction)))


def _again(kind: Any, state: dict[str, Any]) -> CompiledLoss:
    loss = kind.__new__(kind)
    vars(loss).update(state)
    return CompiledLoss(loss)
