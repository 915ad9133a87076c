"""Colours, sizes and scales that all figures share.

Colours are those of Okabe and Ito (2008), which all common kinds of colour blindness tell apart. Numbers run from blue
to gold, which stay apart too, and which show on white and on black.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyppo.errors import StudyError

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)
GREY = "#9a9a9a"
KINDS = (RED, BLUE, ORANGE, PURPLE, GREEN, SKY, YELLOW)
SHADES = ("#4a5fc1", "#2e9fb0", "#7fbf5a", "#e3b505")
WIDTH, HEIGHT = 620, 320
SUBTITLE = 95  # characters in a line, about WIDTH pixels
STEEP = 8.0  # largest over smallest loss from which the axis is logarithmic
Figure = Any  # an altair chart; altair is loaded when the first figure is drawn
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def altair() -> Any:
    """The module altair.

    Raises
    ------
    StudyError
        It is not installed.
    """
    try:
        import altair as alt
    except ModuleNotFoundError:
        raise StudyError("figures need altair: pip install 'hyppo-uq[report]'") from None
    return alt


LOSS_DIGITS = 12  # losses of a study may differ in their last digits only, such as energies


def rounded(value: float | None, digits: int = 6) -> float | None:
    """A number with as many digits as a picture needs; None for anything that is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")


def data(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a table of the figure, without altair's checks, which would take seconds."""
    alt = altair()
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):
        return alt.InlineData(values=tuple(rows))  # altair copies lists again and again, and tuples never


def loss_scale(values: Iterable[float | None]) -> Any:
    """A scale over losses: logarithmic if they span more than a factor of STEEP, and never wider than they are.

    Other marks on it, such as the band of a surrogate, are clipped at its ends. A logarithmic scale needs `clamp` for
    this, since an interval may end below zero.
    """
    known = [v for v in values if v is not None]
    if not known:
        return span(False)
    low, high = min(known), max(known)
    steep = low > 0.0 and high > STEEP * low
    if steep:
        return altair().Scale(type="log", domain=[0.9 * low, 1.1 * high], nice=False, clamp=True)
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return altair().Scale(domain=[low - pad, high + pad], nice=True, zero=False)


def span(log: bool, nice: bool = True) -> Any:
    """A scale over the data, logarithmic or not, which need not include zero."""
    alt = altair()
    return alt.Scale(type="log", nice=nice) if log else alt.Scale(zero=False, nice=nice)


def coloured(field: str, colours: Mapping[str, str]) -> Any:
    """Colours by the values of `field`, with a legend above the figure."""
    alt = altair()
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=alt.Legend(orient="top"))


def finished(chart: Any, title: str, description: str, **sizes: Any) -> Any:
    """A figure with its title, its description for a screen reader, its size, and the look of all figures.

    Parameters
    ----------
    chart : altair chart
    title : str
        A line below it may follow a newline.
    description : str
    sizes
        Properties such as `width`.
    """
    alt = altair()
    first, _, second = title.partition("\n")
    lines = textwrap.wrap(second, SUBTITLE) or alt.Undefined
    heading = alt.TitleParams(first, subtitle=lines, anchor="start", fontWeight=600, fontSize=14)
    return (
        chart.properties(title=heading, description=description, **sizes)
        .configure(background="white", font=FONT)
        .configure_view(strokeOpacity=0)
        .configure_axis(
            grid=True,
            gridOpacity=0.35,
            domainOpacity=0.5,
            labelFontSize=11,
            labelLimit=160,
            titleFontSize=12,
            titleFontWeight="normal",
            titleLimit=400,
        )
        .configure_legend(labelFontSize=11, titleFontSize=12, titleFontWeight="normal", labelLimit=240)
        .configure_mark(invalid="filter", aria=False)  # thousands of marks are no help to a screen reader
    )


def joined(*notes: str) -> str:
    """The notes that are not empty, in one line."""
    return "; ".join(filter(None, notes))


def refuse_empty(rows: Any, why: str) -> None:
    """Refuse to draw nothing.

    Raises
    ------
    StudyError
        There are no rows.
    """
    if not rows:
        raise StudyError(f"nothing to draw: {why}")
