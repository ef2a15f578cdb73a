"""An explorer of a prior over codes: it fills the grid code by code, and the reader may choose, rewind and edit."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen import export, images
from imagegen.widgets.attributes import WITHHELD, menus
from imagegen.widgets.codes import GridExplorer, check_codes
from imagegen.widgets.explorer import levels, packed

_MAX_EXAMPLES = 12
_STRIP = (3, 6)  # rows (samples) and columns (from nearly empty to full) of the static picture


class _PriorAndDecoder(nn.Module):
    """A prior over codes and the network that decodes them, as one network."""

    def __init__(self, prior: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.prior, self.model, self.config = prior, model, model.config

    def decode(self, indices: Tensor) -> Tensor:
        return self.model.decode(indices)


class PriorExplorer(GridExplorer):
    """Watch a prior draw the codes of an image one by one; choose a code by hand, go back, and let it go on.

    Args:
        prior: `forward(codes (B, h, w), labels=(B, A))` gives logits (B, K, h, w), and `sample` draws; copied. Its
            config has `codes`, `grid` and `attributes`, the numbers of values of the labels.
        model: the discrete autoencoder whose codes these are; copied.
        attributes: the names of the attributes, each with the names of its values, in the order of the labels;
            by default numbers.
        start: int64 (N, h, w) or (h, w), N from 1 to 12: codes of images whose first rows can be kept and then
            continued; by default samples of the prior.
    Raises: ValueError: the two networks, the attributes, the codes or the name do not fit; the message holds the
        value.
    """

    kind = "prior-explorer"
    parts: ClassVar = {"prior": ".prior", "decoder": ".decoder"}

    def __init__(
        self,
        prior: nn.Module,
        model: nn.Module,
        *,
        attributes: Mapping[str, Sequence[str]] | None = None,
        start: Tensor | None = None,
        name: str | None = None,
    ) -> None:
        grid, sizes = tuple(model.config.grid), tuple(prior.config.attributes)
        if (tuple(prior.config.grid), prior.config.codes) != (grid, model.config.codes):
            raise ValueError(
                f"the prior has {prior.config.codes} codes on a grid {tuple(prior.config.grid)}, "
                f"the model {model.config.codes} on {grid}"
            )
        if getattr(prior.config, "context_codes", 0):
            raise ValueError("the prior needs the codes of another grid, which this explorer does not have")
        if attributes is None:
            attributes = {f"attribute {a + 1}": [str(k) for k in range(n)] for a, n in enumerate(sizes)}
        self._attributes = menus(attributes, sizes)
        self._examples = None if start is None else _examples(start, model.config)
        super().__init__(_PriorAndDecoder(prior, model), name)

    @torch.inference_mode()
    def logits(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B, h w, K) of every code of (B, h w), given those before it and labels (B, A).

        Raises: ValueError: a code or a label that there is not.
        """
        sizes = torch.tensor(tuple(self._network.prior.config.attributes))
        check_codes(codes, self._network.config)
        if labels.shape != (len(codes), len(sizes)):
            raise ValueError(f"labels of shape {tuple(labels.shape)}, expected ({len(codes)}, {len(sizes)})")
        if ((labels != labels.round()) | (labels < WITHHELD) | (labels >= sizes)).any():
            raise ValueError(f"labels {labels.tolist()}, expected -1 to one less than {sizes.tolist()}")
        given = labels.to(self._device) if len(sizes) else None
        network = export.PriorLogits(self._network.prior).to(self._device)
        return network(codes.to(self._device), given).float().cpu()

    def _compute(self, op: str, values: Tensor) -> tuple[Tensor, ...]:
        if op != "prior":
            return super()._compute(op, values)
        n, place = self._network.config.grid[0] * self._network.config.grid[1], int(values[-1])
        if not 0 <= place < n:
            raise ValueError(f"place is {place}, expected 0 to {n - 1}")
        return (self.logits(values[None, :n], values[None, n:-1])[0, place].contiguous(),)

    def _graphs(self) -> dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]]:
        prior = export.PriorLogits(self._network.prior)
        return super()._graphs() | {"prior": (prior, prior.examples(), ("logits",))}

    def _labels(self) -> Tensor:
        """Return the labels (R, A) of the samples in the static picture."""
        rows, sizes = _STRIP[0], torch.tensor(tuple(self._network.prior.config.attributes), dtype=torch.int64)
        return torch.stack([sizes * row // rows for row in range(rows)])

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        (h, w), labels = self._network.config.grid, self._labels()
        with torch.inference_mode():
            drawn = self._network.prior.sample(
                len(labels),
                labels=labels.to(self._device) if self._attributes else None,
                generator=torch.Generator(self._device).manual_seed(0),
            )
        drawn = drawn.flatten(1).cpu()
        examples = drawn if self._examples is None else self._examples
        fill = torch.cat([drawn, examples]).flatten().mode().values.item()
        # The page starts half way: with the first rows of an example, whose labels are known if it was drawn here.
        kept = h // 2 * w
        known = labels.tolist() if self._examples is None else [None] * len(examples)
        own = labels[:1] if self._examples is None else torch.full_like(labels[:1], WITHHELD)
        start = _veiled(examples[:1], kept, fill)
        meta = {
            "grid": [h, w],
            "attributes": self._attributes,
            "book": self._codebook(),
            "fill": fill,
            "examples": [
                {"alt": f"Example {i + 1}", "pixels": packed(pixels), "codes": codes, "labels": told}
                for i, (pixels, codes, told) in enumerate(
                    zip(self.decode(examples), examples.tolist(), known, strict=True)
                )
            ],
            "start": {
                "labels": own[0].tolist(),
                "codes": examples[0, :kept].tolist(),
                "logits": [round(v, 4) for v in self.logits(start, own)[0, kept].tolist()],
                "pixels": packed(self.decode(start)[0]),
            },
        }
        picture, counts = self._strip(drawn, fill)
        given = [
            ", ".join(f"{a['name']} {a['values'][k]}" for a, k in zip(self._attributes, row, strict=True))
            for row in labels.tolist()
        ]
        alt = (
            f"{len(drawn)} samples{': ' + '; '.join(given) if self._attributes else ''}, one a row. From left to "
            f"right {', '.join(map(str, counts))} of the {h * w} codes are drawn, row by row from the top left; "
            f"what is not drawn yet is greyed out."
        )
        return meta, picture, alt

    def _strip(self, drawn: Tensor, fill: int) -> tuple[Tensor, list[int]]:
        """Return a picture with a row for each sample, which fills from left to right, and the numbers of codes."""
        (h, w), (_, height, width) = self._network.config.grid, self._shape
        counts = torch.linspace(h * w / _STRIP[1], h * w, _STRIP[1]).long().tolist()
        tiles = []
        for codes in drawn:
            for count in counts:
                pixels = self.decode(_veiled(codes[None], count, fill))[0]
                open_ = (torch.arange(h * w) >= count).reshape(h, w).float()
                open_ = open_.repeat_interleave(height // h, 0).repeat_interleave(width // w, 1)
                tiles.append(pixels + open_ * 0.6 * (0.5 - pixels))
        return images.grid(levels(torch.stack(tiles)), columns=len(counts)), counts


def _examples(start: Tensor, config: Any) -> Tensor:
    """Return codes (N, h w) on the CPU. Raises where they do not fit the model."""
    grid = tuple(config.grid)
    codes = start[None] if start.dim() == 2 else start
    if codes.dim() != 3 or tuple(codes.shape[1:]) != grid or not 1 <= len(codes) <= _MAX_EXAMPLES:
        raise ValueError(
            f"start of shape {tuple(start.shape)}, expected (N, {grid[0]}, {grid[1]}) with N from 1 to {_MAX_EXAMPLES}"
        )
    codes = codes.detach().cpu().flatten(1)
    check_codes(codes, config)  # before long(), which would cut a fraction off
    return codes.long()


def _veiled(codes: Tensor, count: int, fill: int) -> Tensor:
    """Return codes (B, h w) with all from `count` on replaced by `fill`."""
    return torch.where(torch.arange(codes.shape[1]) < count, codes, fill)
