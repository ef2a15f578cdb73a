"""Explorers of a latent space: a map to drag on, and images to encode and change."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen import export, images
from imagegen.widgets.explorer import Explorer, levels, packed

_MAX_POINTS = 4000  # more dots than this hide one another, and each reader would load them
_STRIP = 24  # images to choose from
_MAX_LATENTS = 16  # one slider each


class _LatentExplorer(Explorer):
    """An explorer of a VAE: both its networks answer."""

    @torch.inference_mode()
    def decode(self, z: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) in [0, 1] for latents (B, D), float32 on the CPU."""
        return torch.sigmoid(self._network.decode(z.to(self._device))).float().cpu()

    @torch.inference_mode()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, D), of images (B, C, H, W) in [-1, 1], on the CPU."""
        mean, log_var = self._network.encode(x.to(self._device))
        return mean.float().cpu(), log_var.float().cpu()

    def _compute(self, op: str, values: Tensor) -> tuple[Tensor, ...]:
        if op == "encode":
            return self.encode(values.reshape(1, *self._shape))
        return super()._compute(op, values)

    def _graphs(self) -> dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]]:
        z, x = torch.zeros(2, self._network.config.latent_dim), torch.zeros(2, *self._shape)
        return {
            "decoder": (export.PixelDecoder(self._network), {"z": z}, ("pixels",)),
            "encoder": (export.Encoder(self._network), {"x": x}, ("mean", "log_var")),
        }


class LatentMap(_LatentExplorer):
    """A map of the latent space: drag on it, or move the sliders, and see the decoded image.

    Args:
        model: a VAE with a latent of at least 2 dimensions and a Bernoulli decoder; copied. The map is
            dimensions 0 and 1; every dimension has a slider.
        points, labels, classes: encoded images (N, D) to draw on the map, their classes (N,), and the names
            of the classes. Of more than 4,000 points, evenly spaced ones are kept. It starts at the first.
        limit: the map covers [-limit, limit].
    Raises: ValueError: a shape, a label or a name does not fit; the message holds the value.
    """

    kind = "latent-map"
    parts: ClassVar = {"decoder": ""}

    def __init__(
        self,
        model: nn.Module,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        classes: Sequence[str] | None = None,
        limit: float = 3.0,
        name: str | None = None,
    ) -> None:
        n_latents = model.config.latent_dim
        if not 2 <= n_latents <= _MAX_LATENTS:
            raise ValueError(f"the model has {n_latents} latent dimensions, a map needs 2 to {_MAX_LATENTS}")
        if not 0 < limit < float("inf"):
            raise ValueError(f"limit is {limit}, expected a positive number")
        if points is not None and (points.dim() != 2 or points.shape[1] != n_latents):
            raise ValueError(f"points of shape {tuple(points.shape)}, expected (N, {n_latents})")
        _check_labels(labels, classes, 0 if points is None else len(points))
        self._limit, self._classes = float(limit), classes and list(classes)
        self._points = [] if points is None else _thin(points, labels, self._limit)
        self._start = torch.zeros(1, n_latents)
        if points is not None and len(points) and points[0].abs().max() <= limit:
            self._start = points[:1].detach().float().cpu()
        super().__init__(model, name)

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        n, limit, n_latents = 15, self._limit, self._network.config.latent_dim
        axis = (torch.arange(n) + 0.5) / n * 2 * limit - limit  # centres of n tiles that cover the map
        z = torch.zeros(n * n, n_latents)
        z[:, 0], z[:, 1] = axis.repeat(n), axis.flip(0).repeat_interleave(n)  # rows from the top: z[1] falls
        picture = images.grid(levels(self.decode(z)), columns=n, pad=0)
        meta = {
            "latent_dim": n_latents,
            "limit": limit,
            "start": {"z": self._start[0].tolist(), "pixels": packed(self.decode(self._start)[0])},
            "points": self._points,
            "classes": self._classes,
        }
        edge = axis[-1].item()
        alt = (
            f"A {n} by {n} grid of images decoded from the latent space: z[0] runs from {-edge:.2f} at the "
            f"left to {edge:.2f} at the right, z[1] from {-edge:.2f} at the bottom to {edge:.2f} at the top."
        )
        return meta, picture, alt


class ImageExplorer(_LatentExplorer):
    """Pick one of the images, or draw one: it is encoded, decoded, and its most active latents get sliders.

    Args:
        model: a VAE with a Bernoulli decoder; copied.
        images: (N, C, H, W), uint8 or float in [-1, 1]. The first 24 are shown to choose from; all of them
            decide which dimensions are the most active.
        labels, classes: classes (N,) of the images and the names of the classes, for the text that stands for
            a picture.
        dims: latent dimensions that get a slider; by default the `n_dims` (at most 16) with the largest mean
            KL over `images`.
    Raises: ValueError: a shape, a label, a dimension or a name does not fit; the message holds the value.
    """

    kind = "image-explorer"
    parts: ClassVar = {"decoder": ".decoder", "encoder": ".encoder"}

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        *,
        labels: Tensor | None = None,
        classes: Sequence[str] | None = None,
        dims: Sequence[int] | None = None,
        n_dims: int = 8,
        name: str | None = None,
    ) -> None:
        shape, n_latents = tuple(model.config.image_shape), model.config.latent_dim
        if images.dim() != 4 or len(images) == 0 or tuple(images.shape[1:]) != shape:
            wanted = ", ".join(map(str, shape))
            raise ValueError(f"images of shape {tuple(images.shape)}, expected (N, {wanted}) with N >= 1")
        if n_dims < 1:
            raise ValueError(f"n_dims is {n_dims}, expected at least 1")
        if dims is not None and not (0 < len(set(dims)) == len(dims) and set(dims) <= set(range(n_latents))):
            raise ValueError(f"dims is {list(dims)}, expected different dimensions from 0 to {n_latents - 1}")
        _check_labels(labels, classes, len(images))
        self._x = _floats(images.detach().cpu())
        self._dims, self._n_dims = dims and [int(d) for d in dims], min(n_dims, n_latents, _MAX_LATENTS)
        known = [] if labels is None else labels[:_STRIP].tolist()
        names = [classes[k] if classes else f"Class {k}" for k in known] or ["Image"] * min(
            _STRIP, len(images)
        )
        self._names = [f"{label}, number {i + 1}" for i, label in enumerate(names)]
        super().__init__(model, name)

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        codes = [self.encode(x) for x in self._x.split(500)]
        mean, log_var = (torch.cat(parts) for parts in zip(*codes, strict=True))
        kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).mean(0)  # (D,) nats: KL(q(z_d | x) || N(0, 1))
        dims = self._dims or kl.argsort(descending=True, stable=True)[: self._n_dims].tolist()
        shown = self._x[:_STRIP]
        pixels = levels(images.to_unit(shown))
        limit = min(max(3.0, (2 * mean[:, dims].abs().max()).ceil().item() / 2), 6.0)
        start = {
            "z": mean[0].tolist(),
            "log_var": log_var[0].tolist(),
            "pixels": packed(self.decode(mean[:1])[0]),
        }
        meta = {
            "latent_dim": mean.shape[1],
            "limit": limit,
            "images": [
                {"alt": alt, "pixels": packed(p)} for alt, p in zip(self._names, images.to_unit(shown))
            ],
            "dims": dims,
            "kl": [round(kl[d].item(), 4) for d in dims],
            "start": start,
        }
        # The static picture: images, their reconstructions, and a row for each slider moved from end to end.
        n = min(12, len(shown))
        moved = mean[:1].repeat(len(dims) * n, 1)
        for row, d in enumerate(dims):
            moved[row * n : (row + 1) * n, d] = torch.linspace(-limit, limit, n)
        decoded = levels(self.decode(torch.cat([mean[:n], moved])))
        picture = images.grid(torch.cat([pixels[:n], decoded]), columns=n)
        alt = (
            f"Top row: {n} images ({'; '.join(self._names[:n])}). Second row: their reconstructions. Below, "
            f"the first image's latent with one dimension moved from {-limit:g} at the left to {limit:g} at "
            f"the right: one row each for {', '.join(f'z[{d}]' for d in dims)}."
        )
        return meta, picture, alt


def _check_labels(labels: Tensor | None, classes: Sequence[str] | None, n: int) -> None:
    if labels is None:
        return
    if labels.shape != (n,):
        raise ValueError(f"labels of shape {tuple(labels.shape)}, expected ({n},)")
    last = len(classes) - 1 if classes else 2**31
    if n and not 0 <= labels.min() <= labels.max() <= last:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, expected 0 to {last}")


def _floats(x: Tensor) -> Tensor:
    """Return images as float, of the 256 levels that the page holds. Raises outside of [-1, 1]."""
    return images.to_float(x if x.dtype == torch.uint8 else images.to_uint8(x))


def _thin(points: Tensor, labels: Tensor | None, limit: float) -> list[list[float]]:
    """Return at most _MAX_POINTS of the points that lie on the map, as [z0, z1] or [z0, z1, class]."""
    points = points.detach().float().cpu()
    kept = (points[:, :2].abs() <= limit).all(1).nonzero()[:, 0]
    if len(kept) > _MAX_POINTS:
        kept = kept[torch.linspace(0, len(kept) - 1, _MAX_POINTS).long()]
    rows = [[round(v, 3) for v in row] for row in points[kept, :2].tolist()]
    return rows if labels is None else [[*row, k] for row, k in zip(rows, labels[kept].tolist(), strict=True)]
