"""A prior over grids of codes: what its network is told, the probability of a grid, and sampling."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagegen.prior.drawing import draw
from imagegen.prior.pixelcnn import PixelCNN
from imagegen.prior.transformer import Transformer

WITHHELD = -1  # the label of an attribute that the prior is not told


@dataclass(frozen=True)
class PriorConfig:
    """The sizes of a prior. network: "transformer" or "pixelcnn". codes: K. grid: height and width in codes.

    attributes: how many values each label has; () for no labels. width: channels of a position. depth: layers.
    heads: of the transformer's attention. dropout: share of units dropped in each layer while training.
    context_codes, context_grid: of a coarser grid of codes, on which this one depends; 0 and (0, 0) for none.
    Raises: ValueError: a size that cannot be built.
    """

    network: str = "transformer"
    codes: int = 512
    grid: tuple[int, int] = (7, 7)
    attributes: tuple[int, ...] = (10,)
    width: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.1
    context_codes: int = 0
    context_grid: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name in ("grid", "attributes", "context_grid"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.network not in ("transformer", "pixelcnn"):
            raise ValueError(f"network is {self.network!r}, expected 'transformer' or 'pixelcnn'")
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise ValueError(f"grid is {self.grid}, expected (h, w), each at least 1")
        if self.attributes and min(self.attributes) < 2:
            raise ValueError(f"attributes is {self.attributes}, expected each of 2 values or more")
        for name, least in (("codes", 2), ("width", 1), ("depth", 1), ("heads", 1), ("context_codes", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if self.network == "transformer" and self.width % self.heads:
            raise ValueError(f"width is {self.width}, expected a multiple of heads, {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected a share in [0, 1)")
        if not self.context_codes:
            if self.context_grid != (0, 0):
                raise ValueError(f"context_grid is {self.context_grid}, expected (0, 0): context_codes is 0")
        elif (
            len(self.context_grid) != 2
            or min(self.context_grid) < 1
            or any(fine % coarse for fine, coarse in zip(self.grid, self.context_grid))
        ):
            raise ValueError(f"context_grid is {self.context_grid}, expected divisors of grid, {self.grid}")


class Prior(nn.Module):
    """p(codes | labels, context): a product over positions in raster order, each given the codes before it.

    It is trained with forward() on true codes (teacher forcing) and the cross-entropy of the logits.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.codes, config.width)
        self.label_embeddings = nn.ModuleList(  # row 0: withheld
            nn.Embedding(values + 1, config.width) for values in config.attributes
        )
        if config.context_codes:
            self.context_embedding = nn.Embedding(config.context_codes, config.width)
            self.context_network = nn.Sequential(
                nn.Conv2d(config.width, config.width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(config.width, config.width, 3, padding=1),
            )
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        sizes = (config.width, config.depth)
        if config.network == "transformer":
            positions = math.prod(config.grid)
            self.network = Transformer(config.codes, positions, *sizes, config.heads, dropout=config.dropout)
        else:
            self.network = PixelCNN(config.codes, config.grid[1], *sizes, dropout=config.dropout)

    def forward(
        self, indices: Tensor, *, labels: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, K, h, w) in float32; those at a position depend on the codes before it alone.

        Args: indices: (B, h, w) int64, in [0, K). labels: (B, A) int64, or (B,) for one attribute; -1 withholds
            one, None all. context: (B, hc, wc) int64, codes of the coarser grid, if the config has one.
        Raises: TypeError: not int64. ValueError: a shape that is not the config's.
        """
        _check_codes("indices", indices, self.config.grid)
        conditions = self.conditions(indices.shape[0], labels, context)
        logits = self.network(self.embedding(indices.flatten(1)), conditions)  # (B, N, K)
        return logits.float().mT.unflatten(2, self.config.grid)

    def conditions(self, batch: int, labels: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Return what each position is told besides codes, (batch, N, W): labels and context, embedded and summed.

        Raises: TypeError, ValueError: as `forward`.
        """
        config = self.config
        told = self.embedding.weight.new_zeros(batch, 1, config.width)
        for column, embedding in zip(self._columns(batch, labels), self.label_embeddings):
            told = told + embedding(column + 1)[:, None]
        self._check_context(batch, context)
        if context is None:
            return told.expand(-1, math.prod(config.grid), -1)
        coarse = self.context_network(self.context_embedding(context).permute(0, 3, 1, 2))
        return told + F.interpolate(coarse, size=config.grid, mode="nearest").flatten(2).mT

    def log_prob(
        self, indices: Tensor, *, labels: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Return log p of each grid, (B,) nats: the sum over its positions. In training mode, units are dropped.

        Raises: as `forward`. ValueError: also a code or a label out of range.
        """
        _check_codes("indices", indices, self.config.grid)
        self._check_ranges(indices, labels, context)
        logits = self(indices, labels=labels, context=context)
        logits = logits.flatten(2).mT.flatten(0, 1)  # (B N, K), as they lie in memory
        nll = F.cross_entropy(logits, indices.flatten(), reduction="none")
        return -nll.unflatten(0, (len(indices), -1)).sum(dim=1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        given: Tensor | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        generator: torch.Generator | None = None,
        cached: bool = True,
    ) -> Tensor:
        """Return n grids, int64 (n, h, w), drawn position by position, without dropout in either mode.

        Args: given: (n, m) int64, the first m codes in raster order, which are kept. temperature, top_p, generator:
            see `draw`. cached: the transformer keeps the keys and values of earlier positions; without, the codes
            are the same. The PixelCNN has no cache: each position costs a pass over the rows down to its own.
        Raises: as `log_prob`. ValueError: also n below 1, or given of another shape or longer than the grid.
        """
        size, columns = math.prod(self.config.grid), self.config.grid[1]
        if n < 1:
            raise ValueError(f"n is {n}, expected at least 1")
        codes = torch.zeros(n, size, dtype=torch.int64, device=self.embedding.weight.device)
        first = 0
        if given is not None:
            if given.dtype != torch.int64:
                raise TypeError(f"expected int64 given, got {given.dtype}")
            if given.dim() != 2 or len(given) != n or given.shape[1] > size:
                raise ValueError(f"given of shape {tuple(given.shape)}, expected ({n}, m) with m <= {size}")
            first = given.shape[1]
            codes[:, :first] = given
        self._check_ranges(codes, labels, context)
        with _evaluating(self):
            conditions, embedded = self.conditions(n, labels, context), self.embedding(codes)
            cache = self.network.new_cache(n) if cached and self.config.network == "transformer" else None
            for i in range(first, size):
                if cache is not None:
                    logits = self.network(embedded[:, : i + 1], conditions[:, : i + 1], cache=cache)[:, -1]
                else:
                    end = (i // columns + 1) * columns  # whole rows
                    logits = self.network(embedded[:, :end], conditions[:, :end])[:, i]
                codes[:, i] = draw(logits.float(), temperature=temperature, top_p=top_p, generator=generator)
                embedded[:, i] = self.embedding(codes[:, i])
        return codes.unflatten(1, self.config.grid)

    def _columns(self, batch: int, labels: Tensor | None) -> tuple[Tensor, ...]:
        """Return the labels of each attribute, (batch,), once their type and shape are right."""
        expected = (batch, len(self.config.attributes))
        if labels is None:
            labels = torch.full(expected, WITHHELD, device=self.embedding.weight.device)
        if labels.dtype != torch.int64:
            raise TypeError(f"expected int64 labels, got {labels.dtype}")
        columns = labels[:, None] if labels.dim() == 1 and expected[1] == 1 else labels
        if columns.shape != expected:
            raise ValueError(f"labels of shape {tuple(labels.shape)}, expected {expected}")
        return columns.unbind(1)

    def _check_context(self, batch: int, context: Tensor | None) -> None:
        if (context is None) != (self.config.context_codes == 0):
            found = "missing" if context is None else "given"
            raise ValueError(f"context is {found}, but context_codes is {self.config.context_codes}")
        if context is not None:
            _check_codes("context", context, self.config.context_grid)
            if context.shape[0] != batch:
                raise ValueError(f"context of {context.shape[0]} grids, expected {batch}")

    def _check_ranges(self, codes: Tensor, labels: Tensor | None, context: Tensor | None) -> None:
        """Refuse values that have no embedding. Not in `forward`, because an export cannot look at values."""
        _check_range("code", codes, 0, self.config.codes)
        for index, column in enumerate(self._columns(len(codes), labels)):
            _check_range(f"label of attribute {index}", column, WITHHELD, self.config.attributes[index])
        self._check_context(len(codes), context)
        if context is not None:
            _check_range("context code", context, 0, self.config.context_codes)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_codes(name: str, codes: Tensor, grid: tuple[int, int]) -> None:
    if codes.dtype != torch.int64:
        raise TypeError(f"expected int64 {name}, got {codes.dtype}")
    if codes.dim() != 3 or codes.shape[1:] != grid:
        raise ValueError(f"{name} of shape {tuple(codes.shape)}, expected (B, {grid[0]}, {grid[1]})")


def _check_range(name: str, values: Tensor, least: int, end: int) -> None:
    wrong = values[(values < least) | (values >= end)]
    if len(wrong):
        raise ValueError(f"{name} is {wrong[0].item()}, expected {least} to {end - 1}")
