"""The validity benchmark in a small form."""

import pytest

from benchmarks.optimizers.problems import names, problem
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
        assert report.width > 0.0
