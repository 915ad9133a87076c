"""HTML of a study and its recommendation for notebooks; it needs no drawing library."""

from html import escape

from hyppo.errors import StudyError
from hyppo.report.answer import code, text
from hyppo.report.page import listed, status, trials_table
from hyppo.results import Best, observed
from hyppo.study import Study
from hyppo.text import counted, interval, number

SHOWN = 10  # trials in the table


def best_html(best: Best) -> str:
    """The recommendation: estimate, interval, parameters as code, and the reason."""
    spread = "" if best.spread is None else f" ± {number(best.spread, 3)}"
    estimate = number(best.goal.shown(best.estimate), 6, best.width)
    around = interval(*best.goal.interval(*best.interval), 6)
    failed = f", {best.failed} failed" if best.failed else ""
    return (
        f"<div><strong>trial {best.number}: expected {text(best.goal.metric)} {estimate}</strong> ({around})"
        f"<pre>{escape(code(best.params))}</pre>"
        f"<div>observed {escape(observed(best, 6))}{spread} over {counted(best.replicas, 'training')}{failed}; "
        f"{text(best.reason)}</div></div>"
    )


def study_html(study: Study) -> str:
    """A study: its counts, its recommendation, its best trials."""
    try:
        recommended = best_html(study.best)
    except StudyError as error:
        recommended = f"<div>no recommendation: {text(error)}</div>"
    return (
        f"<div><div>hyppo study{f' {text(study.log.name)}' if study.log else ''}: {status(study)}</div>{recommended}"
        f"{trials_table(study, listed(study)[:SHOWN])}</div>"
    )
