"""The benchmark of the W space: its parts on stand-ins whose answers are known, and a quick run of all of it."""

import math
from types import SimpleNamespace

import pytest
import torch
from benchmarks import w_space
from tiny_stylegan import made
from torch import nn
from torch.testing import assert_close

from imagegen import evaluation
from imagegen.stylegan import StyleGAN, StyleGANConfig


def tiny(side: int = 64) -> StyleGAN:
    """A model whose images have the shape of the avatars', at its random start."""
    torch.manual_seed(0)
    return StyleGAN(
        StyleGANConfig((3, side, side), latent_dim=6, width=2, critic_width=2, max_width=4)
    ).eval()


def test_every_layer_is_counted_to_one_grid():
    for grids in (2, 3, 5):
        layers = [list(range(2 * grids))[w_space.layers_of(grid, grids)] for grid in range(grids)]
        assert sum(layers, []) == list(range(2 * grids))
        assert layers[0] == [0] and len(layers[-1]) == 3 and all(len(part) == 2 for part in layers[1:-1])


def test_what_is_asked_for_is_what_the_names_say():
    attributes = w_space.DATA["avatars"]("test").attributes
    names = list(attributes)
    for key, (number, values) in w_space.asked().items():
        attribute, wanted = w_space.ASKED[key]
        assert names[number] == attribute and tuple(attributes[attribute][v] for v in values) == wanted


def test_samples_are_truncated_towards_the_mean_of_w_or_towards_0():
    model = made().eval().float()
    with torch.no_grad():
        model.generator.w_mean.fill_(0.7)
    seen = []
    model.generator.synthesis.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = w_space.samples(model, 3, 0.25, 5)
    assert images.dtype == torch.uint8 and images.shape == (3, 3, 16, 16)
    w_space.samples(model, 3, 0.25, 5, towards_0=True)
    w = model.generator.mapping(model.draw(3, generator=torch.Generator().manual_seed(5)))
    assert_close(seen[0][:, 0], 0.7 + 0.25 * (w - 0.7))
    assert_close(seen[1][:, 0], 0.25 * w)
    assert torch.equal(images, w_space.samples(model, 3, 0.25, 5))


class Layered(nn.Module):
    """Draws of each pair of layers one pixel: the first dimension of the styles."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(latent_dim=2, layers=6, grids=3)
        self.generator = self

    def draw(self, n, *, generator=None):
        return torch.randn(n, 2, generator=generator)

    def styles(self, z):
        return z[:, None].expand(-1, 6, -1)

    def synthesis(self, ws, *, noise):
        assert noise == "fixed"
        return (
            torch.stack([ws[:, 0, 0], ws[:, 1:3, 0].mean(1), ws[:, 3:, 0].mean(1)], 1)[:, :, None, None] / 9
        )


def test_an_attribute_follows_from_the_grid_that_draws_it():
    """Attribute g is the sign of what grid g draws, and one more is always the same."""

    def reader(x):
        pixels = x[:, :, 0, 0]
        rows = [torch.stack([-p, p], 1) for p in pixels.unbind(1)]
        return [*rows, *[torch.ones(len(x), 2)] * 7]

    found = w_space.mixed_by_grid(Layered(), reader, w_space.Setting(n_pairs=200))
    names = list(w_space.DATA["avatars"]("test").attributes)
    for grid in range(3):
        for number in range(3):
            share, pairs = found[f"mix_{4 << grid}_{names[number]}"]
            assert share == float(grid == number) and 60 < pairs < 140
        assert f"mix_{4 << grid}_{names[3]}" not in found  # no two images differ in it


def test_directions_are_averaged_and_unknown_shares_left_out():
    def direction(fit, gained):
        return evaluation.Direction(torch.ones(1), fit, 0.5, gained, 0.5, 0.9, separated=0.8)

    found = {"smile": direction(0.2, 0.5), "long_hair": direction(0.6, math.nan)}
    entries = w_space.of_directions("w", found, w_space.QUICK)
    assert entries["w_fit"]["value"] == pytest.approx(0.4) and entries["w_gained"]["value"] == 0.5
    assert entries["w_long_hair_fit"]["value"] == 0.6 and "w_long_hair_gained" not in entries
    assert "long hair, in w" in entries["w_long_hair_kept"]["detail"]


@pytest.mark.parametrize(
    "changed, missed",
    [
        ({}, []),
        ({"psi_50_recall": 0.9}, [0]),
        ({"psi_100_precision": 0.9}, [1]),
        ({"path_chord": 7.0}, [2]),
        ({"path_w_full": 20.0}, [3]),
        ({"project_w_plus_error": 3.0}, [4]),
        ({"psi_100_recall": 0.0}, [0]),
    ],
)
def test_the_claims_are_missed_where_they_are(changed, missed):
    values = {
        "psi_50_recall": 0.2, "psi_100_recall": 0.5, "psi_50_precision": 0.8, "psi_100_precision": 0.6,
        "path_chord": 3.0, "path_w_full": 6.0, "path_z_full": 9.0,
        "project_w_plus_error": 1.0, "project_w_error": 2.0,
    } | changed  # fmt: skip
    claims = w_space.claimed({name: {"value": value} for name, value in values.items()})
    assert [i for i, claim in enumerate(claims) if not claim.met] == missed


def test_a_quick_run_measures_all_of_it(monkeypatch):
    """On a tiny model: all entries are finite numbers, and paths in w are those of the model's mapping."""
    model, load = tiny(), w_space.pretrained.load
    monkeypatch.setattr(
        w_space.pretrained, "load", lambda name, **k: model if name == w_space.MODEL else load(name, **k)
    )
    still = evaluation.Direction(torch.full((6,), 6**-0.5), 0.1, 0.5, 0.2, 0.2, 0.9, separated=0.6, unit=2.0)
    spaces = []

    def directions(*given, space, **options):
        spaces.append(space)
        return dict.fromkeys(w_space.ASKED, still)

    monkeypatch.setattr(w_space, "attribute_directions", directions)
    record = w_space.measure(quick=True, say=lambda line: None)
    assert spaces == ["z", "w"] and record["name"] == "bench-w-space" and len(record["claims"]) == 5
    found = record["metrics"]
    assert all(math.isfinite(entry["value"]) and entry["detail"] for entry in found.values())
    expected = {"psi_50_fd", "psi_100_recall", "towards_0_fd", "real_precision", "mix_64_hair", "path_z_end"}
    assert expected | {"path_chord", "z_fit", "w_glasses_kept", "project_w_plus_error"} <= set(found)
    assert found["path_w_full"]["n"] == w_space.QUICK.n_paths
    chord = w_space.paths(model, w_space.QUICK)["chord"]
    assert found["path_chord"]["value"] == pytest.approx(chord.mean().item())
