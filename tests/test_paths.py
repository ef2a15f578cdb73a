"""Perceptual path length: known for linear generators, for arcs, and the derivative's square for any."""

import math

import pytest
import torch
from tiny_stylegan import made, normal
from torch.testing import assert_close

from imagegen.metrics import lerp, path_speeds, slerp
from imagegen.metrics import paths as module
from imagegen.widgets.generators import slerp as one_slerp

M = normal(5, 4, seed=3)  # features of a latent of 4 numbers, by a linear generator


def linear(z: torch.Tensor) -> torch.Tensor:
    return z @ M.T + 2.0


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_points_of_a_line():
    first, second = normal(2, 6, 3)
    t = torch.linspace(0, 1, 6).double()
    expected = torch.stack([(1 - s) * a + s * b for a, b, s in zip(first, second, t)])
    assert_close(lerp(first, second, t), expected)


def test_points_of_arcs_are_those_of_one_arc_at_a_time():
    """Beside the widget's form, which takes one pair; parallel and opposite latents are joined by a line."""
    first, second = normal(2, 6, 3)
    second[4], second[5] = 2 * first[4], -first[5]
    t = torch.tensor([0.0, 0.3, 1.0, 0.7, 0.25, 0.25]).double()
    expected = torch.stack([one_slerp(a, b, s) for a, b, s in zip(first, second, t.tolist())])
    assert_close(slerp(first, second, t), expected, rtol=1e-9, atol=1e-9)
    assert_close(slerp(first, second, t)[4], 1.25 * first[4])


@pytest.mark.parametrize("sampling", ["full", "end"])
@pytest.mark.parametrize("epsilon", [1e-4, 1e-2, 0.5])
def test_a_linear_generator_has_one_speed_on_a_line(sampling, epsilon):
    """|M (b - a)|^2 of each pair, at every t and for every epsilon: the difference quotient of a line is exact."""
    first, second = normal(2, 20, 4)
    found = path_speeds(linear, first, second, sampling=sampling, epsilon=epsilon, generator=seeded())
    assert found.dtype == torch.float64 and found.shape == (20,)
    assert_close(found, ((second - first) @ M.T).square().sum(1), rtol=1e-7, atol=1e-7)


def test_the_mean_over_normal_latents_is_twice_the_matrix_squared():
    """b - a has the covariance 2 I, so that E |M (b - a)|^2 = 2 tr M^T M."""
    found = path_speeds(linear, normal(40_000, 4, seed=1), normal(40_000, 4, seed=2), generator=seeded())
    error = (found.std() / math.sqrt(len(found))).item()
    expected = 2 * M.square().sum().item()
    assert error < 0.01 * expected and abs(found.mean().item() - expected) < 4 * error


@pytest.mark.parametrize("epsilon", [1e-4, 0.1])
def test_an_arc_of_equal_lengths_has_one_speed_too(epsilon):
    """Two points of a circle of radius r, an angle eps W apart, are 2 r sin(eps W / 2) apart."""
    first, second = (3 * x / x.norm(dim=1, keepdim=True) for x in normal(2, 30, 4))
    angle = torch.acos((first * second).sum(1) / 9)
    found = path_speeds(lambda z: z, first, second, arc=True, epsilon=epsilon, generator=seeded())
    assert_close(found, (6 * torch.sin(epsilon * angle / 2) / epsilon).square(), rtol=1e-6, atol=1e-6)
    chord = path_speeds(lambda z: z, first, second, epsilon=epsilon, generator=seeded())
    assert (chord < found).all()  # the line is the shorter way


def test_the_places_are_spread_over_the_whole_way_or_stand_at_its_start():
    """Features t^2 / 2 along a line from 0 to 1 have the speed t: its square averages 1/3, and at the start is 0."""
    zero, one = torch.zeros(20_000, 1).double(), torch.ones(20_000, 1).double()
    squares = path_speeds(lambda z: z**2 / 2, zero, one, generator=seeded())
    assert squares.mean().item() == pytest.approx(1 / 3, abs=0.01) and 0.99 < squares.max().sqrt() < 1
    assert path_speeds(lambda z: z**2 / 2, zero, one, sampling="end").max() < 1e-8
    assert squares.mean() > (one**2 / 2 - zero).square().mean()  # at least what the straight way has


@pytest.mark.parametrize("arc", [False, True])
def test_it_is_the_square_of_the_derivative(arc):
    """Of a tiny StyleGAN's pixels: the same as the Jacobian times the velocity, by forward differentiation."""
    generator = made().generator.eval()

    def describe(z):
        return generator(z, noise="fixed").flatten(1)

    first, second = normal(2, 5, 6, seed=4)
    found = path_speeds(describe, first, second, arc=arc, epsilon=1e-5, sampling="end")
    point = slerp if arc else lerp

    def followed(t):
        return describe(point(first, second, t.expand(5)))

    start = torch.zeros((), dtype=torch.float64)
    _, speed = torch.func.jvp(followed, (start,), (torch.ones_like(start),))
    assert_close(found, speed.square().sum(1), rtol=1e-3, atol=1e-8)


def test_small_steps_of_float32_latents_are_not_rounded_away():
    first, second = normal(2, 200, 4)
    exact = path_speeds(linear, first, second, generator=seeded())
    found = path_speeds(
        lambda z: z.double() @ M.T, first.float(), second.float(), epsilon=1e-4, generator=seeded()
    )
    assert_close(found.mean(), exact.mean(), rtol=1e-2, atol=0)


def test_the_batch_changes_nothing_and_a_seed_everything():
    first, second = normal(2, 20, 4)
    sizes = []

    def bent(z):
        sizes.append(len(z))
        return z.sin()

    runs = [
        path_speeds(bent, first, second, batch=b, generator=seeded(s)) for b, s in ((7, 0), (20, 0), (20, 1))
    ]
    assert max(sizes) == 20 and sizes[:6] == [7, 7, 7, 7, 6, 6]
    assert_close(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"first": torch.zeros(2, 3)}, r"first \(2, 3\) and second \(4, 3\)"),
        ({"first": torch.zeros(4, 3, 1), "second": torch.zeros(4, 3, 1)}, r"expected the same \(N, D\)"),
        ({"first": torch.zeros(0, 3), "second": torch.zeros(0, 3)}, r"expected the same \(N, D\)"),
        ({"sampling": "half"}, "sampling is 'half', expected one of full, end"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"epsilon": 1.0}, "epsilon is 1.0"),
    ],
)
def test_what_has_no_length_is_refused(options, message):
    given = {"first": torch.zeros(4, 3), "second": torch.ones(4, 3)} | options
    with pytest.raises(ValueError, match=message):
        path_speeds(lambda z: z, given.pop("first"), given.pop("second"), **given)


def test_the_step_is_the_papers():
    assert module.EPSILON == 1e-4
