"""The operators of a style-based network: each against its definition written out, with values and gradients."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, leaky_relu, pad
from torch.testing import assert_close

from imagegen.stylegan import (
    EqualConv2d,
    EqualLinear,
    activated,
    demodulation,
    filtered,
    modulated_conv2d,
    with_spread,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}
FORMS = ["activations", "weights"]
WIDTHS = [2, 50, 800]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


# ---- filtered resampling ---------------------------------------------------------------------------------------


def matrix(n: int, up: int, down: int, before: int, behind: int) -> Tensor:
    """Return what resampling does along one axis of n pixels, (m, n): zeros put between, a margin, 1 3 3 1, thinning.

    It is filled in number by number from the definition.
    """
    taps = [up * tap / 8 for tap in (1, 3, 3, 1)]
    m = (up * n + before + behind - 3 + down - 1) // down
    rows = torch.zeros(m, n, dtype=torch.float64)
    for out in range(m):
        for k, tap in enumerate(taps):
            place = out * down + k - before
            if 0 <= place < up * n and place % up == 0:
                rows[out, place // up] += tap
    return rows


SETTINGS = {  # of `filtered`: its arguments, and the margin before and behind
    "up": ({"up": 2}, (2, 1)),
    "down": ({"down": 2}, (1, 1)),
    "neither": ({}, (1, 2)),
    "neither, one more": ({"pad": (2, 2)}, (2, 2)),
    "neither, one less": ({"pad": (1, 1)}, (1, 1)),
    "down, another margin": ({"down": 2, "pad": (2, 3)}, (2, 3)),
}


@pytest.mark.parametrize(("setting", "margin"), SETTINGS.values(), ids=list(SETTINGS))
@pytest.mark.parametrize("size", [(6, 8), (8, 4)])
def test_filtering_is_one_matrix_for_each_axis(setting, margin, size):
    x = normal(2, 3, *size)
    up, down = setting.get("up", 1), setting.get("down", 1)
    rows, columns = (matrix(n, up, down, *margin) for n in size)
    assert_close(filtered(x, **setting), rows @ x @ columns.T, **EXACT)


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_filtering_keeps_the_size_or_halves_or_doubles_it_and_the_type(up, down):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        found = filtered(torch.zeros(2, 3, 6, 8, dtype=dtype), up=up, down=down)
        assert found.shape == (2, 3, 6 * up // down, 8 * up // down) and found.dtype == dtype


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_a_constant_image_stays_that_constant_but_near_the_edge(up, down):
    found = filtered(torch.full((1, 2, 8, 8), 0.7, dtype=torch.float64), up=up, down=down)
    assert_close(found[..., 2:-2, 2:-2], torch.full_like(found[..., 2:-2, 2:-2], 0.7), **EXACT)
    assert (found[..., 0, :] < 0.69).all()  # outside there are zeros


@pytest.mark.parametrize(("up", "down"), [(2, 1), (1, 2)])
def test_resampling_keeps_the_mean(up, down):
    x = pad(normal(2, 3, 6, 6), (2, 2, 2, 2))  # nothing is lost over the edge
    assert_close(filtered(x, up=up, down=down).mean((2, 3)), x.mean((2, 3)), **EXACT)


def test_down_is_the_transpose_of_up():
    x, y = normal(1, 2, 6, 4), normal(1, 2, 12, 8, seed=1)
    assert_close((filtered(x, up=2) * y).sum(), 4 * (x * filtered(y, down=2)).sum(), **EXACT)


def test_resampling_shifts_nothing():
    """A ramp whose value is where it lies, in pixels of its own grid, whose centres are at 1/2, 3/2, ..."""
    ramp = (torch.arange(10, dtype=torch.float64) + 0.5).expand(1, 1, 10, 10)
    inner = (..., slice(3, -3), slice(3, -3))
    doubled, halved = filtered(ramp, up=2), filtered(ramp, down=2)
    assert_close(doubled[inner], ((torch.arange(20) + 0.5) / 2).expand(1, 1, 20, 20)[inner].double(), **EXACT)
    assert_close(halved[..., 1:-1, 1:-1].mean((0, 1, 2)), torch.tensor([3.0, 5, 7]).double(), **EXACT)
    assert_close(filtered(doubled, down=2)[inner], ramp[inner], **EXACT)
    x = normal(1, 2, 8, 8)
    for setting in ({"up": 2}, {"down": 2}):
        assert_close(filtered(x.flip(3), **setting), filtered(x, **setting).flip(3), **EXACT)
        assert_close(filtered(x.mT, **setting), filtered(x, **setting).mT, **EXACT)


def test_the_filter_takes_out_what_the_coarse_grid_cannot_hold():
    board = (-1.0) ** (torch.arange(12)[:, None] + torch.arange(12)).expand(1, 1, 12, 12)
    assert filtered(board, down=2)[..., 1:-1, 1:-1].abs().max() < 1e-6
    assert (
        filtered(torch.ones(1, 1, 6, 6), up=2)[..., 1:-1, 1:-1].std() < 1e-6
    )  # of zeros put between, none is left


@pytest.mark.parametrize(("up", "down"), [(2, 2), (3, 1), (1, 4), (0, 1)])
def test_other_factors_are_refused(up, down):
    with pytest.raises(
        ValueError, match=f"up is {up} and down is {down}, expected 1 and 1, 2 and 1, or 1 and 2"
    ):
        filtered(torch.zeros(1, 1, 8, 8), up=up, down=down)


# ---- modulated convolution -------------------------------------------------------------------------------------


def widened(x: Tensor, kernel: Tensor) -> Tensor:
    """Zeros put between the pixels, a convolution (C', C, k, k), the blur, all on one wide canvas."""
    height, width = x.shape[2:]
    canvas = x.new_zeros(len(x), x.shape[1], 2 * height + 8, 2 * width + 8)
    canvas[..., 4:-4:2, 4:-4:2] = x
    first = 2 - kernel.shape[-1] // 2  # so that the middle of four equal pixels stays where it was
    axis = x.new_tensor([1, 3, 3, 1]) / 4  # sums to 2, for the zeros
    blur = torch.outer(axis, axis).expand(len(kernel), 1, 4, 4)
    out = conv2d(conv2d(canvas, kernel), blur, groups=len(kernel))
    return out[..., first : first + 2 * height, first : first + 2 * width]


def by_the_book(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool) -> Tensor:
    """Equations 1 and 3 of arXiv:1912.04958, image by image."""
    images = []
    for image, s in zip(x, style):
        kernel = weight * s[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        padding = weight.shape[-1] // 2
        images.append(widened(image[None], kernel) if up else conv2d(image[None], kernel, padding=padding))
    return torch.cat(images)


def operands(kernel: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    x, weight, style = normal(3, 4, 6, 5), normal(5, 4, kernel, kernel, seed=1), normal(3, 4, seed=2)
    return x.requires_grad_(), weight.requires_grad_(), style.requires_grad_()


@pytest.mark.parametrize(
    ("up", "kernel"), [(False, 3), (True, 3), (False, 1), (True, 1), (False, 5), (True, 5)]
)
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_modulated_convolution_is_a_loop_over_images_in_values_and_gradients(form, demodulate, up, kernel):
    inputs = operands(kernel)
    found = modulated_conv2d(*inputs, demodulate=demodulate, up=up, form=form)
    expected = by_the_book(*inputs, demodulate, up)
    assert found.shape == (3, 5, *((12, 10) if up else (6, 5)))
    assert_close(found, expected, **EXACT)
    towards = normal(*found.shape, seed=3)
    for mine, theirs in zip(*(torch.autograd.grad(y, inputs, towards) for y in (found, expected))):
        assert_close(mine, theirs, **EXACT)


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
def test_its_two_forms_are_one(demodulate, up):
    inputs = operands()
    mine, theirs = (modulated_conv2d(*inputs, demodulate=demodulate, up=up, form=form) for form in FORMS)
    assert_close(mine, theirs, **EXACT)
    towards = normal(*mine.shape, seed=3)
    for a, b in zip(*(torch.autograd.grad(y.square(), inputs, towards) for y in (mine, theirs))):
        assert_close(a, b, **EXACT)
    assert mine.grad_fn is not None and modulated_conv2d(*inputs).equal(
        modulated_conv2d(*inputs, form=FORMS[0])
    )


def test_demodulation_is_one_over_the_root_of_the_summed_squares():
    _, weight, style = operands()
    found = demodulation(weight, style)
    assert found.shape == (3, 5)
    for b in range(3):
        for o in range(5):
            total = sum((style[b, i] * weight[o, i]).square().sum() for i in range(4))
            assert_close(found[b, o], 1 / (total + 1e-8).sqrt(), **EXACT)


@pytest.mark.parametrize("form", FORMS)
def test_demodulation_gives_back_the_variance_of_independent_inputs(form):
    """One style for 20,000 draws; what is looked at is the one place that sees no padding. 4.5 standard errors."""
    n = 20_000
    x = normal(n, 4, 3, 3, dtype=torch.float32)
    _, weight, style = (operand.detach().float() for operand in operands())
    for row in style:
        with torch.no_grad():
            kept = modulated_conv2d(x, weight, row.expand(n, -1), form=form)[:, :, 1, 1].var(0)
            left = modulated_conv2d(x, weight, row.expand(n, -1), form=form, demodulate=False)[
                :, :, 1, 1
            ].var(0)
        assert (kept - 1).abs().max() < 4.5 * math.sqrt(2 / n) < 0.05
        assert (left - 1).abs().min() > 0.5  # it does something


def test_demodulation_takes_the_size_of_a_style_away_and_leaves_its_direction():
    x, weight, style = operands()
    once, thrice = modulated_conv2d(x, weight, style), modulated_conv2d(x, weight, 3 * style)
    assert_close(once, thrice, rtol=1e-6, atol=1e-8)
    bent = style * torch.tensor([1.0, 1, 1, 3])
    assert (modulated_conv2d(x, weight, bent) - once).abs().max() > 0.1
    free = modulated_conv2d(x, weight, style, demodulate=False)
    assert_close(modulated_conv2d(x, weight, 3 * style, demodulate=False), 3 * free, **EXACT)


def test_a_modulation_that_cannot_be_is_refused():
    x, weight, style = operands()
    for wrong in (style[:2], style[:, :3], style[0], style[..., None]):
        with pytest.raises(ValueError, match=r"style has shape .*, expected \(3, 4\)"):
            modulated_conv2d(x, weight, wrong)
    with pytest.raises(ValueError, match="form is 'both', expected 'activations' or 'weights'"):
        modulated_conv2d(x, weight, style, form="both")
    for kernel, up in ((2, False), (4, True), (7, True)):
        with pytest.raises(ValueError, match=f"the kernel is {kernel} wide, expected an odd number"):
            modulated_conv2d(x, torch.ones(5, 4, kernel, kernel, dtype=x.dtype), style, up=up)
    assert modulated_conv2d(x, torch.ones(5, 4, 7, 7, dtype=x.dtype), style).shape[2:] == x.shape[2:]


@pytest.mark.parametrize("stride", [0, 3, 4])
def test_a_stride_that_no_filter_fits_is_refused(stride):
    with pytest.raises(ValueError, match=f"stride is {stride}, expected 1 or 2"):
        EqualConv2d(3, 4, 3, stride=stride)


# ---- equalised layers ------------------------------------------------------------------------------------------


def effective(layer: EqualLinear | EqualConv2d) -> Tensor:
    """Return the weights that inputs really meet, (C', fan-in), read off from the outputs."""
    with torch.no_grad():
        if isinstance(layer, EqualLinear):
            return (layer(torch.eye(layer.weight.shape[1]).to(layer.weight)) - layer.bias * layer.rate).T
        n_in, k = layer.weight.shape[1:3]
        impulses = torch.eye(n_in * k * k).to(layer.weight).view(-1, n_in, k, k)
        return (layer(impulses)[:, :, k // 2, k // 2] - layer.bias).T


@pytest.mark.parametrize("rate", [1.0, 0.01])
@pytest.mark.parametrize("width", WIDTHS)
def test_an_equalised_layer_starts_with_outputs_of_variance_1(width, rate):
    """Whatever the width and the rate; weights and inputs are independent draws. 4.5 standard errors."""
    torch.manual_seed(7)
    layer = EqualLinear(width, 600, rate=rate)
    with torch.no_grad():
        found = layer(normal(4000, width, dtype=torch.float32))
    error = math.sqrt(2 / (600 * width)) + math.sqrt(2 / (4000 * min(width, 600)))
    assert abs(found.square().mean().item() - 1) < 4.5 * error < 0.26
    raw = layer.weight.detach()
    assert abs(raw.std().item() * rate - 1) < 4.5 / math.sqrt(2 * raw.numel())


@pytest.mark.parametrize(("n_in", "kernel"), [(3, 3), (40, 3), (60, 1)])
def test_an_equalised_convolution_starts_with_outputs_of_variance_1(n_in, kernel):
    torch.manual_seed(7)
    layer, x = EqualConv2d(n_in, 300, kernel), normal(300, n_in, kernel, kernel, dtype=torch.float32)
    with torch.no_grad():
        found = layer(x)[:, :, kernel // 2, kernel // 2]
    fan_in = n_in * kernel**2
    assert abs(found.var().item() - 1) < 9 * math.sqrt(2 / (300 * min(fan_in, 300)))
    assert abs(layer.weight.std().item() - 1) < 4.5 / math.sqrt(2 * layer.weight.numel())


def test_an_equalised_layer_is_affine_and_starts_where_it_is_told():
    for rate in (1.0, 0.01):
        layer, x = EqualLinear(7, 4, rate=rate, start=1.5).double(), normal(5, 7)
        assert_close(layer(torch.zeros(2, 7).double()), torch.full((2, 4), 1.5).double(), rtol=1e-6, atol=0)
        assert_close(layer(x), x @ layer.weight.T * rate / math.sqrt(7) + layer.bias * rate, **EXACT)
    assert (EqualLinear(7, 4).bias == 0).all()


@pytest.mark.parametrize("rate", [1.0, 0.01])
@pytest.mark.parametrize("width", WIDTHS)
def test_adams_first_step_is_the_rate_over_the_root_of_the_inputs(width, rate):
    """A plain layer would move by lr whatever its width, and one of 800 inputs by 28 times its weights' scale."""
    torch.manual_seed(7)
    layer = EqualLinear(width, 3, rate=rate).double()
    adam, before = torch.optim.Adam(layer.parameters(), lr=0.002), effective(layer)
    bias = layer(torch.zeros(1, width).double())[0].detach()
    (1e6 * layer(normal(5, width)) * normal(5, 3, seed=1)).sum().backward()  # large beside Adam's epsilon
    adam.step()
    moved = (effective(layer) - before).abs()
    assert_close(moved, torch.full_like(moved, 0.002 * rate / math.sqrt(width)), rtol=1e-6, atol=0)
    drift = (layer(torch.zeros(1, width).double())[0] - bias).abs()
    assert_close(drift, torch.full_like(drift, 0.002 * rate), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("n_in", "kernel"), [(2, 3), (40, 3), (9, 1)])
def test_adams_first_step_on_a_convolution_too(n_in, kernel):
    torch.manual_seed(7)
    layer = EqualConv2d(n_in, 3, kernel).double()
    adam, before = torch.optim.Adam(layer.parameters(), lr=0.002), effective(layer)
    (1e6 * layer(normal(2, n_in, 4, 4)) * normal(2, 3, 4, 4, seed=1)).sum().backward()
    adam.step()
    moved = (effective(layer) - before).abs()
    assert_close(moved, torch.full_like(moved, 0.002 / math.sqrt(n_in * kernel**2)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (1, 1), (5, 1), (3, 2), (1, 2)])
def test_an_equalised_convolution_is_a_plain_one_of_scaled_weights_behind_the_filter(kernel, stride, bias):
    torch.manual_seed(7)
    layer, x = EqualConv2d(3, 4, kernel, stride=stride, bias=bias).double(), normal(2, 3, 8, 6)
    if bias:
        torch.nn.init.normal_(layer.bias)
    else:
        assert layer.bias is None
    weight = layer.weight / math.sqrt(3 * kernel**2)
    if stride == 1:
        expected = conv2d(x, weight, layer.bias, padding=kernel // 2)
    else:  # zeros outside the image, of the filter and of the kernel, on either side
        margin = 1 + kernel // 2
        rows, columns = (matrix(n, 1, 1, margin, margin) for n in (8, 6))
        expected = conv2d(rows @ x @ columns.T, weight, layer.bias, stride=2)
    assert layer(x).shape == (2, 4, 8 // stride, 6 // stride)
    assert_close(layer(x), expected, **EXACT)


@pytest.mark.parametrize("kernel", [3, 1])
def test_a_strided_convolution_shifts_nothing(kernel):
    """Of an even side it sees the left as its mirror image sees the right."""
    torch.manual_seed(7)
    layer, mirrored = (EqualConv2d(2, 3, kernel, stride=2).double() for _ in range(2))
    mirrored.weight.data = layer.weight.data.flip(3)
    x = normal(1, 2, 8, 8)
    assert_close(mirrored(x.flip(3)), layer(x).flip(3), **EXACT)


def test_the_rectifier_keeps_the_mean_square():
    x = normal(1001)
    assert_close(activated(x), leaky_relu(x, 0.2) * math.sqrt(2), **EXACT)
    places = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    density = torch.exp(-places.square() / 2) / math.sqrt(2 * math.pi)
    assert torch.trapezoid(density * activated(places).square(), places).item() == pytest.approx(1.04)


# ---- the spread of a group -------------------------------------------------------------------------------------


def spread_by_loops(x: Tensor, size: int) -> list[float]:
    """The images i, i + n, i + 2n, ... are one of the n groups of `size`."""
    n = len(x) // size
    found = []
    for i in range(len(x)):
        members = [x[j] for j in range(len(x)) if j % n == i % n]
        assert len(members) == size
        middle = sum(members) / size
        variance = sum((member - middle) ** 2 for member in members) / size
        found.append((variance + 1e-8).sqrt().mean().item())
    return found


@pytest.mark.parametrize(
    ("batch", "group", "size"),
    [(8, 4, 4), (12, 4, 4), (6, 4, 3), (9, 4, 3), (5, 4, 1), (5, 8, 5), (2, 4, 2), (1, 4, 1), (4, 1, 1)],
)
def test_the_spread_is_a_loop_over_groups(batch, group, size):
    x = normal(batch, 3, 4, 5)
    found = with_spread(x, group)
    assert found.shape == (batch, 4, 4, 5) and found[:, :3].equal(x)
    expected = torch.tensor(spread_by_loops(x, size), dtype=torch.float64)
    assert_close(found[:, 3], expected[:, None, None].expand(-1, 4, 5), **EXACT)
    assert (expected > 0.5).all() if size > 1 else (expected < 1.01e-4).all()


def test_images_that_are_alike_have_no_spread():
    x = normal(1, 3, 4, 4).expand(8, -1, -1, -1)
    assert with_spread(x)[:, 3].max() < 1.01e-4
    assert with_spread(x + 0.1 * normal(8, 3, 4, 4, seed=1))[:, 3].min() > 0.05


def test_an_image_is_seen_by_its_group_and_by_no_other():
    x = normal(8, 3, 4, 4)
    other = x.clone()
    other[1] += 1
    moved = (with_spread(other)[:, 3] != with_spread(x)[:, 3]).flatten(1).any(1)
    assert moved.tolist() == [i % 2 == 1 for i in range(8)]
    lone = normal(4, 1, 1, 1).double().requires_grad_()
    (gradient,) = torch.autograd.grad(with_spread(lone)[0, 1].sum(), lone)
    assert (gradient.abs() > 1e-3).all()  # each of the group


def test_the_spread_has_a_gradient_even_where_it_is_0():
    x = normal(4, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: with_spread(x, 2), x)
    assert torch.autograd.gradgradcheck(lambda x: with_spread(x, 2), x)
    same = torch.ones(4, 2, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(with_spread(same).sum(), same)
    assert gradient.isfinite().all()
