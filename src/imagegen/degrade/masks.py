"""Masks of what is known: bool (B, 1, H, W), True where a pixel is seen, drawn for each image from `generator`.

`shape` is that of the images, (B, C, H, W); C is not looked at. `share` is always the share that is hidden. Masks lie
on the generator's device. The operator that hides is `operators.Mask`.
"""

import math

import torch
from torch import Tensor

SIDES = ("left", "right", "top", "bottom")
MASKS = ("box", "centre", "scribble", "pixels", "half", *SIDES)


def draw_mask(kind: str, shape: tuple[int, ...], *, share: float, stroke: int,
              generator: torch.Generator) -> Tensor:  # fmt: skip
    """Return a mask of one of the kinds in `MASKS`. "centre" is a box in the middle, "half" hides a drawn side.

    stroke: width of a "scribble"; halves use neither share nor stroke.
    Raises: ValueError: another kind, or as that kind's function.
    """
    if kind in ("box", "centre"):
        return box(shape, share=share, centred=kind == "centre", generator=generator)
    if kind == "scribble":
        return scribble(shape, share=share, stroke=stroke, generator=generator)
    if kind == "pixels":
        return pixels(shape, share=share, generator=generator)
    if kind in ("half", *SIDES):
        return half(shape, None if kind == "half" else kind, generator=generator)
    raise ValueError(f"mask is {kind!r}, expected one of {', '.join(MASKS)}")


def box(shape: tuple[int, ...], size: tuple[int, int] | None = None, *, share: float | None = None,
        centred: bool = False, generator: torch.Generator) -> Tensor:  # fmt: skip
    """Return masks that hide one rectangle, wholly inside the image, anywhere with equal probability or in its middle.

    size: its height and width in pixels. share: instead, that of the image's area: its root is that of each side,
    rounded to pixels. centred: the one place for all; a pixel left over stays at the right and at the bottom.
    Raises: ValueError: both or neither of size and share, or a rectangle that is empty or larger than the image.
    """
    batch, height, width = _sizes(shape)
    if (size is None) == (share is None):
        raise ValueError(f"size is {size} and share {share}, expected one of them")
    if size is None:
        size = tuple(round(math.sqrt(_checked(share)) * side) for side in (height, width))
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(f"the box is {size} pixels, expected (1, 1) to {(height, width)}")
    device, free = generator.device, (height - size[0], width - size[1])
    if centred:
        first = torch.tensor([[room // 2] * batch for room in free], device=device)
    else:
        draws = (torch.randint(room + 1, (batch,), generator=generator, device=device) for room in free)
        first = torch.stack(list(draws))
    rows, columns = _places(height, width, device)
    top, left = first[:, :, None, None]  # each (B, 1, 1)
    hidden = (rows >= top) & (rows < top + size[0]) & (columns >= left) & (columns < left + size[1])
    return ~hidden[:, None]


def scribble(shape: tuple[int, ...], *, share: float, stroke: int, generator: torch.Generator) -> Tensor:
    """Return masks that hide strokes with round ends, which wander until they cover the share of each image.

    A stroke goes on by its width at a time, turns a little each time, and starts anew, anywhere, after 12 steps on
    average or where it leaves the image. The share that is hidden is at least `share`, and more by less than a step
    covers, (1 + pi / 4) stroke^2 pixels and those on its edge.
    Args: stroke: the width in pixels.
    Raises: ValueError: share is outside (0, 1], or stroke outside 1 to the image's smaller side.
    """
    batch, height, width = _sizes(shape)
    share, device = _checked(share), generator.device
    if not 1 <= stroke <= min(height, width):
        raise ValueError(f"stroke is {stroke}, expected 1 to {min(height, width)} pixels")
    size = torch.tensor([[height], [width]], dtype=torch.float64, device=device)
    place = torch.full((2, batch), -1.0, dtype=torch.float64, device=device)  # outside: begin anew
    angle = torch.zeros_like(place[0])
    around = torch.arange(-stroke - 1, stroke + 2, device=device)  # no step reaches farther from its middle
    # One place more than pixels, for what lies outside.
    hidden = torch.zeros(batch, height * width + 1, dtype=torch.bool, device=device)
    while (unfinished := hidden[:, :-1].double().mean(1) < share).any():
        draws = torch.rand(4, batch, generator=generator, device=device, dtype=torch.float64)
        turn = torch.randn(batch, generator=generator, device=device, dtype=torch.float64)
        new = ((place < 0) | (place > size - 1)).any(0) | (draws[3] < 1 / 12)
        place = torch.where(new, draws[:2] * (size - 1), place)
        angle = torch.where(new, draws[2] * (2 * math.pi), angle + 0.4 * turn)
        step = stroke * torch.stack([angle.sin(), angle.cos()])
        middle = (place + step / 2).round().long()[:, :, None, None]
        rows, columns = middle[0] + around[:, None], middle[1] + around  # (B, n, 1) and (B, 1, n)
        # The distance of each pixel to the step: that to the nearest point on it.
        y, x = rows - place[0, :, None, None], columns - place[1, :, None, None]
        down, right = step[:, :, None, None]
        along = ((y * down + x * right) / stroke**2).clamp(0, 1)
        near = (y - along * down) ** 2 + (x - along * right) ** 2 <= (stroke / 2) ** 2
        near &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        near &= unfinished[:, None, None]
        hidden.scatter_(1, torch.where(near, rows * width + columns, height * width).flatten(1), True)
        place = place + step
    return ~hidden[:, :-1].view(batch, 1, height, width)


def half(shape: tuple[int, ...], hidden: str | None = None, *, generator: torch.Generator) -> Tensor:
    """Return masks that hide one half: "left", "right", "top" or "bottom", or for None one drawn for each image.

    Of an odd side the smaller half is hidden.
    Raises: ValueError: another side.
    """
    batch, height, width = _sizes(shape)
    if hidden is not None and hidden not in SIDES:
        raise ValueError(f"hidden is {hidden!r}, expected None or one of {', '.join(SIDES)}")
    rows, columns = _places(height, width, generator.device)
    halves = [
        columns < width // 2,
        columns >= (width + 1) // 2,
        rows < height // 2,
        rows >= (height + 1) // 2,
    ]
    known = ~torch.stack([side.expand(height, width) for side in halves])  # (4, H, W), in the order of SIDES
    if hidden is not None:
        return known[SIDES.index(hidden)].repeat(batch, 1, 1, 1)
    return known[torch.randint(4, (batch,), generator=generator, device=generator.device)][:, None]


def pixels(shape: tuple[int, ...], *, share: float, generator: torch.Generator) -> Tensor:
    """Return masks that hide each pixel with probability `share`, independently of the others.

    Raises: ValueError: share is outside (0, 1].
    """
    batch, height, width = _sizes(shape)
    draws = torch.rand(
        batch, 1, height, width, generator=generator, device=generator.device, dtype=torch.float64
    )
    return draws >= _checked(share)


def _places(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows (H, 1) and the columns (1, W)."""
    return torch.arange(height, device=device)[:, None], torch.arange(width, device=device)[None]


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"shape is {tuple(shape)}, expected that of images, (B, C, H, W)")
    return shape[0], shape[2], shape[3]


def _checked(share: float) -> float:
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}, expected the part that is hidden, above 0 and at most 1")
    return share
