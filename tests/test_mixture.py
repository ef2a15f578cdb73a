"""A mixture of degradations: each image has a mask and a noise of its own, as many of each kind as it says."""

import pytest
import torch
from torch import Tensor

from imagegen.degrade import Mixture

SHAPE = (16, 3, 32, 32)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int) -> Tensor:
    return torch.rand(*(shape or SHAPE), generator=seeded(9)) * 2 - 1


def test_masks_take_turns_and_each_hides_its_kind():
    mixture, x = Mixture(masks=("none", "box", "pixels")), images(300, 1, 32, 32)
    y, known, sigma = mixture(x, generator=seeded())
    assert known.dtype == torch.bool and known.shape == (300, 1, 32, 32) and sigma.shape == (300,)
    assert known[0::3].all() and not known[1::3].flatten(1).all(1).any()
    rows, columns = (~known[1::3, 0]).any(2).sum(1), (~known[1::3, 0]).any(1).sum(1)
    assert torch.equal(rows * columns, (~known[1::3, 0]).sum((1, 2)))  # boxes are full
    assert len({tuple(k.flatten().tolist()) for k in known[1::3]}) > 50  # and in many places
    assert y[~known].eq(0).all() and y[known].ne(0).all()


def test_shares_are_drawn_between_the_two_and_differ_from_call_to_call():
    mixture, generator = Mixture(masks=("pixels",), shares=(0.1, 0.5)), seeded()
    hidden = [(~mixture(images(), generator=generator).known).double().mean().item() for _ in range(200)]
    assert 0.08 < min(hidden) < 0.13 and 0.47 < max(hidden) < 0.52
    assert abs(sum(hidden) / 200 - 0.3) < 4 * 0.4 / 12**0.5 / 200**0.5


def test_the_noise_of_each_image_has_the_deviation_that_is_told():
    x = images(400, 1, 32, 32)
    y, known, sigma = Mixture(masks=("none",), sigmas=(0.1, 0.7))(x, generator=seeded())
    noise = (y - x).flatten(1)
    ratio = noise.std(1) / sigma
    assert (ratio - 1).abs().max() < 5 / (2 * 1024) ** 0.5
    assert (noise.mean(1) / sigma).abs().max() < 5 / 32
    assert 0.1 <= sigma.min() < 0.12 and 0.68 < sigma.max() <= 0.7
    assert abs(sigma.mean() - 0.4) < 4 * 0.6 / 12**0.5 / 20 and known.all()
    assert abs((noise[0] * noise[1]).mean() / (sigma[0] * sigma[1])) < 5 / 32  # each its own


def test_the_exact_share_of_masked_images_is_without_noise_and_no_other():
    x = images(4000, 1, 8, 8)
    mixture = Mixture(masks=("none", "box"), sigmas=(0.2, 0.3), exact=0.25)
    y, known, sigma = mixture(x, generator=seeded())
    assert sigma[0::2].min() >= 0.2
    exact = sigma[1::2] == 0
    assert abs(exact.double().mean() - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    assert torch.equal(y[1::2][exact], torch.where(known, x, 0.0)[1::2][exact])
    assert sigma[1::2][~exact].min() >= 0.2
    for exact in (0.0, 1.0):
        _, _, sigma = Mixture(masks=("box",), sigmas=(0.2, 0.3), exact=exact)(images(), generator=seeded())
        assert (sigma == 0).all() if exact else (sigma > 0).all()


def test_a_call_is_a_function_of_its_generator_and_goes_on_with_it():
    mixture, x, generator = Mixture(), images(), seeded(3)
    first, second = mixture(x, generator=generator), mixture(x, generator=generator)
    again = mixture(x, generator=seeded(3))
    for a, b in zip(first, again, strict=True):
        assert a.equal(b)
    assert not first.known.equal(second.known) and not first.sigma.equal(second.sigma)
    torch.manual_seed(5)
    assert mixture(x, generator=seeded(3)).y.equal(first.y)


def test_a_batch_smaller_than_the_kinds_is_degraded_too():
    y, known, sigma = Mixture(masks=("box", "none", "pixels"))(images(2, 1, 8, 8), generator=seeded())
    assert len(y) == len(known) == len(sigma) == 2 and known[1].all() and not known[0].all()


def test_a_mixture_is_the_same_from_json():
    assert Mixture(masks=["box"], shares=[0.1, 0.2], sigmas=[0.0, 0.1]) == Mixture(
        masks=("box",), shares=(0.1, 0.2), sigmas=(0.0, 0.1)
    )
    assert hash(Mixture(masks=["box"])) == hash(Mixture(masks=("box",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masks": ()}, r"masks are \(\), expected some of none, box"),
        ({"masks": ("box", "hole")}, "expected some of none, box"),
        ({"shares": (0.0, 0.5)}, r"shares are \(0.0, 0.5\)"),
        ({"shares": (0.5, 0.4)}, "expected the least and the largest"),
        ({"shares": (0.5, 1.1)}, "shares are"),
        ({"sigmas": (-0.1, 0.4)}, r"sigmas are \(-0.1, 0.4\)"),
        ({"sigmas": (0.1, float("inf"))}, "sigmas are"),
        ({"sigmas": (0.1,)}, "sigmas are"),
        ({"exact": 1.5}, r"exact is 1.5, expected a share in \[0, 1\]"),
        ({"stroke": 0}, "stroke is 0"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Mixture(**settings)


def test_images_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"expected them within \[-1, 1\]"):
        Mixture()(255 * images(), generator=seeded())
