"""The result of a study as HTML: the recommendation as code to paste, its estimate and interval, and the reason."""

from dataclasses import dataclass
from html import escape
from typing import Any

from hyppo.analysis.comparison import compare_with_named
from hyppo.analysis.confirmation import in_short, recommendation_confirmed
from hyppo.errors import StudyError
from hyppo.results import Best, estimated, observed
from hyppo.study import Study
from hyppo.text import counted, interval, metric, number, printable


def text(value: object) -> str:
    """Text of a study, escaped for HTML."""
    return escape(printable(value))


@dataclass(frozen=True)
class Answer:
    """The recommendation of a study, or the reason why there is none."""

    study: Study
    best: Best | None
    why_not: str = ""

    @staticmethod
    def of(study: Study) -> "Answer":
        """The current result of a study."""
        try:
            return Answer(study, study.best)
        except StudyError as error:
            return Answer(study, None, str(error))

    def html(self) -> str:
        """The result as a box of HTML, independent of the rest of the page."""
        if self.best is None:
            return f'<div class="answer"><h2>No recommendation yet</h2><p>{text(self.why_not)}</p></div>'
        best = self.best
        name = self.study.trials[best.number].name
        title = f"trial {best.number}" + (f" ({text(name)})" if name else "")
        facts = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in self._facts(best))
        return (
            f'<div class="answer"><h2>Recommended: {title}</h2>'
            f'<p class="headline">{self._headline(best)}</p>'
            f'<pre id="params">{escape(code(best.params))}</pre>'
            f'<button type="button" data-copies="params">Copy</button>'
            f"<dl>{facts}</dl></div>"
        )

    def _headline(self, best: Best) -> str:
        around = interval(*best.goal.interval(*best.interval), 6)
        return (
            f'<span id="estimate">{number(best.goal.shown(best.estimate), 6, best.width)}</span> '
            f"<small>estimated {text(estimated(self.study))}; {around}</small>"
        )

    def _facts(self, best: Best) -> list[tuple[str, str]]:
        trial = self.study.trials[best.number]
        spread = "spread unknown" if best.spread is None else f"spread {number(best.spread)}"
        seen = f"{escape(observed(best, 6, label=True))}, {spread}, over {counted(best.replicas, 'replica')}"
        if best.failed:
            seen += f'; <strong class="bad">{best.failed} of its trainings failed</strong>'
        facts = [("Why", text(best.reason)), ("Observed", seen)]
        if best.ensemble_loss is not None:
            ends = ""
            if best.loss_interval is not None:
                ends = f", l ± 2u: {number(best.loss_interval[0], 6)} to {number(best.loss_interval[1], 6)}"
            facts.append(("Ensemble", f"loss of the mean prediction {number(best.ensemble_loss, 6)}{ends}"))
        facts += self._confirmed(best)
        for other, found in compare_with_named(self.study, best.number):
            facts.append((f"Against {text(other.name)}", f"{self.study.config.quantity('loss')}: {text(found)}"))
        if metrics := trial.metrics:
            facts.append(
                ("Metrics", ", ".join(f"{text(name)} {metric(name, value)}" for name, value in metrics.items()))
            )
        if best.checkpoints:
            facts.append(("Networks", "<br>".join(text(path) for path in best.checkpoints)))
        return facts

    def _confirmed(self, best: Best) -> list[tuple[str, str]]:
        """The mean of the recommended trial's confirmations, and whether the predicted interval contains it."""
        found = recommendation_confirmed(self.study, best)
        if found is None:
            return []
        return [
            ("Confirmation", escape(in_short(found, best.goal, self.study.config))),
            ("For a paper", text(found.text)),
        ]


def code(params: dict[str, Any]) -> str:
    """Parameters as Python to paste.

    >>> print(code({"lr": 0.01, "act": "relu"}))
    params = {
        "lr": 0.01,
        "act": 'relu',
    }
    """
    lines = [
        f'    "{name}": {value!r},' if name.isidentifier() else f"    {name!r}: {value!r},"
        for name, value in params.items()
    ]
    return "\n".join(["params = {", *lines, "}"])
