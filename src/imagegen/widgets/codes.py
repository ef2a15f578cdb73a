"""An explorer of discrete codes: the grid of codes of an image, one of them or a region replaced, and the picture."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen import export, images
from imagegen.widgets.explorer import Explorer, levels, packed

_MAX_IMAGES = 24
_COLUMNS = 12  # of the codebook on the page: narrow enough for a finger on a phone


class GridExplorer(Explorer):
    """An explorer of grids of codes (h, w), sent row by row, whose network turns them into pixels."""

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) in [0, 1] for codes (B, h w), float32 on the CPU.

        Raises: ValueError: another number of codes, or one that the codebook does not have.
        """
        check_codes(codes, self._network.config)
        return export.CodePixels(self._network)(codes.to(self._device)).float().cpu()

    def _graphs(self) -> dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]]:
        decoder = export.CodePixels(self._network)
        return {"decoder": (decoder, decoder.examples(), ("pixels",))}

    def _codebook(self) -> dict[str, Any]:
        """Return the codes as small pictures, in an order that puts similar ones side by side."""
        pictures = patches(self.decode, self._network.config)
        return {
            "codes": len(pictures),
            "columns": min(_COLUMNS, len(pictures)),
            "order": alike(pictures, _COLUMNS).tolist(),
            "patch": list(pictures.shape[1:]),
            "patches": packed(pictures),
        }


class CodeExplorer(GridExplorer):
    """Replace a code of an image by another one of the codebook, or a region by another image's: see what changes.

    Args:
        model: a discrete autoencoder: `encode(x)` gives codes (B, h, w), `decode` logits of pixels; copied. Its
            config has `image_shape`, `codes` and `grid`.
        images: uint8 (N, C, H, W), N from 1 to 24, encoded here.
        names: of the images, for the text that stands for a picture.
    Raises: ValueError: images or names do not fit; the message holds the value. TypeError: images are not uint8.
    """

    kind = "code-explorer"
    parts: ClassVar = {"decoder": ".decoder"}

    def __init__(
        self, model: nn.Module, images: Tensor, *, names: Sequence[str] | None = None, name: str | None = None
    ) -> None:
        shape, n = tuple(model.config.image_shape), len(images)
        if images.dim() != 4 or tuple(images.shape[1:]) != shape or not 1 <= n <= _MAX_IMAGES:
            wanted = f"(N, {', '.join(map(str, shape))}) with N from 1 to {_MAX_IMAGES}"
            raise ValueError(f"images of shape {tuple(images.shape)}, expected {wanted}")
        if names is not None and len(names) != n:
            raise ValueError(f"{len(names)} names, expected {n}, one for each image")
        self._images = images.detach().cpu()
        self._names = [f"{label}, number {i + 1}" for i, label in enumerate(names or ["Image"] * n)]
        super().__init__(model, name)

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (B, h w), int64 on the CPU, of images (B, C, H, W) in [-1, 1]."""
        return self._network.encode(x.to(self._device)).flatten(1).cpu()

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        codes = self.encode(images.to_float(self._images))
        (h, w), n = self._network.config.grid, min(12, len(codes))
        book = self._codebook()
        meta = {
            "grid": [h, w],
            "images": [
                {"alt": alt, "pixels": packed(images.to_unit(images.to_float(image))), "codes": own}
                for alt, image, own in zip(self._names, self._images, codes.tolist(), strict=True)
            ],
            "book": book,
            "start": {"pixels": packed(self.decode(codes[:1])[0])},
        }
        # The static picture: images, what their codes decode to, and the first image with one code replaced.
        cell = h // 2 * w + w // 2
        changed = codes[:1].repeat(n, 1)
        others = [code for code in book["order"] if code != codes[0, cell]]
        changed[:, cell] = torch.tensor([others[i * len(others) // n] for i in range(n)])
        decoded = levels(self.decode(torch.cat([codes[:n], changed])))
        alt = (
            f"Top row: {n} images ({'; '.join(self._names[:n])}). Second row: each decoded from its {h} by {w} "
            f"codes. Third row: the first image with the code in row {h // 2 + 1}, column {w // 2 + 1} of its "
            f"grid replaced by {n} others of the {book['codes']}."
        )
        return meta, images.grid(torch.cat([self._images[:n], decoded]), columns=n), alt


def check_codes(codes: Tensor, config: Any) -> None:
    """Raises: ValueError: codes (B, h w) of another shape, or not whole numbers from 0 to K - 1."""
    n = config.grid[0] * config.grid[1]
    if codes.dim() != 2 or codes.shape[1] != n:
        raise ValueError(f"codes of shape {tuple(codes.shape)}, expected (B, {n})")
    wrong = codes[(codes != codes.round()) | (codes < 0) | (codes >= config.codes)]
    if len(wrong):
        raise ValueError(f"code {wrong[0].item():g}, expected a whole number from 0 to {config.codes - 1}")


def patches(decode: Any, config: Any) -> Tensor:
    """Return each code as pixels (K, C, H / h, W / w): the cell in the middle of a grid that holds only this code.

    Args: decode: codes (B, h w) -> pixels (B, C, H, W).
    """
    (_, height, width), (h, w) = config.image_shape, config.grid
    high, wide = height // h, width // w
    top, left = h // 2 * high, w // 2 * wide
    grids = torch.arange(config.codes)[:, None].expand(-1, h * w)
    return torch.cat([decode(part)[:, :, top : top + high, left : left + wide] for part in grids.split(64)])


def alike(pictures: Tensor, columns: int) -> Tensor:
    """Return an order (K,) of pictures (K, C, h, w) that puts similar ones near each other in rows of `columns`.

    From row to row along the first principal component, from dark to bright; within a row along the second.
    """
    x = pictures.flatten(1).double()
    x = x - x.mean(0)
    axes = torch.linalg.svd(x, full_matrices=False).Vh[:2]
    axes *= axes.sum(1, keepdim=True).sign().where(axes.sum(1, keepdim=True) != 0, 1.0)  # an axis has no sign
    first, second = (x @ axes.mT).T if len(axes) > 1 else (x @ axes[0]).repeat(2, 1)
    rows = first.argsort(stable=True).split(columns)
    return torch.cat([row[second[row].argsort(stable=True)] for row in rows])
