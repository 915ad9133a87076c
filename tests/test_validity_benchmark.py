"""The validity benchmark in a small form."""

import numpy as np
import pytest

from benchmarks.optimizers.problems import names, problem
from benchmarks.validity import simulated
from benchmarks.validity.__main__ import run, table


@pytest.mark.timeout(60)
def test_a_study_is_reported_beside_its_truth():
    reports = [run(problem(name), 100, 15) for name in names("report", per_family=1, pattern="network*,recorded*")]
    text = table(reports)
    assert "luckiest" in text
    for report in reports:
        # regret - optimism is the reported loss above the best: no mean lies below the luckiest single loss
        lucky = report.regret["luckiest"] - report.optimism["luckiest"]
        mean = report.regret["estimate"] - report.optimism["observed mean"]
        assert lucky <= mean + 1e-12
        assert report.regret["luckiest"] >= -1e-12
        assert report.regret["estimate"] >= -1e-12
        assert report.regret["one seed"] >= -1e-12
        assert report.width > 0.0


def test_trainings_are_independent_and_their_mean_is_the_truth():
    table = problem("recorded/gan-ring")
    params = table.space.decode(table.space.spread(np.random.default_rng(0).random((1, table.space.dimension)))[0])
    losses = [table.resampled(params, 0, training) for training in range(4000)]
    assert losses[:50] == [table.resampled(params, 0, training) for training in range(50)]
    recorded = {table.with_seed(params, seed) for seed in range(10)}
    assert set(losses) == recorded
    assert np.mean(losses) == pytest.approx(table.expected(params), abs=4.0 * np.std(losses) / np.sqrt(4000))


def test_simulated_truths_are_reported(capsys):
    simulated.main(["--draws", "8", "--studies", "1"])
    rows = dict(line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    assert len(rows) == 39
    assert all(0.0 <= float(text.split(" ± ")[0]) <= 1.0 for text in rows.values())
