"""Each session of a study tells program, versions and machine."""

import os
import subprocess
import sys
import warnings

import pytest

import hyppo
from hyppo import provenance as module

SCRIPT = """
import sys
import hyppo

study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda replica: replica.params["x"], log=sys.argv[1], replicas=1)
if __name__ == "__main__":
    study.run(trials=int(sys.argv[2]), progress=False)
"""


def ask_and_tell(path):
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=path) as study:
        study.tell(study.ask().number, [0.5])


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True).stdout


def test_a_session_is_stored_once_and_read_back(path):
    ask_and_tell(path)
    (first,) = hyppo.load(path).provenance
    assert first["packages"]["numpy"] == __import__("numpy").__version__
    assert first["python"] == sys.version.split()[0]
    assert first["host"]
    ask_and_tell(path)
    study = hyppo.load(path)
    assert len(study.provenance) == 2
    assert len(study.trials) == 2


def test_a_study_in_memory_has_none():
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)))
    study.tell(study.ask().number, [0.5])
    assert study.provenance == ()


def test_script_commit_and_command_of_a_run(path, tmp_path):
    script = tmp_path / "tune.py"
    script.write_text(SCRIPT)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "tune.py")
    git(tmp_path, "commit", "-qm", "one")
    script.write_text(SCRIPT + "\n")
    for trials in ("1", "2"):
        environ = os.environ | {"SLURM_JOB_ID": "42"}
        subprocess.run([sys.executable, script, path, trials], check=True, timeout=100, env=environ)
    first, second = hyppo.load(path).provenance
    assert first["git_commit"] == git(tmp_path, "rev-parse", "HEAD").strip()
    assert first["git_dirty"] is True
    assert first["command"][-3:] == [str(script), str(path), "1"]
    assert first["job"] == {"SLURM_JOB_ID": "42"}
    assert first["script_sha256"] == second["script_sha256"]


def test_other_versions_are_told(path, monkeypatch):
    ask_and_tell(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask_and_tell(path)  # the same versions: no notice
    version = module._version
    monkeypatch.setattr(module, "_version", lambda name: "0.0.1" if name == "scipy" else version(name))
    with pytest.warns(UserWarning, match=r"other versions: scipy .* -> 0\.0\.1"):
        ask_and_tell(path)


EDITED = """
import sys
import hyppo

def train(replica):
    BODY

study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log=sys.argv[1], isolate=False)
for trials in sys.argv[2:]:
    study.run(trials=int(trials), progress=False, retry_failed=True)
"""


def test_an_edited_training_function_is_told_if_there_are_losses(path, tmp_path):
    script = tmp_path / "tune.py"

    def said(body, *trials):
        script.write_text(EDITED.replace("BODY", body))
        return subprocess.run(
            [sys.executable, script, path, *map(str, trials)], capture_output=True, text=True, timeout=100
        ).stderr

    x = "replica.params['x']"
    assert "was edited" not in said("return 1 / 0", 1)
    assert "was edited" not in said(f"return {x}", 3), "no training had a loss"
    assert "was edited" not in said(f"'''Of x.'''\n    return ({x})  # the same", 4)
    assert "goes on with a training function that was edited; if its losses" in said(f"return 1 + {x}", 5)
    assert "was edited" not in said(f"return 1 + {x}", 6)
    assert "was edited" not in said(f"return 2 + {x}", 6), "nothing is left to train"
    assert said(f"return 2 + {x}", 7, 8, 9).count("was edited") == 1, "once for the three runs"
    assert [trial.state for trial in hyppo.load(path).trials] == ["done"] * 9


def test_show_lists_sessions(path):
    ask_and_tell(path)
    command = [sys.executable, "-m", "hyppo", "show", str(path), "--provenance"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    assert "session of" in shown
    assert f"python         {sys.version.split()[0]}" in shown
