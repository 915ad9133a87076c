"""`hyppo show` and what else the commands print: nothing cut, nothing obeyed, nothing lost to a poor terminal."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import hyppo
from hyppo.cli.script_command import distance
from hyppo.text import Stream, printable
from hyppo.training.predictions import Predictions
from hyppo.training.replica import Goal
from hyppo.trial import ReplicaRecord, Settled, State

HOSTILE = ("[bold]", "[/data/a]", "[conv,pool]", ":smile:")


def command(*arguments, code=0, **environment):
    environ = {**os.environ, "COLUMNS": "80", "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8", **environment}
    run = subprocess.run(
        [sys.executable, "-m", "hyppo", *map(str, arguments)], capture_output=True, timeout=60, env=environ
    )
    assert run.returncode == code, run.stderr.decode()
    return run.stdout.decode(), run.stderr.decode()


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A study of eight parameters, with names, values and a failure that a terminal or markup would obey."""
    path = tmp_path_factory.mktemp("show") / "study.h5"
    space = hyppo.Space(
        **{f"parameter_{i}": hyppo.Real(1e-5, 1.0, log=True) for i in range(5)},
        **{"[red]": hyppo.Integer(1, 9), "mean": hyppo.Real(0, 1), "layers": hyppo.Choice(list(HOSTILE))},
    )
    with hyppo.Study(space, log=path, replicas=2, seed=1) as study:
        for k in range(8):
            trial = study.ask()
            study.tell(trial.number, [-0.951234 + 0.01 * k, -0.941234 + 0.01 * k])
        study.fail(study.ask().number, "out\x1b[2J of [red]memory\ud800")
    return path


def test_numbers_are_whole_at_80_columns(wide):
    text, _ = command("show", wide)
    study = hyppo.load(wide)
    for trial in study.trials[:8]:
        assert re.search(rf"^ +{trial.number} +{trial.mean:.6g} +{trial.spread:.3g} +2", text, re.MULTILINE)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()[1:]) <= 80


def test_values_are_printed_as_they_are(wide):
    text, _ = command("show", wide)
    listed = {str(t.params["layers"]) for t in hyppo.load(wide).trials if t.stats}
    for value in listed:
        assert f"layers = {value}" in text
    assert re.search(r"params\.mean = 0\.\d+", text)
    assert "[red] = " in text
    assert "out\\x1b[2J of [red]memory\\ud800" in text
    assert "\x1b" not in text


def test_parameters_stand_beside_the_numbers_if_they_fit(wide):
    text, _ = command("show", wide, COLUMNS="200")
    assert re.search(r"trial +mean +spread +replicas +parameter_0 .*layers$", text, re.MULTILINE)


def test_columns_are_chosen(wide):
    text, _ = command("show", wide, "--columns", "layers,params.parameter_1")
    assert re.search(r"^trial +mean +spread +replicas +layers +parameter_1$", text, re.MULTILINE)
    _, error = command("show", wide, "--columns", "colour", code=2)
    assert "no column colour" in error
    assert "parameter_0" in error


def test_all_lists_every_trial(wide):
    text, _ = command("show", wide, "--all", COLUMNS="300")
    assert "all trials" in text
    assert re.search(r"^ +8 +- +- +0 .*failed", text, re.MULTILINE)


def test_json_says_the_same(wide):
    record = json.loads(command("show", wide, "--json", "--top", "3")[0])
    study = hyppo.load(wide)
    assert record["recommended"]["number"] == study.best.number
    assert record["recommended"]["params"] == study.best.params
    assert record["recommended"]["interval"] == pytest.approx(study.best.interval)
    assert [t["number"] for t in record["listed"]] == [0, 1, 2]
    assert record["trials"] == {"pending": 0, "done": 8, "failed": 1, "pruned": 0}
    assert record["failures"][0]["type"] == "Failed"


def test_the_number_that_is_optimised_is_shown(tmp_path):
    def train(replica):
        x = replica.params["x"]
        replica.goal = Goal("score", "max")  # as a callback does
        return hyppo.Result(-x, prediction=np.full(4, x + 0.001 * replica.index), targets=np.zeros(4))

    path = tmp_path / "study.h5"
    study = hyppo.Study(
        hyppo.Space(x=hyppo.Real(0.1, 1)), train, log=path, replicas=2, target="ensemble_loss", isolate=False,
        criterion=lambda prediction, targets: float(np.mean((prediction - targets) ** 2)),
    )  # fmt: skip
    study.run(trials=4, progress=False)
    text, _ = command("show", path)
    assert "best observed, by ensemble loss" in text
    assert re.search(r"for the\s+ensemble\s+loss\s+of\s+2\s+fresh\s+networks", text)
    assert "\nexpected ensemble loss 0." in str(study.best)
    first = min(study.trials, key=study.score)
    row = re.search(rf"^ +{first.number} +{first.ensemble_loss:.6g} +\S+ +(\S+) ", text, re.MULTILINE)
    observed = re.search(r"observed +mean (\S+),", text)
    assert float(row[1]) == pytest.approx(float(observed[1])), "the same number has the same sign everywhere"


def test_a_score_with_risk_is_shown(tmp_path):
    path = tmp_path / "study.h5"
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=path, replicas=2, risk=2.0) as study:
        for _ in range(4):
            study.tell(study.ask().number, [1.0, 1.5])
    text, _ = command("show", path)
    assert "best observed, by score" in text
    assert f"{1.25 + 2 * study.trials[0].spread:.6g}" in text


def test_a_score_has_the_sign_of_its_metric(tmp_path):
    path, goal = tmp_path / "study.h5", Goal("val_acc", "max")
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=path, replicas=2, risk=1.0) as study:
        trial = study.ask()
        done = [
            ReplicaRecord(r.index, r.seed, State.DONE, loss=loss, goal=goal)
            for r, loss in zip(trial.replicas, (-0.8, -0.9), strict=True)
        ]
        study._record(Settled(trial.number, tuple(done)))
    text, _ = command("show", path)
    assert f"{0.85 - study.trials[0].spread:.6g}  0.85 " in re.sub(" {2,}", "  ", text)


def test_a_study_without_a_loss_is_shown(tmp_path):
    path = tmp_path / "study.h5"
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=path) as study:
        study.ask()
    text, _ = command("show", path)
    assert "1: 1 pending" in text
    assert "no recommendation" in text
    assert json.loads(command("show", path, "--json")[0])["recommended"] is None


def test_a_terminal_of_ascii_shows_everything(wide):
    text, error = command("show", wide, "--failures", PYTHONIOENCODING="ascii:strict")
    assert text.isascii()
    assert "recommended" in text
    assert error == ""


@pytest.mark.parametrize("arguments", [("show",), ("show", "--all"), ("show", "--json"), ("export",)])
def test_a_closed_pipe_is_no_error(wide, arguments):
    line = f"{sys.executable} -m hyppo {' '.join(arguments)} {wide} | head -c 1"
    run = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert run.stderr == ""


@pytest.mark.parametrize("arguments", [("show",), ("show", "--json"), ("check",)])
def test_a_full_disk_is_an_error(wide, arguments):
    name, *options = arguments
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "hyppo", name, wide, *options], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert run.returncode == 2
    assert run.stderr == b"hyppo: standard output cannot be written: No space left on device\n"


def test_a_stream_never_raises():
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    stream = Stream(ascii_only)
    stream.write("0.1 ± 0.2 µ")
    stream.flush()
    assert ascii_only.buffer.getvalue() == b"0.1 +/- 0.2 \\xb5"
    ascii_only.close()
    stream.write("lost")
    Stream(None).write("lost")


@pytest.mark.parametrize("kind", ["ascii", "closed"])
def test_progress_survives_its_terminal(tmp_path, kind):
    script = tmp_path / "tune.py"
    script.write_text(
        "import hyppo, os, time\n"
        "def train(replica):\n"
        "    time.sleep(0.3)\n"
        "    return replica.params['x'] + replica.seed % 7\n"
        "study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, replicas=2, isolate=False, log='study.h5')\n"
        "if __name__ == '__main__':\n"
        "    study.run(trials=5)\n"
        "    print(len(study.trials), 'trials')\n"
    )
    line = f"{sys.executable} tune.py" + (" 2> >(head -c 1 >/dev/null)" if kind == "closed" else "")
    environ = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    run = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "5 trials" in run.stdout
    if kind == "ascii":
        assert "+/-" in run.stderr
        assert "5 of 5 trials, 10 trainings" in run.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud83d", "\\ud83d"),
        ("ü ± 漢", "ü ± 漢"),
        ("a\nb", "a\\nb"),
    ],
)
def test_characters_that_a_terminal_obeys_are_escaped(text, shown):
    assert printable(text) == shown


def test_an_option_that_is_nearly_ours_is_refused(tmp_path):
    script = tmp_path / "tune.py"
    script.write_text("import sys\nprint(sys.argv[1:])\n")
    _, error = command("run", script, "--trails", "60", code=2)
    assert "--trials" in error
    assert "--trails" in error
    assert command("run", script, "--epochs", "3", "--lr=0.1")[0].strip() == "['--epochs', '3', '--lr=0.1']"
    assert command("run", script, "--", "--trails", "60")[0].strip() == "['--trails', '60']"
    assert distance("--time-limt", "--time-limit") == 1


def test_help_and_completion(tmp_path):
    text, _ = command("--help")
    for name in ("run", "show", "export", "slurm"):
        assert re.search(rf"^│ {name} ", text, re.MULTILINE), name
    text, _ = command(
        "--install-completion", "bash", HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "installed" in text
    assert "hyppo" in (tmp_path / ".bashrc").read_text()


def test_predictions_are_shown_in_a_line():
    array = np.zeros((500, 3), dtype=np.float32)
    assert repr(Predictions(array, array, None, 3, 20)) == (
        "Predictions(float32 (500, 3); replicas=3, passes=20, without targets)"
    )
