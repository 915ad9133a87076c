"""The optimiser benchmark: its problems, its yardstick, and a race of each optimiser that is installed."""

import json
import math
from functools import partial

import numpy as np
import pytest
from scipy.stats import ks_2samp

from benchmarks.optimizers import problems, schedule
from benchmarks.optimizers.__main__ import main
from benchmarks.optimizers.measures import Races, estimate
from benchmarks.optimizers.peers import OPTIMIZERS, Point, Setting, create
from benchmarks.optimizers.problems import bbob, bbob_noisy, tables
from benchmarks.optimizers.problems.noise import SHAPES
from benchmarks.optimizers.problems.problem import natural
from benchmarks.optimizers.race import Entry, race
from benchmarks.optimizers.reference import Reference, reference
from benchmarks.optimizers.report import BEGIN, END, report
from benchmarks.optimizers.spending import Spendings
from benchmarks.optimizers.tabulate import table as tabulated

CLEAN, NOISY = "surface/boosting/i11", "surface+training/mlp/i13"


def test_splits_share_neither_problems_nor_noise_nor_seeds():
    def every(split):
        coco = [*bbob.names("bbob", split), *bbob.noisy_names("bbob-mixint", split), *bbob_noisy.names(split)]
        return {*coco, *problems.names(split)}

    assert not every("choose") & every("report")
    assert not SHAPES["choose"].keys() & SHAPES["report"].keys()
    seeds = [{e.seed for e in schedule.entries(["p"], ["o"], s, 1000, 50)} for s in ("choose", "report")]
    assert not seeds[0] & seeds[1]


def test_noisy_families_meet_every_shape_and_dimension():
    for split in ("choose", "report"):
        for suite, dimensions in bbob.DIMENSIONS.items():
            names = bbob.noisy_names(suite, split)
            assert len(set(names)) == 24
            assert {n.split("/")[0].split("+")[1] for n in names} == set(SHAPES[split])
            assert {int(n.split("/")[2][1:]) for n in names} == set(dimensions)


def test_fewer_problems_are_among_more():
    few, more = (set(problems.names("report", k)) for k in (2, 3))
    assert few < more


@pytest.mark.parametrize("split", ["choose", "report"])
def test_every_problem_is_named_once(split):
    names = problems.names(split)
    assert len(set(names)) == len(names)
    assert {n for n in names if n.startswith("recorded/")} == set(tables.names("recorded", split))


@pytest.mark.parametrize("name", problems.names("report", 2))
def test_a_point_has_one_true_loss(name):
    p = problems.problem(name)
    unit = p.space.spread(np.random.default_rng(0).random((50, p.space.dimension)))
    one_by_one = [p.true(p.space.decode(u)) for u in unit]
    np.testing.assert_allclose(p.loss(natural(p.space, unit)), one_by_one, rtol=1e-6)


@pytest.mark.parametrize("noise", [n for shapes in SHAPES.values() for n in shapes.values()], ids=lambda n: n.name)
def test_noise_has_mean_zero_and_variance_one(noise):
    rng = np.random.default_rng(1)
    draws = np.array([noise.variate(rng) for _ in range(20_000)])
    # Five standard errors of the mean (1 / sqrt n) and, for kurtosis up to 9, of the variance.
    assert abs(draws.mean()) < 5 / math.sqrt(20_000)
    assert abs(draws.var() - 1) < 5 * math.sqrt(8 / 20_000)


def test_spread_is_positive_and_depends_on_the_point():
    unit, height = np.random.default_rng(2).random((200, 4)), np.linspace(0, 5, 200)
    for shapes in SHAPES.values():
        for name, noise in shapes.items():
            spread = noise.spread(unit, height)
            assert spread.shape == (200,)
            assert (spread > 0).all()
            assert name == "constant" or np.ptp(spread) > 0.1


def test_trainings_depend_on_the_run_and_the_index_alone():
    p = problems.problem(NOISY)
    params = p.space.decode(np.full(p.space.dimension, 0.4))
    together = p.losses(params, 3, 0, 4)
    assert together == p.losses(params, 3, 0, 1) + p.losses(params, 3, 1, 3)
    assert len({*together, *p.losses(params, 4, 0, 4)}) == 8
    many = np.array([p.losses(params, s, 0, 1)[0] for s in range(2000)])
    assert abs(many.mean() - p.true(params)) < 5 * many.std() / math.sqrt(2000)


def test_a_gated_parameter_matters_only_behind_its_gate():
    p = problems.problem("surface/mlp/i11")
    params = p.space.decode(np.full(p.space.dimension, 0.4))
    for optimizer, differ in (("sgd", True), ("adam", False)):
        losses = {p.true(params | {"optimizer": optimizer, "momentum": m}) for m in (0.6, 0.9)}
        assert (len(losses) == 2) is differ


RECORDED = [n for s in ("choose", "report") for n in problems.names(s, pattern="network/*,recorded/*")]


@pytest.mark.parametrize("name", RECORDED)
def test_a_table_draws_its_own_seeds(name):
    p = problems.problem(name)
    points, seeds = p.samples.shape
    assert points == p.space.size
    assert tabulated(name.partition("/")[2]).space.to_json() == p.space.to_json()
    assert seeds >= 8
    for row in (0, points // 2, points - 1):
        level = np.array(np.unravel_index(row, tuple(p.space.levels)))
        params = p.space.decode(level / (p.space.levels - 1))
        drawn = p.losses(params, 0, 0, seeds)
        assert sorted(map(str, drawn)) == sorted(map(str, p.samples[row]))
        counted = [p.failed if math.isnan(loss) else loss for loss in drawn]
        assert p.true(params) == pytest.approx(np.mean(counted), rel=1e-6)
        ended = [loss for loss in drawn if not math.isnan(loss)]
        assert p.expected(params) == pytest.approx(np.mean(ended or [p.failed]), rel=1e-6)


def test_trainings_that_fail_are_failures_of_the_study_and_cost_the_others():
    p = problems.problem("recorded/echo-state")
    rows = np.flatnonzero(np.isnan(p.samples).mean(axis=1) > 0.5)
    assert len(rows) > 10
    told = {}

    class Peer:
        def __init__(self, knows_failures):
            self.knows_failures = knows_failures
            self.told = told[knows_failures] = []

        def ask(self):
            level = np.array(np.unravel_index(rows[len(self.told)], tuple(p.space.levels)))
            return Point(None, p.space.decode(level / (p.space.levels - 1)), p.replicas)

        def tell(self, point, losses):
            self.told.append(losses)

        def recommend(self):
            return None

    for knows in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("benchmarks.optimizers.race.create", lambda name, setting, knows=knows: Peer(knows))
            assert race(Entry(p.name, "random", 0, 5))["error"] is None
    assert np.isnan(told[True]).any()
    np.testing.assert_array_equal(np.where(np.isnan(told[True]), p.failed, told[True]), told[False])


def test_the_study_goes_on_beside_failures():
    record = race(Entry("recorded/echo-state", "hyppo", 0, 12))
    assert record["error"] is None
    assert math.isfinite(record["final"])


def test_a_table_trains_as_it_was_recorded():
    table = tabulated("echo-state")
    p = problems.problem("recorded/echo-state")
    *_, (name, last) = p.space.parameters.items()
    params = p.space.decode(np.full(p.space.dimension, 0.25))
    rows = [
        np.ravel_multi_index(
            [q.index((params | {name: v})[n]) for n, q in p.space.parameters.items()], tuple(p.space.levels)
        )
        for v in last.values
    ]
    again = table.train({n: v for n, v in params.items() if n != name})
    np.testing.assert_allclose(again.T, p.samples[rows], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", problems.names("choose", pattern="bbob-noisy/*")[::3])
def test_official_noise_is_that_of_coco(name):
    function, dimension, instance = (int(n[1:]) for n in name.split("/")[1:])
    coco = bbob.suite("bbob-noisy", dimension).get_problem_by_function_dimension_instance(function, dimension, instance)
    p = problems.problem(name)
    params = p.space.decode(np.random.default_rng(5).random(dimension))
    x = np.array(list(params.values()))
    mine = [p.losses(params, seed, 0, 1)[0] for seed in range(1000)]
    theirs = [coco(x) for _ in range(1000)]
    # Cauchy noise has an atom, which the two write with different last bits. Error rate 1e-4 a function.
    assert ks_2samp(np.round(mine, 6), np.round(theirs, 6)).pvalue > 1e-4


def test_official_truth_is_the_undisturbed_function():
    pytest.importorskip("cocoex")
    for function, quiet in ((101, 1), (111, 8), (113, 7), (120, 14), (124, 17), (129, 21)):
        p = problems.problem(f"bbob-noisy/f{function}/d03/i12")
        coco = bbob.suite("bbob", 3).get_problem_by_function_dimension_instance(quiet, 3, 12)
        x = np.random.default_rng(function).uniform(-5, 5, (20, 3))
        np.testing.assert_allclose(p.loss(x), [coco(row) for row in x], rtol=1e-9, atol=1e-6)


def test_share_of_random_points(tmp_path):
    listed = Reference(np.array([1.0, 2.0, 2.0, 5.0]), np.array([0.25, 0.5, 0.75, 1.0]))
    assert [listed.share(x) for x in (0.0, 1.0, 2.0, 4.9, 9.0)] == [0.25, 0.25, 0.75, 0.75, 1.0]
    made = reference(CLEAN, tmp_path)
    again = reference(CLEAN, tmp_path)
    np.testing.assert_array_equal(made.losses, again.losses)
    p = problems.problem(CLEAN)
    fresh = p.loss(natural(p.space, p.space.spread(np.random.default_rng(5).random((4000, p.space.dimension)))))
    assert made.share(float(np.quantile(fresh, 0.1))) == pytest.approx(0.1, abs=0.025)


def test_random_search_is_worth_exp_of_eulers_constant(tmp_path):
    races = Races(
        [json.loads(json.dumps(race(Entry(CLEAN, "random", s, 20)))) for s in range(200)],
        partial(reference, folder=tmp_path),
    )
    # ln(1 / (n q)) of the best of n has mean H_n - ln n and standard deviation below pi / sqrt 6.
    expected = sum(1 / k for k in range(1, 21)) - math.log(20)
    assert math.log(races.speed_up("random").value) == pytest.approx(expected, abs=5 * 1.2826 / math.sqrt(200))


def test_estimate_weighs_problems_alike():
    assert estimate({"a": [1.0] * 9, "b": [3.0]}).value == 2.0
    assert estimate({"a": [1.0, 1.0]}).error == 0.0
    assert estimate({"a": [1.0]}).error is None
    assert estimate({}).value is None


@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if not OPTIMIZERS[o].slow])
@pytest.mark.parametrize("problem", [CLEAN, NOISY])
def test_every_optimizer_spends_its_budget(optimizer, problem):
    if absent := OPTIMIZERS[optimizer].absent():
        pytest.skip(f"{absent} is not installed")
    record = race(Entry(problem, optimizer, 0, 18))
    assert record["error"] is None
    assert record["trainings"] == 18 * problems.problem(problem).replicas
    assert len(record["observed"]) == 18
    assert math.isfinite(record["final"])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if OPTIMIZERS[o].replicates])
def test_an_optimizer_that_replicates_trains_a_point_again(optimizer):
    if absent := OPTIMIZERS[optimizer].absent():
        pytest.skip(f"{absent} is not installed")
    p = problems.problem("recorded/graph-nodes")
    peer = create(optimizer, Setting(p.space, 40, 1, True, 0))
    trained = {}
    for _ in range(40):
        point = peer.ask()
        assert point.replicas == 1
        seen = trained.setdefault(tuple(point.params.values()), [])
        seen += p.losses(point.params, 0, len(seen), 1)
        peer.tell(point, seen[-1:])
    assert max(map(len, trained.values())) > 1
    assert tuple(peer.recommend().params.values()) in trained


def test_points_pending():
    record = race(Entry(NOISY, "hyppo", 0, 12, pending=4))
    assert record["error"] is None
    assert record["trainings"] == 36


def test_a_failing_optimizer_is_a_record_not_an_end(monkeypatch):
    monkeypatch.setattr("benchmarks.optimizers.race.create", lambda name, setting: None)
    assert "AttributeError" in race(Entry(CLEAN, "random", 0, 5))["error"]


def test_run_goes_on_and_report_writes_a_page(tmp_path, capsys):
    out, page = tmp_path / "results.jsonl", tmp_path / "docs" / "page.md"
    races = schedule.entries([CLEAN, NOISY], ["hyppo", "random"], "report", 1, 6)
    assert schedule.run(races[:1], out, show=False) == 1
    with out.open("a") as file:
        file.write('{"torn": ')
    assert schedule.run(races, out, show=False) == 3
    assert schedule.run(races, out, show=False) == 0
    page.parent.mkdir()
    page.write_text(f"# Mine\n\n{BEGIN}\nformer text\n{END}\n\nafter\n")
    assert main(["report", str(out), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# Mine")
    assert text.endswith("after\n")
    assert "former text" not in text
    assert "| hyppo " in text
    assert "surface-noisy" in text
    assert (tmp_path / "docs" / "page" / "optimizers-6-regret.svg").stat().st_size > 1000
    capsys.readouterr()


def test_races_at_equal_trainings_are_reported_apart(tmp_path, capsys):
    out, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    run = [
        "run",
        "--problems",
        "recorded/echo-state",
        "--seeds",
        "2",
        "--out",
        str(out),
        "--optimizers",
        "hyppo,random",
    ]
    assert main([*run, "--trainings", "12"]) == 0
    records = schedule.read(out)
    assert all(r["error"] is None and r["trainings"] == 12 for r in records)
    ran = {(r["optimizer"], r["replicas"]) for r in records}
    assert ran == {("hyppo", None), ("hyppo", 1), ("hyppo", 3), ("random", 1), ("random", 3)}
    assert all(r["spent"]["12"]["visited"] == 4 for r in records if r["replicas"] == 3)
    assert main(["report", str(out), "--page", str(page)]) == 0
    text = page.read_text()
    assert "### 12 trainings" in text
    assert "| random, 3 a point |" in text
    assert "| hyppo, 1 a point | recorded | " in text[text.index("interval by family") :]
    assert "evaluations" not in text
    capsys.readouterr()


def test_report_refuses_what_defaults_were_chosen_on(tmp_path):
    rows = [{"seed": 0, "budget": 5}, {"seed": 1000, "budget": 5}]
    with pytest.raises(ValueError, match="both splits"):
        report(rows, tmp_path / "p.md", tmp_path, lambda name: Reference(np.zeros(1), np.ones(1)))


def test_run_says_what_is_absent_and_unknown(tmp_path, capsys):
    assert main(["run", "--optimizers", "no-such", "--out", str(tmp_path / "r")]) == 2
    assert "no-such" in capsys.readouterr().err


# -- equal trainings -------------------------------------------------------------------------------------------------


def record(problem, optimizer, seed, true, among, replicas=None, interval=None, estimate=None):
    state = {
        "true": true,
        "expected": true,
        "observed": true - 0.1,
        "estimate": true - 0.1 if estimate is None else estimate,
        "interval": interval,
        "among": among,
        "visited": len(among),
        "replicas": 2,
    }
    return {
        "problem": problem,
        "family": "f",
        "optimizer": optimizer,
        "replicas": replicas,
        "seed": seed,
        "pending": 1,
        "error": None,
        "spent": {"60": state},
    }


def test_measures_at_equal_trainings():
    scale = Reference(np.arange(1.0, 101.0), np.arange(1.0, 101.0) / 100)  # median 50
    rows = [
        record("p", "a", 0, 1.0, [1.0, 3.0], interval=[0.5, 1.5]),
        record("p", "a", 1, 3.0, [1.0, 3.0], interval=[1.0, 2.0], estimate=3.49),
        record("p", "b", 0, 2.0, [2.0], replicas=3),
        record("p", "b", 1, 6.0, [2.0, 6.0], replicas=3),
    ]
    races = Spendings(rows, 60, lambda name: scale)
    assert races.labels == ["a", "b, 3 a point"]
    assert races.speed_up("a").value == pytest.approx(1 / (60 * math.sqrt(0.01 * 0.03)))
    assert races.visited_speed_up("a").value == pytest.approx(1 / (60 * 0.01))
    assert races.ratio("a", "b, 3 a point").value == pytest.approx(2.0)
    assert races.ratio("a", "b, 3 a point").error < 1e-12  # the same ratio at either seed
    assert races.mean(races.of("a"), races.picked).value == 0.5
    assert races.mean(races.of("a"), races.regret).value == pytest.approx(0.5 * 2.0 / 49.0)
    assert races.mean(races.of("a"), races.optimism).value == pytest.approx(0.5 * (0.1 - 0.49) / 49.0)
    assert races.coverage("a").value == 0.5
    assert races.coverage("b, 3 a point").value is None
