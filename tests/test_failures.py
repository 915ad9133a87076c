"""Learning from failures: a failed configuration makes its neighbourhood less attractive."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import hyppo
from hyppo.search.columns import Columns
from hyppo.search.success import Outcomes, Prudence, fit

SPACE = hyppo.Space(
    width=hyppo.Integer(16, 1024, log=True), depth=hyppo.Integer(1, 16, log=True), batch=hyppo.Integer(8, 512, log=True)
)


def loss_of(params):
    """Larger is better almost everywhere, and what is too large runs out of memory: None."""
    width, depth, batch = SPACE.encode(params)
    if width + depth + 0.5 * batch > 1.0:
        return None
    return float((width - 0.75) ** 2 + 1.5 * (depth - 0.65) ** 2 + 0.7 * (batch - 0.6) ** 2)


def search(seed, asks, **options):
    study = hyppo.Study(SPACE, seed=seed, replicas=1, **options)
    for _ in range(asks):
        trial = study.ask()
        loss = loss_of(trial.params)
        if loss is None:
            study.fail(trial.number, "out of memory")
        else:
            study.tell(trial.number, loss)
    return study


def failing(study):
    """Share of the surrogates' points that failed."""
    asked = [trial for trial in study.trials if trial.origin["by"] != "design"]
    return np.mean([trial.state is hyppo.State.FAILED for trial in asked])


def test_few_points_of_a_border_problem_fail():
    studies = [search(seed, 40) for seed in range(3)]
    assert np.mean([failing(study) for study in studies]) <= 0.3
    # Of all points that train one in twenty is as good, and random search finds eleven that train.
    assert np.mean([study.best.mean for study in studies]) < 0.34


@pytest.mark.slow
def test_a_quarter_at_most_fails_over_ten_seeds():
    studies = [search(seed, 60) for seed in range(10)]
    assert np.mean([failing(study) for study in studies]) <= 0.25
    assert np.mean([study.best.mean for study in studies]) < 0.29  # one in a hundred


def test_the_rbf_alone_learns_from_failures_too():
    assert np.mean([failing(search(seed, 40, surrogate="rbf")) for seed in range(2)]) <= 0.45  # 0.9 without


def test_a_border_is_learned_and_chance_is_not():
    generator = np.random.default_rng(0)
    unit = SPACE.snap(generator.random((60, 3)))
    border = Outcomes(unit, (unit[:, 0] < 0.5).astype(float))
    near = SPACE.features(unit[:1])[0]
    model = fit(SPACE, border, near)
    low, high = np.exp(model.log_probability(SPACE.features(np.array([[0.2, 0.5, 0.5], [0.8, 0.5, 0.5]]))))
    assert low > 0.95
    assert high < 0.05
    chance = fit(SPACE, Outcomes(unit, (generator.random(60) < 0.7).astype(float)), near)
    probability = np.exp(chance.log_probability(SPACE.features(generator.random((200, 3)))))
    assert np.ptp(np.quantile(probability, [0.1, 0.9])) < 0.25
    assert abs(np.median(probability) - 0.7) < 0.15


def test_unsafe_candidates_come_last_and_the_safest_of_them_first():
    log_success = np.log(np.array([1.0, 0.9, 0.5, 0.1]))
    prudence = Prudence.among(log_success, 0.8)
    order = np.argsort(-prudence.worth(np.array([-50.0, -1e9, 0.0, 100.0]), log_success))
    assert order.tolist() == [0, 1, 2, 3]
    assert np.argsort(prudence.score(np.array([1.0, 0.9, 0.0, 0.0]), log_success)).tolist() == [1, 0, 2, 3]


def test_without_failures_nothing_is_fitted():
    study = hyppo.Study(SPACE, replicas=1)
    for k in range(8):
        study.tell(study.ask().number, float(k))
    columns = Columns(SPACE)
    columns.update(study.trials)
    assert columns.known().success is None
    assert all("success" not in trial.origin for trial in study.trials)


def test_shares_of_failed_replicas_count():
    study = hyppo.Study(SPACE, replicas=2)
    trial = study.ask()
    study.tell(trial.number, [1.0, float("nan")])
    study.fail(study.ask().number)
    study.ask()
    columns = Columns(SPACE)
    columns.update(study.trials)
    assert columns.outcomes().share.tolist() == [0.5, 0.0]


def test_a_message_of_many_lines_is_shown_in_one_with_its_start_and_end(tmp_path):
    """scikit-learn and JAX raise errors of a page, with the cause at the end."""
    script = tmp_path / "tune.py"
    script.write_text(
        textwrap.dedent(
            """
            import hyppo
            def train(replica):
                if replica.trial:
                    raise ValueError("\\nAll 3 fits failed.\\n\\n" + "  File 'a.py', in fit\\n" * 200 + "bad value: -1")
                return 1.0
            study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log="study.h5", replicas=1)
            study.run(trials=4)
            """
        )
    )
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    failed = [line for line in run.stderr.splitlines() if line.startswith("hyppo: trial") and "failed" in line]
    assert len(failed) == 3
    assert all("failed: ValueError: All 3 fits failed. File" in line for line in failed)
    assert all(line.endswith("bad value: -1") and len(line) < 600 for line in failed)
    assert run.stderr.count("in fit\n") == 200  # in the traceback of the first failure

    show = subprocess.run(
        [sys.executable, "-m", "hyppo", "show", "study.h5"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    last = show.stdout[show.stdout.index("last failure") :].splitlines()
    assert last[0].startswith("last failure: trial 3 replica 0: ValueError: All 3 fits failed.")
    assert "bad value: -1" in " ".join(last)
    assert len(last) < 12
    assert "\\n" not in show.stdout
