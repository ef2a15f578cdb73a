"""Batches of images in memory, as a function of (seed, step)."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from imagegen.images import to_float


class Batch(NamedTuple):
    """Images in use, float32 (B, C, H, W) in [-1, 1], or codes int64 (B, ...); labels int64 (B,), (B, A), or None."""

    x: Tensor
    labels: Tensor | None


class Batches:
    """Shuffled batches from one tensor in memory; batch `step` is a pure function of (seed, step).

    So a training that was killed goes on with the batches it would have seen. Each epoch is a new
    permutation; the last images of an epoch that fill no batch are left out. With several processes, each
    takes its slice of the same global batch of `batch_size` images.

    Args: images: uint8 (N, C, H, W), or codes int64 (N, ...), given as they are; kept on `device`.
        labels: (N,), (N, A) or None.
    Raises: ValueError: a batch larger than the data, one that the processes cannot share evenly, or images and labels
        of different number.
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None, *, batch_size: int, seed: int,
                 device: str | torch.device = "cpu", rank: int = 0, world_size: int = 1) -> None:  # fmt: skip
        if not 1 <= batch_size <= len(images):
            raise ValueError(f"batch_size is {batch_size}, expected between 1 and the {len(images)} images")
        if not 0 <= rank < world_size or batch_size % world_size:
            raise ValueError(
                f"batch_size {batch_size} cannot be shared by rank {rank} of {world_size} processes"
            )
        if labels is not None and len(labels) != len(images):
            raise ValueError(f"{len(images)} images and {len(labels)} labels differ")
        self.images, self.labels = images.to(device), None if labels is None else labels.to(device)
        self.batch_size, self.seed = batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.steps_per_epoch = len(images) // batch_size
        self._epoch, self._order = -1, torch.empty(0)

    def at(self, step: int) -> Batch:
        """Return this process's part of batch number `step`, counted from 0. Raises: ValueError: below 0."""
        if step < 0:
            raise ValueError(f"step is {step}, expected at least 0")
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = torch.randperm(len(self.images), generator=generator).to(self.images.device)
            self._epoch = epoch
        share = self.batch_size // self.world_size
        start = position * self.batch_size + self.rank * share
        chosen = self._order[start : start + share]
        x = self.images[chosen]
        labels = None if self.labels is None else self.labels[chosen]
        return Batch(x if x.dtype == torch.int64 else to_float(x), labels)

    def __iter__(self) -> Iterator[Batch]:
        step = 0
        while True:
            yield self.at(step)
            step += 1
