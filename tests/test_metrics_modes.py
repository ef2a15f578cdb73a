"""Points at the modes of a toy: against a loop over all pairs, and on samples whose answer is known."""

import math

import pytest
import torch

from imagegen import data
from imagegen.metrics import mode_counts


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("within", [1.0, 3.0])
def test_counts_are_those_of_a_loop_over_all_pairs(dim, within):
    points = torch.randn(300, dim, generator=seeded())
    centres = torch.randn(7, dim, generator=seeded(1))
    by_hand, std = [0] * 7, 0.2 * dim
    for point in points.tolist():
        distances = [math.dist(point, centre) for centre in centres.tolist()]
        nearest = distances.index(min(distances))
        by_hand[nearest] += distances[nearest] <= within * std
    counts, share = mode_counts(points, centres, std=std, within=within)
    assert counts.dtype == torch.int64 and counts.tolist() == by_hand
    assert isinstance(share, float) and share == sum(by_hand) / 300
    assert 0 < share < 1


def test_the_data_itself_reaches_every_mode_and_lies_within_three_deviations_as_often_as_a_gaussian():
    """In two dimensions the squared distance is exponential: 1 - exp(-9 / 2) of the points, 98.9 %."""
    points, mode = data.ring_of_gaussians(40_000, std=0.02, generator=seeded())
    counts, share = mode_counts(points, data.ring_centres(), std=0.02)
    expected = 1 - math.exp(-4.5)
    error = math.sqrt(expected * (1 - expected) / 40_000)
    assert abs(share - expected) < 4 * error < 0.01
    assert counts.sum() == round(share * 40_000)
    assert (counts.double() / torch.bincount(mode) - expected).abs().max() < 4 * error * math.sqrt(8)
    _, one = mode_counts(points, data.ring_centres(), std=0.02, within=1.0)
    assert abs(one - (1 - math.exp(-0.5))) < 0.01


def test_a_collapsed_sample_is_all_quality_and_one_mode():
    points = data.ring_centres()[3] + 0.02 * torch.randn(500, 2, generator=seeded()).clamp(-2, 2)
    counts, share = mode_counts(points, data.ring_centres(), std=0.02)
    assert counts.tolist() == [0, 0, 0, 500, 0, 0, 0, 0] and share == 1.0


def test_a_point_between_the_modes_is_at_none():
    counts, share = mode_counts(torch.zeros(10, 2), data.ring_centres(), std=0.02)
    assert counts.tolist() == [0] * 8 and share == 0.0


def test_a_point_within_reach_of_two_modes_counts_once_at_the_nearer():
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    points = torch.tensor([[0.4, 0.0], [0.6, 0.0], [0.7, 0.0]])
    counts, share = mode_counts(points, centres, std=1.0)
    assert counts.tolist() == [1, 2] and share == 1.0


def test_modes_far_from_the_origin_keep_their_digits():
    """Distances of 0.02 at 1,000: squares of the coordinates are 10^6 and lose them in float32."""
    shift = torch.tensor([1024.0, -1024.0])
    points, _ = data.ring_of_gaussians(2000, std=0.25, generator=seeded())
    near = mode_counts(points, data.ring_centres(), std=0.25, within=1.0)
    far = mode_counts(points + shift, data.ring_centres() + shift, std=0.25, within=1.0)
    assert (near[0] - far[0]).abs().max() <= 2 and abs(near[1] - far[1]) < 0.002


@pytest.mark.parametrize(
    ("points", "centres", "settings", "message"),
    [
        (torch.zeros(4), torch.zeros(2, 2), {}, r"points \(4,\) and centres \(2, 2\)"),
        (torch.zeros(4, 3), torch.zeros(2, 2), {}, r"\(4, 3\) and centres \(2, 2\)"),
        (torch.zeros(0, 2), torch.zeros(2, 2), {}, "0 points and 2 centres"),
        (torch.zeros(4, 2), torch.zeros(0, 2), {}, "4 points and 0 centres"),
        (torch.tensor([[math.nan, 0.0]]), torch.zeros(2, 2), {}, "not finite"),
        (torch.zeros(4, 2), torch.zeros(2, 2), {"std": 0.0}, "std is 0.0 and within is 3.0"),
        (torch.zeros(4, 2), torch.zeros(2, 2), {"within": -1.0}, "within is -1.0"),
    ],
)
def test_what_cannot_be_counted_is_refused(points, centres, settings, message):
    with pytest.raises(ValueError, match=message):
        mode_counts(points, centres, **{"std": 0.1} | settings)
