"""Figures: labelled, transparent, legible on both themes, and without a trace in matplotlib's settings."""

import io

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb, to_rgba
from PIL import Image

from imagegen import viz

HISTORY = [{"step": 10 * i, "negative_elbo": 300.0 - i, "rate": float(i)} for i in range(5)]
PICTURES = torch.arange(3 * 4 * 4, dtype=torch.uint8).reshape(3, 1, 4, 4)


def latents() -> matplotlib.figure.Figure:
    points = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    return viz.plot_latents(points, torch.arange(30) % 3, ("bag", "coat", "dress"))


FIGURES = {
    "figure": lambda: viz.figure()[0],
    "show_images": lambda: viz.show_images(PICTURES, title="three"),
    "plot_history": lambda: viz.plot_history(HISTORY),
    "plot_latents": latents,
    "bars": lambda: viz.bars(
        torch.tensor([0.2, 1.5]), xlabel="latent", ylabel="KL, nats / image", title="rates"
    ),
}
every_figure = pytest.mark.parametrize("make", FIGURES.values(), ids=list(FIGURES))


def pixels(fig: matplotlib.figure.Figure) -> np.ndarray:
    file = io.BytesIO()
    fig.savefig(file, format="png")
    return np.array(Image.open(file).convert("RGBA"))


def contrast(colour: str, background: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.1)."""

    def luminance(name: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(name)]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted((luminance(colour), luminance(background)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    plt.close("all")


@every_figure
def test_a_figure_changes_no_setting_and_shows_nothing_itself(make, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: pytest.fail("plt.show was called"))
    before = dict(matplotlib.rcParams)
    assert isinstance(make(), matplotlib.figure.Figure)
    assert dict(matplotlib.rcParams) == before


def test_a_figure_that_fails_changes_no_setting_either():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ValueError, match="rows"):
        viz.figure(0)
    assert dict(matplotlib.rcParams) == before


@every_figure
def test_a_figure_is_transparent_and_not_empty(make):
    drawn = pixels(make())
    for corner in (drawn[0, 0], drawn[0, -1], drawn[-1, 0], drawn[-1, -1]):
        assert corner[3] == 0
    assert (drawn[..., 3] > 0).mean() > 0.005
    assert (drawn[..., 3] == 0).mean() > 0.05


@every_figure
def test_all_text_is_in_the_ink_that_both_themes_show(make):
    fig = make()
    pixels(fig)
    texts = [t for t in fig.findobj(matplotlib.text.Text) if t.get_text() and t.get_visible()]
    assert {to_rgba(t.get_color()) for t in texts} <= {to_rgba(viz.INK)}


@pytest.mark.parametrize("background", ["#ffffff", "#121212"])
def test_the_colours_stand_out_on_both_themes(background):
    assert contrast(viz.INK, background) >= 3.9
    assert all(contrast(colour, background) >= 2 for colour in viz.COLOURS)
    assert len(set(viz.COLOURS)) == 10  # one a class of Fashion-MNIST


def test_figure_gives_axes_as_subplots_does():
    fig, ax = viz.figure(size=(3, 2))
    assert fig.get_size_inches().tolist() == [3, 2] and ax in fig.axes
    fig, axes = viz.figure(2, 3, sharex=True)
    assert axes.shape == (2, 3) and axes[0, 0].get_shared_x_axes().joined(axes[0, 0], axes[1, 2])


@pytest.mark.parametrize("as_float", [False, True])
def test_show_images_shows_the_grid_from_black_to_white(as_float):
    batch = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    fig = viz.show_images(batch / 127.5 - 1 if as_float else batch, columns=2)
    (shown,) = fig.axes[0].images
    data = np.asarray(shown.get_array())
    assert data.shape == (4 + 2 * 2, 2 * 4 + 3 * 2)
    assert (shown.norm.vmin, shown.norm.vmax) == (0, 255) and shown.get_cmap().name == "gray"
    assert (data[2:6, 2:6] == 0).all() and (data[2:6, 8:12] == 255).all()
    assert not fig.axes[0].axison


def test_show_images_takes_colour_a_title_an_axis_and_what_still_needs_a_gradient():
    fig, ax = viz.figure()
    colour = torch.zeros(2, 3, 4, 4, requires_grad=True)
    assert viz.show_images(colour, title="samples", ax=ax) is fig
    assert ax.get_title() == "samples" and ax.images[0].get_array().shape == (8, 14, 3)


def test_show_images_refuses_logits_and_flat_images():
    with pytest.raises(ValueError, match=r"span \[-7, 7\]"):
        viz.show_images(torch.tensor([-7.0, 7.0]).reshape(2, 1, 1, 1))
    with pytest.raises(ValueError, match=r"got \(4, 4\)"):
        viz.show_images(torch.zeros(4, 4))


def test_each_term_of_a_history_has_its_panel_with_units():
    fig = viz.plot_history(HISTORY)
    first, second = fig.axes
    assert (first.get_title(), second.get_title()) == ("negative elbo", "rate")
    assert (first.get_xlabel(), first.get_ylabel()) == ("step", "nats / image")
    assert first.lines[0].get_xdata().tolist() == [0, 10, 20, 30, 40]
    assert second.lines[0].get_ydata().tolist() == [0, 1, 2, 3, 4]
    (only,) = viz.plot_history(HISTORY, terms=["rate"], ylabel="bits").axes
    assert only.get_title() == "rate" and only.get_ylabel() == "bits"


def test_plot_history_refuses_what_was_not_logged():
    with pytest.raises(ValueError, match="history is empty"):
        viz.plot_history([])
    with pytest.raises(ValueError, match=r"no \['kl'\], only \['negative_elbo', 'rate', 'step'\]"):
        viz.plot_history(HISTORY, terms=["rate", "kl"])


def test_latents_are_coloured_and_named_by_class():
    (ax,) = latents().axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["bag", "coat", "dress"]
    assert [len(c.get_offsets()) for c in ax.collections] == [10, 10, 10]
    assert len({tuple(c.get_facecolor()[0]) for c in ax.collections}) == 3
    assert ax.get_xlim() == ax.get_ylim() == (-4, 4) and ax.get_aspect() == 1


def test_bars_have_the_heights_and_labels_given():
    (ax,) = FIGURES["bars"]().axes
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.2, 1.5])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("latent", "KL, nats / image", "rates")
