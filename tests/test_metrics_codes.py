"""The use of a codebook, against the entropy written out, SciPy, and codebooks whose use is known."""

import math

import pytest
import scipy.stats
import torch
from torch.testing import assert_close

from imagegen.metrics import code_counts, codes_used, perplexity


def drawn(*shape: int, codes: int = 10, seed: int = 0) -> torch.Tensor:
    return torch.randint(codes, shape, generator=torch.Generator().manual_seed(seed))


def test_counts_are_those_of_a_loop_over_all_positions():
    indices = drawn(6, 3, 4, codes=7)
    by_hand = [0] * 9
    for code in indices.flatten().tolist():
        by_hand[code] += 1
    found = code_counts(indices, 9)
    assert found.dtype == torch.int64 and found.tolist() == by_hand
    assert found.sum() == 72 and found[7:].tolist() == [0, 0]


def test_counts_of_parts_add_up_to_those_of_the_whole():
    indices = drawn(10, 3, 3)
    parts = sum(code_counts(part, 10) for part in indices.split(4))
    assert parts.equal(code_counts(indices, 10))


def test_counts_of_nothing_are_zero():
    assert code_counts(torch.empty(0, 7, 7, dtype=torch.int64), 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        (torch.zeros(4), TypeError, "indices are torch.float32, expected int64"),
        (torch.zeros(4, dtype=torch.int32), TypeError, "torch.int32"),
        (torch.tensor([0, 10]), ValueError, "indices span 0 to 10, expected 0 to 9"),
        (torch.tensor([-1, 3]), ValueError, "indices span -1 to 3"),
    ],
)
def test_indices_that_are_none_are_refused(indices, error, message):
    with pytest.raises(error, match=message):
        code_counts(indices, 10)


def test_perplexity_is_the_exponential_of_the_entropy():
    counts = torch.tensor([5, 0, 1, 17, 3])
    shares = [5 / 26, 1 / 26, 17 / 26, 3 / 26]
    by_hand = math.exp(-sum(p * math.log(p) for p in shares))
    assert_close(perplexity(counts), by_hand, rtol=1e-12, atol=0)
    assert_close(perplexity(counts), math.exp(scipy.stats.entropy(counts.numpy())), rtol=1e-12, atol=0)


def test_perplexity_counts_the_codes_of_an_even_use():
    """k codes used evenly are as hard to guess as k codes, whatever the others do, and however long one counts."""
    for k in (1, 2, 7, 512):
        counts = torch.zeros(512, dtype=torch.int64)
        counts[:k] = 13
        assert_close(perplexity(counts), float(k), rtol=1e-12, atol=0)
        assert_close(perplexity(1000 * counts), float(k), rtol=1e-12, atol=0)
        assert codes_used(counts) == k


def test_perplexity_lies_between_one_and_the_codes_in_use():
    for seed in range(5):
        counts = drawn(40, codes=1000, seed=seed) * (drawn(40, codes=3, seed=10 + seed) > 0)
        assert 1 < perplexity(counts) < codes_used(counts) < 40


def test_the_perplexity_of_a_batch_is_not_that_of_the_data_set():
    """Batches of two classes that use other codes: the mean over batches is half of what the whole set uses."""
    first, second = drawn(2000, 7, 7, codes=64), 64 + drawn(2000, 7, 7, codes=64, seed=1)
    batches = [code_counts(part, 128) for part in torch.cat([first, second]).split(20)]
    of_batches = sum(perplexity(counts) for counts in batches) / len(batches)
    of_all = perplexity(sum(batches))
    assert of_batches < 64 < 127 < of_all <= 128
    assert_close(perplexity(code_counts(torch.cat([first, second]), 128)), of_all, rtol=0, atol=0)


@pytest.mark.parametrize("counts", [torch.zeros(4), torch.tensor([3, -1]), torch.ones(2, 2), torch.tensor(3)])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match=r"expected \(K,\), none below 0 and one above"):
        perplexity(counts)


def test_codes_used_are_those_that_occur_once_or_more():
    assert codes_used(torch.tensor([0, 1, 0, 12, 3])) == 3
    assert codes_used(torch.zeros(5)) == 0
    assert isinstance(codes_used(torch.tensor([1])), int)
