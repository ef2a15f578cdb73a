"""Augmentation: the law of each kind, its maps and their transposes, and that what it does can be undone."""

import functools
import itertools
import math

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.testing import assert_close

from imagegen.augment import EDGE, GREY, KINDS, augment, erased, mirrored, recoloured, shifted

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def whole(*values: int) -> Tensor:
    return torch.tensor(values)


# ---- the maps --------------------------------------------------------------------------------------------------


def moved_by_loops(image: Tensor, down: int, right: int, fill: float = EDGE) -> Tensor:
    out = torch.full_like(image, fill)
    height, width = image.shape[1:]
    for i, j in itertools.product(range(height), range(width)):
        if 0 <= i + down < height and 0 <= j + right < width:
            out[:, i + down, j + right] = image[:, i, j]
    return out


@pytest.mark.parametrize("size", [(4, 4), (3, 6), (1, 2)])
def test_a_shift_moves_each_image_by_its_own_pixels_and_draws_in_black(size):
    moves = list(itertools.product(range(-5, 6), repeat=2))  # up to right out of the image
    x = normal(len(moves), 3, *size)
    down, right = torch.tensor(moves).T
    expected = torch.stack([moved_by_loops(image, *move) for image, move in zip(x, moves)])
    assert shifted(x, down, right).equal(expected)
    assert EDGE == -1 and (expected == EDGE).any() and (expected != EDGE).any()


def test_only_the_named_images_are_mirrored_and_left_to_right():
    x = normal(3, 2, 4, 5)
    found = mirrored(x, torch.tensor([True, False, True]))
    for i, j in itertools.product(range(4), range(5)):
        assert found[0, :, i, j].equal(x[0, :, i, 4 - j])
    assert found[1].equal(x[1]) and mirrored(found, torch.tensor([True, False, True])).equal(x)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_square_is_erased_where_it_lies_in_the_image(side):
    corners = list(itertools.product(range(-3, 5), range(-3, 7)))
    x = normal(len(corners), 2, 4, 6)
    top, left = torch.tensor(corners).T
    expected = x.clone()
    for n, (i, j) in enumerate(corners):
        expected[n, :, max(i, 0) : max(i + side, 0), max(j, 0) : max(j + side, 0)] = GREY
    assert erased(x, top, left, side).equal(expected)


def test_colours_are_changed_as_the_words_say():
    """Brightness is the mean, contrast the spread around it, saturation the spread of a pixel's channels."""
    x = normal(5, 3, 4, 6)
    b, c, s = normal(5, seed=1), normal(5, seed=2).exp(), normal(5, seed=3).exp()
    one, zero = torch.ones(5).double(), torch.zeros(5).double()
    spread = lambda x: x.flatten(1).std(1)  # noqa: E731
    mean = lambda x: x.flatten(1).mean(1)  # noqa: E731
    assert_close(recoloured(x, zero, one, one), x, **EXACT)
    assert_close(recoloured(x, b, one, one), x + b[:, None, None, None], **EXACT)
    found = recoloured(x, zero, c, one)
    assert_close(mean(found), mean(x), **EXACT)
    assert_close(spread(found), c * spread(x), **EXACT)
    found = recoloured(x, zero, one, s)
    assert_close(found.mean(1), x.mean(1), **EXACT)
    assert_close(found.std(1), s[:, None, None] * x.std(1), **EXACT)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_changes_of_colour_are_a_commutative_group(channels):
    """On this their law's characteristic function rests, and with it that they do not leak. Nothing is clamped."""
    x = 3 * normal(5, channels, 4, 6)
    b, c, s = normal(2, 5, seed=1), normal(2, 5, seed=2).exp(), normal(2, 5, seed=3).exp()
    first, second = zip(b, c, s)
    both = b.sum(0), c.prod(0), s.prod(0)
    assert_close(recoloured(recoloured(x, *first), *second), recoloured(x, *both), **EXACT)
    assert_close(recoloured(recoloured(x, *first), -first[0], 1 / first[1], 1 / first[2]), x, **EXACT)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_of_other_than_three_channels_have_no_saturation(channels):
    x, one = normal(5, channels, 4, 6), torch.ones(5).double()
    assert_close(recoloured(x, 0 * one, one, 7 * one), x, **EXACT)
    assert augment(x, 1.0, generator=seeded()).shape == x.shape


# ---- what is drawn ---------------------------------------------------------------------------------------------


def test_no_probability_no_change():
    x, random = normal(4, 3, 8, 8).requires_grad_(), seeded()
    before = random.get_state()
    assert augment(x, 0.0, generator=random) is x and random.get_state().equal(before)
    assert augment(x, 0.7, kinds=()) is x


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)])
def test_augmentation_is_a_function_of_the_generators_state(kinds):
    x = normal(64, 3, 8, 8).float()
    first, again, other = (augment(x, 0.5, generator=seeded(k), kinds=kinds) for k in (3, 3, 4))
    assert first.equal(again) and not first.equal(other)
    assert first.shape == x.shape and first.dtype == x.dtype and x.equal(normal(64, 3, 8, 8).float())
    assert_close(augment(x.double(), 0.5, generator=seeded(3), kinds=kinds).float(), first)
    torch.manual_seed(9)
    free = augment(x, 0.5, kinds=kinds)
    torch.manual_seed(9)
    assert free.equal(augment(x, 0.5, kinds=kinds))


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)])
def test_draws_come_from_the_generators_device(kinds):
    """A tensor without values: the generator moves on as it does for one with values."""
    x, first, second = normal(6, 3, 8, 8), seeded(), seeded()
    augment(x, 0.5, generator=first, kinds=kinds)
    assert augment(x.to("meta"), 0.5, generator=second, kinds=kinds).device.type == "meta"
    assert first.get_state().equal(second.get_state()) and not first.get_state().equal(seeded().get_state())


def test_kinds_are_applied_in_the_order_in_which_they_are_named():
    """A shift behind a cutout draws in black over grey; a change of colour behind a shift changes the black too."""
    x = normal(200, 3, 8, 8)
    late = augment(x, 1.0, generator=seeded(), kinds=("colour", "shift"))
    early = augment(x, 1.0, generator=seeded(), kinds=("shift", "colour"))
    assert (late == EDGE).any() and not (early == EDGE).any()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_images_touched_is_the_one_asked_for(kind, p):
    """One image 6,000 times, so that also a draw shared by neighbours would show, as a share that is far off."""
    n = 6000
    x = normal(1, 1, 16, 24).expand(n, -1, -1, -1)
    touched = (augment(x, p, generator=seeded(), kinds=(kind,)) != x).flatten(1).any(1)
    still = {"flip": 1 / 2, "shift": 1 / (3 * 4)}.get(
        kind, 0
    )  # of 3 and 4 numbers the same, each drawn twice
    share = p * (1 - still)
    assert abs(touched.double().mean().item() - share) <= 4.5 * math.sqrt(share * (1 - share) / n)
    runs = touched[1:] == touched[:-1]  # neighbours agree as often as independent images do
    agree = share**2 + (1 - share) ** 2
    assert abs(runs.double().mean().item() - agree) <= 6 * math.sqrt(agree * (1 - agree) / n)


def difference(n: int) -> dict[int, float]:
    """Return the law of the difference of two uniform draws from 0 to n."""
    return {d: (n + 1 - abs(d)) / (n + 1) ** 2 for d in range(-n, n + 1)}


def law_of(kind: str, height: int, width: int) -> list[tuple[float, object]]:
    """Return what augment draws for a kind that it applies: (probability, map of images), in full."""
    if kind == "flip":
        flags = [torch.full((1,), flag) for flag in (False, True)]
        return [(0.5, lambda x, flag=flag: mirrored(x, flag.expand(len(x)))) for flag in flags]
    if kind == "shift":
        laws = [difference(max(1, size // 8)).items() for size in (height, width)]
        change = shifted
    else:
        side = max(1, min(height, width) // 2)
        laws = [[(centre - side // 2, 1 / size) for centre in range(size)] for size in (height, width)]
        change = functools.partial(erased, side=side)
    return [
        (a * b, lambda x, i=i, j=j: change(x, whole(i).expand(len(x)), whole(j).expand(len(x))))
        for (i, a), (j, b) in itertools.product(*laws)
    ]


@pytest.mark.parametrize("kinds", [("flip",), ("shift",), ("cutout",), ("flip", "shift"), ("shift", "flip")])
@pytest.mark.parametrize("size", [(4, 5), (16, 9)])
def test_each_outcome_comes_as_often_as_its_law_says(kinds, size):
    """Pearson's test over all images that one can become: signs, ranges, weights and the independence of the draws."""
    p, n = 0.6, 8000
    image = normal(1, 1, *size)
    expected: dict[bytes, float] = {image.numpy().tobytes(): 1.0}
    for kind in kinds:
        after: dict[bytes, float] = {}
        for key, weight in expected.items():
            x = torch.frombuffer(bytearray(key), dtype=torch.float64).view(1, 1, *size)
            outcomes = [(1 - p, x), *((p * chance, change(x)) for chance, change in law_of(kind, *size))]
            for chance, outcome in outcomes:
                became = outcome.numpy().tobytes()
                after[became] = after.get(became, 0.0) + weight * chance
        expected = after
    counts = dict.fromkeys(expected, 0)
    for row in augment(image.expand(n, -1, -1, -1), p, generator=seeded(1), kinds=kinds):
        counts[row.numpy().tobytes()] += 1  # an image that the law does not know is an error
    assert sum(expected.values()) == pytest.approx(1) and min(expected.values()) * n > 5
    order = list(expected)
    found = scipy.stats.chisquare([counts[k] for k in order], [expected[k] * n for k in order])
    assert found.pvalue > 0.001


def test_colours_are_drawn_from_normal_laws_of_the_stated_widths():
    """Read back from the images: the change of the mean, of the spread, and of the spread within a pixel."""
    n = 10_000
    x = normal(1, 3, 4, 4).expand(n, -1, -1, -1)
    found = augment(x, 1.0, generator=seeded(2), kinds=("colour",))
    brightness = (found - x).mean((1, 2, 3))
    saturated = (found.std(1) / x.std(1)).mean((1, 2))  # contrast times saturation
    contrast = found.mean(1).flatten(1).std(1) / x.mean(1).flatten(1).std(1)
    drawn = torch.stack([
        brightness / 0.2, contrast.log() / 0.35, (saturated / contrast).log() / 0.7
    ])  # fmt: skip
    for values in drawn:
        assert scipy.stats.kstest(values.numpy(), "norm").pvalue > 0.001
        assert scipy.stats.kstest(1.1 * values.numpy(), "norm").pvalue < 0.001  # so many draws would tell
    assert (torch.corrcoef(drawn) - torch.eye(3).double()).abs().max() < 4.5 / math.sqrt(n)


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)])
def test_real_and_generated_images_are_changed_by_the_same_law(kinds):
    """What is drawn does not look at the images: with one seed it is one affine map, for whichever images."""
    real, fake = normal(300, 3, 8, 8).clamp(-1, 1), 0.1 * normal(300, 3, 8, 8, seed=1) - 0.7
    change = lambda x: augment(x, 0.7, generator=seeded(5), kinds=kinds)  # noqa: E731
    assert_close(change(0.25 * real + 0.75 * fake), 0.25 * change(real) + 0.75 * change(fake), **EXACT)
    assert not torch.allclose(change(real), real)


# ---- gradients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)])
def test_the_gradient_is_the_transposed_map(kinds):
    """<A x, y> = <x, A' y> for each image, A the linear part of what was drawn and A' y the gradient of <A x, y>."""
    x, y = normal(300, 3, 8, 8).requires_grad_(), normal(300, 3, 8, 8, seed=1)
    change = lambda x: augment(x, 0.8, generator=seeded(3), kinds=kinds)  # noqa: E731
    with torch.no_grad():
        linear = change(x) - change(torch.zeros_like(x))
    (back,) = torch.autograd.grad((change(x) * y).sum(), x)
    assert_close((linear * y).sum((1, 2, 3)), (x.detach() * back).sum((1, 2, 3)), rtol=1e-11, atol=1e-11)
    assert (back.flatten(1).abs().amax(1) > 0).all()


def test_the_transposed_maps_are_those_of_paper_and_pencil():
    """Shift: what comes back is moved back, with nothing drawn in. Flip: itself. Cutout: nothing through the square."""
    moves = list(itertools.product((-2, 0, 1), (-1, 0, 3)))
    down, right = torch.tensor(moves).T
    x, y = normal(9, 2, 4, 5).requires_grad_(), normal(9, 2, 4, 5, seed=1)
    (back,) = torch.autograd.grad((shifted(x, down, right) * y).sum(), x)
    assert back.equal(torch.stack([moved_by_loops(row, -i, -j, 0.0) for row, (i, j) in zip(y, moves)]))
    which = torch.arange(9) % 2 == 0
    (back,) = torch.autograd.grad((mirrored(x, which) * y).sum(), x)
    assert back.equal(mirrored(y, which))
    (back,) = torch.autograd.grad((erased(x, down, right, 2) * y).sum(), x)
    holes = erased(torch.ones_like(y), down, right, 2)
    assert back.equal(holes * y) and (holes == 0).any()


def test_a_gradients_gradient_is_right_too():
    """R1 and the path length differentiate through augmentation twice."""
    x = normal(3, 3, 4, 4).requires_grad_()
    curved = lambda x: augment(x, 0.8, generator=seeded(1)).pow(3).mean((1, 2, 3))  # noqa: E731
    assert torch.autograd.gradcheck(curved, x)
    assert torch.autograd.gradgradcheck(curved, x)


# ---- what can be undone ----------------------------------------------------------------------------------------

PIXELS = (2, 3)
ORBITS = 24  # of 2 x 2 images of three levels, up to a turn: (3^4 + 3^2 + 2 x 3) / 4 (Burnside)


def all_images(height: int, width: int, *levels: float) -> Tensor:
    values = list(itertools.product(levels, repeat=height * width))
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, height, width)


SPACE = all_images(*PIXELS, -1, 1)


def operator(law, space: Tensor) -> Tensor:
    """Return T: entry (i, j) is the probability that image j of a finite space becomes image i."""
    at = {tuple(image.flatten().tolist()): i for i, image in enumerate(space)}
    found = torch.zeros(len(space), len(space), dtype=torch.float64)
    for chance, change in law:
        for j, image in enumerate(change(space)):
            found[at[tuple(image.flatten().tolist())], j] += chance
    assert_close(found.sum(0), torch.ones(len(space)).double())
    return found


def applied(p: float, t: Tensor) -> Tensor:
    return (1 - p) * torch.eye(len(t), dtype=torch.float64) + p * t


def a_law(n: int, seed: int = 0) -> Tensor:
    """Return a law over n images, of very unequal weights, on a fifth of which none is put."""
    weights = normal(n, seed=seed).mul(2).exp()
    weights[::5] = 0
    return weights / weights.sum()


def turned(law) -> Tensor:
    """Return the operator that turns 2 x 2 images of three levels by k quarters with probability law[k]."""
    turns = [(chance, lambda x, k=k: x.rot90(k, (2, 3))) for k, chance in enumerate(law)]
    return operator(turns, all_images(2, 2, -1, 0, 1))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75, 0.9, 0.99])
def test_quarter_turns_of_some_images_determine_the_law_of_the_originals(p):
    """The cyclic group of 4: a uniform element has eigenvalues 1 and 0, so (1 - p) I + p T has 1 and 1 - p."""
    change = applied(p, turned([0.25] * 4))
    values = torch.linalg.eigvalsh(change)  # T of a group with a symmetric law is symmetric
    counts = [((values - value).abs() < 1e-12).sum().item() for value in (1, 1 - p)]
    assert counts == [ORBITS, 81 - ORBITS]
    law = a_law(81)
    assert (change @ law - law).abs().sum() > 0.05
    assert_close(torch.linalg.solve(change, change @ law), law, rtol=0, atol=1e-10)


def test_quarter_turns_of_all_images_do_not():
    """At p = 1 upright images and those lying on their side give one law: the operator is singular."""
    change = applied(1.0, turned([0.25] * 4))
    assert torch.linalg.matrix_rank(change) == ORBITS < 81
    upright, lying = torch.zeros(2, 81, dtype=torch.float64)
    upright[1], lying[3] = 1, 1
    assert_close(change @ upright, change @ lying, **EXACT)
    law, part = a_law(81), applied(0.99, turned([0.25] * 4))
    assert not torch.allclose(part @ upright, part @ lying, atol=1e-3)
    assert torch.linalg.lstsq(change, change @ law).solution.sub(law).abs().max() > 0.01


def test_always_turning_by_the_same_quarter_can_be_undone_and_by_a_random_two_at_a_half_cannot():
    """The law over the group decides, not p < 1 by itself: a half turn drawn with certainty is lost at p = 1/2."""
    assert torch.linalg.matrix_rank(applied(1.0, turned([0, 1, 0, 0]))) == 81
    assert torch.linalg.matrix_rank(applied(0.5, turned([0, 0, 1, 0]))) < 81
    assert torch.linalg.matrix_rank(applied(0.4, turned([0, 0, 1, 0]))) == 81


@pytest.mark.parametrize("kind", ["flip", "shift", "cutout"])
def test_no_kind_has_an_eigenvalue_below_0_so_each_p_below_1_can_be_undone(kind):
    """All images of 2 x 3 pixels. The eigenvalues of (1 - p) I + p T are then at least 1 - p, for every p."""
    space = all_images(*PIXELS, -1, 0, 1) if kind == "cutout" else SPACE
    t = operator(law_of(kind, *PIXELS), space)
    values = torch.linalg.eigvals(t)
    # A defective matrix gives its eigenvalues to the root of the rounding, or worse; none is far off.
    assert values.imag.abs().max() < 1e-3 and values.real.min() > -1e-3 and values.real.max() < 1 + 1e-3
    law = a_law(len(space))
    for p in (0.2, 0.5, 0.8, 0.95):
        change = applied(p, t)
        assert (change @ law - law).abs().sum() > 0.05 * p
        assert_close(torch.linalg.solve(change, change @ law), law, rtol=0, atol=1e-10)


def reflected(x: Tensor, down: int, right: int) -> Tensor:
    for axis, by in ((2, down), (3, right)):
        last = max(1, x.shape[axis] - 1)
        places = (torch.arange(x.shape[axis]) - by).remainder(2 * last)
        x = x.index_select(axis, torch.minimum(places, 2 * last - places))
    return x


def test_a_uniform_shift_with_reflected_edges_cannot_be_undone_at_three_quarters():
    """Why the shift's law is not uniform and its edges are black."""
    space = all_images(1, 4, -1, 1)
    edges = {"reflected": reflected, "black": lambda x, i, j: shifted(x, whole(i), whole(j))}
    lowest = {}
    for (edge, change), (name, law) in itertools.product(
        edges.items(), {"uniform": dict.fromkeys((-1, 0, 1), 1 / 3), "triangular": difference(1)}.items()
    ):
        shifts = [
            (chance, lambda x, j=j, c=change: torch.cat([c(image[None], 0, j) for image in x]))
            for j, chance in law.items()
        ]
        t = operator(shifts, space)
        lowest[edge, name] = torch.linalg.eigvals(t).real.min().item()
        lowest[edge, name, "undone"] = min(
            torch.linalg.svdvals(applied(p, t)).min().item() for p in (0.5, 0.75)
        )
    assert lowest["reflected", "uniform"] == pytest.approx(-1 / 3) and lowest["black", "uniform"] < -0.2
    assert lowest["reflected", "uniform", "undone"] < 1e-12  # an eigenvalue of 1/4 - 3/4 x 1/3
    assert lowest["reflected", "triangular"] > -1e-6 and lowest["black", "triangular"] > 0.05
    assert lowest["black", "triangular", "undone"] > 1.2 * lowest["reflected", "triangular", "undone"] > 0.2


@pytest.mark.parametrize("kinds", [("flip",), ("shift",), ("flip", "shift")])
def test_the_law_of_the_originals_is_found_from_augmented_samples(kinds):
    """What augment itself gives, 200,000 times: its frequencies, undone by the exact operator, are the law again."""
    n, p, law = 200_000, 0.5, a_law(len(SPACE), seed=1)
    drawn = torch.multinomial(law, n, replacement=True, generator=seeded())
    found = augment(SPACE[drawn], p, generator=seeded(1), kinds=kinds)
    powers = (2.0 ** torch.arange(5, -1, -1)).double()  # the images count in binary
    frequencies = ((found.flatten(1) > 0) * powers).sum(1).long().bincount(minlength=64) / n
    change = torch.eye(64, dtype=torch.float64)
    for kind in kinds:
        change = applied(p, operator(law_of(kind, *PIXELS), SPACE)) @ change
    undo = torch.linalg.inv(change)
    expected = change @ law
    covariance = (torch.diag(expected) - torch.outer(expected, expected)) / n
    stderr = (undo @ covariance @ undo.T).diagonal().sqrt()
    off = (undo @ frequencies.double() - law).abs()
    assert (off <= 4.5 * stderr + 1e-12).all()
    assert stderr.max() < 0.005 < 0.05 < (frequencies - law).abs().max()  # a law not undone would be far off


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match=f"p is {p}, expected a probability, 0 to 1, and below 1"):
        augment(normal(2, 1, 4, 4), p)


@pytest.mark.parametrize("kinds", [("flip", "rotation"), ("flip", "flip"), "flip"])
def test_unknown_and_repeated_kinds_are_refused(kinds):
    expected = "kinds is .*, expected some of flip, shift, cutout, colour, each once"
    with pytest.raises(ValueError, match=expected):
        augment(normal(2, 1, 4, 4), 0.5, kinds=kinds)


def test_what_is_no_batch_of_images_is_refused():
    with pytest.raises(ValueError, match=r"x has shape \(1, 4, 4\), expected \(B, C, H, W\)"):
        augment(normal(1, 4, 4), 0.5)
    with pytest.raises(TypeError, match="x is torch.uint8, expected floating point"):
        augment(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), 0.5)
