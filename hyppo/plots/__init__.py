"""Figures of a study, as Altair charts: `hyppo.plots.convergence(study)`.

A chart shows itself in a notebook. `chart.save("figure.svg")`, or .png, .pdf, .html, writes it without a browser and
without a network. `study.report("report.html")` puts all of them on one page.
"""

from hyppo.plots.figures import (
    confirmation,
    convergence,
    coverage,
    failures,
    front,
    learning_curves,
    parallel,
    parameter,
    parameters,
    sobol,
    sources,
    spread,
    timeline,
)

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
