"""VQ-VAE: an encoder whose output is replaced by the nearest of K codebook vectors, and a decoder of those."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from imagegen.layers import ResidualBlock, downsample, upsample

_CELLS = 2**18  # distances held at once while the nearest code is looked for: 1 MiB, which a cache holds


@dataclass(frozen=True)
class VQVAEConfig:
    """The sizes of a VQ-VAE and how its codebook learns.

    codes: K, vectors in the codebook. code_dim: D, their dimension. widths: channels at half resolution, at a quarter,
    and so on: each entry halves height and width. blocks, hidden: residual blocks at the smallest resolution, and the
    channels inside them. update, decay, restart: see `Quantiser`.
    Raises: ValueError: a size that cannot be built.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    codes: int = 512
    code_dim: int = 64
    widths: tuple[int, ...] = (32, 64)
    blocks: int = 2
    hidden: int = 64
    update: str = "ema"
    decay: float = 0.99
    restart: float = 0.1

    def __post_init__(self) -> None:
        for name in ("image_shape", "widths"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {self.image_shape}, expected (C, H, W), each at least 1")
        if not self.widths or min(self.widths) < 1 or self.hidden < 1:
            raise ValueError(f"widths {self.widths} and hidden {self.hidden} must be at least 1")
        if self.blocks < 0:
            raise ValueError(f"blocks is {self.blocks}, expected at least 0")
        factor = 2 ** len(self.widths)
        if self.image_shape[1] % factor or self.image_shape[2] % factor:
            raise ValueError(
                f"image_shape is {self.image_shape}: H and W must be multiples of {factor} "
                f"to be halved {len(self.widths)} times"
            )
        _check_quantiser(self.codes, self.code_dim, self.update, self.decay, self.restart)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the grid of codes."""
        factor = 2 ** len(self.widths)
        return self.image_shape[1] // factor, self.image_shape[2] // factor


def _check_quantiser(codes: int, dim: int, update: str, decay: float, restart: float) -> None:
    if codes < 2 or dim < 1:
        raise ValueError(f"{codes} codes of dimension {dim}, expected at least 2 of dimension 1")
    if update not in ("ema", "gradient"):
        raise ValueError(f"update is {update!r}, expected 'ema' or 'gradient'")
    if not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}, expected 0 <= decay < 1")
    if not 0 <= restart < 1:
        raise ValueError(f"restart is {restart}, expected a share of the fair use in [0, 1)")


@torch.no_grad()
def nearest_code(z: Tensor, codebook: Tensor) -> Tensor:
    """Return the index int64 (N,) of the nearest row of codebook (K, D) for each row of z (N, D); the first, if tied.

    |z|^2 is the same for all codes, so |e|^2 / 2 - z e orders them as the squared distance does. The (N, K) table of
    it is never held: only a few rows at a time. Autocast, which would round the distances, stays outside.
    Raises: ValueError: the shapes do not fit.
    """
    if z.dim() != 2 or codebook.dim() != 2 or z.shape[1] != codebook.shape[1]:
        raise ValueError(
            f"z {tuple(z.shape)} and codebook {tuple(codebook.shape)}, expected (N, D) and (K, D)"
        )
    half, turned = 0.5 * codebook.square().sum(1), codebook.T
    found = torch.empty(len(z), dtype=torch.int64, device=z.device)
    rows = max(1, _CELLS // len(codebook)) if z.device.type == "cpu" else 2**14
    with torch.autocast(z.device.type, enabled=False):
        for start in range(0, len(z), rows):
            part = slice(start, start + rows)
            torch.argmin(torch.addmm(half, z[part], turned, alpha=-1), dim=1, out=found[part])
    return found


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, nearest: Tensor) -> Tensor:
        return nearest.view_as(nearest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def straight_through(z: Tensor, nearest: Tensor) -> Tensor:
    """Return `nearest`, to the last bit, with the gradient of the identity to z and none to `nearest`.

    Args: z, nearest: the same shape. Written z + (nearest - z).detach() elsewhere, which rounds and takes two copies.
    Raises: ValueError: the shapes differ.
    Source: Bengio, Leonard and Courville 2013, arXiv:1308.3432; van den Oord et al. 2017, arXiv:1711.00937, s. 3.2.
    """
    if z.shape != nearest.shape:
        raise ValueError(f"z {tuple(z.shape)} and nearest {tuple(nearest.shape)} differ")
    return _StraightThrough.apply(z, nearest)


@dataclass(frozen=True)
class Quantised:
    """What a quantiser makes of z (B, D, h, w).

    quantised: (B, D, h, w), what the decoder gets: the codes' vectors, with the identity's gradient to z. nearest: the
    same vectors; their gradient goes to the codebook, where it learns by one. indices: (B, h, w) int64.
    """

    quantised: Tensor
    nearest: Tensor
    indices: Tensor


class Quantiser(nn.Module):
    """A codebook of K vectors; replaces each vector of a grid by the nearest, and learns while it trains.

    update "ema": with n_k the vectors of a batch nearest to code k and s_k their sum, `counts` goes to
        counts + (1 - decay) (n - counts), and the code moves by (1 - decay) / counts of s_k - n_k e_k. That is the
        usual pair of moving averages of s and n, whose quotient is the code, without a buffer for s: a code that
        nothing is nearest to stays where it is, and nothing is divided by 0. At decay 0 it is Lloyd's step of k-means.
        "gradient": the codebook is a parameter; `nearest` carries the gradient of a codebook loss to it.
    restart: a code with fewer uses than this share of the fair one, N / K vectors of a batch, is put on a random
        vector of the batch. At first all counts are -1, so that the whole codebook starts on the data. 0: that alone.
    The arithmetic is in the codebook's float32, also under autocast. The statistics are those of all processes.
    Source: van den Oord et al. 2017, arXiv:1711.00937, section 3 and appendix A.1; restarts: Dhariwal et al. 2020,
    arXiv:2005.00341, section 3.1.
    """

    def __init__(self, codes: int, dim: int, *, update: str = "ema", decay: float = 0.99,
                 restart: float = 0.1) -> None:  # fmt: skip
        super().__init__()
        _check_quantiser(codes, dim, update, decay, restart)
        self.update, self.decay, self.restart = update, decay, restart
        start = torch.randn(codes, dim)
        if update == "ema":
            self.register_buffer("codebook", start)
        else:
            self.codebook = nn.Parameter(start)
        self.register_buffer("counts", torch.full((codes,), -1.0))  # uses in a batch, on the running average

    def forward(self, z: Tensor, *, generator: torch.Generator | None = None) -> Quantised:
        """Return the nearest codes of z (B, D, h, w); in training mode the codebook then moves.

        Args: generator: of the vectors that restarted codes are put on.
        Raises: ValueError: z does not have the codebook's dimension.
        """
        if z.dim() != 4 or z.shape[1] != self.codebook.shape[1]:
            raise ValueError(f"z of shape {tuple(z.shape)}, expected (B, {self.codebook.shape[1]}, h, w)")
        z = z.to(self.codebook.dtype)
        rows = _rows(z.detach())
        if self.training:
            self._restart(rows, generator)
        indices = nearest_code(rows, self.codebook)
        grid = indices.view(z.shape[0], *z.shape[2:])
        nearest = self.embed(grid)  # what the decoder sees was chosen from the codebook before it moves
        if self.training:
            self._learn(rows, indices)
        return Quantised(straight_through(z, nearest), nearest, grid)

    def indices(self, z: Tensor) -> Tensor:
        """Return the indices int64 (B, h, w) of the nearest codes of z (B, D, h, w). The codebook does not move."""
        return nearest_code(_rows(z.to(self.codebook.dtype)), self.codebook).view(len(z), *z.shape[2:])

    def embed(self, indices: Tensor) -> Tensor:
        """Return the codebook's vectors (B, D, h, w) of indices int64 (B, h, w)."""
        return nn.functional.embedding(indices, self.codebook).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _restart(self, rows: Tensor, generator: torch.Generator | None) -> None:
        codes, n = len(self.codebook), len(rows)
        fair = n * _processes() / codes
        chosen = torch.randperm(max(n, codes), generator=generator, device=rows.device)[:codes] % n
        fresh = _of_the_first(rows[chosen])
        dead = self.counts < self.restart * fair
        self.codebook.copy_(torch.where(dead[:, None], fresh, self.codebook))
        self.counts.masked_fill_(dead, fair)

    @torch.no_grad()
    def _learn(self, rows: Tensor, indices: Tensor) -> None:
        n = _over_all(torch.bincount(indices, minlength=len(self.codebook)).to(rows.dtype))
        self.counts.lerp_(n, 1 - self.decay)
        if self.update == "ema":
            move = _over_all(torch.zeros_like(self.codebook).index_add_(0, indices, rows))
            move.addcmul_(n[:, None], self.codebook, value=-1)  # s - n e
            used = self.counts.clamp(min=torch.finfo(rows.dtype).tiny)
            self.codebook.addcdiv_(move, used[:, None], value=1 - self.decay)


def _rows(z: Tensor) -> Tensor:
    """Return the vectors of a grid z (B, D, h, w), one a row: (N, D), N = B h w."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def _processes() -> int:
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if there else 1


def _over_all(tensor: Tensor) -> Tensor:
    """Return the sum over all processes."""
    if _processes() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def _of_the_first(tensor: Tensor) -> Tensor:
    """Return the first process's tensor in all of them."""
    if _processes() > 1:
        torch.distributed.broadcast(tensor, 0)
    return tensor


class VQVAEOutput(NamedTuple):
    """What a VQ-VAE computes; never a loss."""

    params: Tensor  # (B, C, H, W), logits: the image in [0, 1] is their sigmoid
    z: Tensor  # (B, D, h, w), the encoder's output
    nearest: Tensor  # (B, D, h, w), the codebook vectors it was replaced by
    indices: Tensor  # (B, h, w) int64, the codes


class VQVAE(nn.Module):
    """A VQ-VAE: images (B, C, H, W) in [-1, 1] to a grid of codes and back. Convolutions only."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        channels, widths = config.image_shape[0], config.widths
        blocks = [[ResidualBlock(widths[-1], config.hidden) for _ in range(config.blocks)] for _ in range(2)]
        down = [(downsample(a, b), nn.SiLU()) for a, b in zip((channels, *widths[:-1]), widths)]
        up = [(nn.SiLU(), upsample(a, b)) for a, b in zip(widths[::-1], (*widths[-2::-1], channels))]
        self.encoder = nn.Sequential(
            *[layer for stage in down for layer in stage][:-1],  # a residual block begins with its own SiLU
            *blocks[0],
            nn.SiLU(),
            nn.Conv2d(widths[-1], config.code_dim, 1),
        )
        self.quantiser = Quantiser(
            config.codes, config.code_dim, update=config.update, decay=config.decay, restart=config.restart
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.code_dim, widths[-1], 3, padding=1),
            *blocks[1],
            *[layer for stage in up for layer in stage],
        )

    def _encode(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.config.image_shape:
            raise ValueError(
                f"images of shape {tuple(x.shape)}, expected (B, {', '.join(map(str, self.config.image_shape))})"
            )
        return self.encoder(x)

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes int64 (B, h, w) of images (B, C, H, W) in [-1, 1]. The codebook does not move.

        Raises: ValueError: the images do not have the config's shape.
        """
        return self.quantiser.indices(self._encode(x))

    def decode(self, indices: Tensor) -> Tensor:
        """Return the logits (B, C, H, W) of codes int64 (B, h, w); the image in [0, 1] is their sigmoid.

        Raises: TypeError: the codes are not int64. ValueError: they do not have the config's grid.
        """
        if indices.dtype != torch.int64:
            raise TypeError(f"expected int64 codes, got {indices.dtype}")
        if indices.dim() != 3 or indices.shape[1:] != self.config.grid:
            h, w = self.config.grid
            raise ValueError(f"codes of shape {tuple(indices.shape)}, expected (B, {h}, {w})")
        return self.decoder(self.quantiser.embed(indices))

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> VQVAEOutput:
        z = self._encode(x)
        found = self.quantiser(z, generator=generator)
        return VQVAEOutput(self.decoder(found.quantised), z, found.nearest, found.indices)
