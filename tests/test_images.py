"""The range contract: what each conversion returns, what it refuses, and pictures that survive the disk."""

import math
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from imagegen import images

LEVELS = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def pictures(n: int, channels: int = 1, height: int = 3, width: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, channels, height, width), generator=generator, dtype=torch.uint8)


# ---- conversions -----------------------------------------------------------------------------------------------


def test_to_float_maps_the_levels_evenly_onto_minus_one_to_one():
    x = images.to_float(LEVELS)
    assert x.dtype == torch.float32 and x.shape == LEVELS.shape
    expected = torch.tensor([k / 127.5 - 1 for k in range(256)]).reshape(LEVELS.shape)
    assert_close(x, expected, rtol=0, atol=1e-7)
    assert (x.min().item(), x.max().item()) == (-1.0, 1.0)


def test_to_float_leaves_its_input_alone():
    before = LEVELS.clone()
    images.to_float(LEVELS)
    assert LEVELS.equal(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_every_level_survives_the_round_trip(dtype):
    assert images.to_uint8(images.to_float(LEVELS).to(dtype)).equal(LEVELS)


def test_to_uint8_rounds_to_the_nearest_level_and_allows_for_rounding_at_the_ends():
    level = images.to_float(torch.tensor([10], dtype=torch.uint8))
    assert images.to_uint8(level + 0.4 / 127.5).item() == 10
    assert images.to_uint8(level + 0.6 / 127.5).item() == 11
    assert images.to_uint8(torch.tensor([-1.0009, 1.0009])).tolist() == [0, 255]


def test_unit_and_signed_range_are_inverse():
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    p = images.to_unit(x)
    assert (p[0].item(), p[50].item(), p[100].item()) == (0.0, 0.5, 1.0)
    assert_close(p, (x + 1) / 2)
    assert_close(images.from_unit(p), x)
    assert images.to_unit(images.to_float(LEVELS)).min() >= 0
    assert images.to_unit(images.to_float(LEVELS)).max() <= 1


@pytest.mark.equation("images-dequantisation", tolerance="5 standard errors")
def test_dequantise_spreads_each_level_evenly_over_its_own_cell():
    """The noise stays in the cell, has mean 0, the variance of a uniform one, and no pixel's noise is another's."""
    picture = torch.arange(256, dtype=torch.uint8).repeat(2000, 1)
    x = images.dequantise(picture, generator=torch.Generator().manual_seed(0))
    noise = (x - images.to_float(picture)).double() * 127.5
    assert x.dtype == torch.float32 and noise.abs().max() <= 0.5 + 1e-4 and noise.abs().max() > 0.499
    n = noise.numel()
    assert abs(noise.mean().item()) < 5 * (1 / 12 / n) ** 0.5
    assert abs(noise.square().mean().item() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    assert abs((noise[:, 1:] * noise[:, :-1]).mean().item()) < 5 / 12 / n**0.5
    back = images.to_uint8(x.clamp(-1, 1))  # but for noise within float32's rounding of an edge
    assert back.ne(picture).double().mean() < 1e-4


def test_dequantise_follows_its_generator_and_refuses_floats():
    a, b = (images.dequantise(pictures(2), generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert a.equal(b)
    with pytest.raises(TypeError, match="expected uint8 images, got torch.float32"):
        images.dequantise(torch.zeros(2, 2))


def test_the_conversions_pass_gradients():
    x = torch.tensor([0.1, -0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(images.to_unit, x)
    p = torch.tensor([0.1, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(images.from_unit, p)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: images.to_float(torch.zeros(2)), TypeError, "expected uint8 images, got torch.float32"),
        (lambda: images.to_float(torch.zeros(2).long()), TypeError, "torch.int64"),
        (lambda: images.to_uint8(LEVELS), TypeError, r"\[-1, 1\], got torch.uint8"),
        (lambda: images.to_uint8(torch.tensor([-1.0, 3.0])), ValueError, r"span \[-1, 3\].*\[-1, 1\]"),
        (lambda: images.to_uint8(torch.tensor([-1.01, 0.0])), ValueError, r"-1\.01"),
        (lambda: images.to_uint8(torch.tensor([0.0, math.nan])), ValueError, "nan"),
        (lambda: images.to_uint8(torch.tensor([0.0, math.inf])), ValueError, "inf"),
        (lambda: images.to_unit(LEVELS), TypeError, "torch.uint8"),
        (lambda: images.from_unit(LEVELS), TypeError, r"\[0, 1\], got torch.uint8"),
        (lambda: images.from_unit(torch.tensor([-1.0, 1.0])), ValueError, r"span \[-1, 1\].*\[0, 1\]"),
        (lambda: images.from_unit(torch.tensor([math.nan])), ValueError, "nan"),
    ],
)
def test_what_is_not_in_range_is_refused_and_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_empty_batch_converts_to_an_empty_batch():
    assert images.to_uint8(torch.zeros(0, 1, 2, 2)).shape == (0, 1, 2, 2)


# ---- grids -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "columns", "pad"), [(5, 3, 2), (6, 3, 0), (1, 8, 1), (4, 1, 3)])
def test_a_grid_shows_the_images_row_by_row_in_a_white_frame(n, columns, pad):
    batch = pictures(n, 3)
    sheet = images.grid(batch, columns, pad)
    across, down = min(columns, n), math.ceil(n / min(columns, n))
    assert sheet.shape == (3, down * (3 + pad) + pad, across * (4 + pad) + pad) and sheet.dtype == torch.uint8
    rest = torch.ones(sheet.shape[1:], dtype=torch.bool)
    for i in range(n):
        row, column = divmod(i, across)
        rows = slice(pad + row * (3 + pad), pad + row * (3 + pad) + 3)
        columns_ = slice(pad + column * (4 + pad), pad + column * (4 + pad) + 4)
        assert sheet[:, rows, columns_].equal(batch[i])
        rest[rows, columns_] = False
    assert (sheet[:, rest] == 255).all()


def test_a_grid_of_floats_is_framed_with_one():
    sheet = images.grid(torch.full((2, 1, 2, 2), -1.0))
    assert sheet.dtype == torch.float32 and sheet[0, 0, 0] == 1.0 and sheet[0, 2, 2] == -1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: images.grid(torch.zeros(1, 2, 2)), r"\(N, C, H, W\) with N >= 1, got \(1, 2, 2\)"),
        (lambda: images.grid(torch.zeros(0, 1, 2, 2)), r"got \(0, 1, 2, 2\)"),
        (lambda: images.grid(torch.zeros(1, 1, 2, 2), columns=0), "columns >= 1 and pad >= 0, got 0 and 2"),
        (lambda: images.grid(torch.zeros(1, 1, 2, 2), pad=-1), "got 8 and -1"),
    ],
)
def test_a_grid_of_nothing_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_picture_loads_as_it_was(tmp_path, channels):
    picture = pictures(1, channels)[0]
    images.save(picture, tmp_path / "a.png")
    found = images.load(str(tmp_path / "a.png"))
    assert found.dtype == torch.uint8 and found.equal(picture) and found.is_contiguous()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_saved_picture_may_be_read_by_others_where_other_files_may(tmp_path):
    (tmp_path / "plain").write_text("")
    images.save(pictures(1)[0], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_save_that_fails_leaves_the_old_picture(tmp_path, monkeypatch):
    old = pictures(1)[0]
    images.save(old, tmp_path / "a.png")

    def half_written(self, path, *args):
        with open(path, "wb") as file:
            file.write(b"half a pic")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", half_written)
    with pytest.raises(OSError, match="no space"):
        images.save(255 - old, tmp_path / "a.png")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["a.png"]
    assert images.load(tmp_path / "a.png").equal(old)


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (torch.zeros(1, 2, 2), TypeError, "got torch.float32: convert it with to_uint8"),
        (torch.zeros(2, 2, 2, dtype=torch.uint8), ValueError, r"\(1 or 3, H, W\), got \(2, 2, 2\)"),
        (torch.zeros(2, 2, dtype=torch.uint8), ValueError, r"got \(2, 2\)"),
    ],
)
def test_save_refuses_what_is_no_picture(tmp_path, picture, error, message):
    with pytest.raises(error, match=message):
        images.save(picture, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("RGB", 3)]
)
def test_load_gives_one_channel_for_grey_and_three_otherwise(tmp_path, mode, channels):
    Image.new("RGB", (5, 4), (200, 200, 200)).convert(mode).save(tmp_path / "a.png")
    found = images.load(tmp_path / "a.png")
    assert found.shape == (channels, 4, 5) and found.dtype == torch.uint8


def test_load_refuses_sixteen_bits_rather_than_cut_them_off(tmp_path):
    Image.fromarray(np.full((4, 4), 4096, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has mode I;16, expected 8 bits"):
        images.load(tmp_path / "deep.png")
