"""The path length against an explicit Jacobian, its mean over y, and the gradient of its penalty."""

import math

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.testing import assert_close

from imagegen.objectives import path_lengths, path_penalty

EXACT = {"rtol": 1e-9, "atol": 1e-11}
SHAPE = (2, 3, 4)  # of the images of the small networks below


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def curved(w: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return images (B, *SHAPE) of latents (B, D) or (B, L, D): a perceptron of one hidden layer."""
    return (torch.tanh(w.flatten(1) @ first) @ second).unflatten(1, SHAPE)


def weights(n_in: int) -> tuple[Tensor, Tensor]:
    return normal(n_in, 7, seed=2) / math.sqrt(n_in), normal(7, math.prod(SHAPE), seed=3)


@pytest.mark.parametrize("layers", [(), (1,), (4,)])
def test_the_length_is_that_of_an_explicit_jacobians_product(layers):
    """For the y of one seed: J^T y / sqrt(H W), one image after the other; squares summed over D, averaged over L."""
    w = normal(6, *layers, 5).requires_grad_()
    parts = weights(w[0].numel())
    found = path_lengths(curved(w, *parts), w, generator=seeded(4))
    y = normal(6, *SHAPE, seed=4)
    expected = []
    for one, noise in zip(w.detach(), y):
        jacobian = torch.func.jacrev(lambda v: curved(v[None], *parts)[0])(one)  # (C, H, W, [L,] D)
        product = torch.einsum("chw,chw...->...", noise, jacobian) / math.sqrt(3 * 4)
        rows = [sum(v**2 for v in row) for row in product.reshape(-1, 5)]
        expected.append((sum(rows) / len(rows)).sqrt())
    assert found.shape == (6,)
    assert_close(found, torch.stack(expected), **EXACT)


def test_the_mean_of_the_squares_is_that_of_the_jacobians_entries():
    """E |J^T y|^2 = tr(J J^T) / (H W): the sum of J's squares over the number of places. 20,000 y, judged by stderr."""
    n, w = 20_000, normal(1, 5)
    parts = weights(5)
    jacobian = torch.func.jacrev(lambda v: curved(v[None], *parts)[0])(w[0])
    copies = w.repeat(n, 1).requires_grad_()
    squares = path_lengths(curved(copies, *parts), copies, generator=seeded()).square()
    expected, stderr = jacobian.square().sum() / (3 * 4), squares.std() / math.sqrt(n)
    assert (squares.mean() - expected).abs() < 4 * stderr < 0.05 * expected


def test_of_points_there_is_one_place():
    """Points (B, C) are images without height and width: nothing is divided."""
    turn = torch.linalg.qr(normal(4, 4))[0]
    w = normal(3, 4).requires_grad_()
    assert_close(path_lengths(w @ turn, w, generator=seeded(1)), normal(3, 4, seed=1).norm(dim=1), **EXACT)


def test_equal_steps_lead_equally_far_under_an_orthogonal_generator():
    """Its length is |y| / sqrt(H W), whatever w; in many dimensions all are alike. A stretched one's are not."""
    turn = torch.linalg.qr(normal(512, 512))[0]
    w = 5 * normal(40, 512, seed=1)
    w.requires_grad_()
    y = normal(40, 2, 16, 16, seed=6)
    even = path_lengths((w @ turn).unflatten(1, (2, 16, 16)), w, generator=seeded(6))
    assert_close(even, y.flatten(1).norm(dim=1) / 16, **EXACT)
    assert even.std() / even.mean() < 1.5 / math.sqrt(2 * 512)
    stretched = w * torch.linspace(0, 3, 512).double() ** 4
    uneven = path_lengths((stretched @ turn).unflatten(1, (2, 16, 16)), w, generator=seeded(6))
    assert uneven.std() / uneven.mean() > 2 * even.std() / even.mean()


def test_each_image_has_a_y_of_its_own_from_the_generator():
    """The generator w -> w shows y itself, one coordinate at a time: normal, seeded, no two alike."""
    w = normal(3000, 1).requires_grad_()
    lengths = path_lengths(1.0 * w, w, generator=seeded(2))  # |y|
    assert scipy.stats.kstest(lengths.detach().numpy(), "halfnorm").pvalue > 0.01
    assert lengths.unique().numel() == 3000
    assert lengths.equal(path_lengths(1.0 * w, w, generator=seeded(2)))
    assert not lengths.equal(path_lengths(1.0 * w, w, generator=seeded(3)))


@pytest.mark.parametrize("layers", [(), (3,)])
def test_the_penalty_has_the_right_gradient_with_respect_to_the_generators_weights(layers):
    """Second derivatives of a small curved generator, against differences, in float64."""
    w = normal(4, *layers, 5).requires_grad_()

    def penalty(first, second, w):
        return path_penalty(path_lengths(curved(w, first, second), w, generator=seeded()), 0.7)

    inputs = tuple(part.requires_grad_() for part in weights(w[0].numel()))
    assert torch.autograd.gradcheck(penalty, (*inputs, w))
    gradients = torch.autograd.grad(penalty(*inputs, w).sum(), inputs)
    assert all(gradient.abs().max() > 1e-3 for gradient in gradients)


def test_a_generator_that_has_collapsed_gets_a_finite_gradient():
    w, scale = normal(4, 5).requires_grad_(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    lengths = path_lengths((scale * w)[:, :, None, None], w, generator=seeded())
    assert (lengths < 1e-5).all()
    (gradient,) = torch.autograd.grad(path_penalty(lengths, 1.0).sum(), scale)
    assert gradient.isfinite()


@pytest.mark.parametrize("mean", [1.5, 2, torch.tensor(1.5), torch.tensor(1.5, dtype=torch.float64)])
def test_the_penalty_is_the_squared_distance_from_the_mean(mean):
    lengths = torch.tensor([0.0, 1.5, 4.0], dtype=torch.float64)
    expected = [(length - float(mean)) ** 2 for length in (0.0, 1.5, 4.0)]
    found = path_penalty(lengths, mean)
    assert found.tolist() == expected and found.dtype == torch.float64


def test_the_mean_is_held_constant():
    """Else all lengths could be lowered together with their mean, and no penalty would be left."""
    lengths = normal(5).requires_grad_()
    mean = lengths.mean()
    (gradient,) = torch.autograd.grad(path_penalty(lengths, mean).sum(), lengths)
    assert_close(gradient, 2 * (lengths - mean).detach(), **EXACT)
    own = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(path_penalty(lengths, own).sum(), own, allow_unused=True) == (None,)


def test_latents_and_images_of_different_number_are_refused():
    w = normal(4, 5).requires_grad_()
    images = curved(w, *weights(5))
    for pair in ((images[:3], w), (images, w[:1]), (images, w[:, 0]), (images.sum((1, 2, 3)), w)):
        with pytest.raises(
            ValueError, match=r"images \(.*\) and latents \(.*\), expected \(B, C, H, W\) and"
        ):
            path_lengths(*pair)


def test_images_that_do_not_hang_on_the_latents_are_refused():
    w, parts = normal(4, 5), weights(5)
    with pytest.raises(ValueError, match="the latents have no graph: requires_grad_"):
        path_lengths(curved(w, *parts), w)
    w.requires_grad_()
    other = w.detach().clone().requires_grad_()
    for images in (curved(w, *parts).detach(), curved(other, *parts), curved(w.detach(), *parts)):
        with pytest.raises(
            ValueError, match="the images do not hang on these latents, or were made without a graph"
        ):
            path_lengths(images, w)


@pytest.mark.parametrize(("lengths", "mean"), [((5, 1), ()), ((), ()), ((5,), (5,)), ((5,), (1,))])
def test_a_mean_that_is_not_one_number_is_refused(lengths, mean):
    with pytest.raises(ValueError, match=r"lengths \(.*\) and mean \(.*\), expected \(B,\) and one number"):
        path_penalty(torch.zeros(lengths), torch.zeros(mean))
