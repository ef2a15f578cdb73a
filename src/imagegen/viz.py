"""Figures as pure functions of arrays. Transparent, with greys and colours that read on a light and on a dark page."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from imagegen.images import grid, to_uint8

INK = "#808080"  # contrast of about 4:1 on white and 5:1 on near-black
# Okabe and Ito's colours, which colour-blind readers tell apart, without black; chosen to read on both themes
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#b3a800",
    "#808080",
    "#7a4fb5",
    "#a0522d",
)
STYLE = {
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "savefig.transparent": True,
    "figure.dpi": 110, "figure.constrained_layout.use": True, "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.titlesize": 10, "axes.titlecolor": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS), "legend.frameon": False, "lines.linewidth": 1.8,
}  # fmt: skip


def figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] | None = None, **kwargs
) -> tuple[Figure, np.ndarray | Axes]:
    """Return a figure in the book's style and its axes, as `plt.subplots` does; size in inches."""
    # Not rc_context: the first figure starts the notebook's backend, and what that sets must outlast this call.
    before = {key: plt.rcParams[key] for key in STYLE}
    plt.rcParams.update(STYLE)
    try:
        return plt.subplots(rows, columns, figsize=size or (3.4 * columns + 0.4, 2.6 * rows + 0.2), **kwargs)
    finally:
        plt.rcParams.update(before)


def show_images(
    images: Tensor, *, columns: int = 8, title: str = "", ax: Axes | None = None, scale: float = 0.55
) -> Figure:
    """Return a figure of images (N, C, H, W), uint8 or float in [-1, 1], as a grid; scale: inches an image.

    Raises: ValueError: a float leaves [-1, 1], or the shape is not (N, C, H, W).
    """
    images = images.detach().cpu()
    sheet = grid(to_uint8(images) if images.is_floating_point() else images, columns)
    pixels = sheet.permute(1, 2, 0).numpy()
    if ax is None:
        across = min(columns, len(images))
        down = -(-len(images) // columns)
        _, ax = figure(size=(scale * across + 0.2, scale * down + (0.4 if title else 0.2)))
    ax.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title, color=INK)
    return ax.figure


def plot_history(
    history: Sequence[Mapping[str, float]],
    *,
    terms: Sequence[str] | None = None,
    ylabel: str = "nats / image",
) -> Figure:
    """Return a figure of training terms, each in its own panel: `history` is a list of rows with "step" and terms.

    Raises: ValueError: an empty history, or a term it does not hold.
    """
    if not history:
        raise ValueError("the history is empty: nothing was logged")
    aside = ("step", "seconds", "fetch_share")  # what `training.run` adds to the terms
    terms = [name for name in history[0] if name not in aside] if terms is None else list(terms)
    if missing := [name for name in terms if name not in history[0]]:
        raise ValueError(f"the history has no {missing}, only {sorted(history[0])}")
    fig, axes = figure(1, len(terms), size=(2.9 * len(terms) + 0.3, 2.5), squeeze=False)
    steps = [row["step"] for row in history]
    for i, (ax, name) in enumerate(zip(axes[0], terms, strict=True)):
        ax.plot(steps, [row[name] for row in history], color=COLOURS[i % len(COLOURS)])
        ax.set(title=name.replace("_", " "), xlabel="step", ylabel=ylabel if i == 0 else "")
    return fig


def plot_latents(
    points: Tensor, labels: Tensor, classes: Sequence[str], *, ax: Axes | None = None, limit: float = 4.0
) -> Figure:
    """Return a scatter of points (N, 2) coloured by labels (N,), with the class names as a legend."""
    if ax is None:
        _, ax = figure(size=(5.4, 3.8))
    points, labels = points.detach().cpu().numpy(), labels.cpu().numpy()
    for k, name in enumerate(classes):
        chosen = points[labels == k]
        ax.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=4,
            alpha=0.6,
            color=COLOURS[k % len(COLOURS)],
            label=name,
            linewidths=0,
        )
    ax.set(xlabel="$z_1$", ylabel="$z_2$", xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=3, fontsize=8, labelcolor=INK, frameon=False
    )
    return ax.figure


def bars(values: Tensor, *, xlabel: str, ylabel: str, title: str = "") -> Figure:
    """Return a bar chart of values (N,) in the order given."""
    fig, ax = figure(size=(5.6, 2.4))
    ax.bar(range(len(values)), values.detach().cpu().numpy(), color=COLOURS[0])
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    return fig
