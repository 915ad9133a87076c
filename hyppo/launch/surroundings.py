"""Surroundings of a training process: environment, threads, available CPUs and GPUs."""

import contextlib
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from hyppo.loop import OVERRIDES
from hyppo.training.frameworks import FRAMEWORKS

# Variables of launchers and batch systems that make MPI or a framework believe that the ranks of this job are its own.
# With them, importing MPI in the training process kills or hangs the job, and Lightning expects ranks to train with.
# The others stay (SLURM_JOB_ID, SLURM_TMPDIR, SLURM_CPUS_PER_TASK, ...); docs/slurm.md has the list. A setting that
# overrides the arguments of this run is not meant for a study inside a training either.
LAUNCHER = re.compile(
    r"^(PMI|PMIX|OMPI_|OPAL_|PRTE_|HYDRA|HYDI_|I_MPI_|MPICH_|MPIR_|PALS_|ALPS_"
    r"|MPI_LOCALRANKID$|MPI_LOCALNRANKS$|MV2_COMM_WORLD_|JSM_NAMESPACE_"
    r"|SLURM_(PROCID|LOCALID|NODEID|GTIDS|TASK_PID|NPROCS|NTASKS|TASKS_PER|STEP|LAUNCH_NODE|SRUN_COMM|MPI_TYPE|PMI)"
    r"|FLUX_(TASK_|PMI_|JOB_SIZE$|JOB_NNODES$)"
    rf"|HYPPO_({'|'.join(name.upper() for name in (*OVERRIDES, 'confirm'))})$)"
)
# Of torchrun and those like it. In a world of one they are kept: a script may set them for its trainings.
TORCHRUN = re.compile(
    r"^((LOCAL_|GROUP_|ROLE_|NODE_)?RANK|(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|ROLE_NAME|TORCHELASTIC_.*)$"
)
# Variables that ask for colours and live displays although the output is no terminal; notebooks set the first two. The
# output of a training is read by line: each frame of a progress bar would be a line.
TERMINAL = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE")
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
    """Environment of a training process: this one's, without a launcher's ranks and a terminal, with its threads.

    `threads` None keeps the variables that are set; the others get OMP_NUM_THREADS if that is set, else `default`.

    >>> environment(2, 1)["OMP_NUM_THREADS"]
    '2'
    """
    environ = {name: value for name, value in os.environ.items() if not (LAUNCHER.match(name) or name in TERMINAL)}
    if torchrun_ranks() > 1:
        environ = {name: value for name, value in environ.items() if not TORCHRUN.match(name)}
    if threads is None:
        # All are set, because the variable of MPICH that limited torch to one thread was removed above.
        environ = dict.fromkeys(THREADS, environ.get("OMP_NUM_THREADS", str(default))) | environ
    else:
        environ |= dict.fromkeys(THREADS, str(threads))
    environ = SHARED_GPU | environ | dict(extra or {})
    if not environ.get("PYTHONHASHSEED", "random").isdigit():
        environ["PYTHONHASHSEED"] = "0"  # the order of sets is the same in every training process
    # The training process must find this package before it receives the rest of sys.path.
    environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return environ


def torchrun_ranks() -> int:
    """Number of processes that torchrun, or a launcher like it, says to have started; 1 without."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdigit() else 1


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
