"""Figures of a study, as Altair charts: `hyppo.plots.convergence(study)`.

A chart shows itself in a notebook. `chart.save("figure.svg")`, or .png, .pdf, .html, writes it without a browser and
without a network. `study.report("report.html")` puts all of them on one page.
"""

from hyppo.plots.course import convergence, learning_curves, timeline
from hyppo.plots.lines import failures, parallel
from hyppo.plots.outcome import confirmation, coverage, sources
from hyppo.plots.surrogate import parameter, parameters, sobol
from hyppo.plots.trials import front, spread

__all__ = [
    "confirmation",
    "convergence",
    "coverage",
    "failures",
    "front",
    "learning_curves",
    "parallel",
    "parameter",
    "parameters",
    "sobol",
    "sources",
    "spread",
    "timeline",
]
