"""The shared blocks and the arithmetic of sizes: shapes, what blocks start as, and where checkerboards come from."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from imagegen.layers import (
    DenseResidualBlock,
    ResidualBlock,
    conv_size,
    downsample,
    overlap_count,
    receptive_field,
    resize_upsample,
    trace_sizes,
    transposed_size,
    upsample,
)

BLOCKS = {
    "convolution": (lambda: ResidualBlock(3, 5), (2, 3, 6, 4)),
    "convolution, as wide": (lambda: ResidualBlock(3), (2, 3, 6, 4)),
    "dense": (lambda: DenseResidualBlock(7), (4, 7)),
}


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("build", "shape"), BLOCKS.values(), ids=list(BLOCKS))
def test_a_residual_block_starts_as_the_identity(build, shape):
    block, x = build().double(), noise(*shape)
    assert block(x).equal(x)


@pytest.mark.parametrize(("build", "shape"), BLOCKS.values(), ids=list(BLOCKS))
def test_a_residual_block_adds_its_inner_part_and_can_leave_the_identity(build, shape):
    torch.manual_seed(0)
    block, x = build().double(), noise(*shape)
    block(x).square().sum().backward()
    last, first = block.inner[-1], block.inner[1]
    assert last.weight.grad.abs().max() > 0 and last.bias.grad.abs().max() > 0
    assert first.weight.grad.abs().max() == 0  # behind a layer of zeros until the first step
    with torch.no_grad():
        last.weight.copy_(torch.randn_like(last.weight))
    assert_close(block(x), x + block.inner(x))
    assert (block(x) - x).abs().max() > 0.1
    block.zero_grad()
    block(x).square().sum().backward()
    assert first.weight.grad.abs().max() > 0


def test_the_hidden_width_of_a_residual_block_is_its_own():
    assert ResidualBlock(3, 5).inner[1].weight.shape == (5, 3, 3, 3)
    assert ResidualBlock(3).inner[1].weight.shape == (3, 3, 3, 3)


def test_dropout_drops_its_share_while_training_and_nothing_after():
    torch.manual_seed(0)
    block = DenseResidualBlock(4000, dropout=0.25)
    with torch.no_grad():
        block.inner[1].weight.zero_()
        block.inner[1].bias.fill_(1.0)
        block.inner[-1].weight.copy_(torch.eye(4000))
    x = torch.zeros(10, 4000)
    dropped = (block(x) == 0).float().mean().item()
    assert abs(dropped - 0.25) < 4 * (0.25 * 0.75 / 40_000) ** 0.5
    assert block.eval()(x).unique().numel() == 1


@pytest.mark.parametrize("size", [(4, 6), (8, 2)])
def test_sizes_are_halved_and_doubled(size):
    x = torch.zeros(2, 3, *size)
    assert downsample(3, 5)(x).shape == (2, 5, size[0] // 2, size[1] // 2)
    assert upsample(3, 5)(x).shape == (2, 5, size[0] * 2, size[1] * 2)


def test_upsampling_gives_every_inner_pixel_the_same_number_of_terms():
    layer = upsample(1, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.zero_()
    inner = layer(torch.ones(1, 1, 5, 5))[..., 1:-1, 1:-1]
    assert inner.unique().tolist() == [4.0]


def test_upsampling_is_the_transpose_of_downsampling():
    down, up = downsample(2, 3).double(), upsample(3, 2).double()
    with torch.no_grad():
        up.weight.copy_(down.weight)
        for layer in (down, up):
            layer.bias.zero_()
    x, y = noise(1, 2, 6, 8), noise(1, 3, 3, 4)
    assert_close((down(x) * y).sum(), (x * up(y)).sum())


@pytest.mark.parametrize("size", [(4, 6), (1, 3)])
def test_resizing_and_convolving_doubles_too(size):
    assert resize_upsample(3, 5)(torch.zeros(2, 3, *size)).shape == (2, 5, size[0] * 2, size[1] * 2)


def test_resizing_repeats_each_pixel_before_it_convolves():
    """With a kernel that passes its middle on, each pixel comes back as a square of four."""
    layer, x = resize_upsample(1, 1).double(), noise(1, 1, 3, 2)
    with torch.no_grad():
        layer[1].weight.zero_()
        layer[1].weight[0, 0, 1, 1] = 1.0
        layer[1].bias.zero_()
    assert layer(x).equal(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


# ---- sizes -----------------------------------------------------------------------------------------------------


def size_or_error(rule, *arguments, **setting):
    try:
        return rule(*arguments, **setting)
    except (ValueError, RuntimeError):
        return "error"


def test_the_size_of_a_convolution_is_torchs_for_every_setting():
    """4,320 settings, those included that torch refuses."""
    refused, checked = 0, 0
    for size, kernel, stride, padding, dilation in itertools.product(
        range(1, 10), range(1, 7), range(1, 6), range(4), range(1, 5)
    ):
        setting = {"stride": stride, "padding": padding, "dilation": dilation}
        x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
        expected = size_or_error(lambda x=x, w=weight, s=setting: F.conv1d(x, w, **s).shape[-1])
        assert size_or_error(conv_size, size, kernel, **setting) == expected, (size, kernel, setting)
        refused, checked = refused + (expected == "error"), checked + 1
    assert checked == 4320 and 100 < refused < 2000


def test_the_size_of_a_transposed_convolution_is_torchs_for_every_setting():
    """Settings that torch refuses included. torch forgives an output of length 0 in some builds: we do not."""
    refused, checked = 0, 0
    for size, kernel, stride, padding, extra, dilation in itertools.product(
        range(1, 6), range(1, 6), range(1, 5), range(4), range(4), range(1, 4)
    ):
        setting = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation}
        x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
        expected = size_or_error(lambda x=x, w=weight, s=setting: F.conv_transpose1d(x, w, **s).shape[-1])
        expected = "error" if expected == 0 else expected
        assert size_or_error(transposed_size, size, kernel, **setting) == expected, (size, kernel, setting)
        refused, checked = refused + (expected == "error"), checked + 1
    assert checked == 4800 and 100 < refused < 3000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv_size(0, 3), "size is 0"),
        (lambda: conv_size(5, 0), "kernel is 0"),
        (lambda: conv_size(5, 3, stride=0), "stride is 0"),
        (lambda: conv_size(5, 3, padding=-1), "padding is -1"),
        (lambda: conv_size(5, 3, dilation=0), "dilation is 0"),
        (lambda: conv_size(4, 3, dilation=3, padding=1), "spans 7, the input of 4 with 1 at each end only 6"),
        (lambda: transposed_size(5, 3, stride=0), "stride is 0"),
        (lambda: transposed_size(5, 3, stride=2, output_padding=2), "output_padding is 2"),
        (lambda: transposed_size(5, 3, stride=2, output_padding=-1), "output_padding is -1"),
        (lambda: transposed_size(1, 2, padding=1), "the length 0"),
        (lambda: overlap_count(1, 2, padding=1), "the length 0"),
        (lambda: receptive_field([(3, 0, 1)]), "stride is 0"),
        (lambda: receptive_field([(3, 1, 0)]), "dilation is 0"),
    ],
)
def test_a_setting_without_sense_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("output_padding", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_the_overlap_is_counted_as_torch_adds_ones(output_padding, dilation):
    """A transposed convolution of ones by ones counts: one term of 1 from each input that reaches an output."""
    for size, kernel, stride, padding in itertools.product((1, 4, 7), (2, 3, 4, 6), (2, 3), (0, 1, 2)):
        setting = {
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "dilation": dilation,
        }
        x, weight = torch.ones(1, 1, size), torch.ones(1, 1, kernel)
        if size_or_error(transposed_size, size, kernel, **setting) == "error":
            continue
        expected = F.conv_transpose1d(x, weight, **setting)[0, 0].long()
        assert overlap_count(size, kernel, **setting).equal(expected), (size, kernel, setting)


def test_the_receptive_field_is_where_the_gradient_arrives():
    """Positive weights let no path cancel: the inputs with a gradient are those that one output sees."""
    for stack in (
        [(3, 1, 1)],
        [(3, 1, 1), (3, 1, 1)],
        [(4, 2, 1), (4, 2, 1), (3, 1, 1)],
        [(3, 2, 1), (3, 1, 4), (5, 3, 1)],
        [(1, 2, 1), (2, 1, 2)],
    ):
        layers = [nn.Conv1d(1, 1, k, stride=s, dilation=d, bias=False) for k, s, d in stack]
        for layer in layers:
            nn.init.ones_(layer.weight)
        x = torch.zeros(1, 1, 101, requires_grad=True)
        y = nn.Sequential(*layers)(x)
        y[0, 0, y.shape[-1] // 2].backward()
        touched = x.grad[0, 0].nonzero().flatten()
        assert touched[-1] - touched[0] + 1 == receptive_field(stack), stack
    assert receptive_field([]) == 1


def test_tracing_gives_the_sizes_that_the_layers_give():
    network = nn.Sequential(
        nn.ConvTranspose2d(2, 3, (4, 3), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
        nn.BatchNorm2d(3),
        nn.SiLU(),
        ResidualBlock(3),
        resize_upsample(3, 2),
        nn.Conv2d(2, 4, (5, 3), stride=(3, 2), padding=(2, 1), dilation=(1, 2)),
        nn.Upsample(scale_factor=(3, 2)),
        nn.Sequential(),
        downsample(4, 1),
    )
    x, sizes = torch.zeros(1, 2, 5, 4), []
    for layer in network:
        x = layer(x)
        sizes.append(tuple(x.shape[2:]))
    assert trace_sizes(network, (5, 4)) == sizes


def test_tracing_names_the_layer_that_does_not_fit():
    network = nn.Sequential(downsample(1, 2), nn.ReLU(), nn.Conv2d(2, 2, 7))
    assert trace_sizes(network, (16, 16))[-1] == (2, 2)
    with pytest.raises(ValueError, match="layer 2, Conv2d.* gets 4 x 6: a kernel of 7"):
        trace_sizes(network, (8, 12))
    for layer in (nn.Linear(3, 3), nn.Conv2d(1, 1, 3, padding="same"), nn.Upsample(size=(4, 4))):
        with pytest.raises(TypeError, match="is not known here"):
            trace_sizes([layer], (4, 4))
