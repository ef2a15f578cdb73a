"""The 256-level likelihood: counts by hand, a table that no other beats, and a code whose lengths are honest."""

import math

import pytest
import scipy.stats
import torch
from torch.testing import assert_close

from imagegen.metrics import level_counts, level_nll, level_table

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def drawn(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pixels in [0, 1] and levels that are noisily like them."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(*shape, generator=generator)
    noise = 20 * torch.randn(*shape, generator=generator)
    return pixels, (pixels * 255 + noise).round().clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def table():
    return level_table(level_counts(*drawn(40, 1, 16, 16)))


def test_counts_are_those_of_a_loop_over_pixels():
    pixels, levels = drawn(3, 2, 5, 7)
    by_hand: dict[tuple[int, int], int] = {}
    for pixel, level in zip(pixels.flatten().tolist(), levels.flatten().tolist(), strict=True):
        cell = (math.floor(pixel * 256), level)
        by_hand[cell] = by_hand.get(cell, 0) + 1
    found = level_counts(pixels, levels)
    assert found.dtype == torch.int64 and found.shape == (256, 256)
    assert {tuple(cell): found[tuple(cell)].item() for cell in found.nonzero().tolist()} == by_hand


def test_a_row_begins_at_its_own_edge_and_one_belongs_to_the_last():
    edges = torch.arange(257, dtype=torch.float64) / 256
    below = torch.nextafter(edges[1:], torch.tensor(0.0, dtype=torch.float64))
    levels = torch.zeros(256, dtype=torch.uint8)
    assert level_counts(edges[:-1], levels)[:, 0].tolist() == [1] * 256
    assert level_counts(below, levels)[:, 0].tolist() == [1] * 256
    assert level_counts(torch.ones(3), levels[:3])[255, 0] == 3


def test_counts_of_parts_add_up_from_zeros():
    pixels, levels = drawn(10, 1, 4, 4)
    total = level_counts()
    assert total.dtype == torch.int64 and total.shape == (256, 256) and not total.any()
    for part in range(0, 10, 3):
        total += level_counts(pixels[part : part + 3], levels[part : part + 3])
    assert total.equal(level_counts(pixels, levels))


def test_the_table_holds_the_shares_of_each_row_and_is_normalised():
    counts = torch.zeros(256, 256, dtype=torch.int64)
    counts[3, 10], counts[3, 200], counts[9, 0] = 6, 2, 1000
    for smoothing in (1.0, 0.01):
        found = level_table(counts, smoothing=smoothing).exp()
        assert_close(found.sum(1), torch.ones(256, dtype=torch.float64), **EXACT)
        each = smoothing / 256
        assert_close(found[3, 10].item(), (6 + each) / (8 + smoothing), **EXACT)
        assert_close(found[3, 200].item(), (2 + each) / (8 + smoothing), **EXACT)
        assert_close(found[3, 7].item(), each / (8 + smoothing), **EXACT)
        assert_close(found[9, 0].item(), (1000 + each) / (1000 + smoothing), **EXACT)
        assert_close(found[100], torch.full((256,), 1 / 256, dtype=torch.float64), **EXACT)  # never shown
    plain = level_table(counts)
    assert plain.isfinite().all() and plain.equal(level_table(counts, smoothing=1.0))


def test_no_other_table_describes_the_counted_images_in_fewer_nats():
    """Maximum likelihood: whatever moves a row's probabilities about, the counted images' likelihood falls."""
    pixels, levels = drawn(20, 1, 16, 16)
    counts = level_counts(pixels, levels)
    best = level_table(counts, smoothing=1e-9)
    least = level_nll(best, pixels, levels).sum()
    generator = torch.Generator().manual_seed(1)
    for size in (0.01, 0.1, 1.0):
        moved = best.clamp(min=-30) + size * torch.randn(256, 256, generator=generator, dtype=torch.float64)
        assert level_nll(moved.log_softmax(1), pixels, levels).sum() > least + 0.1 * size**2
    # and the least is the entropy of the levels given the value shown, found by SciPy
    rows = counts[counts.sum(1) > 0]
    entropies = torch.as_tensor(scipy.stats.entropy(rows.numpy(), axis=1))
    assert_close(least, (rows.sum(1) * entropies).sum(), rtol=1e-6, atol=1e-6)


def test_the_nll_is_summed_over_an_image_and_never_negative(table):
    pixels, levels = drawn(5, 3, 4, 2, seed=2)
    found = level_nll(table, pixels, levels)
    assert found.shape == (5,) and (found >= 0).all()
    for image in range(5):
        by_hand = 0.0
        for pixel, level in zip(
            pixels[image].flatten().tolist(), levels[image].flatten().tolist(), strict=True
        ):
            by_hand -= table[int(pixel * 256), level].item()
        assert_close(found[image].item(), by_hand, **EXACT)


def test_a_code_length_counted_by_hand():
    """Where 0.5 was shown, level 7 came three times of four: an image of two 7s and another costs -2 log2 3/4 + 2."""
    counts = torch.zeros(256, 256, dtype=torch.int64)
    counts[128, 7], counts[128, 9] = 3, 1
    table = level_table(counts, smoothing=1e-12)
    levels = torch.tensor([[7, 7, 9], [9, 9, 9]], dtype=torch.uint8)
    bits = level_nll(table, torch.full((2, 3), 0.5), levels) / math.log(2)
    assert_close(bits, torch.tensor([2 - 2 * math.log2(3 / 4), 6.0], dtype=torch.float64), rtol=1e-9, atol=0)


def test_the_code_is_honest(table):
    """The probabilities of all levels that a pixel can have add up to 1, and so do those of all images of 2 pixels."""
    for value in (0.0, 0.25, 0.5037, 1.0):
        levels = torch.arange(256, dtype=torch.uint8)[:, None]
        total = torch.exp(-level_nll(table, torch.full((256, 1), value), levels)).sum().item()
        assert_close(total, 1.0, **EXACT)
    pairs = torch.cartesian_prod(*[torch.arange(256, dtype=torch.uint8)] * 2)  # (65536, 2)
    shown = torch.tensor([[0.1, 0.9]]).expand(len(pairs), -1)
    assert_close(torch.exp(-level_nll(table, shown, pairs)).sum().item(), 1.0, rtol=1e-9, atol=0)


def test_an_image_that_was_never_counted_has_a_finite_length():
    nothing = level_table(level_counts())
    _, levels = drawn(4, 1, 3, 3)
    found = level_nll(nothing, torch.rand(4, 1, 3, 3), levels)
    assert_close(found, torch.full((4,), 9 * math.log(256), dtype=torch.float64), **EXACT)


@pytest.mark.parametrize(
    ("pixels", "levels", "error", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3), TypeError, "levels are torch.float32, expected uint8"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), TypeError, "torch.int64"),
        (
            torch.zeros(2, 3),
            torch.zeros(2, 1, dtype=torch.uint8),
            ValueError,
            r"\(2, 3\) and levels \(2, 1\)",
        ),
        (-0.1 * torch.ones(2), torch.zeros(2, dtype=torch.uint8), ValueError, r"span \[-0.1, -0.1\]"),
        (1.5 * torch.ones(2), torch.zeros(2, dtype=torch.uint8), ValueError, r"1.5\], expected \[0, 1\]"),
        (torch.nan * torch.ones(2), torch.zeros(2, dtype=torch.uint8), ValueError, r"span \[nan"),
    ],
)
def test_pixels_and_levels_that_are_none_are_refused(table, pixels, levels, error, message):
    for use in (level_counts, lambda *pair: level_nll(table, *pair)):
        with pytest.raises(error, match=message):
            use(pixels, levels)


def test_pixels_without_levels_and_levels_without_pixels_are_no_zeros():
    """Only without both is there nothing to count: a table of zeros would pass for the counts of an empty part."""
    assert level_counts().sum() == 0
    with pytest.raises(ValueError, match="levels are missing: give both, or neither"):
        level_counts(torch.ones(2))
    with pytest.raises(ValueError, match="pixels are missing: give both, or neither"):
        level_counts(levels=torch.zeros(2, dtype=torch.uint8))


def test_a_table_of_other_counts_is_refused():
    with pytest.raises(ValueError, match=r"counts \(256, 255\)"):
        level_table(torch.zeros(256, 255))
    for smoothing in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"smoothing {smoothing}, expected"):
            level_table(level_counts(), smoothing=smoothing)
