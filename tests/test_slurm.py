"""Job scripts for Slurm, as far as no Slurm is needed; `tests/slurm/` runs them in one."""

import shlex
import subprocess
import sys

import pytest

from hyppo import Real, Space, Study
from hyppo.cli.slurm_script import Job, format_time, normalised, parse_time
from hyppo.errors import LaunchError, LogError
from hyppo.log import journal


def job(**changes):
    values = {
        "command": ["tune.py"],
        "seconds": 4 * 3600,
        "directory": "/home/me",
        "python": "/home/me/venv/bin/python",
        "name": "tune",
    }
    return Job(**{**values, **changes})


def directives(script):
    """What `sbatch` reads: the options up to the first command, without comments."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    return [word for line in lines for word in shlex.split(line.removeprefix("#SBATCH"), comments=True)]


def commands(script):
    """Lines that the shell runs, continued ones joined."""
    lines = script.replace("\\\n", "").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("4:00", 240),
        ("4:00:00", 14400),
        ("0:30:15", 1815),
        ("1-0", 86400),
        ("1-12", 129600),
        ("2-1:30", 178200),
        ("2-01:30:05", 178205),
        (" 10 ", 600),
    ],
)
def test_times_mean_what_slurm_takes_them_for(text, seconds):
    assert parse_time(text) == seconds
    assert parse_time(format_time(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "4h", "0", "0:00", "-5", "1:2:3:4", "1.5", "infinite", "1-", ":30", "4:00:00s"])
def test_a_malformed_time_is_named(text):
    with pytest.raises(LaunchError, match="hours:minutes:seconds"):
        parse_time(text)


def test_one_rank_a_gpu_and_one_that_asks():
    text = job(nodes=2, gpus_per_node=4, ranks_per_node=4, cpus_per_task=8, mpi="pmi2").script()
    assert {"--nodes=2", "--ntasks-per-node=5", "--cpus-per-task=8", "--gpus-per-node=4"} <= set(directives(text))
    (start,) = [line for line in commands(text) if line.startswith("srun")]
    assert shlex.split(start)[:5] == ["srun", "--ntasks=9", "--cpus-per-task=8", "--mpi=pmi2", "--kill-on-bad-exit=1"]


def test_one_training_at_a_time_needs_no_mpi():
    text = job(mpi="pmi2").script()
    assert "--ntasks-per-node=1" in directives(text)
    assert "srun --ntasks=1 --kill-on-bad-exit=1" in text
    assert "--mpi" not in text


def test_the_site_chooses_where_nothing_was_chosen():
    text = job(ranks_per_node=3).script()
    assert "srun --ntasks=4 --kill-on-bad-exit=1" in text
    assert "--cpus-per-task" not in text


def test_mpiexec():
    text = job(nodes=2, ranks_per_node=3, mpi="mpiexec").script()
    assert any(line.startswith("mpiexec -n 7") for line in commands(text))
    assert not any(line.startswith("srun") for line in commands(text))


@pytest.mark.parametrize(
    ("seconds", "margin", "grace", "warning", "patience"),
    [
        (14400, None, None, 300, 240),
        (600, None, None, 150, 90),
        (60, None, None, 15, 8),
        (14400, 1800, None, 1800, 1740),
        (14400, 1800, 5.5, 1800, 5.5),
        (60, 50, None, 50, 25),
    ],
)
def test_the_warning_leaves_time_for_the_requeue(seconds, margin, grace, warning, patience):
    made = job(seconds=seconds, margin=margin, grace=grace)
    assert (made.warning, made.patience) == (warning, patience)
    assert f"--signal=B:USR1@{warning}" in directives(made.script())
    assert f"--grace {patience:g} " in made.script()


def test_a_restart_on_another_node_takes_the_study_over(tmp_path, monkeypatch):
    monkeypatch.setattr(journal.disk, "filesystem", lambda path: "nfs4")
    monkeypatch.setattr(journal.fcntl, "flock", lambda fd, operation: None)  # of no use between hosts
    space = Space(x=Real(0, 1))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(journal.disk, "boot_id", lambda: "other")
        elsewhere.setattr("hyppo.log.claim.socket.gethostname", lambda: "node9")
        lost = Study(space, log=tmp_path / "study.h5")
        number = lost.ask().number
    with pytest.raises(LogError, match="on node9"):
        Study(space, log=tmp_path / "study.h5").ask()
    assert "${SLURM_RESTART_COUNT:+--steal}" in job().script()
    monkeypatch.setenv("HYPPO_STEAL", "1")  # what --steal does
    with Study(space, log=tmp_path / "study.h5") as study:
        assert study.tell(number, [0.5]) is None
    with pytest.warns(UserWarning, match="deleted or replaced"):
        lost.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 14400}, "margin: expected 1 to 14399 s"),
        ({"seconds": 10**6, "margin": 70_000}, "margin: expected 1 to 65535 s"),
        ({"seconds": 3}, "margin"),
        ({"grace": 300}, "grace: expected less than the 300 s"),
        ({"options": ["--nodes=3"]}, "--nodes=3: the script sets this itself"),
        ({"options": ["time=3"]}, "--time=3: the script sets this itself"),
        ({"options": ["-N3"]}, "--nodes=3: the script sets this itself"),
        ({"options": ["--no-requeue"]}, "the script sets this itself"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(LaunchError, match=message):
        job(**changes)


def test_names_with_spaces_quotes_and_hashes_survive():
    odd = 'it\'s a #1 "study" $HOME'
    text = job(
        command=["--trials", "3", f"{odd}.py", "--", odd, ""],
        name=odd,
        directory=f"/home/{odd}",
        python=f"/home/{odd}/bin/python",
        options=[f"comment={odd}"],
        setup=["module load cuda"],
    ).script()
    assert {f"--job-name={odd}", f"--chdir=/home/{odd}", f"--comment={odd}", f"--output={odd}-%j.out"} <= set(
        directives(text)
    )
    # The shell's own reading of the line that starts the study.
    lines = [line for line in commands(text) if line.startswith(("srun", "export PATH"))]
    shown = [line.replace("srun", "printf '%s\\0'").removesuffix(" &") for line in lines]
    out = subprocess.run(["bash", "-c", "\n".join([*shown, 'printf %s "$PATH"'])], capture_output=True, text=True)
    *arguments, path = out.stdout.split("\0")
    assert arguments[-6:] == ["--trials", "3", f"{odd}.py", "--", odd, ""]
    assert path.startswith(f"/home/{odd}/bin:")


@pytest.mark.parametrize(
    "changes",
    [{}, {"nodes": 2, "ranks_per_node": 4, "mpi": "pmix"}, {"ranks_per_node": 2, "mpi": "mpiexec", "restarts": 0},
     {"origin": "hyppo slurm --setup 'module load a\nmodule load b (new' tune.py"}],
)  # fmt: skip
def test_it_is_a_shell_script(changes):
    text = job(**changes).script()
    run = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    head = text.split("\n\n")[0].splitlines()
    assert head[0] == "#!/bin/bash"
    assert all(line.startswith("#SBATCH --") for line in head[1:])
    assert text.endswith("fi\n")


def test_options_of_sbatch():
    text = job(options=["account=abc", "--qos debug", "-C a100", "--exclusive"]).script()
    assert directives(text)[-4:] == ["--account=abc", "--qos=debug", "-Ca100", "--exclusive"]
    assert normalised("-t 30") == "--time=30"


def hyppo(*arguments, directory, code=0, path=None):
    run = subprocess.run(
        [sys.executable, "-m", "hyppo", "slurm", *map(str, arguments)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        env=None if path is None else {"PATH": path},
    )
    assert run.returncode == code, run.stderr
    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tune.py").write_text("raise SystemExit('only the job runs this')\n")
    return tmp_path


def test_options_of_run_and_arguments_of_the_script_go_on(folder):
    text = hyppo(
        "tune.py", "--nodes", 2, "--gpus-per-node", 2, "-t", "4:00:00", "--trials", 9, "--grace", 7, "--retries", 2,
        "-A", "abc", "--", "--trials", "of its own", directory=folder,
    ).stdout  # fmt: skip
    assert f"--chdir={folder}" in directives(text)
    assert "--account=abc" in directives(text)
    (start,) = [line for line in commands(text) if line.startswith("srun")]
    words = shlex.split(start.removesuffix("&"))
    words.remove("${SLURM_RESTART_COUNT:+--steal}")
    assert words[words.index("run") :] == [
        "run", "--grace", "7", "--trials", "9", "--retries", "2", "tune.py", "--", "--trials", "of its own",
    ]  # fmt: skip
    assert "--mpi=pmi2" in words  # of the MPICH wheel that the tests are installed with


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune.py"], "Missing option"),
        (["missing.py", "-t", "10"], "does not exist"),
        (["tune.py", "-t", "4h"], "time '4h': expected minutes"),
        (["tune.py", "-t", "10", "--gpu-per-node", "4"], "--gpus-per-node"),
        (
            ["tune.py", "-t", "10", "--data", "scans/"],
            "Options of the script go after a --: hyppo slurm SCRIPT ... -- --data",
        ),
        (["tune.py", "-t", "10", "--trials", "many"], "Invalid value for '--trials'"),
        (["tune.py", "-t", "10", "-S", "nodes=2"], "the script sets this itself"),
        (
            ["tune.py", "-t", "10", "--data-parallel", "2"],
            "--data-parallel 2: needs 2 ranks that train, and this job has 1",
        ),
        (
            ["tune.py", "-t", "10", "-N", "2", "--gpus-per-node", "4", "--trial-groups", "3", "--data-parallel", "3"],
            "--trial-groups 3 --data-parallel 3: needs 9 ranks that train, and this job has 8",
        ),
        (["tune.py", "-t", "10", "-o", "tune.py"], "is left as it is"),
        (["tune.py", "-t", "10", "-o", "no/such/folder.sh"], "name a file that can be written"),
    ],
)
def test_mistakes_show_before_anything_is_queued(folder, arguments, message):
    run = hyppo(*arguments, directory=folder, code=2)
    assert message in " ".join(run.stderr.replace("│", " ").split())
    assert run.stdout == ""
    assert "only the job" in (folder / "tune.py").read_text()


def test_groups_that_fit_the_job_are_accepted(folder):
    ranks = ("-t", "10", "-N", "2", "--gpus-per-node", "4")
    assert "--data-parallel 4" in hyppo("tune.py", *ranks, "--data-parallel", "4", directory=folder).stdout
    shared = ("--trial-groups", "3", "--data-parallel", "3", "--manager", "shared")
    assert "--trial-groups 3" in hyppo("tune.py", *ranks, *shared, directory=folder).stdout


def test_submit_without_sbatch_says_where_to_go(folder):
    run = hyppo("tune.py", "-t", "10", "--submit", directory=folder, code=2, path="/nonexistent")
    assert "there is no sbatch here" in run.stderr


def test_a_script_of_its_own_is_written_over(folder):
    hyppo("tune.py", "-t", "10", "-o", "job.sh", directory=folder)
    run = hyppo("tune.py", "-t", "20", "-o", "job.sh", directory=folder)
    assert "submit it with: sbatch job.sh" in run.stderr
    assert "--time=00:20:00" in directives((folder / "job.sh").read_text())


def test_help_shows_a_command_to_copy(folder):
    text = hyppo("--help", directory=folder).stdout
    assert "hyppo slurm tune.py --nodes 2 --gpus-per-node 4" in text
    assert "--trials" in text
    lines = [line.strip() for line in text.splitlines()]
    assert "hyppo slurm tune.py --nodes 2 --gpus-per-node 4 -t 4:00:00 --trials 100" in lines
