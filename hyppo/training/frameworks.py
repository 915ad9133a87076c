"""The deep-learning frameworks: all that the core knows of them, one entry of `FRAMEWORKS` each.

No framework is imported here. A method gets the module, which a training has imported by then. To support another
framework, add an entry here and a folder of integrations.
"""

import base64
import pickle
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any


class Framework:
    """One framework. The methods here do nothing: an entry overrides those that its framework needs.

    Attributes
    ----------
    name : str
        The module as users import it.
    threads : tuple of str
        Environment variables that hold its number of compute threads.
    """

    name: str
    threads: tuple[str, ...] = ()

    def seed(self, module: Any, seed: int) -> None:
        """Seed its global random generators."""

    def drawn(self, module: Any, seed: int) -> bool:
        """Whether code has drawn from its global generator since `seed`, without seeding it again."""
        return False

    def random_state(self, module: Any) -> dict[str, Any]:
        """State of its global random generators as JSON values; the keys are of this framework alone."""
        return {}

    def set_random_state(self, module: Any, state: dict[str, Any]) -> None:
        """Restore the generators from `state`, which may lack the keys of `random_state`."""

    def clear(self, module: Any) -> None:
        """Free the memory on GPUs that a training has left in the framework's cache.

        Raises
        ------
        Exception
            The framework can no longer be used in this process: its GPU refuses all work after some errors.
        """

    def switches(self, module: Any) -> dict[str, Any]:
        """Global switches that a training may change: default dtypes, precisions, modes."""
        return {}

    def set_switch(self, module: Any, name: str, value: Any) -> None:
        """Set one of `switches`."""

    def array(self, module: Any, leaf: Any) -> Any:
        """A tensor of this framework as something that `numpy.asarray` takes; anything else as it is."""
        return leaf

    def reset_peak(self, module: Any) -> None:
        """Forget the peak of the memory on GPUs so far."""

    def peak(self, module: Any) -> int | None:
        """Peak of the memory on GPUs in bytes; None if no GPU was used."""
        return None

    def generator_state(self, module: Any, value: Any) -> tuple[Any, bytes] | None:
        """State of a random generator that is not the global one, after its seed if it can be seeded anew."""
        return None

    def environ(self, seed: int) -> dict[str, str]:
        """Environment variables of a training with this seed, set before the framework is imported."""
        return {}

    def group_environ(self, near: int, nodes: int) -> dict[str, str]:
        """Environment variables of a data-parallel training: `near` ranks on this node, `nodes` nodes."""
        return {}


class NumPy(Framework):
    name = "numpy"

    def array(self, module: Any, leaf: Any) -> Any:
        if not module.ma.is_masked(leaf):
            return leaf
        return leaf.astype(module.result_type(leaf.dtype, module.float32)).filled(module.nan)

    def generator_state(self, module: Any, value: Any) -> tuple[Any, bytes] | None:
        return (None, pickle.dumps(value.bit_generator.state)) if isinstance(value, module.random.Generator) else None

    def switches(self, module: Any) -> dict[str, Any]:
        return {"errors": module.geterr()}

    def set_switch(self, module: Any, name: str, value: Any) -> None:
        module.seterr(**value)


class Multiprocessing(Framework):
    """No framework, but data loaders use it: setting its start method a second time is an error."""

    name = "multiprocessing"

    def switches(self, module: Any) -> dict[str, Any]:
        return {"start_method": module.get_start_method(allow_none=True)}

    def set_switch(self, module: Any, name: str, value: Any) -> None:
        module.set_start_method(value, force=True)


class Torch(Framework):
    name = "torch"

    def seed(self, module: Any, seed: int) -> None:
        module.manual_seed(seed)  # all devices

    def drawn(self, module: Any, seed: int) -> bool:
        if module.initial_seed() != seed:
            return False
        unused = module.Generator().manual_seed(seed)
        return not module.equal(module.get_rng_state(), unused.get_state())

    def generator_state(self, module: Any, value: Any) -> tuple[Any, bytes] | None:
        if not isinstance(value, module.Generator) or value is module.default_generator:
            return None
        return value.initial_seed(), value.get_state().numpy().tobytes()

    def random_state(self, module: Any) -> dict[str, Any]:
        state: dict[str, Any] = {"torch": _to_text(module.get_rng_state())}
        if module.cuda.is_initialized():
            state["cuda"] = [_to_text(generator) for generator in module.cuda.get_rng_state_all()]
        return state

    def set_random_state(self, module: Any, state: dict[str, Any]) -> None:
        if "torch" in state:
            module.set_rng_state(_to_tensor(module, state["torch"]))
        if "cuda" in state and len(state["cuda"]) == module.cuda.device_count():
            module.cuda.set_rng_state_all([_to_tensor(module, text) for text in state["cuda"]])

    def clear(self, module: Any) -> None:
        if module.cuda.is_initialized():
            module.cuda.synchronize()  # raises after a failed assertion or an illegal access in a kernel
            module.cuda.empty_cache()

    def switches(self, module: Any) -> dict[str, Any]:
        return {
            "dtype": module.get_default_dtype(),
            "device": module.get_default_device(),
            "matmul": module.get_float32_matmul_precision(),
            "deterministic": (
                module.are_deterministic_algorithms_enabled(),
                module.is_deterministic_algorithms_warn_only_enabled(),
            ),
            "benchmark": module.backends.cudnn.benchmark,
            "cudnn_deterministic": module.backends.cudnn.deterministic,
            "gradients": module.is_grad_enabled(),
            "anomaly": module.is_anomaly_enabled(),
            "threads": module.get_num_threads(),
            "process_group": self._has_group(),
        }

    def set_switch(self, module: Any, name: str, value: Any) -> None:
        match name:
            case "dtype":
                module.set_default_dtype(value)
            case "device":
                module.set_default_device(None if value.type == "cpu" else value)
            case "matmul":
                module.set_float32_matmul_precision(value)
            case "deterministic":
                module.use_deterministic_algorithms(value[0], warn_only=value[1])
            case "benchmark":
                module.backends.cudnn.benchmark = value
            case "cudnn_deterministic":
                module.backends.cudnn.deterministic = value
            case "gradients":
                module.set_grad_enabled(value)
            case "anomaly":
                module.autograd.set_detect_anomaly(value)
            case "threads":
                module.set_num_threads(value)
            case "process_group" if not value:  # Lightning leaves one; the next training's ranks would meet in it
                with suppress(Exception):  # its other ranks may have died; the training is done all the same
                    module.distributed.destroy_process_group()

    def _has_group(self) -> bool:
        distributed = sys.modules.get("torch.distributed")
        return distributed is not None and distributed.is_available() and distributed.is_initialized()

    def array(self, module: Any, leaf: Any) -> Any:
        if not isinstance(leaf, module.Tensor):
            return leaf
        leaf = leaf.detach().cpu()
        # numpy has no bfloat16
        return (leaf.float() if leaf.is_floating_point() and leaf.element_size() < 4 else leaf).numpy()

    def reset_peak(self, module: Any) -> None:
        if module.cuda.is_initialized():
            for device in range(module.cuda.device_count()):
                module.cuda.reset_peak_memory_stats(device)

    def peak(self, module: Any) -> int | None:
        if not module.cuda.is_initialized():
            return None
        return sum(int(module.cuda.max_memory_allocated(device)) for device in range(module.cuda.device_count()))


def _to_text(generator: Any) -> str:
    """The state of one of torch's generators, a tensor of bytes, as text."""
    return base64.b64encode(generator.numpy().tobytes()).decode()


def _to_tensor(torch: Any, text: str) -> Any:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


class TensorFlow(Framework):
    name = "tensorflow"
    threads = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")

    def seed(self, module: Any, seed: int) -> None:
        module.random.set_seed(seed)

    def switches(self, module: Any) -> dict[str, Any]:
        return {"eager": module.config.functions_run_eagerly(), "jit": module.config.optimizer.get_jit()}

    def set_switch(self, module: Any, name: str, value: Any) -> None:
        if name == "eager":
            module.config.run_functions_eagerly(value)
        else:
            module.config.optimizer.set_jit(value or False)


class Keras(Framework):
    """Keras, also on JAX, which has no global random state.

    A network's own generators belong to the network. Keras' global one, for functions of `keras.random` without a seed,
    is created when it is first used.
    """

    name = "keras"
    # Keras 3.5 has neither of the last two.
    SWITCHES = ("floatx", "epsilon", "image_data_format", "dtype_policy", "max_epochs", "max_steps_per_epoch")

    def seed(self, module: Any, seed: int) -> None:
        module.utils.set_random_seed(seed)
        _keras_state().set_global_attribute(KERAS_GENERATOR, None)  # that of Keras 3.5 does not

    def random_state(self, module: Any) -> dict[str, Any]:
        generator = _keras_state().get_global_attribute(KERAS_GENERATOR)
        return {} if generator is None else {"keras": generator.state.numpy().tolist()}

    def set_random_state(self, module: Any, state: dict[str, Any]) -> None:
        generator = None
        if "keras" in state:  # the present one, if there is one: compiled functions hold it
            generator = _keras_state().get_global_attribute(KERAS_GENERATOR) or module.random.SeedGenerator(0)
            generator.state.assign(state["keras"])
        _keras_state().set_global_attribute(KERAS_GENERATOR, generator)

    def switches(self, module: Any) -> dict[str, Any]:
        switches = {name: getattr(module.config, name)() for name in self.SWITCHES if hasattr(module.config, name)}
        return switches | {"names": dict(_keras_state().get_global_attribute(KERAS_NAMES) or {})}

    def set_switch(self, module: Any, name: str, value: Any) -> None:
        if name == "names":
            _keras_state().set_global_attribute(KERAS_NAMES, defaultdict(int, value))
        else:
            getattr(module.config, f"set_{name}")(value)


KERAS_NAMES = "object_name_uids"  # number of metrics, layers, ... with each automatic name: auc, auc_1, ...
KERAS_GENERATOR = "global_seed_generator"  # of keras.random's functions without a seed


def _keras_state() -> Any:
    """Keras' global attributes, a private module: some of them have no public function."""
    return import_module("keras.src.backend.common.global_state")


class Jax(Framework):
    name = "jax"
    SWITCHES = (
        "jax_enable_x64",
        "jax_default_matmul_precision",
        "jax_default_prng_impl",
        "jax_debug_nans",
        "jax_disable_jit",
        "jax_numpy_dtype_promotion",
    )

    def switches(self, module: Any) -> dict[str, Any]:
        return {name: getattr(module.config, name) for name in self.SWITCHES}

    def set_switch(self, module: Any, name: str, value: Any) -> None:
        module.config.update(name, value)


class Lightning(Framework):
    name = "lightning"

    def environ(self, seed: int) -> dict[str, str]:
        # Lightning passes this seed to its data-loader workers; torch seeds its workers from its generator.
        return {"PL_GLOBAL_SEED": str(seed), "PL_SEED_WORKERS": "1"}

    def group_environ(self, near: int, nodes: int) -> dict[str, str]:
        # Lightning takes these for the defaults of its Trainer.
        return {
            "PL_TRAINER_STRATEGY": "ddp",
            "PL_TRAINER_DEVICES": str(near),
            "PL_TRAINER_NUM_NODES": str(nodes),
        }


FRAMEWORKS: dict[str, Framework] = {
    entry.name: entry for entry in (NumPy(), Multiprocessing(), Torch(), TensorFlow(), Keras(), Jax(), Lightning())
}


def imported() -> Iterator[tuple[Framework, Any]]:
    """The frameworks that this process has imported, each with its module.

    A framework whose import has not finished yet is skipped.
    """
    for name, framework in FRAMEWORKS.items():
        module = sys.modules.get(name)
        if module is not None and getattr(module.__spec__, "_initializing", False) is False:
            yield framework, module


def clear() -> None:
    """Free the memory on GPUs that a training has left in the frameworks that it used.

    Raises
    ------
    Exception
        A framework can no longer be used in this process, so no training can.
    """
    for framework, module in imported():
        framework.clear(module)
