"""An explorer of a network that draws an image from its attributes: a menu for each of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen import export, images
from imagegen.widgets.explorer import Explorer, levels, packed

_MAX_FACES = 500  # faces that the button picks from: more would only make the page larger
_STRIP = (2, 6)  # rows (faces) and columns (from all attributes given to none) of the static picture
WITHHELD = -1  # the label of an attribute that the network is not told


class AttributeExplorer(Explorer):
    """Choose each attribute from a menu, or withhold it, and see the image that the network draws.

    What is withheld is averaged over: a network trained so gives the mean of all images that fit.

    Args:
        model: an attribute decoder: `conditions(labels)`, then logits of pixels; copied. Its config has
            `image_shape` and `attributes`, the numbers of values.
        attributes: the names of the attributes, each with the names of its values, in the order of the labels.
            Names such as "hair_colour" and "bobBangs" are shown as "hair colour" and "bob bangs".
        labels: (N, A) of faces that exist. It starts at the first, and the button "Random face" picks among them
            (of more than 500, evenly spaced ones), so that no pair comes up that the data never hold, such as a
            bald head with red hair. Without labels it draws every attribute on its own.
    Raises: ValueError: attributes, labels or the name do not fit; the message holds the value.
    """

    kind = "attribute-explorer"
    parts: ClassVar = {"decoder": ""}

    def __init__(
        self,
        model: nn.Module,
        attributes: Mapping[str, Sequence[str]],
        *,
        labels: Tensor | None = None,
        name: str | None = None,
    ) -> None:
        sizes = tuple(model.config.attributes)
        self._attributes = menus(attributes, sizes)
        self._faces = None if labels is None else _faces(labels, sizes)
        super().__init__(model, name)

    @torch.inference_mode()
    def decode(self, conditions: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) in [0, 1] for conditions (B, sum K), float32 on the CPU."""
        return torch.sigmoid(self._network(conditions.to(self._device))).float().cpu()

    def draw(self, labels: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) in [0, 1] for labels (B, A), -1 where withheld, float32 on the CPU."""
        return self.decode(self._network.conditions(labels))

    def _graphs(self) -> dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]]:
        examples = self._network.conditions(self._withheld(self._starts()).flatten(0, 1)).cpu()
        return {"decoder": (export.AttributePixels(self._network), {"conditions": examples}, ("pixels",))}

    def _starts(self) -> Tensor:
        """Return the labels (R, A) of the faces in the static picture; the first is where the page starts."""
        rows, sizes = _STRIP[0], torch.tensor(self._network.config.attributes)
        if self._faces is None:
            return torch.stack([sizes * row // rows for row in range(rows)])
        return self._faces[torch.linspace(0, len(self._faces) - 1, rows).long()]

    def _withheld(self, labels: Tensor) -> Tensor:
        """Return (R, columns, A): each of the labels (R, A) with more and more withheld, the first ones first."""
        n = labels.shape[1]
        counts = torch.linspace(0, n, min(_STRIP[1], n + 1)).round().long()  # the first is 0, the last is n
        hidden = torch.arange(n) < counts[:, None]  # (columns, A)
        return torch.where(hidden, WITHHELD, labels[:, None])

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        starts = self._starts()
        shown = self._withheld(starts)  # (R, columns, A)
        rows, columns, n = shown.shape
        pixels = self.draw(shown.flatten(0, 1))
        meta = {
            "attributes": self._attributes,
            "faces": None if self._faces is None else self._faces.tolist(),
            "start": {"labels": starts[0].tolist(), "pixels": packed(pixels[0])},
        }
        counts = (shown[0] == WITHHELD).sum(1).tolist()
        faces = "; ".join(
            ", ".join(f"{a['name']} {a['values'][k]}" for a, k in zip(self._attributes, face))
            for face in starts.tolist()
        )
        alt = (
            f"{rows} rows of {columns} generated images. At the left all {n} attributes are given: {faces}. "
            f"To the right {', '.join(map(str, counts[1:-1]))} and then all are withheld, from "
            f"{self._attributes[0]['name']} on: the image turns into the average of all that still fit."
        )
        return meta, images.grid(levels(pixels), columns=columns), alt


def words(name: str) -> str:
    """Return a name of code as words.

    >>> words("hair_colour"), words("bobBangs"), words("3")
    ('hair colour', 'bob bangs', '3')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).lower()


def menus(attributes: Mapping[str, Sequence[str]], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return name and values of each attribute in words, for its menu.

    Raises: ValueError: the numbers of values are not `sizes`, or two have the same name in words.
    """
    if (found := tuple(len(values) for values in attributes.values())) != tuple(sizes):
        raise ValueError(f"attributes have {found} values, the model expects {tuple(sizes)}")
    found = [
        {"name": words(attribute), "values": [words(value) for value in values]}
        for attribute, values in attributes.items()
    ]
    _check_different("attributes", [attribute["name"] for attribute in found])
    for attribute in found:
        _check_different(f"values of {attribute['name']}", attribute["values"])
    return found


def _check_different(what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{what} have the same name in words: {', '.join(names)}")


def _faces(labels: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return at most _MAX_FACES of the labels, on the CPU. Raises where they do not fit the attributes."""
    if labels.dim() != 2 or labels.shape[1] != len(sizes) or len(labels) == 0:
        raise ValueError(f"labels of shape {tuple(labels.shape)}, expected (N, {len(sizes)}) with N >= 1")
    labels = labels.detach().cpu().long()
    wrong = (labels < 0) | (labels >= torch.tensor(sizes))
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"label {labels[row, column]} of attribute {column}, expected 0 to {sizes[column] - 1}"
        )
    if len(labels) > _MAX_FACES:
        labels = labels[torch.linspace(0, len(labels) - 1, _MAX_FACES).long()]
    return labels
