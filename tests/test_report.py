"""Figures and the report, without a browser: every kind of study, the numbers, and text that stays text."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import hyppo
from hyppo.config import CONFIRMATION
from hyppo.plots import tables
from hyppo.training.replica import Goal
from hyppo.trial import Asked, ReplicaRecord, Settled, State
from tests.studies import hostile_study, small_study

pytest.importorskip("altair")
pytest.importorskip("vl_convert")

OF_THEIR_OWN = ("parameter", "front", "coverage", "confirmation")  # tested below
FIGURES = [name for name in hyppo.plots.__all__ if name not in OF_THEIR_OWN]


def specifications(html):
    found = re.findall(r'<script type="application/json" class="figure" data-place="([^"]+)">(.*?)</script>', html)
    return {place.removeprefix("figure-"): json.loads(text) for place, text in found}


def rows_of(specification):
    """Rows of a figure's first layer."""
    return specification["datasets"][specification["layer"][0]["data"]["name"]]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return hyppo.load(small_study(tmp_path_factory.mktemp("report") / "study.h5"))


@pytest.fixture(scope="module")
def html(study, tmp_path_factory):
    path = study.report(tmp_path_factory.mktemp("page") / "report.html")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_a_valid_picture(study, name, tmp_path):
    figure = getattr(hyppo.plots, name)(study)
    assert figure.to_dict()["description"]
    path = tmp_path / "figure.svg"
    figure.save(path)
    text = path.read_text()
    assert text.startswith("<svg")
    assert "NaN" not in text


def test_a_figure_is_written_for_paper(study, tmp_path):
    for ending, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        hyppo.plots.learning_curves(study).save(tmp_path / f"figure.{ending}")
        assert (tmp_path / f"figure.{ending}").read_bytes().startswith(start)


def test_numbers_of_the_page_are_those_of_the_study(study, html):
    best = study.best
    assert f"Recommended: trial {best.number}" in html
    assert f'<span id="estimate">{best.estimate:.6g}</span>' in html
    assert f"mean {best.mean:.6g}" in html
    assert f"90 % interval {best.interval[0]:.6g} to {best.interval[1]:.6g}" in html
    assert all(repr(value) in html.replace("&#x27;", "'") for value in best.params.values())
    drawn = {(r["trial"], r["replica"]): r["loss"] for r in rows_of(specifications(html)["convergence"])}
    told = {(t.number, r.index): r.loss for t in study.trials for r in t.replicas if r.loss is not None}
    assert drawn == pytest.approx(told, rel=1e-5)


def test_the_last_estimate_is_the_recommendation(study):
    last = tables.estimates(study)[-1]
    best = study.best
    assert last["trial"] == best.number
    assert last["estimate"] == pytest.approx(best.estimate, rel=1e-5)
    assert (last["low"], last["high"]) == pytest.approx(best.interval, rel=1e-5)


def test_earlier_estimates_know_only_what_had_ended(study):
    pairs = tables.ended(study)
    earlier = tables.as_of(study, pairs[:10])
    assert sum(r.loss is not None for t in earlier.trials for r in t.replicas) == 10
    assert earlier.best.number in {t.number for t, _ in pairs[:10]}


def test_a_metric_that_is_better_when_higher_keeps_its_sign(tmp_path):
    goal = Goal("val_acc", "max")
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=tmp_path / "study.h5", replicas=2) as study:
        for k in range(8):
            trial = study.ask()
            records = tuple(
                ReplicaRecord(r.index, r.seed, State.DONE, loss=-0.9 + 0.01 * (k + r.index), goal=goal)
                for r in trial.replicas
            )
            study._record(Settled(trial.number, records))
    rows = figure_rows(hyppo.plots.parallel(study))
    assert max(row["loss"] for row in rows if "loss" in row) == pytest.approx(0.895)
    every = figure_rows(hyppo.plots.convergence(study))
    assert all(0.8 < row["loss"] <= 0.9 for row in every if "loss" in row)
    assert all(row["low"] <= row["estimate"] <= row["high"] for row in every if "low" in row and row["low"] is not None)
    html = study.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert f'<span id="estimate">{-study.best.estimate:.6g}</span> <small>estimated val_acc' in html
    assert "mean val_acc" in html


def test_losses_that_are_all_equal_have_no_colours():
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), seed=0)
    for _ in range(6):
        study.tell(study.ask().number, 0.5)
    front = hyppo.plots.parallel(study).to_dict()["layer"][2]
    assert front["encoding"]["color"]["legend"] is None


def test_long_values_are_told_apart_by_their_ends():
    study = hyppo.Study(hyppo.Space(encoder=hyppo.Choice(["vit_base_patch16_224", "vit_base_patch16_384"])), seed=0)
    study.tell(study.ask().number, 0.5)
    texts = {row["text"] for row in figure_rows(hyppo.plots.parallel(study)) if "text" in row}
    assert {"vit_bas…16_224", "vit_bas…16_384"} <= texts


@pytest.fixture(scope="module")
def energies(tmp_path_factory):
    """A study whose losses, energies, differ by a millionth of themselves; it was confirmed."""

    def train(replica):
        noise = 0.02 * (replica.seed % 7)
        return -76026.8 + 0.8 * (replica.params["x"] - 0.3) ** 2 + noise

    path = tmp_path_factory.mktemp("energies") / "study.h5"
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log=path, isolate=False)
    study.enqueue({"x": 0.9}, name="baseline")
    study.run(trainings=14, progress=False)
    study.confirm(replicas=3, against="baseline", progress=False)
    study.close()
    return study


def test_pictures_show_losses_that_differ_in_their_last_digits(energies):
    rows = [row for row in figure_rows(hyppo.plots.convergence(energies)) if "replica" in row]
    told = [r.loss for t in energies.trials for r in t.replicas]
    assert sorted(row["loss"] for row in rows) == pytest.approx(sorted(told), abs=1e-6)
    low, high = energies.best.interval
    band = [row for row in figure_rows(hyppo.plots.confirmation(energies)) if "low" in row]
    assert [band[0]["low"], band[0]["high"]] == pytest.approx([low, high], abs=1e-6)


def test_texts_show_losses_that_differ_in_their_last_digits(energies):
    best, path = energies.best, energies.log
    width = best.interval[1] - best.interval[0]
    command = [sys.executable, "-m", "hyppo"]
    shown, watched = (
        subprocess.run([*command, verb, path], capture_output=True, text=True, timeout=60, check=True).stdout
        for verb in ("show", "watch")
    )
    front = str(energies.front("loss", "metrics.seconds"))
    html = energies.report(path.with_suffix(".html")).read_text(encoding="utf-8")
    for text in (str(best), best._repr_html_(), " ".join(shown.split()), watched, html):
        low, high = map(float, re.search(r"(?:interval|\() ?(-76026[.\d]*) to (-76026[.\d]*)", text).groups())
        assert [low, high] == pytest.approx(best.interval, abs=width / 20), text
    found = energies.confirm(replicas=3, against="baseline", progress=False)
    numbers = [float(n) for n in re.findall(r"-76026[.\d]*\d", found.text)]
    expected = [found.mean, *found.interval, *found.predicted]
    assert numbers[:5] == pytest.approx(expected, abs=width / 20)
    means = {round(t.mean, 2) for t in energies.trials}
    for text, fewest in ((front, 3), (shown, len(means) / 2), (energies._repr_html_(), len(means) / 2)):
        assert len(set(re.findall(r"-76026[.\d]*\d", text))) >= fewest, text


def test_confirmation_and_baseline_stand_in_the_answer(tmp_path):
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=tmp_path / "study.h5", replicas=3) as study:
        baseline = study.enqueue({"x": 0.9}, name="my <b>baseline</b>")
        for k in range(8):
            trial = study.ask()
            study.tell(trial.number, [trial.params["x"] + 0.01 * (k + r) for r in range(3)])
        best = study.best
        asked = tuple((CONFIRMATION + i, 100 + i) for i in range(4))
        losses = [best.mean + 0.001 * i for i in range(4)]
        records = tuple(
            ReplicaRecord(index, seed, State.DONE, loss=loss) for (index, seed), loss in zip(asked, losses, strict=True)
        )
        study._record(Asked(best.number, best.params, asked, {"by": "confirm"}, 0.0), Settled(best.number, records))
    html = study.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<dt>Confirmation</dt><dd>mean [^<]*over 4 fresh trainings: the prediction holds", html)
    assert "with seeds that the search had not used" in html
    versus = study.compare(best.number, baseline.number)
    assert f"<dt>Against my &lt;b&gt;baseline&lt;/b&gt;</dt><dd>loss: {versus}" in html
    assert "<dt>command</dt>" in html
    told = [r["loss"] for r in figure_rows(hyppo.plots.confirmation(study)) if r.get("kind") == "confirmation"]
    assert told == pytest.approx(losses, rel=1e-5)


def figure_rows(figure):
    """All rows of a figure."""
    return [row for rows in figure.to_dict()["datasets"].values() for row in rows]


def test_figures_of_an_ensemble_loss_name_it(tmp_path):
    def train(replica):
        return hyppo.Result(1.0, prediction=np.full(4, replica.params["x"]), targets=np.zeros(4))

    study = hyppo.Study(
        hyppo.Space(x=hyppo.Real(0, 1)), train, log=tmp_path / "study.h5", replicas=2, target="ensemble_loss",
        isolate=False, criterion=lambda prediction, targets: float(np.mean((prediction - targets) ** 2)),
    )  # fmt: skip
    study.run(trials=5, progress=False)
    study.confirm(replicas=2, progress=False)
    assert "predicted for the ensemble loss of 2 fresh networks" in hyppo.plots.confirmation(study).to_json()
    assert "line: estimated ensemble loss" in hyppo.plots.convergence(study).to_json()
    page = study.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "estimated ensemble loss of 2 fresh networks;" in page


def test_a_trial_is_in_the_figures_of_its_active_parameters():
    space = hyppo.Space(dropout=hyppo.Choice([False, True]), rate=hyppo.Real(0, 0.5), lr=hyppo.Real(0, 1))
    study = hyppo.Study(space.inactive_if({"rate": {"dropout": [False]}}))
    for number, dropout in enumerate([True, False, True, False]):
        study.add({"dropout": dropout, "rate": 0.1 * number, "lr": 0.1}, [0.5])
    for name, trials in {"rate": {0, 2}, "lr": {0, 1, 2, 3}}.items():
        rows = figure_rows(hyppo.plots.parameter(study, name))
        assert {row["trial"] for row in rows if "trial" in row} == trials


def test_coverage_is_that_of_the_predictions(tmp_path):
    def train(replica):
        rng = np.random.default_rng(replica.seed)
        targets = np.linspace(0.0, 1.0, 200)
        return hyppo.Result(replica.params["x"], targets + 0.1 * rng.normal(size=200), targets=targets)

    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0.1, 1)), train, log=tmp_path / "s.h5", replicas=3, isolate=False)
    study.run(trials=4, progress=False)
    rows = {r["level"]: r["covered"] for r in figure_rows(hyppo.plots.coverage(study)) if 0 < r["level"] < 1}
    found = hyppo.calibration(study.predictions(study.best.number), crps=False)
    for level, share in found.coverage.items():
        assert rows[level] == pytest.approx(share)


def test_the_page_needs_no_network(html):
    assert "default-src 'none'" in html
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!#)', markup)


def test_every_section_is_there_or_said_to_be_absent(html):
    places = "answer convergence spread parallel parameters sobol curves timeline failures trials"
    for place in places.split():
        assert f'<section id="{place}"' in html, place
    assert "calibration of the predictions" in re.search(r'id="absent">(.*?)</p>', html).group(1)


def test_text_of_a_hostile_study_is_only_text(tmp_path):
    html = hostile_study(tmp_path / "study.h5").report(tmp_path / "report.html").read_text(encoding="utf-8")
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "<img" not in markup
    assert "onerror" in markup  # shown, as text
    assert html.count("<script") == html.count("</script>")
    assert "\x1b" not in html
    json.dumps(specifications(html)).encode("utf-8")


def space_of(dimension):
    return hyppo.Space(**{f"p{i}": hyppo.Real(0, 1) for i in range(dimension)})


def studies_without_much():
    none = hyppo.Study(space_of(2))
    one = hyppo.Study(space_of(2))
    one.add({"p0": 0.5, "p1": 0.5}, [1.0])
    failed = hyppo.Study(space_of(2))
    for _ in range(5):
        failed.fail(failed.ask().number, "no memory")
    running = hyppo.Study(space_of(2), replicas=2)
    for k in range(8):
        trial = running.ask()
        if k < 6:
            running.tell(trial.number, [0.1 * k, 0.2 * k])
    same = hyppo.Study(space_of(1))
    for _ in range(6):
        same.tell(same.ask().number, [1.0])
    steep = hyppo.Study(space_of(1))
    for k in range(8):
        steep.tell(steep.ask().number, [10.0**k])
    return {"none": none, "one": one, "failures only": failed, "running": running, "constant": same, "steep": steep}


@pytest.mark.parametrize("name", ["none", "one", "failures only", "running", "constant", "steep"])
def test_a_study_with_little_in_it_has_a_page(name, tmp_path):
    html = studies_without_much()[name].report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Recommended" in html if name not in ("none", "failures only") else "No recommendation yet" in html
    if name == "failures only":
        assert 'id="failures"' in html
    if name == "running":
        assert "may be running" in html


def test_forty_parameters(tmp_path):
    study = hyppo.Study(space_of(40), seed=0, replicas=1, surrogate="random")
    rng = np.random.default_rng(0)
    for _ in range(30):
        trial = study.ask()
        study.tell(trial.number, [trial.params["p0"] + 0.01 * rng.normal()])
    html = study.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count('class="figure"') > 40


def test_the_command_writes_the_page_beside_the_study(tmp_path):
    path = small_study(tmp_path / "study.h5")
    run = subprocess.run(
        [sys.executable, "-m", "hyppo", "report", path], capture_output=True, text=True, timeout=100, check=True
    )
    assert run.stdout.strip() == str(tmp_path / "study.html")
    assert (tmp_path / "study.html").stat().st_size < 5e6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study.h5", "study.html"]


def test_an_output_that_cannot_be_written_is_said(study, tmp_path):
    with pytest.raises(hyppo.StudyError, match="cannot be written"):
        study.report(tmp_path / "missing" / "report.html")


def test_a_page_replaces_no_study(study, tmp_path):
    """Neither by its name nor through a link; and a page that cannot be written leaves no other file."""
    path = small_study(tmp_path / "study.h5", trials=2)
    (tmp_path / "link.html").symlink_to("study.h5")
    before = path.read_bytes()
    for name in ("study.h5", "link.html"):
        with pytest.raises(hyppo.StudyError, match="not overwritten"):
            study.report(tmp_path / name)
    with pytest.raises(hyppo.StudyError, match="cannot be written: No space left on device"):
        study.report("/dev/full")
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.html", "study.h5"]


@pytest.mark.slow
@pytest.mark.parametrize(("trials", "replicas", "most"), [(1000, 1, 5e6), (10_000, 3, 15e6)])
def test_a_large_study_has_a_small_page_soon(trials, replicas, most, tmp_path):
    path = small_study(tmp_path / "study.h5", trials, replicas)
    study = hyppo.load(path)
    start = time.process_time()
    written = study.report(tmp_path / "report.html")
    assert time.process_time() - start < 30.0
    assert written.stat().st_size < most


def test_the_front_is_that_of_the_study(tmp_path):
    def train(replica):
        size = replica.params["width"]
        replica.log("parameters", 100.0 * size)
        return 1.0 / size + 0.1 * replica.params["x"]

    space = hyppo.Space(width=hyppo.Integer(1, 40, log=True), x=hyppo.Real(0, 1))
    study = hyppo.Study(space, train, replicas=1, seed=1, surrogate="random", isolate=False)
    study.run(trials=15, progress=False)
    front = study.front("loss", "metrics.parameters")
    figure = hyppo.plots.front(study).to_dict()
    field = f"m{tables.metric_names(study).index('parameters')}"
    drawn = figure["datasets"][figure["layer"][1]["data"]["name"]]
    assert [row["trial"] for row in drawn] == [trial.number for trial in front]
    assert [(row["loss"], row[field]) for row in drawn] == [pytest.approx(t.values, rel=1e-5) for t in front]
    assert [(row["low"], row["high"]) for row in drawn] == [pytest.approx(t.intervals[0], rel=1e-5) for t in front]
    assert f"within the interval of the recommended: trial {front.smallest.number}" in " ".join(
        figure["title"]["subtitle"]
    )
    assert 'id="front"' in study.report(tmp_path / "report.html").read_text(encoding="utf-8")


DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", hyppo.plots.__all__)
def test_every_figure_has_its_picture(name):
    assert (DOCS / "report" / f"{name}.png").exists()
    assert f"`docs/report/{name}.png`" in getattr(hyppo.plots, name).__doc__
    assert name == "parameter" or f"(report/{name}.png)" in (DOCS / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_pictures_can_be_drawn_again(tmp_path):
    pytest.importorskip("sklearn")
    subprocess.run(
        [sys.executable, DOCS / "report" / "pictures.py"], cwd=tmp_path, capture_output=True, timeout=190, check=True,
        env=os.environ | {"HYPPO_TRIALS": "24", "HYPPO_PROGRESS": "0", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert {path.stem for path in tmp_path.glob("*.png")} - {"report"} == set(hyppo.plots.__all__)
