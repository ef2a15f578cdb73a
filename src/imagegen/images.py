"""The range contract: uint8 at rest, float32 in [-1, 1] (B, C, H, W) in use. Also grids, load and save."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_SLACK = 1e-3  # rounding in bf16 networks may leave the range by this much; more is a mistake


def check_range(x: Tensor, low: float, high: float) -> None:
    if not x.is_floating_point():
        raise TypeError(f"expected floating point values in [{low:g}, {high:g}], got {x.dtype}")
    if x.numel() == 0:
        return
    smallest, largest = x.amin().item(), x.amax().item()
    if not (low - _SLACK <= smallest and largest <= high + _SLACK):
        raise ValueError(f"values span [{smallest:g}, {largest:g}], expected them within [{low:g}, {high:g}]")


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [-1, 1]: 0 becomes -1 and 255 becomes 1. Any shape.

    Raises: TypeError: the images are not uint8, so their range is not known.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"expected uint8 images, got {images.dtype}")
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(x: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, rounded to the nearest level. Any shape; inverse of `to_float`.

    Raises: TypeError: x is not floating point. ValueError: a value leaves [-1, 1], or is not finite.
    """
    check_range(x, -1.0, 1.0)
    return x.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def dequantise(images: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return uint8 images as float32, each value drawn evenly from its level's cell: `to_float` plus noise. Any shape.

    A cell is 2/255 wide, so values leave [-1, 1] by up to 1/255, and a density p of them bounds a code length:
    -log Pr(images) <= E[-log p] + P log 127.5. `to_uint8` does not accept them; clamp first.
    Raises: TypeError: the images are not uint8.
    Source: Theis et al. 2016, arXiv:1511.01844, section 3.1.
    """
    x = to_float(images)
    return x + (torch.rand(x.shape, generator=generator, device=x.device) - 0.5) * (2 / 255)


def to_unit(x: Tensor) -> Tensor:
    """Return images in [-1, 1] as values in [0, 1], the targets of a Bernoulli likelihood. Any shape.

    Raises: TypeError: x is not floating point.
    """
    if not x.is_floating_point():
        raise TypeError(f"expected floating point values in [-1, 1], got {x.dtype}")
    return x.add(1.0).mul(0.5)


def from_unit(p: Tensor) -> Tensor:
    """Return values in [0, 1] (probabilities of a Bernoulli decoder, say) as images in [-1, 1]. Any shape.

    Raises: TypeError: p is not floating point. ValueError: a value leaves [0, 1], or is not finite.
    """
    check_range(p, 0.0, 1.0)
    return p.mul(2.0).sub(1.0)


def grid(images: Tensor, columns: int = 8, pad: int = 2) -> Tensor:
    """Return one image (C, H', W') that shows images (N, C, H, W) row by row; the last row may be short.

    The frame of `pad` pixels is the largest value of the images' range: 255 for uint8, 1 for float.
    Raises: ValueError: images is not 4-D or empty, or columns is less than 1.
    """
    if images.dim() != 4 or len(images) == 0:
        raise ValueError(f"expected images of shape (N, C, H, W) with N >= 1, got {tuple(images.shape)}")
    if columns < 1 or pad < 0:
        raise ValueError(f"expected columns >= 1 and pad >= 0, got {columns} and {pad}")
    n, channels, height, width = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    fill = 255 if images.dtype == torch.uint8 else 1.0
    sheet = images.new_full((channels, rows * (height + pad) + pad, columns * (width + pad) + pad), fill)
    for i, image in enumerate(images):
        top = pad + (i // columns) * (height + pad)
        left = pad + (i % columns) * (width + pad)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def save(image: Tensor, path: str | os.PathLike) -> None:
    """Write one image, uint8 (C, H, W) with C 1 or 3, to `path`; the suffix names the format (use .png).

    The file appears whole or not at all.
    Raises: TypeError: not uint8. ValueError: not (1 or 3, H, W).
    """
    if image.dtype != torch.uint8:
        raise TypeError(f"expected a uint8 image, got {image.dtype}: convert it with to_uint8")
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"expected an image of shape (1 or 3, H, W), got {tuple(image.shape)}")
    path = Path(path)
    pixels = image.permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels[..., 0] if image.shape[0] == 1 else pixels)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")  # not mkstemp, whose files only the owner reads
    try:
        picture.save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike) -> Tensor:
    """Return the image file at `path` as uint8 (C, H, W): C is 1 for a grey picture, else 3.

    Raises: ValueError: more than 8 bits a channel, which would be cut off at 255.
    """
    with Image.open(path) as picture:
        if picture.mode[0] in "IF":
            raise ValueError(f"{path} has mode {picture.mode}, expected 8 bits a channel")
        grey = picture.mode in ("1", "L", "LA")
        pixels = np.array(picture.convert("L" if grey else "RGB"))
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()
