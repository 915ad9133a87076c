"""`hyppo` for Keras 3, on TensorFlow, torch and JAX: `fit` in the place of `model.fit`, or a callback beside it."""

from hyppo_keras.build import from_build
from hyppo_keras.callback import HyppoCallback, fit
from hyppo_keras.weights import load_ensemble

__all__ = ["HyppoCallback", "fit", "from_build", "load_ensemble"]
