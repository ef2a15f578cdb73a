"""Degradations: operators against explicit matrices and other libraries, noise against its moments, masks by count."""

import dataclasses
import io
import itertools
import json
import math

import numpy as np
import pytest
import scipy.ndimage
import skimage.util
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from torch.testing import assert_close

from imagegen import degrade, images
from imagegen.degrade import Blur, Composed, Degradation, Downsample, Identity, Mask

EXACT = {"rtol": 1e-12, "atol": 1e-12}
SCIPY = {"reflect": "mirror", "replicate": "nearest", "circular": "wrap", "zeros": "constant"}
KNOWN = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1]]).bool()[None, None]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype=torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def pictures(*shape: int, seed: int = 0, dtype=torch.float32) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed), dtype=dtype) * 2 - 1


CROOKED = normal(3, 5, seed=9)  # no symmetry, and not square
OPERATORS = {
    "identity": Identity(),
    **{f"blur {boundary}": Blur(normal(3, 3, seed=8), boundary) for boundary in degrade.BOUNDARIES},
    "mask": Mask(KNOWN),
    "average": Downsample(2),
    "bicubic": Downsample(2, "bicubic"),
    "composed": Composed((Blur(normal(3, 3, seed=7)), Downsample(2), Mask(KNOWN[..., :2, :2]))),
}
operators = pytest.mark.parametrize("operator", OPERATORS.values(), ids=list(OPERATORS))


def matrix(linear, *shape: int) -> Tensor:
    """Return the matrix of a linear map of images of one channel, a column for each pixel: (outputs, inputs)."""
    pixels = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, 1, *shape)
    return linear(pixels).flatten(1).T


# ---- operators ---------------------------------------------------------------------------------------------------


@operators
def test_the_adjoint_is_the_transposed_matrix(operator):
    forward = matrix(operator, 4, 4)
    small = operator(torch.zeros(1, 1, 4, 4)).shape[2:]
    assert_close(matrix(operator.adjoint, *small), forward.T, **EXACT)


@operators
def test_the_adjoint_keeps_the_inner_product_image_by_image_and_channel_by_channel(operator):
    x = normal(5, 3, 4, 4)
    y = normal(*operator(x).shape, seed=1)
    back = operator.adjoint(y)
    assert back.shape == x.shape
    assert_close((operator(x) * y).sum((2, 3)), (x * back).sum((2, 3)), **EXACT)


@pytest.mark.parametrize("boundary", degrade.BOUNDARIES)
@pytest.mark.parametrize("kernel", [CROOKED, CROOKED.T], ids=["wide", "tall"])
def test_blur_and_its_adjoint_on_images_that_are_not_square(boundary, kernel):
    operator, x = Blur(kernel, boundary), normal(2, 3, 5, 7)
    expected = scipy.ndimage.convolve(x.numpy(), kernel[None, None].numpy(), mode=SCIPY[boundary])
    assert_close(operator(x), torch.from_numpy(expected), **EXACT)
    assert_close(matrix(operator.adjoint, 5, 7), matrix(operator, 5, 7).T, **EXACT)


def test_blur_is_the_sum_that_its_docstring_says():
    x, y = normal(1, 1, 4, 6), torch.zeros(4, 6, dtype=torch.float64)
    for i, j, m, n in itertools.product(range(4), range(6), (-1, 0, 1), (-2, -1, 0, 1, 2)):
        y[i, j] += CROOKED[m + 1, n + 2] * x[0, 0, (i - m) % 4, (j - n) % 6]
    assert_close(Blur(CROOKED, "circular")(x)[0, 0], y, **EXACT)
    spike = torch.zeros(1, 1, 5, 7, dtype=torch.float64)
    spike[..., 2, 3] = 1
    assert_close(Blur(CROOKED)(spike)[0, 0, 1:4, 1:6], CROOKED, **EXACT)  # its kernel, not the flipped one


@pytest.mark.parametrize("boundary", degrade.BOUNDARIES)
@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.7])
def test_a_gaussian_blur_is_scipys(boundary, sigma):
    x = normal(2, 1, 20, 16)
    expected = scipy.ndimage.gaussian_filter(x.numpy(), sigma, mode=SCIPY[boundary], axes=(2, 3))
    assert_close(Blur(degrade.gaussian_kernel(sigma), boundary)(x), torch.from_numpy(expected), **EXACT)


def test_a_gaussian_kernel_has_the_deviation_and_the_radius_it_was_asked_for():
    kernel = degrade.gaussian_kernel(1.5, radius=12)
    places = torch.arange(-12.0, 13.0, dtype=torch.float64)
    assert kernel.shape == (25, 25)
    assert_close(kernel.sum().item(), 1.0, **EXACT)
    assert_close((kernel.sum(1) * places**2).sum().sqrt().item(), 1.5, rtol=1e-9, atol=0)
    assert degrade.gaussian_kernel(1.2).shape == (11, 11)
    assert degrade.gaussian_kernel(0.1).shape == degrade.gaussian_kernel(3.0, radius=0).shape == (1, 1)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_average_downsampling_is_pooling(factor):
    x = normal(2, 3, 8, 12)
    assert_close(Downsample(factor)(x), avg_pool2d(x, factor), **EXACT)
    y = normal(2, 3, 8 // factor, 12 // factor)
    nearest = interpolate(y, scale_factor=factor)
    assert_close(Downsample(factor).adjoint(y), nearest / factor**2, **EXACT)
    assert_close(Downsample(factor).pinv(y), nearest, **EXACT)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_bicubic_downsampling_is_torchs_and_pillows(factor):
    x = normal(1, 1, 12, 24)
    operator = Downsample(factor, "bicubic")
    theirs = interpolate(x, size=(12 // factor, 24 // factor), mode="bicubic", antialias=True)
    assert_close(operator(x), theirs, rtol=1e-9, atol=1e-9)
    picture = Image.fromarray(x[0, 0].float().numpy()).resize((24 // factor, 12 // factor), Image.BICUBIC)
    assert_close(operator(x)[0, 0].float(), torch.tensor(np.asarray(picture)), rtol=1e-5, atol=1e-5)
    white = torch.ones(1, 1, 12, 24)
    assert_close(operator(white), torch.ones(1, 1, 12 // factor, 24 // factor))


def test_a_cubic_overshoots_at_an_edge_and_an_average_does_not():
    x = torch.full((1, 1, 8, 32), -1.0)
    x[..., 16:] = 1
    assert Downsample(4, "bicubic")(x).max() > 1.01
    assert Downsample(4)(x).abs().max() <= 1


def test_a_mask_keeps_what_is_known_and_hides_even_what_is_not_a_number():
    x = normal(2, 3, 4, 4)
    x[:, :, 0, 1] = math.nan  # hidden
    y = Mask(KNOWN)(x)
    for i, j in itertools.product(range(4), range(4)):
        assert y[..., i, j].equal(x[..., i, j] if KNOWN[0, 0, i, j] else torch.zeros(2, 3).double())
    each = torch.cat([KNOWN, ~KNOWN])  # every image its own
    x = normal(2, 3, 4, 4)
    assert Mask(each)(x).equal(torch.cat([Mask(KNOWN)(x[:1]), Mask(~KNOWN)(x[1:])]))


def test_a_composition_goes_from_the_first_to_the_last():
    x, blur, down = normal(1, 2, 4, 4), Blur(CROOKED[:, 1:4]), Downsample(2)
    assert_close(Composed((blur, down))(x), down(blur(x)), **EXACT)
    assert Composed(())(x).equal(x) and Composed(()).adjoint(x).equal(x)


@operators
def test_the_gradient_of_half_the_squared_residual_is_the_adjoint_of_it(operator):
    x = normal(2, 1, 4, 4).requires_grad_()
    y = normal(*operator(x).shape, seed=3)
    (gradient,) = torch.autograd.grad((operator(x) - y).square().sum() / 2, x)
    assert_close(gradient, operator.adjoint(operator(x) - y).detach(), **EXACT)
    assert torch.autograd.gradcheck(operator, x) and torch.autograd.gradcheck(
        operator.adjoint, y.requires_grad_()
    )


DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@operators
def test_operators_keep_dtype_and_device(operator, dtype, device):
    x = normal(2, 3, 4, 4).to(device, dtype)
    maps = [operator, *([operator.pinv] if hasattr(operator, "pinv") else [])]
    for found in [maps[0](x), *(back(operator(x)) for back in [operator.adjoint, *maps[1:]])]:
        assert found.dtype == dtype and found.device == x.device


# ---- range and null space ----------------------------------------------------------------------------------------

SPLIT = {name: operator for name, operator in OPERATORS.items() if hasattr(operator, "pinv")}
split = pytest.mark.parametrize("operator", SPLIT.values(), ids=list(SPLIT))


@split
def test_the_pseudo_inverse_meets_the_four_conditions_of_penrose(operator):
    a = matrix(operator, 4, 4)
    b = matrix(operator.pinv, *operator(torch.zeros(1, 1, 4, 4)).shape[2:])
    assert_close(a @ b @ a, a, **EXACT)
    assert_close(b @ a @ b, b, **EXACT)
    assert_close(a @ b, (a @ b).T, **EXACT)
    assert_close(b @ a, (b @ a).T, **EXACT)
    assert "blur" not in " ".join(SPLIT) and len(SPLIT) == 4


@split
def test_a_consistent_image_is_the_nearest_that_the_operator_turns_into_y(operator):
    x, truth = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    found = degrade.consistent(x, operator(truth), operator)
    assert_close(operator(found), operator(truth), **EXACT)
    moved = found - x  # orthogonal to all that the operator cannot see
    null = truth - operator.pinv(operator(truth))
    assert_close((moved * null).sum(), torch.tensor(0.0).double(), **EXACT)
    assert_close(degrade.consistent(found, operator(truth), operator), found, **EXACT)


def test_behind_a_mask_known_pixels_come_from_y_and_the_others_from_x_to_the_bit():
    x, y = (normal(2, 3, 4, 4, seed=seed) for seed in (0, 1))  # y also holds values where nothing is known
    found = degrade.consistent(x, y, Mask(KNOWN))
    assert found.equal(torch.where(KNOWN, y, x))


@pytest.mark.parametrize("name", ["blur reflect", "composed"])
def test_no_split_is_made_up_for_an_operator_without_one(name):
    x = normal(1, 1, 4, 4)
    with pytest.raises(TypeError, match="has no pseudo-inverse in closed form"):
        degrade.consistent(x, OPERATORS[name](x), OPERATORS[name])


# ---- noise -------------------------------------------------------------------------------------------------------

N = 200_000
LEVELS = torch.tensor([-1.0, -0.5, 0.0, 0.7, 1.0]).double()


def repeated(levels: Tensor = LEVELS) -> Tensor:
    """Return an image for each level, of N pixels."""
    return levels[:, None, None, None].expand(-1, 1, 1, N).contiguous()


def has_moments(draws: Tensor, mean: Tensor, variance: Tensor, fourth: Tensor) -> None:
    """Assert the mean and the variance of draws (levels, 1, 1, N), each within 5 of its standard errors.

    fourth: the fourth central moment, from which the variance's own error follows.
    """
    error = draws.flatten(1) - mean[:, None]
    for found, expected, spread in (
        (error.mean(1), 0 * mean, variance),
        (error.square().mean(1), variance, fourth - variance**2),
    ):
        stderr = (spread / N).sqrt()
        assert ((found - expected).abs() <= 5 * stderr + 1e-12).all()
        assert (stderr <= 0.02 * variance.sqrt().clamp(min=variance)).all()  # or the test has no power


@pytest.mark.parametrize("sigma", [0.05, 0.2, 1.0])
def test_gaussian_noise_has_sigma_in_units_of_minus_one_to_one_and_is_not_clamped(sigma):
    y = degrade.add_gaussian(repeated(), sigma, generator=seeded())
    one = torch.ones(5).double()
    has_moments(y, LEVELS, sigma**2 * one, 3 * sigma**4 * one)
    noise = (y - repeated()).flatten()
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 * sigma**2 / len(noise) ** 0.5  # each draw is its own
    assert 0.49 < (y[-1] > 1).double().mean() < 0.51 and 0.49 < (y[0] < -1).double().mean() < 0.51
    assert_close(images.to_unit(y).var(3).sqrt().flatten(), sigma / 2 * one, rtol=0.02, atol=0)


def test_gaussian_noise_is_scikit_images_at_half_the_sigma():
    x = pictures(1, 1, 300, 300, dtype=torch.float64) * 0.2
    y = degrade.add_gaussian(x, 50 / 255, generator=seeded())
    options = {"mode": "gaussian", "var": (25 / 255) ** 2, "clip": False, "rng": 0}
    theirs = skimage.util.random_noise(images.to_unit(x).numpy(), **options)
    ours = images.to_unit(y) - images.to_unit(x)
    assert ours.std().item() == pytest.approx((theirs - images.to_unit(x).numpy()).std(), rel=0.02)


@pytest.mark.parametrize("peak", [2.0, 30.0, 1000.0])
def test_poisson_noise_has_the_images_mean_and_a_variance_that_grows_with_it(peak):
    y = degrade.add_poisson(repeated(), peak, generator=seeded())
    rate, unit = peak * (LEVELS + 1) / 2, 2 / peak
    variance = unit**2 * rate
    assert_close(variance, 2 * (LEVELS + 1) / peak, **EXACT)
    assert y[0].eq(-1).all()  # no photon comes from black
    has_moments(y[1:], LEVELS[1:], variance[1:], (unit**4 * (rate + 3 * rate**2))[1:])
    photons = (y + 1) * peak / 2
    assert_close(photons, photons.round(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_salt_and_pepper_replace_whole_pixels_and_as_many_by_black_as_by_white(share):
    y = degrade.add_salt_and_pepper(repeated(), share, generator=seeded())
    stderr = (share / 2 * (1 - share / 2) / N) ** 0.5
    for level, image in zip(LEVELS.tolist(), y):
        for extreme in (-1.0, 1.0):
            if level not in (-1.0, 1.0):
                assert abs(image.eq(extreme).double().mean().item() - share / 2) < 5 * stderr
        left = image[(image != -1) & (image != 1)]
        assert left.eq(level).all()
    mean, square = (1 - share) * LEVELS, (1 - share) * LEVELS**2 + share
    assert_close(y.flatten(1).mean(1), mean, rtol=0, atol=5 * N**-0.5)
    assert_close(y.flatten(1).square().mean(1), square, rtol=0, atol=5 * N**-0.5)
    x = pictures(2, 3, 50, 50) * 0.9
    changed = degrade.add_salt_and_pepper(x, 0.5, generator=seeded()) != x
    assert changed[:, :1].expand_as(changed).equal(changed) and changed.any() and not changed.all()


def test_the_same_image_gets_other_noise_than_its_neighbour_in_the_batch():
    x = torch.zeros(2, 1, 16, 16)
    for kind, amount in (("gaussian", 0.2), ("poisson", 20), ("salt-and-pepper", 0.5)):
        y = degrade.add_noise(x, kind, amount, generator=seeded())
        assert not y[0].equal(y[1])


def by_pillow(x: Tensor, quality: int) -> Tensor:
    """Return one image after JPEG, in [-1, 1]."""
    pixels, file = images.to_uint8(x).permute(1, 2, 0).numpy(), io.BytesIO()
    Image.fromarray(pixels[..., 0] if len(x) == 1 else pixels).save(file, format="JPEG", quality=quality)
    back = np.array(Image.open(file))
    return images.to_float(torch.from_numpy(back.reshape(pixels.shape)).permute(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels):
    smooth = Blur(degrade.gaussian_kernel(1.5))(pictures(3, channels, 17, 24) * 2).clamp(-1, 1)
    errors = []
    for quality in (1, 10, 50, 100):
        y = degrade.jpeg(smooth, quality)
        assert y.shape == smooth.shape and y.dtype == torch.float32 and y.is_contiguous()
        assert y.equal(torch.stack([by_pillow(image, quality) for image in smooth]))
        errors.append((y - smooth).square().mean().item())
    assert errors == sorted(errors, reverse=True) and errors[0] > 2 * errors[2]
    assert degrade.jpeg(smooth[:0], 50).shape == (0, channels, 17, 24)


# ---- masks -------------------------------------------------------------------------------------------------------

SHAPE = (40, 3, 20, 26)


def hidden_share(known: Tensor) -> Tensor:
    return (~known).double().mean((1, 2, 3))


@pytest.mark.parametrize("kind", degrade.MASKS)
def test_every_mask_is_boolean_and_one_for_each_image(kind):
    known = degrade.draw_mask(kind, SHAPE, share=0.3, stroke=4, generator=seeded())
    assert known.shape == (40, 1, 20, 26) and known.dtype == torch.bool
    share = hidden_share(known)
    expected = 0.5 if kind in ("half", "left", "right", "top", "bottom") else 0.3
    assert ((share - expected).abs() < 0.1).all()  # so True is known: 0.7 would be the other way round
    distinct = len({tuple(mask.flatten().tolist()) for mask in known})
    one = kind in ("centre", "left", "right", "top", "bottom")
    assert distinct == 1 if one else distinct == 4 if kind == "half" else distinct > 30


def test_a_box_is_a_whole_rectangle_and_lies_anywhere_with_equal_probability():
    known = degrade.box((6000, 1, 6, 9), (2, 4), generator=seeded())
    corners = []
    for mask in known[:, 0]:
        rows, columns = (~mask).nonzero().T
        assert len(rows) == 8 and rows.max() - rows.min() == 1 and columns.max() - columns.min() == 3
        corners.append((rows.min().item(), columns.min().item()))
    counts = torch.tensor([corners.count(place) for place in itertools.product(range(5), range(6))])
    expected = 6000 / 30
    assert counts.sum() == 6000 and ((counts - expected).abs() < 5 * expected**0.5).all()


def test_a_box_of_a_share_has_the_images_proportions_and_a_centred_one_its_middle():
    known = degrade.box((2, 1, 20, 40), share=0.25, centred=True, generator=seeded())
    expected = torch.ones(20, 40, dtype=torch.bool)
    expected[5:15, 10:30] = False
    assert known.equal(expected.expand(2, 1, 20, 40))
    assert not degrade.box((1, 1, 5, 7), share=1.0, generator=seeded()).any()
    odd = degrade.box((1, 1, 5, 5), (2, 2), centred=True, generator=seeded())
    assert odd[0, 0, 1:3, 1:3].logical_not().all() and odd.sum() == 21


@pytest.mark.parametrize("stroke", [1, 3, 6])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_a_scribble_covers_its_share_and_little_more(stroke, share):
    known = degrade.scribble((30, 1, 24, 32), share=share, stroke=stroke, generator=seeded())
    found = hidden_share(known)
    step = (1 + math.pi / 4) * stroke**2 + 2 * (2 + math.pi) * stroke  # its area, and half a pixel around it
    assert (found >= share).all() and (found < share + step / (24 * 32)).all()


def test_a_scribble_is_as_wide_as_its_stroke():
    """Nothing is thinner than a disc of the stroke's width, and a disc twice as wide hardly ever fits."""
    known = degrade.scribble((40, 1, 48, 48), share=0.1, stroke=7, generator=seeded())
    places = np.arange(-7, 8)
    near = places[:, None] ** 2 + places[None] ** 2
    hidden = (~known[:, 0]).numpy()
    opened = {r: [scipy.ndimage.binary_opening(mask, near <= r**2) for mask in hidden] for r in (2.5, 5.5)}
    inner = (slice(None), slice(4, -4), slice(4, -4))  # at an edge a disc is cut
    assert np.stack(opened[2.5])[inner].sum() > 0.97 * hidden[inner].sum()
    assert np.stack(opened[5.5])[inner].sum() < 0.1 * hidden[inner].sum()


def test_strokes_wander_begin_anywhere_and_end():
    known = degrade.scribble((300, 1, 32, 32), share=0.15, stroke=3, generator=seeded())
    shown = (~known).double().mean((0, 1))
    assert (
        shown[8:24, 8:24].mean() < 2 * shown.mean() and shown.min() > 0.2 * shown.mean()
    )  # no place is spared
    pieces = [scipy.ndimage.label((~mask[0]).numpy(), np.ones((3, 3)))[1] for mask in known]
    assert 1 < sum(pieces) / len(pieces) < 6  # strokes of several steps, not one line and not dots
    across = (~known).any(2).double().sum(2).mean() / (~known).any(3).double().sum(2).mean()
    assert 0.9 < across < 1.1  # as many directions down as across


def test_each_half_is_where_it_says_and_a_drawn_one_is_each_of_the_four():
    x = torch.arange(5 * 6).view(1, 1, 5, 6)
    lost = {
        "left": x[..., :3],
        "right": x[..., 3:],
        "top": x[..., :2, :],
        "bottom": x[..., 3:, :],
    }  # of five rows the smaller half
    for side, places in lost.items():
        known = degrade.half((1, 1, 5, 6), side, generator=seeded())
        assert x[~known].equal(places.flatten())
    drawn = degrade.half((4000, 1, 5, 6), generator=seeded())
    counts = torch.stack([
        drawn.eq(degrade.half((1, 1, 5, 6), side, generator=seeded())).all(3).all(2).sum() for side in lost
    ])  # fmt: skip
    assert counts.sum() == 4000 and ((counts - 1000).abs() < 5 * 750**0.5).all()


def test_random_pixels_are_hidden_independently_with_the_share_as_probability():
    known = degrade.pixels((500, 3, 10, 10), share=0.2, generator=seeded())
    assert abs(hidden_share(known).mean().item() - 0.2) < 5 * (0.16 / 50_000) ** 0.5
    spread = hidden_share(known).var().item()
    assert abs(spread - 0.0016) < 5 * 0.0016 * (2 / 500) ** 0.5


# ---- generators --------------------------------------------------------------------------------------------------

DRAWS = {
    **{kind: lambda g, kind=kind: degrade.draw_mask(kind, (3, 1, 16, 16), share=0.3, stroke=3, generator=g)
       for kind in ("box", "scribble", "pixels", "half")},
    "gaussian": lambda g: degrade.add_gaussian(torch.zeros(3, 1, 16, 16), 0.2, generator=g),
    "poisson": lambda g: degrade.add_poisson(torch.zeros(3, 1, 16, 16), 20, generator=g),
    "salt-and-pepper": lambda g: degrade.add_salt_and_pepper(torch.zeros(3, 1, 16, 16), 0.3, generator=g),
}  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS.values(), ids=list(DRAWS))
def test_draws_hang_on_their_generator_alone(draw):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    generator = seeded(3)
    first, second = draw(generator), draw(generator)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(1)
    again = seeded(3)
    assert draw(again).equal(first) and draw(again).equal(second)
    assert not first.equal(second) and not draw(seeded(4)).equal(first)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "amount"), [("gaussian", 0.2), ("poisson", 20), ("salt-and-pepper", 0.3), ("jpeg", 50)]
)
def test_noise_keeps_dtype_and_device(kind, amount, dtype, device):
    x = pictures(2, 3, 8, 8).to(device, dtype)
    y = degrade.add_noise(x, kind, amount, generator=seeded())
    assert y.dtype == dtype and y.device == x.device and not y.equal(x)
    exact = degrade.add_noise(x.double(), kind, amount, generator=seeded())
    if kind != "gaussian":  # whose draws differ by dtype; the others are the same numbers, rounded
        assert_close(y.double(), exact, rtol=1e-2, atol=1e-2)


def test_gradients_pass_through_additive_noise_and_stop_at_counts_and_bytes():
    x = pictures(1, 1, 8, 8).requires_grad_()
    y = degrade.add_gaussian(x, 0.3, generator=seeded())
    assert torch.autograd.grad(y.sum(), x)[0].equal(torch.ones_like(x))
    assert not degrade.add_poisson(x, 20, generator=seeded()).requires_grad
    assert not degrade.jpeg(x, 20).requires_grad
    seasoned = degrade.add_salt_and_pepper(x, 0.5, generator=seeded())
    assert torch.autograd.grad(seasoned.sum(), x)[0].equal(seasoned.eq(x).float())


# ---- a whole degradation -------------------------------------------------------------------------------------------


def test_without_settings_nothing_is_lost():
    x = pictures(2, 3, 8, 8)
    y, known, operator = Degradation()(x, generator=seeded())
    assert y.equal(x) and known is None and operator == Identity()


@pytest.mark.parametrize("kind", ["gaussian", "salt-and-pepper"])
def test_noise_lies_on_what_was_measured_and_none_behind_a_mask(kind):
    x = pictures(20, 3, 16, 16) * 0.9
    y, known, operator = Degradation(mask="box", share=0.3, noise=kind, amount=0.4)(x, generator=seeded())
    everywhere = known.expand_as(y)
    assert y[~everywhere].eq(0).all()
    noise = (y - x)[everywhere]
    wanted = 0.4 if kind == "gaussian" else (0.4 * (1 + x.square().mean().item())) ** 0.5
    assert noise.std().item() == pytest.approx(wanted, rel=0.05)
    assert operator.known.equal(known) and operator(x).equal(torch.where(known, x, 0.0))


def test_the_parts_come_in_order_and_the_operator_is_theirs():
    x = pictures(4, 3, 16, 16, dtype=torch.float64)
    setting = Degradation(
        blur=1.0, factor=2, kernel="bicubic", mask="pixels", share=0.5, noise="gaussian", amount=0.1
    )
    y, known, operator = setting(x, generator=seeded())
    clear = dataclasses.replace(setting, noise="none", amount=0.0)(x, generator=seeded())
    assert clear.known.equal(known) and known.shape == (4, 1, 8, 8) and y.shape == (4, 3, 8, 8)
    blurred = Blur(degrade.gaussian_kernel(1.0), "reflect")(x)
    assert_close(clear.y, torch.where(known, Downsample(2, "bicubic")(blurred), 0.0), **EXACT)
    assert_close(operator(x), clear.y, **EXACT)
    assert (y - clear.y)[known.expand_as(y)].std().item() == pytest.approx(0.1, rel=0.15)


def test_one_part_alone_keeps_its_split_into_range_and_null_space():
    x = pictures(2, 1, 8, 8)
    for setting, kind in (
        (Degradation(factor=2), Downsample),
        (Degradation(mask="half"), Mask),
        (Degradation(blur=1.0), Blur),
    ):
        assert type(setting(x, generator=seeded()).operator) is kind
    assert type(Degradation(factor=2, mask="half")(x, generator=seeded()).operator) is Composed


def test_each_call_draws_on_and_a_seed_repeats_it():
    x, setting = pictures(2, 1, 16, 16), Degradation(mask="scribble", noise="poisson", amount=20.0)
    generator = seeded(5)
    first, second = setting(x, generator=generator), setting(x, generator=generator)
    again = setting(x, generator=seeded(5))
    assert again.y.equal(first.y) and again.known.equal(first.known)
    assert not second.known.equal(first.known) and not second.y.equal(first.y)


def test_a_config_is_flat_and_survives_json():
    setting = Degradation(mask="centre", share=0.2, noise="jpeg", amount=30)
    fields = json.loads(json.dumps(dataclasses.asdict(setting)))
    assert Degradation(**fields) == setting and hash(setting)
    assert all(isinstance(value, str | int | float) for value in fields.values())


def test_jpeg_is_what_a_degradation_of_that_name_does():
    x = pictures(2, 3, 16, 16)
    found = Degradation(factor=2, noise="jpeg", amount=30)(x, generator=seeded()).y
    assert found.equal(degrade.jpeg(avg_pool2d(x, 2).clamp(-1, 1), 30))


# ---- errors --------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 1, 8, 8)
BYTES = X.to(torch.uint8)
G = torch.Generator()
REFUSED = [
    (lambda: Blur(torch.ones(2, 3)), ValueError, r"kernel has shape \(2, 3\), expected \(k, l\)"),
    (lambda: Blur(torch.ones(3)), ValueError, r"kernel has shape \(3,\)"),
    (lambda: Blur(torch.ones(3, 3).long()), TypeError, "kernel is torch.int64"),
    (lambda: Blur(torch.full((1, 1), math.nan)), ValueError, "value that is not finite"),
    (lambda: Blur(torch.ones(1, 1), "mirror"), ValueError, "boundary is 'mirror', expected one of"),
    (lambda: Blur(torch.ones(17, 3))(X), ValueError, r"\(17, 3\) reaches over \(8, 1\).*\(8, 8\)"),
    (lambda: Blur(torch.ones(3, 17)).adjoint(X), ValueError, r"reaches over \(1, 8\)"),
    (lambda: degrade.gaussian_kernel(0), ValueError, "sigma is 0, expected a positive"),
    (lambda: degrade.gaussian_kernel(1, radius=-1), ValueError, "radius is -1, expected at least 0"),
    (lambda: Mask(X), TypeError, "known is torch.float32, expected torch.bool"),
    (lambda: Mask(torch.ones(1, 3, 8, 8).bool()), ValueError, r"shape \(1, 3, 8, 8\), expected \(B or 1"),
    (lambda: Mask(torch.ones(8, 8).bool()), ValueError, r"shape \(8, 8\)"),
    (lambda: Mask(KNOWN)(X), ValueError, r"\(1, 1, 4, 4\), and images of shape \(2, 1, 8"),
    (lambda: Mask(KNOWN.repeat(3, 1, 2, 2))(X), ValueError, r"need \(2 or 1, 1, 8, 8\)"),
    (lambda: Downsample(0), ValueError, "factor is 0, expected a whole number, at least 1"),
    (lambda: Downsample(1.5), ValueError, "factor is 1.5"),
    (lambda: Downsample(3)(X), ValueError, "side is 8 pixels, expected a multiple of the factor 3"),
    (lambda: Downsample(2, "nearest"), ValueError, "kernel is 'nearest', expected one of"),
    (lambda: degrade.consistent(X, X, Downsample(2)), ValueError, r"y has shape \(2, 1, 8, 8\).*1, 4, 4"),
    (lambda: degrade.add_gaussian(X, -0.1, generator=G), ValueError, "sigma is -0.1, expected"),
    (lambda: degrade.add_gaussian(X, math.nan, generator=G), ValueError, "sigma is nan"),
    (lambda: degrade.add_poisson(X, 0, generator=G), ValueError, "peak is 0, expected a positive number"),
    (lambda: degrade.add_poisson(X + 2, 9, generator=G), ValueError, r"span \[2, 2\]"),
    (lambda: degrade.add_salt_and_pepper(X, 1.1, generator=G), ValueError, "share is 1.1, expected"),
    (lambda: degrade.add_salt_and_pepper(X - 2, 0.1, generator=G), ValueError, r"span \[-2, -2\]"),
    (lambda: degrade.jpeg(X, 0), ValueError, "quality is 0, expected a whole number from 1 to 100"),
    (lambda: degrade.jpeg(X, 101), ValueError, "quality is 101"),
    (lambda: degrade.jpeg(X, 50.5), ValueError, "quality is 50.5"),
    (lambda: degrade.jpeg(torch.zeros(1, 2, 8, 8), 50), ValueError, r"expected 1 or 3 channels"),
    (lambda: degrade.jpeg(X + 1.5, 50), ValueError, r"span \[1.5, 1.5\]"),
    (lambda: degrade.add_noise(X, "rain", 1, generator=G), ValueError, "noise is 'rain', expected one of"),
    (lambda: degrade.add_noise(X, "none", 0.1, generator=G), ValueError, "amount is 0.1, and noise is 'none'"),
    (lambda: degrade.draw_mask("hole", SHAPE, share=1, stroke=1, generator=G), ValueError, "mask is 'hole'"),
    (lambda: degrade.pixels((8, 8), share=0.5, generator=G), ValueError, r"shape is \(8, 8\), expected that"),
    (lambda: degrade.pixels(SHAPE, share=0, generator=G), ValueError, "share is 0, expected the part"),
    (lambda: degrade.scribble(SHAPE, share=1.2, stroke=2, generator=G), ValueError, "share is 1.2"),
    (lambda: degrade.box(SHAPE, share=-1, generator=G), ValueError, "share is -1"),
    (lambda: degrade.scribble(SHAPE, share=0.1, stroke=21, generator=G), ValueError, "stroke is 21, expected 1 to 20"),
    (lambda: degrade.half(SHAPE, "up", generator=G), ValueError, "hidden is 'up', expected None or"),
    (lambda: degrade.box(SHAPE, (2, 2), share=0.1, generator=G), ValueError, r"size is \(2, 2\) and share 0.1"),
    (lambda: degrade.box(SHAPE, generator=G), ValueError, "size is None and share None"),
    (lambda: degrade.box(SHAPE, (21, 3), generator=G), ValueError, r"the box is \(21, 3\) pixels"),
    (lambda: degrade.box(SHAPE, share=1e-6, generator=G), ValueError, r"the box is \(0, 0\) pixels"),
    (lambda: Degradation(blur=-1), ValueError, "blur is -1, expected a deviation in pixels"),
    (lambda: Degradation(factor=0), ValueError, "factor is 0"),
    (lambda: Degradation(kernel="box"), ValueError, "kernel is 'box'"),
    (lambda: Degradation(mask="hole"), ValueError, "mask is 'hole'"),
    (lambda: Degradation(mask="pixels", share=0), ValueError, "share is 0"),
    (lambda: Degradation(noise="rain"), ValueError, "noise is 'rain'"),
    (lambda: Degradation(noise="gaussian", amount=-1), ValueError, "sigma is -1"),
    (lambda: Degradation(amount=0.2), ValueError, "amount is 0.2, and noise is 'none'"),
    (lambda: Degradation()(X + 3, generator=G), ValueError, r"span \[3, 3\].*\[-1, 1\]"),
    (lambda: Degradation()(BYTES, generator=G), TypeError, "torch.uint8"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_bad_input_is_refused_and_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@operators
def test_operators_refuse_what_is_no_batch_of_float_images(operator):
    for call in (operator, operator.adjoint, *([operator.pinv] if hasattr(operator, "pinv") else [])):
        with pytest.raises(ValueError, match=r"images have shape \(4, 4\), expected \(B, C, H, W\)"):
            call(torch.zeros(4, 4))
        with pytest.raises(TypeError, match="images are torch.uint8, expected floating point"):
            call(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
