"""`hyppo slurm`: a job script that runs a study on a cluster, is requeued before its time limit, and continues."""

import math
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hyppo.cli.program import Program, Script
from hyppo.cli.run import run
from hyppo.cli.slurm_script import MARK, Job, installed_mpi, parse_time
from hyppo.errors import HyppoError, LaunchError
from hyppo.text import error_line, printable

ALLOCATION = "Allocation"
END = "Before the time is up"
SCRIPT = "Job script"
# Options of `hyppo run` that a job has no use for, sets itself, or that mean something else here.
LEFT_OUT = ("workers", "output", "progress", "steal")
# Each multiplies the ranks that a run needs.
GROUPS = ("--trial-groups", "--replica-groups", "--data-parallel")


class Mpi(StrEnum):
    """How the ranks are started."""

    AUTO = "auto"
    PMI2 = "pmi2"
    PMIX = "pmix"
    SITE = "site"
    MPIEXEC = "mpiexec"


def options_of_run() -> list[Any]:
    """The options of `hyppo run`, to be taken here and handed on."""
    commands = typer.Typer(add_completion=False)
    commands.command()(run)
    parameters = typer.main.get_command(commands).params
    return [p for p in parameters if p.param_type_name == "option" and p.name not in (*LEFT_OUT, "help")]


class SlurmCommand(TyperCommand):
    """A command that knows the options of `hyppo run` as well: a typing mistake shows here, not in the queue."""

    def __init__(self, *arguments: Any, params: list[Any] | None = None, **settings: Any) -> None:
        self._handed_on = options_of_run()
        super().__init__(*arguments, params=[*(params or []), *self._handed_on], **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Say of an unknown option where those of the script go."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            name = getattr(error, "option_name", None)
            if type(error).__name__ == "NoSuchOption":  # of click, or of the copy of it in typer
                error.message = (  # type: ignore[attr-defined]
                    f"There is no option {name}. Options of the script go after a --: hyppo slurm SCRIPT ... -- {name}"
                )
            raise

    def invoke(self, ctx: Any) -> Any:
        """Take the options of `hyppo run` out of the parameters."""
        flags: dict[str, str] = {}
        for option in self._handed_on:
            value = ctx.params.pop(option.name)
            if value is not None:
                flags[option.opts[0]] = str(value)
        ctx.meta["hyppo.run"] = flags
        return super().invoke(ctx)


def slurm(
    context: typer.Context,
    script: Script,
    time: Annotated[
        str,
        typer.Option(
            "--time",
            "-t",
            help="Limit of one run of the job, as Slurm writes it: 4:00:00 is four hours, 4:00 four minutes.",
            rich_help_panel=ALLOCATION,
        ),
    ],
    nodes: Annotated[int, typer.Option("--nodes", "-N", min=1, rich_help_panel=ALLOCATION)] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=0, help="One rank trains on each.", rich_help_panel=ALLOCATION)] = 0,
    ranks_per_node: Annotated[
        int | None,
        typer.Option(
            min=1, help="Ranks that train, on each node: one a GPU, or 1 without GPUs.", rich_help_panel=ALLOCATION
        ),
    ] = None,
    cpus_per_task: Annotated[
        int | None,
        typer.Option(
            "--cpus-per-task",
            "-c",
            min=1,
            help="CPUs of each rank. A node needs CPUs for one rank more than the ranks that train on it.",
            rich_help_panel=ALLOCATION,
        ),
    ] = None,
    partition: Annotated[str | None, typer.Option("--partition", "-p", rich_help_panel=ALLOCATION)] = None,
    account: Annotated[str | None, typer.Option("--account", "-A", rich_help_panel=ALLOCATION)] = None,
    mem: Annotated[str | None, typer.Option(help="Memory of each node, e.g. 64G.", rich_help_panel=ALLOCATION)] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            "--sbatch", "-S", help="Any other option of sbatch, e.g. -S constraint=a100.", rich_help_panel=ALLOCATION
        ),
    ] = None,
    margin: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Seconds before the end at which the job is warned. Best as long as a training: a training that "
            "has not ended by then starts again after the restart. Default 300, or a quarter of a shorter job.",
            rich_help_panel=END,
            show_default=False,
        ),
    ] = None,
    restarts: Annotated[
        int, typer.Option(min=0, help="Number of times that the job may requeue itself.", rich_help_panel=END)
    ] = 50,
    mpi: Annotated[
        Mpi,
        typer.Option(
            help="For srun: pmi2 (MPICH, Intel), pmix (Open MPI) or the site's default; or mpiexec instead of srun. "
            "auto chooses by the installed MPI.",
            rich_help_panel=SCRIPT,
        ),
    ] = Mpi.AUTO,
    setup: Annotated[
        list[str] | None,
        typer.Option(help="A shell line before the run, e.g. 'module load cuda/12'.", rich_help_panel=SCRIPT),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--job-name",
            "-J",
            help="Name of the job and of its output file. Default: the script's.",
            rich_help_panel=SCRIPT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the job script here, not to stdout.", rich_help_panel=SCRIPT),
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Submit it with sbatch.", rich_help_panel=SCRIPT)] = False,
    is_module: Annotated[bool, typer.Option("-m", hidden=True)] = False,
) -> None:
    """Write a Slurm job script that runs a study to its end, over as many restarts as needed.

    Slurm warns the job before its time limit. The job then starts no new training, lets running trainings end and
    requeues itself, and the same command continues with the study file. It ends when the study's budget is spent, or
    when it fails.

    [bold]Two nodes with four GPUs each, 100 trials; read it, then add --submit:[/bold]
      hyppo slurm tune.py --nodes 2 --gpus-per-node 4 -t 4:00:00 --trials 100

    [bold]CPUs only, eight trainings at a time, arguments of the script after --:[/bold]
      hyppo slurm tune.py --ranks-per-node 8 -t 1-0 -o job.sh -- --data scans/

    The job runs in this directory, with this Python and this environment.
    """
    seconds = parse_time(time)
    if ranks_per_node is None:
        ranks_per_node = gpus_per_node or 1
    options = [f"--partition={partition}"] if partition else []
    options += [f"--account={account}"] if account else []
    options += [f"--mem={mem}"] if mem else []
    flags: dict[str, str] = dict(context.meta["hyppo.run"])
    grace = flags.pop("--grace", None)
    program = Program(script, is_module)
    check_program(program)
    command = [word for flag in flags.items() for word in flag] + program.words
    if context.args:
        command += ["--", *context.args]
    starter = {Mpi.AUTO: None, Mpi.SITE: None}.get(mpi, mpi.value)
    if mpi is Mpi.AUTO and nodes * ranks_per_node > 1:
        starter = installed_mpi()
    job = Job(
        command,
        seconds,
        str(Path.cwd()),
        sys.executable,
        name or program.stem,
        nodes=nodes,
        ranks_per_node=ranks_per_node,
        gpus_per_node=gpus_per_node,
        cpus_per_task=cpus_per_task,
        mpi=starter,
        margin=margin,
        grace=None if grace is None else float(grace),
        restarts=restarts,
        options=[*options, *(sbatch or [])],
        setup=setup or [],
        origin=shlex.join(["hyppo", *sys.argv[1:]]),
    )
    check_groups(job, flags)
    if submit and shutil.which("sbatch") is None:
        raise LaunchError(
            "--submit: there is no sbatch here; run this on the cluster's login node, or leave --submit out and take "
            "the script there"
        )
    if output is not None:
        write(job, output)
    if submit:
        run_sbatch(job, output)
    elif output is None:
        typer.echo(job.script(), nl=False)
    else:
        typer.echo(f"{output}: submit it with: sbatch {shlex.quote(str(output))}", err=True)


def check_program(program: Program) -> None:
    """Load the program here, without running it: a job would find a mistake only at its start.

    Its package may need the job's own environment; an error of its import is left to the job.

    Raises
    ------
    LaunchError
        It is not found, or it is no Python program.
    """
    try:
        program.load()
    except SyntaxError as error:
        raise LaunchError(f"{printable(program.name)}: {error_line(error)}") from error
    except HyppoError:
        raise
    except Exception:
        pass


def check_groups(job: Job, flags: Mapping[str, str]) -> None:
    """Check that the job has enough ranks for the groups, of which a run on fewer ranks would complain at its start.

    Raises
    ------
    LaunchError
        The groups need more ranks than train.
    """
    asked = [flag for flag in GROUPS if flag in flags]
    needed = math.prod(int(flags[flag]) for flag in asked)
    training = job.ranks if job.alone or flags.get("--manager") == "shared" else job.ranks - 1
    if needed > training:
        raise LaunchError(
            f"{' '.join(f'{flag} {flags[flag]}' for flag in asked)}: needs {needed} ranks that train, and this job has "
            f"{training}: raise --nodes, --gpus-per-node or --ranks-per-node, or ask for less"
        )


def write(job: Job, path: Path) -> None:
    """Write the job script to a file, unless that holds something else.

    Raises
    ------
    LaunchError
        The file exists and is no job script of this command, or cannot be written.
    """
    try:
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
            raise LaunchError(f"--output {path}: this file is not of `hyppo slurm`, and is left as it is; name another")
        path.write_text(job.script(), encoding="utf-8")
    except OSError as error:
        raise LaunchError(f"--output {path}: {error.strerror}; name a file that can be written") from error


def run_sbatch(job: Job, path: Path | None) -> None:
    """Submit the job; pass on the output of `sbatch` and its exit code (with `-S wait`, the job's).

    Raises
    ------
    LaunchError
        `sbatch` refuses it.
    """
    done = subprocess.run(
        ["sbatch"] if path is None else ["sbatch", str(path)],
        input=job.script() if path is None else "",
        stdout=subprocess.PIPE,
        text=True,
    )
    typer.echo(done.stdout, nl=False)
    if done.returncode != 0:
        if not done.stdout:
            raise LaunchError("sbatch did not take the job, see above; without --submit the script is printed")
        raise typer.Exit(done.returncode)
