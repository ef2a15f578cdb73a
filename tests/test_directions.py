"""Directions that steer an attribute: a generator and a classifier in closed form have known ones."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.evaluation import attribute_directions
from imagegen.gan import GAN, GANConfig

DIM = 8
W = torch.tensor([3.0, 0, 4, 0, 0, 0, 0, 0])  # what the first attribute is read along: (0.6, 0, 0.8, 0, ...)
V = torch.tensor([0, 0, 0, 2.0, 0, 0, 0, 0])  # and the second
ASKED = {"tall": (0, [1]), "wide": (1, [1])}


class Flat(nn.Module):
    """G(z): the coordinates themselves, squeezed into [-1, 1] as an image of one row."""

    def __init__(self, scale: float = 0.05) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (z * self.scale)[:, None, None, :]


class Player(nn.Module):
    """A GAN whose images are its latents."""

    def __init__(self, scale: float = 0.05) -> None:
        super().__init__()
        self.config = SimpleNamespace(latent_dim=DIM)
        self.generator = Flat(scale)

    def draw(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(n, DIM, generator=generator)


class Reader(nn.Module):
    """Reads attribute k off an image as 1 where its linear function of z is above a threshold, softly."""

    def __init__(self, rows=(W, V), thresholds=(0.0, 0.0), scale: float = 0.05, sharp: float = 4.0) -> None:
        super().__init__()
        self.config = SimpleNamespace(classes=(2,) * len(rows))
        self.rows, self.thresholds, self.scale, self.sharp = rows, thresholds, scale, sharp

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = x[:, 0, 0] / self.scale
        scores = [self.sharp * (z @ row - at) for row, at in zip(self.rows, self.thresholds, strict=True)]
        return tuple(torch.stack([torch.zeros_like(s), s], dim=1) for s in scores)


def find(reader: Reader | None = None, asked=ASKED, **options):
    seeded = {"generator": torch.Generator().manual_seed(0)}
    return attribute_directions(
        Player(), reader or Reader(), asked, **{"n": 20_000, "n_test": 4000} | seeded | options
    )


def normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_the_directions_are_those_that_are_read():
    """The reading is a step along W: the fit finds W's direction, to the sampling error of 20,000 latents."""
    found = find()
    assert list(found) == ["tall", "wide"]
    for direction, along in zip(found.values(), (W, V), strict=True):
        assert direction.vector.norm().item() == pytest.approx(1, abs=1e-6)
        # the other coordinates of the slope have variance near (1 - 2 / pi) / (4 n), its length is 1 / sqrt(2 pi)
        assert torch.allclose(direction.vector, along / along.norm(), atol=5 * 0.0054)


def test_the_fit_explains_what_a_line_can_of_a_step():
    """For a step at 0, R^2 of the best line is corr^2 = E[z 1(z > 0)]^2 / var = (1 / 2 pi) / (1 / 4) = 2 / pi."""
    found = find(Reader(sharp=1000.0))["tall"]
    assert found.fit == pytest.approx(2 / math.pi, abs=0.02)


def test_the_fit_is_judged_on_latents_that_it_was_not_fitted_to():
    """20 latents for 9 unknowns: on them the line explains far more than on the 500 others."""
    found = find(n=20, n_test=500)["tall"]
    z = torch.randn(520, DIM, generator=torch.Generator().manual_seed(0))
    p = torch.sigmoid(4 * (z @ W)).double()
    inputs = torch.cat([z.double(), torch.ones(520, 1).double()], dim=1)
    errors = inputs @ torch.linalg.pinv(inputs[:20]) @ p[:20] - p
    inside, outside = (
        (1 - errors[part].square().mean() / p[part].var(correction=0)).item()
        for part in (slice(0, 20), slice(20, None))
    )
    assert found.fit == pytest.approx(outside, abs=1e-4) and inside > outside + 0.1


def test_the_shares_are_those_of_the_normal_distribution():
    """Read as 1 where u z > 1: unmoved 1 - F(1). A step of 2 along u raises all with u z > -1."""
    reader = Reader((W, V), (5.0, 0.0), sharp=1000.0)  # W has length 5
    found = find(reader, reach=2.0)["tall"]
    above = 1 - normal_cdf(1.0)
    assert found.shown == pytest.approx(above, abs=0.02)
    assert found.gained == pytest.approx((normal_cdf(1.0) - normal_cdf(-1.0)) / normal_cdf(1.0), abs=0.02)
    assert found.lost == pytest.approx((normal_cdf(3.0) - normal_cdf(1.0)) / above, abs=0.04)
    assert found.kept > 0.97  # the second attribute lies along another coordinate


def test_what_else_changes_is_told():
    """Two attributes along one direction: one cannot be steered without the other."""
    same = find(Reader((W, W), sharp=1000.0), reach=2.0)["tall"]
    # kept where u z and u z + 2 have one sign: above 0 or below -2
    assert same.kept == pytest.approx(0.5 + normal_cdf(-2.0), abs=0.03)
    assert math.isnan(find(Reader((W,), (0.0,)), {"tall": (0, [1])})["tall"].kept)


def test_several_values_count_as_one():
    """Both values together are always read, and one of three against the rest is steered as any other."""

    class Three(nn.Module):
        config = SimpleNamespace(classes=(3,))

        def forward(self, x):
            z = x[:, 0, 0] / 0.05
            return (torch.stack([torch.zeros(len(z)), 9 * (z[:, 0] - 1), 9 * (z[:, 1] - 1)], dim=1),)

    options = {"n": 8000, "n_test": 2000, "generator": torch.Generator().manual_seed(1)}
    found = attribute_directions(Player(), Three(), {"either": (0, [1, 2]), "first": (0, [1])}, **options)
    half = math.sqrt(0.5)
    expected = torch.tensor([half, half] + [0.0] * 6)
    assert torch.allclose(found["either"].vector, expected, atol=0.1)
    assert found["first"].vector[0] > 0.9 > 0.5 > found["first"].vector[1]
    # either is read where z_0 or z_1 is above 1, the first where z_0 is above 1 and above z_1
    either = 1 - normal_cdf(1.0) ** 2
    assert found["either"].shown == pytest.approx(either, abs=0.04) and found["first"].shown < 0.75 * either


def test_it_steers_networks_and_leaves_their_weights():
    """A generator and a classifier as the package builds them, in training mode before; a seed decides all."""
    torch.manual_seed(0)
    gan = GAN(GANConfig("mlp", (1, 8, 8), latent_dim=3, width=16, critic_width=8))
    reader = Classifier(ClassifierConfig((1, 8, 8), (3, 2), widths=(4,), blocks=0, features=8))
    before = {k: v.clone() for k, v in gan.state_dict().items()}
    runs = [
        attribute_directions(
            gan, reader, {"one": (1, [0])}, n=100, n_test=20, generator=torch.Generator().manual_seed(5)
        )["one"]
        for _ in range(2)
    ]
    assert torch.equal(runs[0].vector, runs[1].vector) and runs[0].vector.shape == (3,)
    assert runs[0].vector.dtype == torch.float32
    assert all(torch.equal(v, before[k]) for k, v in gan.state_dict().items())


def test_a_generator_may_leave_the_range():
    """What is read is what a screen would show: beyond white there is only white."""
    reader = Reader(scale=1.0)  # at the edge of the range every z_k is 1 or -1
    found = attribute_directions(
        Player(scale=100.0), reader, ASKED, n=2000, n_test=500, generator=torch.Generator().manual_seed(0)
    )["tall"]
    # 3 sign(z_0) + 4 sign(z_2) > 0 exactly where z_2 > 0
    assert found.vector[2] > 0.98


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n": 15}, "15 latents and 4000 to test, expected at least 16 and 2"),
        ({"n_test": 1}, "and 1 to test"),
        ({"reach": 0.0}, "reach is 0.0"),
        ({"reach": float("inf")}, "reach is inf"),
        ({"asked": {"x": (2, [1])}}, "'x' asks for attribute 2, expected 0 to 1"),
        ({"asked": {"x": (-1, [1])}}, "'x' asks for attribute -1"),
        ({"asked": {"x": (0, [])}}, r"'x' asks for values \[\], expected some of 0 to 1"),
        ({"asked": {"x": (0, [1, 1])}}, r"'x' asks for values \[1, 1\], expected some of 0 to 1, each once"),
        ({"asked": {"x": (0, [0, 1])}}, r"asks for values \[0, 1\]"),
        ({"asked": {"x": (0, [2])}}, r"asks for values \[2\]"),
        ({"reader": Reader((W, V), (1e6, 0.0))}, "'tall' is read the same, 0, off every image"),
    ],
)
def test_what_cannot_be_fitted_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        find(
            **{"n": 100, "n_test": 50} | options
            if "n" not in options and "n_test" not in options
            else options
        )
