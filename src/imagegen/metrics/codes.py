"""How evenly a codebook is used, counted over a whole data set."""

import torch
from torch import Tensor


def code_counts(indices: Tensor, n_codes: int) -> Tensor:
    """Return how often each of n_codes codes occurs, int64 (K,). Counts of parts add up to the counts of the whole.

    Args: indices: int64, any shape.
    Raises: TypeError: not int64. ValueError: an index outside 0 .. n_codes - 1.
    """
    if indices.dtype != torch.int64:
        raise TypeError(f"indices are {indices.dtype}, expected int64")
    if indices.numel() and not (0 <= indices.min() and indices.max() < n_codes):
        raise ValueError(
            f"indices span {indices.min().item()} to {indices.max().item()}, expected 0 to {n_codes - 1}"
        )
    return torch.bincount(indices.flatten(), minlength=n_codes)


def perplexity(counts: Tensor) -> float:
    """Return exp of the entropy of counts (K,): how many codes, evenly used, would be as hard to guess.

    Between 1 (one code in use) and K (all evenly). Of a batch it is at most the number of codes that a batch can hold,
    and below that of the data set: count over the data set.
    Raises: ValueError: nothing was counted, or a count is below 0.
    """
    if counts.dim() != 1 or counts.min() < 0 or counts.sum() == 0:
        raise ValueError(f"counts of shape {tuple(counts.shape)}, expected (K,), none below 0 and one above")
    shares = counts.double() / counts.sum()
    return torch.special.entr(shares).sum().exp().item()


def codes_used(counts: Tensor) -> int:
    """Return how many codes of counts (K,) occur at all."""
    return int((counts > 0).sum())
