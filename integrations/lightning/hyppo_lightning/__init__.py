"""`hyppo` for Lightning: a callback on the user's own Trainer, of `lightning` 2.x and of `pytorch_lightning` alike."""

from hyppo_lightning.callback import HyppoCallback
from hyppo_lightning.weights import load_ensemble

__all__ = ["HyppoCallback", "load_ensemble"]
