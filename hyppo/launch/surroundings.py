"""What a training process is started in: its environment, its threads, and the CPUs and GPUs that there are."""

import contextlib
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from hyppo.loop import OVERRIDES
from hyppo.training.frameworks import FRAMEWORKS

# What an MPI launcher or a batch system leaves in the environment. With it, importing MPI in the training process
# kills or hangs the whole job, and Lightning takes the job's ranks for its own. What overrides this run's arguments is
# not meant for a study inside a training either.
LAUNCHER = re.compile(
    r"^(PMI|PMIX|OMPI_|OPAL_|PRTE_|MPI_|HYDRA|HYDI_|I_MPI_|MPICH_|MPIR_|SLURM_|FLUX_|PALS_|ALPS_"
    rf"|HYPPO_({'|'.join(name.upper() for name in OVERRIDES)})$)"
)
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    *(name for framework in FRAMEWORKS.values() for name in framework.threads),
)

# TensorFlow and JAX take most of a GPU's memory when they start, and then a second training process has none.
SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def environment(threads: int | None, default: int, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of a training process: this one's, without the launcher, and with its number of threads.

    `threads` None leaves numbers that are set already: what is not set follows OMP_NUM_THREADS, or else is `default`.

    >>> environment(2, 1)["OMP_NUM_THREADS"]
    '2'
    """
    environ = {name: value for name, value in os.environ.items() if not LAUNCHER.match(name)}
    if threads is None:
        # Every number is set: what had kept torch to one thread, a variable of MPICH's, has just been taken out.
        environ = dict.fromkeys(THREADS, environ.get("OMP_NUM_THREADS", str(default))) | environ
    else:
        environ |= dict.fromkeys(THREADS, str(threads))
    environ = SHARED_GPU | environ | dict(extra or {})
    # The training process must find this very package before it is told the rest of sys.path.
    environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return environ


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them; no framework is imported."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        names = [name.strip() for name in listed.split(",")]
        return tuple(itertools.takewhile(lambda name: name not in ("", "-1"), names))
    with contextlib.suppress(OSError):
        return tuple(str(number) for number in range(len(os.listdir("/proc/driver/nvidia/gpus"))))
    return ()


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
