"""Projection: a least-squares answer where drawing is linear, an image's own style where the generator drew it."""

import math
from types import SimpleNamespace

import pytest
import torch
from tiny_stylegan import made, normal, seeded
from torch.testing import assert_close

from imagegen.stylegan import Projection, Search, normalised, project
from imagegen.stylegan import projection as module

LAYERS, DIM, SHAPE = 3, 4, (1, 2, 4)


class Linear:
    """Draws the sum over its layers of A_l w_l, plus what its noise adds; w is twice the normalised z, plus 1."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(image_shape=SHAPE, latent_dim=DIM, layers=LAYERS)
        self.matrices = 0.1 * normal(LAYERS, 8, DIM, seed=5)
        self.w_mean = torch.ones(DIM, dtype=torch.float64)
        self.heard: list[str] = []

    def mapping(self, z):
        return 1 + 2 * normalised(z)

    def synthesis(self, ws, *, noise="random"):
        self.heard.append(noise)
        return torch.einsum("lpd,bld->bp", self.matrices, ws).reshape(-1, *SHAPE)


def tiny():
    """A tiny StyleGAN in evaluation whose w has a mean and whose images lie in [-1, 1], and what draws with it."""
    generator = made().generator.eval()
    with torch.no_grad():
        generator.w_mean.copy_(generator.mapping(normal(3000, 6, seed=9)).mean(0))
    ws = generator.styles(normal(3, 6, seed=2)).detach()
    largest = generator.synthesis(ws, noise="fixed").detach().abs().max()
    with torch.no_grad():
        for part in generator.synthesis.to_image:
            part.weight.div_(1.2 * largest)
            part.bias.div_(1.2 * largest)
    return generator, ws, generator.synthesis(ws, noise="fixed").detach()


@pytest.mark.parametrize("per_layer", [False, True])
def test_a_linear_generator_gives_the_least_squares_answer(per_layer):
    """One w of 4 numbers cannot reach an image of 8: what is left is the residual that lstsq leaves."""
    generator, images = Linear(), 0.5 * normal(2, *SHAPE, seed=1).clamp(-2, 2)
    whole = torch.cat([*generator.matrices], 1) if per_layer else generator.matrices.sum(0)
    wanted = images.flatten(1).T
    left = (whole @ torch.linalg.lstsq(whole, wanted).solution - wanted).square().mean(0)
    found = project(
        generator, images, search=Search(n_steps=500, lr=0.3, per_layer=per_layer), random=seeded()
    )
    assert found.styles.shape == (2, LAYERS, DIM) and set(generator.heard) == {"fixed"}
    assert_close(found.errors[-1], left, rtol=1e-3, atol=1e-4)
    if per_layer:
        assert left.max() < 1e-9 and not torch.allclose(found.styles[:, 0], found.styles[:, 1], atol=0.1)
    else:
        assert left.min() > 1e-2 and torch.equal(found.styles[:, 0], found.styles[:, 2])


def test_it_starts_at_the_mean_of_w():
    """No noise: the first error is that of the mean's own image, and one step of Adam moves each number by its rate."""
    generator, images = Linear(), normal(2, *SHAPE, seed=1).clamp(-1, 1)
    search = Search(n_steps=1, lr=0.3, noise=0.0)
    found = project(generator, images, search=search, random=seeded())
    middle = generator.synthesis(torch.ones(1, LAYERS, DIM).double())
    assert_close(found.errors[0], (middle - images).square().flatten(1).mean(1))
    unit = module.deviation(generator, seeded())
    assert_close(
        unit, torch.tensor(2.0).double(), rtol=1e-6, atol=0
    )  # of w, whose length is 2 sqrt(D) about its mean
    moved = (found.styles - 1).abs()
    assert_close(moved, torch.full_like(moved, search.rate(0) * 2.0), rtol=1e-4, atol=0)


def test_pixels_and_features_are_weighed_as_told():
    """Errors of the mean's image: pixels, features, both; features are asked of both images."""
    generator, images = Linear(), normal(2, *SHAPE, seed=1).clamp(-1, 1)

    def features(x):
        return torch.stack([x.flatten(1).sum(1), 3 * x.flatten(1)[:, 0]], 1)

    def first(pixel, feature):
        search = Search(n_steps=1, noise=0.0, pixel=pixel, feature=feature)
        return project(generator, images, features, search=search, random=seeded()).errors[0]

    middle = generator.synthesis(torch.ones(1, LAYERS, DIM).double())
    pixels = (middle - images).square().flatten(1).mean(1)
    described = (features(middle) - features(images)).square().mean(1)
    assert_close(first(1.0, 0.0), pixels)
    assert_close(first(0.0, 1.0), described)
    assert_close(first(0.5, 2.0), 0.5 * pixels + 2 * described)


def test_it_finds_the_face_that_the_generator_drew():
    """A tiny StyleGAN's own images: nearly all of the error goes, by W and by W+, and the error says what is left."""
    generator, _, images = tiny()
    for per_layer in (False, True):
        search = Search(n_steps=160, lr=0.3, per_layer=per_layer)
        found = project(generator, images, search=search, random=seeded())
        assert (found.errors[-1] < 0.1 * found.errors[0]).all()
        smooth = found.errors[:160].reshape(4, 120).mean(1)
        assert (
            smooth.diff() < 0
        ).all()  # of the four quarters of the way, each is better than the one before
        again = generator.synthesis(found.styles, noise="fixed")
        assert_close(found.errors[-1], (again - images).square().flatten(1).mean(1))
        assert found.styles.requires_grad is False and isinstance(found, Projection)


def test_images_do_not_hang_on_their_neighbours():
    generator, images = Linear(), normal(3, *SHAPE, seed=1).clamp(-1, 1)
    search = Search(n_steps=20, noise=0.0)
    together = project(generator, images, search=search, random=seeded())
    alone = project(generator, images[1:2], search=search, random=seeded())
    assert_close(together.styles[1:2], alone.styles)
    assert together.errors.shape == (21, 3)


def test_a_seed_decides_and_the_weights_stay():
    generator, _, images = tiny()
    before = [p.clone() for p in [*generator.parameters(), *generator.buffers()]]
    search = Search(n_steps=12)
    runs = [project(generator, images, search=search, random=seeded(s)).styles for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    after = [*generator.parameters(), *generator.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in generator.parameters())


def test_the_rate_rises_and_falls():
    search = Search(n_steps=200, lr=0.4)
    rates = [search.rate(step) for step in range(200)]
    assert rates[0] == pytest.approx(0.04) and rates[9] == pytest.approx(0.4)
    assert rates[9:151] == pytest.approx([0.4] * 142)
    assert rates[175] == pytest.approx(0.2) and 0 < rates[199] < 0.001
    assert all(a <= b for a, b in zip(rates[:10], rates[1:10]))
    assert Search(n_steps=3).rate(0) == pytest.approx(0.1)


def test_the_noise_fades_by_a_square():
    search = Search(n_steps=100, noise=0.8, ramp=0.5)
    assert [search.spread(step) for step in (0, 25, 50, 99)] == pytest.approx([0.8, 0.2, 0.0, 0.0])


def test_noise_is_added_to_w_in_units_of_its_deviation():
    """At the first step w is its mean plus noise, whose deviation is w's own, 2, times the noise asked for."""
    seen = []

    class Listening(Linear):
        def synthesis(self, ws, *, noise="random"):
            seen.append(ws.detach().clone())
            return super().synthesis(ws, noise=noise)

    images = torch.zeros(4000, *SHAPE).double()
    project(Listening(), images, search=Search(n_steps=1, noise=0.3, lr=1e-9), random=seeded())
    assert (seen[0] - 1).std().item() == pytest.approx(0.6, rel=0.02)
    assert (seen[1] - 1).abs().max() < 1e-6  # the last look is without
    assert torch.equal(seen[0][:, 0], seen[0][:, 1])


def test_ws_deviation_is_that_of_one_number():
    class Player(Linear):
        def mapping(self, z):
            return 3 * z + torch.tensor([1.0, 1, 1, 5])

    expected = math.sqrt(9 + 16 / 4)
    assert module.deviation(Player(), seeded()).item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(2, 1, 4, 4), r"images of shape \(2, 1, 4, 4\), expected \(B, 1, 2, 4\)"),
        (torch.zeros(*SHAPE), r"images of shape \(1, 2, 4\)"),
        (torch.zeros(0, *SHAPE), r"images of shape \(0,"),
        (torch.full((1, *SHAPE), 1.5), "images reach 1.5"),
        (torch.full((1, *SHAPE), math.nan), "images reach nan"),
    ],
)
def test_what_no_generator_draws_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        project(Linear(), images)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_steps": 0}, "n_steps is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"pixel": -1.0}, "pixel is -1.0"),
        ({"feature": math.nan}, "feature is nan"),
        ({"pixel": 0.0, "feature": 0.0}, "both 0"),
        ({"ramp": 0.0}, "ramp is 0.0"),
        ({"ramp": 1.5}, "ramp is 1.5"),
    ],
)
def test_a_search_that_finds_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Search(**options)
