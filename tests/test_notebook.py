"""A study in a notebook: shown as HTML, and its progress in one cell that is replaced; in a real kernel."""

import pytest

import hyppo
from tests.studies import hostile_study

RUN = """
import time
import hyppo

def train(replica):
    time.sleep(0.2)
    return replica.params["[bold]<b>"] + 0.01 * (replica.seed % 5)

study = hyppo.Study(hyppo.Space({"[bold]<b>": hyppo.Real(0, 1)}), train, replicas=2, isolate=False)
study.run(trials=5)
"""

QUICK = """
quick = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda replica: replica.params["x"], replicas=1, isolate=False)
quick.run(trials=3)
"""
FAILS = """
fails = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda replica: 1 / 0, replicas=1, isolate=False)
fails.run(trials=9)
"""


def ran(*codes, **options):
    """The outputs of the cells of a notebook that a real kernel runs."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    nbclient.NotebookClient(notebook, timeout=90, kernel_name="python3", **options).execute()
    return [cell.outputs for cell in notebook.cells]


def displayed(outputs):
    return [output.data["text/plain"] for output in outputs if output.output_type == "display_data"]


def test_the_cell_of_a_short_or_failed_run_tells_how_it_ended():
    """Too short for a surrogate; with nothing left to do; with an error."""
    quick, again, fails = ran(f"import hyppo\n{QUICK}", "quick.run(trials=3)", FAILS, allow_errors=True)
    (text,) = displayed(quick)
    assert text.startswith("3 of 3 trials, 3 trainings in")
    assert "no incumbent" not in text
    assert not displayed(again)
    assert "nothing left to do" in again[0].text
    (text,) = displayed(fails)
    assert text.startswith("5 of 9 trials, 5 trainings (5 failed) in")
    assert "running" not in text
    assert text.endswith("no incumbent yet")


def test_progress_is_one_cell_and_results_are_html():
    run, best, study = ran(RUN, "study.best", "study")
    shown = [output for output in run if output.output_type == "display_data"]
    assert len(shown) == 1
    assert "5 of 5 trials, 10 trainings" in shown[0].data["text/plain"]
    assert "[bold]&lt;b&gt;" in shown[0].data["text/html"]
    assert "trials" not in "".join(output.text for output in run if output.output_type == "stream")
    assert "expected loss" in best[0].data["text/html"]
    assert "5 trials (5 done)" in study[0].data["text/html"]


def test_html_of_a_study_is_that_of_its_recommendation(tmp_path):
    study = hostile_study(tmp_path / "study.h5")
    html = study._repr_html_()
    assert f"trial {study.best.number}: expected loss {study.best.estimate:.6g}" in html
    assert study.best._repr_html_() in html
    assert "<img" not in html
    assert "<script" not in html
    assert "onerror" in html


def test_a_study_without_a_loss_has_html():
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)))
    assert "no recommendation" in study._repr_html_()
