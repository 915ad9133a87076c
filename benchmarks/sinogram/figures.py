"""The pictures of a finished search: scans filled by the recommended network, and the course of the search."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

import hyppo
from benchmarks.sinogram.data import Float32Array, Scans, field_of_view, reconstruct, reconstruct_sparse

STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
}
REPLICA = "#8fa8c8"
TRIAL = "#1f4e8c"
RECOMMENDED = "#d1495b"
LINEAR = "#777777"


def inpainting(path: Path, rows: dict[str, tuple[Scans, int, Float32Array]]) -> None:
    """Draw scans with their gaps, how they were filled, and the images reconstructed from them.

    Parameters
    ----------
    path : Path
        PNG to write.
    rows : dict
        Title -> (scans, which of them, (T, A, N) sinograms filled by T replicas of the network). Each takes two rows.
    """
    replicas = max(len(filled) for _, _, filled in rows.values())
    titles = ["measured", "linear interpolation", f"mean of {replicas} networks", "their spread", "truth"]
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(
            2 * len(rows), len(titles), figsize=(7.2, 3.05 * len(rows) + 0.3), layout="constrained", squeeze=False
        )
        for block, (title, (part, index, filled)) in enumerate(rows.items()):
            truth, linear = part.truth[index], part.linear[index]
            views = [part.measured[index], linear, filled.mean(axis=0), _spread(filled), truth]
            back = [reconstruct(f) for f in filled]
            # The measured views alone, as a baseline of the filled ones.
            sparse = reconstruct_sparse(part.measured[index], part.kept)
            images = [sparse, reconstruct(linear), reconstruct(views[2]), _spread(np.stack(back))]
            images.append(part.images[index].astype(np.float64))
            sinogram_peak, image_peak = float(truth.max()), float(part.images[index].max())
            above, below = axes[2 * block], axes[2 * block + 1]
            for column, (upper, lower) in enumerate(zip(above, below, strict=True)):
                shown = views[column]
                if column == 0:
                    shown = np.where(part.kept[:, None], shown, np.nan)
                if column == 3:
                    # Errors are small beside the signal: a scale of their own, stated below the picture.
                    upper.imshow(shown, cmap="magma", vmin=0, vmax=0.1 * sinogram_peak, aspect="auto")
                    lower.imshow(images[column], cmap="magma", vmin=0, vmax=0.1 * image_peak)
                    upper.set_xlabel("scale × 10", labelpad=2)
                    lower.set_xlabel("scale × 10", labelpad=2)
                else:
                    picture = upper.imshow(shown, cmap="gray", vmin=0, vmax=sinogram_peak, aspect="auto")
                    picture.cmap.set_bad("#35506e")
                    lower.imshow(images[column], cmap="gray", vmin=0, vmax=image_peak)
                if column in (1, 2):
                    upper.set_xlabel(f"{_psnr(truth, views[column], ~part.kept):.1f} dB", labelpad=2)
                if column in (0, 1, 2):
                    inside = field_of_view(truth.shape[1])
                    lower.set_xlabel(f"{_psnr(part.images[index], images[column], inside):.1f} dB", labelpad=2)
                if block == 0:
                    upper.set_title(titles[column])
                for axis in (upper, lower):
                    axis.set(xticks=[], yticks=[])
                    axis.set_box_aspect(1)
                    for spine in axis.spines.values():
                        spine.set_visible(False)
            above[0].set_ylabel(f"{title}\nsinogram (angle ↓)")
            below[0].set_ylabel("reconstruction\n(filtered back-projection)")
        figure.savefig(path)
        plt.close(figure)


def _spread(pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Standard deviation over replicas (T, ...); nothing can be said of one, and nothing is drawn."""
    spread: npt.NDArray[Any] = pictures.std(axis=0, ddof=1) if len(pictures) > 1 else np.zeros_like(pictures[0])
    return spread


def _psnr(truth: npt.NDArray[Any], other: npt.NDArray[Any], where: npt.NDArray[np.bool_]) -> float:
    from skimage.metrics import peak_signal_noise_ratio

    reference = truth.astype(np.float64)
    return float(peak_signal_noise_ratio(reference[where], other[where].astype(np.float64), data_range=reference.max()))


def convergence(path: Path, study: hyppo.Study) -> None:
    """Draw every training in the order of its end, the trials' means, and the final recommendation."""
    best = study.best
    done = _finished(study)
    ended = sorted((r.end or 0.0, t.number, r.loss) for t in study.trials for r in t.replicas if r.loss is not None)
    last = {number: position for position, (_, number, _) in enumerate(ended, start=1)}
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
        axis.axhline(1.0, color=LINEAR, linestyle="--", linewidth=0.9)
        axis.annotate(
            "linear interpolation", (1.0, 1.0), xycoords=("axes fraction", "data"), xytext=(-2, 3),
            textcoords="offset points", color=LINEAR, ha="right",
        )  # fmt: skip
        axis.plot(
            range(1, len(ended) + 1), [10**loss for _, _, loss in ended], ".", color=REPLICA, markersize=4,
            label="one training",
        )  # fmt: skip
        # A trial counts from its last training on.
        lowest: list[tuple[int, float]] = []
        for trial, stats in sorted(done, key=lambda pair: last[pair[0].number]):
            position = last[trial.number]
            colour = RECOMMENDED if trial.number == best.number else TRIAL
            low, middle, high = _bar(stats)
            axis.errorbar(
                position, middle, [[middle - low], [high - middle]], fmt="o", color=colour, markersize=4,
                elinewidth=0.9, zorder=4 if colour == RECOMMENDED else 3,
                label={RECOMMENDED: f"recommended: trial {best.number}"}.get(colour),
            )  # fmt: skip
            if not lowest or middle < lowest[-1][1]:
                lowest.append((position, middle))
        steps = [position for position, _ in lowest] + [len(ended)]
        means = [mean for _, mean in lowest]
        axis.step(steps, [*means, means[-1]], where="post", color=TRIAL, linewidth=1.1, label="lowest mean so far")
        low, high = (10**end for end in best.interval)
        # One replica alone says nothing of its mean.
        if np.isfinite(high):
            label = "recommended: 90 % interval of its mean"
            axis.axhspan(low, high, color=RECOMMENDED, alpha=0.15, linewidth=0, label=label)
        axis.errorbar([], [], [], fmt="o", color=TRIAL, markersize=4, elinewidth=0.9, label="trial: mean ± spread")
        axis.set(xlabel="trainings finished", ylabel="validation error / linear interpolation's", yscale="log")
        _plain_ticks(axis, [10**loss for _, _, loss in ended] + [1.0, low or 1.0])
        axis.set_xlim(0, len(ended) + 1)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper center", ncols=3)
        figure.savefig(path)
        plt.close(figure)


def _finished(study: hyppo.Study) -> list[tuple[hyppo.Trial, hyppo.LossStats]]:
    """Trials whose mean can be compared, all of their replicas being trained; before there is one, any with a loss."""
    some = [(t, t.stats) for t in study.trials if t.stats is not None]
    return [(t, stats) for t, stats in some if not t.pending] or some


def _bar(stats: hyppo.LossStats) -> tuple[float, float, float]:
    """A trial's error less its spread, itself, and more its spread; relative to linear interpolation's."""
    spread = stats.std or 0.0
    return 10 ** (stats.mean - spread), 10**stats.mean, 10 ** (stats.mean + spread)


def _plain_ticks(axis: Axes, values: list[float]) -> None:
    """Ticks that a reader can read on a logarithmic axis of less than two decades."""
    low, high = min(values) * 0.95, max(values) * 1.08
    ticks = [m * 10.0**e for e in range(-4, 4) for m in (1, 1.5, 2, 3, 4, 5, 6, 8) if low <= m * 10.0**e <= high]
    axis.set_ylim(low, high)
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def parameters(path: Path, study: hyppo.Study) -> None:
    """Draw the loss of every trial against each of its parameters."""
    best = study.best
    done = _finished(study)
    names = list(best.params)
    columns = 4
    rows = -(-len(names) // columns)
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(7.2, 1.9 * rows), layout="constrained", sharey=True, squeeze=False
        )
        rng = np.random.default_rng(0)
        losses = [10**r.loss for t, _ in done for r in t.replicas if r.loss is not None]
        for axis, name in zip(axes.flat, names, strict=False):
            values = [t.params[name] for t, _ in done]
            parameter = study.space.parameters[name]
            continuous = isinstance(parameter, hyppo.Real)
            levels = sorted(set(values))
            for (trial, stats), value in zip(done, values, strict=True):
                chosen = trial.number == best.number
                # Trials at one level stand beside each other rather than on top of each other.
                x = value if continuous else levels.index(value) + (0.0 if chosen else rng.uniform(-0.15, 0.15))
                low, middle, high = _bar(stats)
                axis.errorbar(
                    x, middle, [[middle - low], [high - middle]], fmt="o", markersize=3, elinewidth=0.7,
                    color=RECOMMENDED if chosen else TRIAL, zorder=4 if chosen else 3,
                )  # fmt: skip
            if isinstance(parameter, hyppo.Real):
                axis.set_xscale("log" if parameter.log else "linear")
                axis.set_xlim(parameter.low * 0.8, parameter.high * 1.25)
            else:
                axis.set_xticks(range(len(levels)), [str(level) for level in levels])
                axis.set_xlim(-0.5, len(levels) - 0.5)
            axis.set_xlabel(name)
            axis.set_yscale("log")
            _plain_ticks(axis, losses)
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)
        figure.supylabel("validation error / linear's", fontsize=8)
        figure.savefig(path)
        plt.close(figure)
