"""A Slurm for the tests of this folder, brought up for them and taken down after them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STATE = HERE.parent.parent / "build" / "slurm"


@pytest.fixture(scope="session", autouse=True)
def cluster():
    """`SLURM_CONF` of a running cluster of two nodes, n1 and n2, with 8 CPUs and 2 GPUs each."""
    if not os.environ.get("HYPPO_TEST_SLURM"):
        pytest.skip("`make test-slurm` installs a Slurm and runs these")
    run = subprocess.run([HERE / "cluster", "up", STATE], capture_output=True, text=True, timeout=60)
    if run.returncode:
        pytest.fail(f"the cluster does not come up:\n{run.stderr}")
    os.environ["SLURM_CONF"] = run.stdout.strip().removeprefix("SLURM_CONF=")
    try:
        yield
    finally:
        subprocess.run([HERE / "cluster", "down", STATE], timeout=60, check=True)
        del os.environ["SLURM_CONF"]


def output(*command, **options):
    """What a command of Slurm's prints."""
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, **options).stdout


def until(condition, seconds, what):
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not after {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.2)
    return value


class Submitted:
    """A job in the queue, or past it."""

    def __init__(self, directory, *arguments):
        self.directory = directory
        command = [sys.executable, "-m", "hyppo", "slurm", "--submit", *map(str, arguments)]
        run = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        self.number = run.stdout.split()[-1]

    def until_has(self, condition, seconds=30):
        """Wait until a condition holds, with the job's state and text in the error if it does not."""
        until(condition, seconds, lambda: f"{self.fields}\n{self.text}")

    @property
    def fields(self):
        return dict(
            word.split("=", 1) for word in output("scontrol", "show", "job", "-o", self.number).split() if "=" in word
        )

    @property
    def state(self):
        return self.fields["JobState"]

    @property
    def restarts(self):
        return int(self.fields["Restarts"])

    @property
    def text(self):
        """What the job has printed, in all its runs."""
        return "".join(path.read_text() for path in self.directory.glob(f"*-{self.number}.out"))

    def until(self, *states, seconds=60):
        """Wait for a state; Slurm has the job's processes ended by then."""
        until(lambda: self.state in states, seconds, lambda: f"{states}; {self.fields}\n{self.text}")

    def until_requeued(self, restart, seconds=60):
        """Wait until the job is back in the queue for its n-th restart."""
        until(
            lambda: self.state == "PENDING" and self.restarts == restart,
            seconds,
            lambda: f"{self.fields}\n{self.text}",
        )

    def warn(self):
        """What Slurm does `--signal` seconds before the end: SIGUSR1 to the shell alone."""
        output("scancel", "--batch", "--signal=USR1", self.number)

    def start_now(self):
        """Slurm lets a requeued job wait for two minutes: cut that short.

        A node refuses a job that it was told to end in the same second, and while the last processes are being ended
        Slurm may set the start once more.
        """
        time.sleep(2)

        def started():
            if self.fields["Reason"] == "BeginTime":
                output("scontrol", "update", f"JobId={self.number}", "StartTime=now")
            return self.state in ("RUNNING", "COMPLETING", "COMPLETED")

        until(started, 30, lambda: f"{self.fields}")


@pytest.fixture
def submit(tmp_path):
    """`hyppo slurm ... --submit` in the test's directory; what is still there at the end is cancelled."""
    jobs = []

    def start(*arguments):
        jobs.append(Submitted(tmp_path, *arguments))
        return jobs[-1]

    yield start
    for job in jobs:
        if job.state not in ("COMPLETED", "FAILED", "CANCELLED"):
            output("scancel", job.number)
            job.until("CANCELLED", "FAILED", "COMPLETED")
