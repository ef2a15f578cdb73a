"""The shared blocks: shapes, what they start as, and why the up-convolution leaves no checkerboard."""

import pytest
import torch
from torch.testing import assert_close

from imagegen.layers import DenseResidualBlock, ResidualBlock, downsample, upsample

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
