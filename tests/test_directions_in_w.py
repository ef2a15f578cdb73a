"""Directions in w: a stand-in whose w is a linear function of z has known ones, and shares that are the normal's."""

import math
from types import SimpleNamespace

import pytest
import scipy.stats
import torch
from test_directions import Player, Reader, normal_cdf
from tiny_stylegan import made, normal
from torch import nn
from torch.testing import assert_close

from imagegen.evaluation import attribute_directions, drawn_at, points_in
from imagegen.evaluation import directions as module

DIM = 8
A = 0.6 * torch.eye(DIM) + 0.5 * normal(DIM, DIM, seed=11).float()  # w = A z + MEAN, of covariance A A^T
MEAN = torch.linspace(-1, 1, DIM)
ROW = torch.tensor([1.0, 0, 2, 0, 0, -1, 0, 0])  # what is read, along w
ASKED = {"tall": (0, [1])}


class Styled(nn.Module):
    """Two layers, of which the image shows the mean; it remembers the noise that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.02))
        self.heard: set[str] = set()

    def mapping(self, z: torch.Tensor) -> torch.Tensor:
        return z @ A.T + MEAN

    def synthesis(self, ws: torch.Tensor, *, noise: str = "random") -> torch.Tensor:
        self.heard.add(noise)
        assert ws.shape[1:] == (2, DIM) and torch.equal(ws[:, 0], ws[:, 1])
        return (ws.mean(1) * self.scale)[:, None, None, :]

    def forward(self, z: torch.Tensor, *, noise: str = "random") -> torch.Tensor:
        return self.synthesis(self.mapping(z)[:, None].expand(-1, 2, -1), noise=noise)


class StyledPlayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config, self.generator = SimpleNamespace(latent_dim=DIM, layers=2), Styled()

    def draw(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(n, DIM, generator=generator)


def reader(*rows: torch.Tensor, above: float = 0.0, sharp: float = 100.0) -> Reader:
    """Reads a row of w where it lies more than so many deviations above its mean."""
    at = [(row @ MEAN + above * (A.T @ row).norm()).item() for row in rows]
    return Reader(rows, at, scale=0.02, sharp=sharp)


def find(read: Reader, space: str, **options):
    seeded = {"generator": torch.Generator().manual_seed(0), "n": 20_000, "n_test": 4000}
    return attribute_directions(StyledPlayer(), read, ASKED, space=space, **seeded | options)["tall"]


def expected() -> tuple[torch.Tensor, float]:
    """Return the slope of the ridge regression, of length 1, and the deviation of w along it."""
    cov = A @ A.T
    slope = torch.linalg.solve(cov + module.RIDGE * cov.trace() / DIM * torch.eye(DIM), cov @ ROW)
    return slope / slope.norm(), ((A.T @ slope).norm() / slope.norm()).item()


def test_the_direction_in_w_is_the_slope_of_a_ridge_regression_and_its_unit_a_deviation():
    """(C + lambda I)^-1 C row for what is read along a row; neither the row itself nor C row, nor a unit of 1."""
    found, (vector, unit) = find(reader(ROW), "w"), expected()
    assert_close(found.vector, vector, atol=0.02, rtol=0)
    assert found.unit == pytest.approx(unit, rel=0.02) and abs(unit - 1) > 0.1
    assert (vector - ROW / ROW.norm()).abs().max() > 0.04
    likeliest = A @ A.T @ ROW
    assert (vector - likeliest / likeliest.norm()).abs().max() > 0.04


def test_in_z_nothing_is_penalised():
    """The slope is A^T row, of unit 1, and explains as much as the fit in w: w is a linear function of z here."""
    in_z, in_w, slope = find(reader(ROW), "z"), find(reader(ROW), "w"), A.T @ ROW
    assert in_z.unit == 1.0
    assert_close(in_z.vector, slope / slope.norm(), atol=0.02, rtol=0)
    for share in ("fit", "shown", "separated"):
        assert getattr(in_z, share) == pytest.approx(getattr(in_w, share), abs=0.02)


def test_a_step_in_w_is_one_of_so_many_deviations():
    """Read above 1 deviation, and moved by 2 units: the shares of a normal whose score the step moves by its part."""
    found, (vector, unit) = find(reader(ROW, above=1.0), "w", reach=2.0), expected()
    moved = 2 * unit * (ROW @ vector).item() / (A.T @ ROW).norm().item()
    above = 1 - normal_cdf(1.0)
    assert 1 < moved < 2.5 and found.shown == pytest.approx(above, abs=0.02)
    gained = (normal_cdf(1.0) - normal_cdf(1.0 - moved)) / normal_cdf(1.0)
    assert found.gained == pytest.approx(gained, abs=0.02)
    assert found.lost == pytest.approx((normal_cdf(1.0 + moved) - normal_cdf(1.0)) / above, abs=0.04)


def test_what_the_direction_is_perpendicular_to_stays():
    """Another attribute, read along a row perpendicular to the step, stays; one that is only uncorrelated may not."""
    score, (vector, _) = A @ A.T @ ROW, expected()
    tied = score - (score @ vector) * vector
    assert find(reader(ROW, tied), "w").kept > 0.9
    other = normal(DIM, seed=12).float() + ROW
    uncorrelated = other - (other @ score) / (ROW @ score) * ROW
    assert abs(uncorrelated @ vector) > 0.2 * uncorrelated.norm()
    assert find(reader(ROW, uncorrelated), "w").kept < 0.9


def test_separation_is_the_share_of_pairs_in_order():
    """Beside Mann and Whitney's U over the number of pairs, with ties; of one kind alone there are no pairs."""
    scores, shown = normal(60, seed=3).mul(4).round(), normal(60, seed=4) > 0.3
    u = scipy.stats.mannwhitneyu(scores[shown], scores[~shown]).statistic
    found = module._separated(scores, shown)
    assert found == pytest.approx(u / (shown.sum() * (~shown).sum()).item()) and found != 0.5
    assert math.isnan(module._separated(scores, torch.zeros(60, dtype=torch.bool)))


def test_a_plane_separates_what_is_read_along_one_and_not_what_is_read_off_the_middle():
    """A reading of |z_0| has no slope: its pairs come in order by chance."""

    class Middle(Reader):
        def forward(self, x):
            s = 9 * ((x[:, 0, 0, 0] / self.scale).abs() - 0.67)
            return (torch.stack([torch.zeros_like(s), s], dim=1),)

    options = {"n": 4000, "n_test": 3000, "generator": torch.Generator().manual_seed(0)}
    assert attribute_directions(Player(), Reader(sharp=1000.0), ASKED, **options)["tall"].separated > 0.99
    off = attribute_directions(Player(), Middle((ROW,), (0.0,)), ASKED, **options)["tall"]
    assert off.separated == pytest.approx(0.5, abs=0.05) and abs(off.fit) < 0.02


def test_noise_is_fixed_in_both_spaces():
    for space in ("z", "w"):
        player = StyledPlayer()
        options = {"n": 16, "n_test": 8, "generator": torch.Generator().manual_seed(0)}
        attribute_directions(player, reader(ROW), ASKED, space=space, **options)
        assert player.generator.heard == {"fixed"}


def test_both_spaces_draw_the_same_images():
    model = made().eval()
    z = normal(3, 6)
    in_w = points_in(model, z, "w")
    assert_close(in_w, model.generator.mapping(z))
    with pytest.raises(ValueError, match="the generator is in training, expected evaluation"):
        drawn_at(model.train(), in_w, "w")
    drawn = drawn_at(model.eval(), in_w, "w")
    assert_close(drawn, drawn_at(model, points_in(model, z, "z"), "z"))
    assert_close(drawn, model.generator(z, noise="fixed").clamp(-1, 1))
    assert drawn.abs().max() == 1  # what is beyond white is white


@pytest.mark.parametrize(
    "player, space, message",
    [
        (StyledPlayer(), "W+", "space is 'W\\+', expected one of z, w"),
        (Player(), "w", "this generator has no mapping"),
    ],
)
def test_a_space_that_there_is_not_is_named(player, space, message):
    with pytest.raises(ValueError, match=message):
        attribute_directions(player, reader(ROW), ASKED, n=20, n_test=5, space=space)
