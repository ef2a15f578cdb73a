"""Nearest neighbours, precision and recall, coverage and memorisation, against SciPy's trees and counting by hand."""

import itertools
import math

import numpy as np
import pytest
import scipy.spatial
import torch

from imagegen.metrics import coverage, memorisation, nearest, precision_recall, standard_error


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def line(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def modes(n: int, *which: int, seed: int = 0) -> torch.Tensor:
    """Return n points around each of the named modes, which lie 100 apart; the points of a mode some 1 apart."""
    points = normal(len(which), n, 2, seed=seed)
    points[..., 0] += 100.0 * torch.tensor(which)[:, None]
    return points.flatten(0, 1)


# ---- nearest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "chunk"), [(600, 700, 256), (600, 700, 1), (1, 1, 5), (300, 5, 1000)])
def test_the_nearest_is_that_of_a_tree(n, m, chunk):
    x, y = normal(n, 6), normal(m, 6, seed=1)
    expected, where = scipy.spatial.cKDTree(y.numpy()).query(x.numpy())
    distances, index = nearest(x, y, chunk=chunk)
    assert index.tolist() == where.tolist()
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_the_nearest_is_exact_far_from_the_origin(offset):
    """|x|^2 - 2 x y + |y|^2 would lose all digits at 1e6 if the origin stayed where it is."""
    x, y = normal(200, 3) * 0.01 + offset, normal(300, 3, seed=1) * 0.01 + offset
    expected, where = scipy.spatial.cKDTree(y.numpy()).query(x.numpy())
    distances, index = nearest(x, y)
    assert index.tolist() == where.tolist()
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-13)


def test_a_copy_is_at_distance_zero():
    y = normal(500, 40, seed=1) + 7
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    distances, index = nearest(y[order], y)
    assert (distances == 0).all() and torch.equal(index, order)
    x = y.float()
    distances, index = nearest(x[order], x)
    assert distances.dtype == torch.float64 and (distances == 0).all() and torch.equal(index, order)


# ---- precision and recall ---------------------------------------------------------------------------------------


def by_tree(real: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, float, float]:
    """Return precision, recall and coverage from SciPy's trees and a full table of distances."""
    real, fake = real.numpy(), fake.numpy()
    # The first of k + 1 neighbours is the point itself.
    real_radii, fake_radii = (scipy.spatial.cKDTree(t).query(t, k + 1)[0][:, -1] for t in (real, fake))
    table = scipy.spatial.distance.cdist(real, fake)
    precision = (table <= real_radii[:, None]).any(0).mean()
    recall = (table <= fake_radii[None]).any(1).mean()
    return precision, recall, (table.min(1) <= real_radii).mean()


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 1.0, 30.0])
def test_the_shares_agree_with_trees(k, shift):
    real, fake = normal(700, 4) + 5, 0.8 * normal(500, 4, seed=1) + 5 + shift
    precision, recall, covered = by_tree(real, fake, k)
    assert precision_recall(real, fake, k=k) == (pytest.approx(precision), pytest.approx(recall))
    assert coverage(real, fake, k=k) == pytest.approx(covered)
    assert (shift == 30) == (precision == recall == covered == 0)


def test_a_point_is_no_neighbour_of_its_own():
    """On 0, 1, 3, 7 the radii for k = 1 are 1, 1, 2, 4, and for k = 2 they are 3, 2, 3, 6; edges are inside."""
    real = line(0, 1, 3, 7)
    for k, inside, outside in ((1, (-1.0, 2.5, 11.0), (-1.01, 11.01)), (2, (-3.0, 13.0), (-3.01, 13.01))):
        for value in inside:
            assert precision_recall(real, line(value, value, value), k=k)[0] == 1, (k, value)
        for value in outside:
            assert precision_recall(real, line(value, value, value), k=k)[0] == 0, (k, value)
    assert coverage(real, line(2.0), k=1) == 2 / 4  # 1 and 3 have it within their radii, 0 and 7 do not
    assert coverage(real, line(5.0), k=1) == 2 / 4
    assert coverage(real, line(8.0), k=1) == 1 / 4


def test_a_repeated_point_is_a_neighbour_of_its_copies():
    real = line(0, 0, 0, 10, 20)
    assert precision_recall(real, line(0.5, 1.0), k=1)[0] == 1.0  # the balls around 10 and 20 reach them
    assert precision_recall(line(0, 0, 0, 5, 5, 5), line(0.5, 1.0, 5.0, 0.0), k=1)[0] == 0.5
    assert coverage(line(0, 0, 0, 5, 5, 5), line(0.5, 5.0), k=2) == 0.5


def test_which_share_is_which():
    """Fakes that stay within a part of the real images have precision, and fakes all over the place have recall."""
    real = modes(100, 0, 1, 2, 3)
    narrow, wide = modes(100, 0, 1, seed=1), modes(100, *range(8), seed=1)
    precision, recall = precision_recall(real, narrow)
    assert precision > 0.9 and recall < 0.5
    assert precision_recall(narrow, real) == (recall, precision)
    precision, recall = precision_recall(real, wide)
    assert precision < 0.5 and recall > 0.9
    assert precision_recall(real, real) == (1, 1) and coverage(real, real) == 1
    assert precision_recall(real, real + 1e4) == (0, 0) and coverage(real, real + 1e4) == 0


def test_a_mode_left_out_lowers_coverage_and_recall_and_not_precision():
    real = modes(150, *range(5))
    whole, less = (modes(750 // len(which), *which, seed=1) for which in (range(5), range(4)))
    assert abs(precision_recall(real, whole)[0] - precision_recall(real, less)[0]) < 0.02
    for share in (coverage, lambda real, fake: precision_recall(real, fake)[1]):
        before, after = share(real, whole), share(real, less)
        assert before > 0.9 and 0.77 < after / before < 0.83
    assert precision_recall(real, less)[0] > 0.95


def test_a_few_outliers_raise_recall_and_not_coverage():
    real, fake = normal(300, 8), 0.1 * normal(300, 8, seed=1)
    wide = torch.cat([fake[:-8], 12 * normal(8, 8, seed=2)])
    assert precision_recall(real, fake)[1] < 0.05 and precision_recall(real, wide)[1] > 0.9
    assert coverage(real, wide) < coverage(real, fake) + 0.05 < 0.4


def test_the_shares_do_not_change_when_all_features_turn_move_and_grow_alike():
    real, fake = normal(120, 5), normal(90, 5, seed=1) + 0.7
    turn = torch.linalg.qr(normal(5, 5, seed=7)).Q

    def carry(t: torch.Tensor) -> torch.Tensor:
        return 3 * t @ turn - 50

    assert precision_recall(carry(real), carry(fake)) == precision_recall(real, fake)
    assert coverage(carry(real), carry(fake)) == coverage(real, fake)
    carried = nearest(carry(real), carry(fake))
    assert torch.equal(carried[1], nearest(real, fake)[1])
    assert torch.allclose(carried[0], 3 * nearest(real, fake)[0], rtol=1e-10)


@pytest.mark.parametrize(("n", "m", "k"), [(12, 12, 2), (20, 8, 5), (8, 20, 3)])
def test_two_samples_of_one_distribution_have_the_coverage_that_counting_gives(n, m, k):
    """A ball stays empty if the k nearest of the other n - 1 + m points are all real: a matter of order alone."""
    empty = math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    points = normal(1500, n + m, 3)
    found = torch.tensor([coverage(both[:n], both[n:], k=k) for both in points], dtype=torch.float64)
    assert standard_error(found) < 0.01
    assert abs(found.mean().item() - (1 - empty)) < 4 * standard_error(found)


# ---- memorisation -----------------------------------------------------------------------------------------------


def test_copies_are_found_whichever_set_they_come_from():
    train, test = normal(400, 10), normal(400, 10, seed=1)
    assert memorisation(train[:100], train, test)[0] == 1
    assert memorisation(test[:100] + 1e-3, train, test)[0] == 0
    half = torch.cat([train[:100], test[:100]])
    assert memorisation(half, train, test)[0] == 0.5
    assert memorisation(half, train[:200], test)[0] == pytest.approx((100 / 200) / (100 / 200 + 100 / 400))


@pytest.mark.parametrize(("n", "m"), [(300, 300), (900, 300)])
@pytest.mark.parametrize("kind", ["good", "poor", "one mode"])
def test_what_is_not_memorised_scores_one_half_however_good_it_is(n, m, kind):
    """Over many draws the share is a half, and its deviation is the standard error that is given with it."""
    scale, shift = {"good": (1.0, 0.0), "poor": (3.0, 2.0), "one mode": (0.3, 0.0)}[kind]
    found = []
    for seed in range(100):
        points = normal(n + m + 200, 4, seed=seed)
        found.append(memorisation(scale * points[n + m :] + shift, points[:n], points[n : n + m]))
    shares, errors = torch.tensor(found, dtype=torch.float64).T
    bias = errors.square().mean().item() if n != m else 0.0  # of a ratio, where the sizes differ
    assert abs(shares.mean().item() - 0.5) < 4 * standard_error(shares) + bias
    assert standard_error(shares) < 0.02
    z = (shares - 0.5) / errors
    assert 0.8 < z.std() < 1.25


def test_a_comparison_of_distances_takes_poor_fakes_for_original_ones():
    """Meehan's share falls far below a half for noisy copies; the share of neighbours still finds them."""
    train, test = normal(500, 6), normal(500, 6, seed=1)
    noisy = train + 0.4 * normal(500, 6, seed=2)
    copied, error = memorisation(noisy, train, test)
    assert copied > 0.5 + 10 * error
    far = noisy * 4
    to_train, held_out = nearest(far, train)[0], nearest(test, train)[0]
    assert (to_train[:, None] < held_out[None]).double().mean() < 0.1
    share, error = memorisation(far, train, test)
    assert abs(share - 0.5) < 4 * error and error < 0.1


def test_a_fifth_of_copies_shows():
    train, test = normal(1000, 6), normal(1000, 6, seed=1)
    fake = torch.cat([train[:200], normal(800, 6, seed=2)])
    share, error = memorisation(fake, train, test)
    assert error < 0.03
    assert abs(share - (0.2 + 0.8 * 0.5)) < 3 * error


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 3), (2, 6)])
def test_the_standard_error_is_that_of_all_relabellings(n, m):
    """Every way to call n of the n + m images `train` is tried: the number of fakes nearest to them has this spread."""
    pool, fake = normal(n + m, 2), normal(25, 2, seed=1)
    where = nearest(fake, pool)[1]
    shares = [
        sum(int(i) in chosen for i in where) / len(fake) for chosen in itertools.combinations(range(n + m), n)
    ]
    slope = (n + m) ** 2 / (4 * n * m)  # of the share that is returned, where n of n + m fall to train
    expected = slope * np.std(shares)
    assert memorisation(fake, pool[:n], pool[n:])[1] == pytest.approx(expected, rel=1e-9)
    assert expected > 1.3 * slope * math.sqrt(n * m / (n + m) ** 2 / len(fake))  # neighbours are shared


def test_fakes_as_near_to_both_count_half():
    train, test = line(0, 10), line(0, 20)
    assert memorisation(line(0, 0, 1), train, test)[0] == 0.5
    assert memorisation(line(0, 10), train, test)[0] == 0.75
    assert memorisation(line(0), train, test) == (0.5, pytest.approx(math.sqrt(4 / 12 * (0.5 - 0.25))))


# ---- the door ---------------------------------------------------------------------------------------------------


def test_k_must_leave_a_neighbour():
    real, fake = normal(6, 2), normal(4, 2)
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k is {k}, expected 1 to 5, for real has 6 rows"):
            coverage(real, fake, k=k)
        with pytest.raises(ValueError, match=f"k is {k}, expected 1 to 5, for real has 6 rows"):
            precision_recall(real, fake, k=k)
    with pytest.raises(ValueError, match="k is 4, expected 1 to 3, for fake has 4 rows"):
        precision_recall(real, fake, k=4)
    assert 0 <= coverage(real, fake[:1]) <= 1


@pytest.mark.parametrize("measure", [nearest, precision_recall, coverage])
def test_bad_features_are_refused(measure):
    x = normal(6, 3)
    names = ("x", "y") if measure is nearest else ("real", "fake")
    for y, said in (
        (x[:0], rf"{names[1]} is \(0, 3\), expected \(N, F\) with N >= "),
        (x[:, :2], f"{names[1]} has 2 features and {names[0]} 3, expected the same"),
        (x * math.nan, f"{names[1]} holds 18 values that are not finite"),
        (x.to(torch.uint8), f"{names[1]} holds torch.uint8, expected features of a floating-point type"),
    ):
        with pytest.raises(ValueError, match=said):
            measure(x, y)


def test_bad_sets_and_chunks_are_refused():
    x = normal(6, 3)
    with pytest.raises(ValueError, match=r"test is \(0, 3\), expected \(N, F\) with N >= 1"):
        memorisation(x, x, x[:0])
    with pytest.raises(ValueError, match="train has 2 features and fake 3"):
        memorisation(x, x[:, :2], x)
    with pytest.raises(ValueError, match="chunk is 0, expected at least 1"):
        nearest(x, x, chunk=0)
