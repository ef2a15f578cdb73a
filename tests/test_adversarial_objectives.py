"""The players' losses against their definitions and signs, and each penalty where its gradient is known."""

import math

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.testing import assert_close

from imagegen.objectives import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    instance_noise,
    zero_centred_penalty,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def slope(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss.sum(), inputs)


# ---- the losses ------------------------------------------------------------------------------------------------

REAL, FAKE = 3 * normal(50), 3 * normal(50, seed=1)
ONE = torch.ones((), dtype=torch.float64)

DISCRIMINATOR = {
    "minimax": lambda r, f: -torch.log(torch.sigmoid(r)) - torch.log(1 - torch.sigmoid(f)),
    "non-saturating": lambda r, f: -torch.log(torch.sigmoid(r)) - torch.log(1 - torch.sigmoid(f)),
    "least-squares": lambda r, f: ((r - 1) ** 2 + f**2) / 2,
    "hinge": lambda r, f: torch.maximum(0 * r, 1 - r) + torch.maximum(0 * f, 1 + f),
    "wasserstein": lambda r, f: -(r - f),
}
GENERATOR = {
    "minimax": lambda f: torch.log(1 - torch.sigmoid(f)),
    "non-saturating": lambda f: -torch.log(torch.sigmoid(f)),
    "least-squares": lambda f: (f - 1) ** 2 / 2,
    "hinge": lambda f: -f,
    "wasserstein": lambda f: -f,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_is_its_definition_for_each_image(loss):
    assert discriminator_loss(REAL, FAKE, loss=loss).shape == generator_loss(FAKE, loss=loss).shape == (50,)
    assert_close(discriminator_loss(REAL, FAKE, loss=loss), DISCRIMINATOR[loss](REAL, FAKE), **EXACT)
    assert_close(generator_loss(FAKE, loss=loss), GENERATOR[loss](FAKE), **EXACT)


def test_all_losses_have_a_definition_here():
    assert tuple(DISCRIMINATOR) == tuple(GENERATOR) == LOSSES
    assert_close(discriminator_loss(REAL, FAKE), DISCRIMINATOR["non-saturating"](REAL, FAKE), **EXACT)
    assert_close(generator_loss(FAKE), GENERATOR["non-saturating"](FAKE), **EXACT)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_players_pull_the_logits_of_generated_images_in_opposite_directions(loss):
    """Minimising raises the real logits and lowers the generated ones for D, and raises the generated ones for G."""
    within = torch.linspace(
        -0.9, 0.9, 19, dtype=torch.float64
    )  # inside the hinge's margin, below the 1 of squares
    real, fake = within.clone().requires_grad_(), within.flip(0).clone().requires_grad_()
    up, down = slope(discriminator_loss(real, fake, loss=loss), real, fake)
    assert (up < 0).all()
    if loss == "least-squares":  # the generated logits are drawn to 0 from either side
        assert (down.sign() == fake.sign()).all()
    else:
        assert (down > 0).all()
    (pull,) = slope(generator_loss(fake, loss=loss), fake)
    assert (pull < 0).all()


def test_the_landmarks_of_the_generators_gradient():
    """At logit -5, where D is sure of a fake, -log D pulls with 0.993 and log(1 - D) with 0.0067; at 5 the reverse."""
    logits = torch.tensor([-5.0, 5.0], dtype=torch.float64, requires_grad=True)
    (strong,) = slope(generator_loss(logits, loss="non-saturating"), logits)
    (weak,) = slope(generator_loss(logits, loss="minimax"), logits)
    assert [round(value, 3) for value in strong.tolist()] == [-0.993, -0.007]
    assert [round(value, 4) for value in weak.tolist()] == [-0.0067, -0.9933]
    probability = torch.sigmoid(logits.detach())
    assert_close(weak, -probability, **EXACT)
    assert_close(strong, -(1 - probability), **EXACT)


@pytest.mark.parametrize(
    ("loss", "for_d", "for_g"),
    [
        ("minimax", 2 * math.log(2), -math.log(2)),
        ("non-saturating", 2 * math.log(2), math.log(2)),
        ("least-squares", 0.5, 0.5),
        ("hinge", 2.0, 0.0),
        ("wasserstein", 0.0, 0.0),
    ],
)
def test_what_a_discriminator_that_cannot_tell_shows(loss, for_d, for_g):
    blind = torch.zeros(3, dtype=torch.float64)
    assert_close(discriminator_loss(blind, blind, loss=loss), torch.full_like(blind, for_d), **EXACT)
    assert_close(generator_loss(blind, loss=loss), torch.full_like(blind, for_g), **EXACT)


def test_the_hinge_stops_at_its_margin_and_the_wasserstein_loss_nowhere():
    real = torch.tensor([0.5, 1.5, 40.0], dtype=torch.float64, requires_grad=True)
    fake = (-real).detach().requires_grad_()
    assert discriminator_loss(real, fake, loss="hinge").tolist() == [1.0, 0.0, 0.0]
    assert slope(discriminator_loss(real, fake, loss="hinge"), real, fake)[0].tolist() == [-1.0, 0.0, 0.0]
    assert discriminator_loss(real, fake, loss="wasserstein").tolist() == [-1.0, -3.0, -80.0]
    shifted = discriminator_loss(real + 7, fake + 7, loss="wasserstein")
    assert_close(shifted, discriminator_loss(real, fake, loss="wasserstein"), **EXACT)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_their_gradients_are_finite_where_a_probability_is_rounded_to_0(loss):
    real = torch.tensor([-200.0, 200.0], requires_grad=True)
    fake = torch.tensor([200.0, -200.0], requires_grad=True)
    for value in (discriminator_loss(real, fake, loss=loss), generator_loss(fake, loss=loss)):
        assert value.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(value.sum(), (fake,)))
    expected = 400.0 if loss in ("minimax", "non-saturating") else None
    assert expected is None or discriminator_loss(real, fake, loss=loss).tolist() == [expected, 0.0]


@pytest.mark.parametrize("loss", LOSSES)
def test_one_images_loss_does_not_depend_on_the_others(loss):
    whole = discriminator_loss(REAL, FAKE, loss=loss), generator_loss(FAKE, loss=loss)
    parts = [
        (discriminator_loss(r, f, loss=loss), generator_loss(f, loss=loss))
        for r, f in zip(REAL.split(7), FAKE.split(7), strict=True)
    ]
    for value, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert_close(torch.cat(pieces), value, **EXACT)


def test_another_loss_is_refused():
    for call in (
        lambda: discriminator_loss(REAL, FAKE, loss="vanilla"),
        lambda: generator_loss(FAKE, loss="vanilla"),
    ):
        with pytest.raises(ValueError, match="loss is 'vanilla', expected one of minimax, non-saturating"):
            call()


@pytest.mark.parametrize("loss", LOSSES)
def test_logits_that_broadcasting_would_mix_are_refused(loss):
    column = REAL[:, None]  # (50, 1) beside (50,) would give (50, 50)
    with pytest.raises(ValueError, match=r"real_logits has shape \(50, 1\), expected \(B,\)"):
        discriminator_loss(column, FAKE, loss=loss)
    with pytest.raises(ValueError, match=r"fake_logits has shape \(50, 1\)"):
        discriminator_loss(REAL, FAKE[:, None], loss=loss)
    with pytest.raises(ValueError, match=r"fake_logits has shape \(\)"):
        generator_loss(FAKE.mean(), loss=loss)
    with pytest.raises(ValueError, match="50 real and 1 generated images differ"):
        discriminator_loss(REAL, FAKE[:1], loss=loss)


# ---- the gradient penalty --------------------------------------------------------------------------------------


def linear(weight: Tensor):
    return lambda x: (x * weight).flatten(1).sum(1)


def half_square(x: Tensor) -> Tensor:
    """A critic whose gradient at x is x itself."""
    return 0.5 * x.square().flatten(1).sum(1)


@pytest.mark.parametrize("norm", [1.0, 0.0, 2.5])
def test_the_penalty_of_a_linear_critic_is_that_of_its_weight(norm):
    weight, real, fake = normal(3, 4, 4, seed=2), normal(6, 3, 4, 4), normal(6, 3, 4, 4, seed=1)
    expected = (weight.norm() - norm).square().expand(6)
    found = gradient_penalty(linear(weight), real, fake, norm=norm, generator=seeded())
    assert_close(found, expected, rtol=1e-9, atol=1e-9)
    unit = weight / weight.norm()
    assert_close(gradient_penalty(linear(unit), real, fake), torch.zeros(6).double(), rtol=0, atol=1e-20)


def test_the_norm_is_that_of_each_image_and_not_of_the_batch():
    """At x the gradient of |x|^2 / 2 is x: the lengths of the images, one by one, of several channels and pixels."""
    x = normal(5, 2, 3, 3) * torch.arange(1, 6).double()[:, None, None, None]
    expected = torch.stack([(image.square().sum().sqrt() - 1) ** 2 for image in x])
    assert_close(gradient_penalty(half_square, x, x, generator=seeded()), expected, rtol=1e-9, atol=1e-9)


def recorded(real: Tensor, fake: Tensor, seed: int = 0) -> Tensor:
    """Return the points at which the penalty looks at its critic."""
    seen = []
    gradient_penalty(lambda x: seen.append(x.detach()) or half_square(x), real, fake, generator=seeded(seed))
    (points,) = seen
    return points


def test_the_points_lie_uniformly_on_the_segments():
    """Kolmogorov and Smirnov's test of alpha against U(0, 1), over 20,000 segments from 0 to 1."""
    shape = (20_000, 1, 2, 2)
    points = recorded(torch.ones(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64))
    alpha = points[:, 0, 0, 0]
    assert (points == alpha[:, None, None, None]).all()  # one for all the pixels of an image
    assert alpha.min() >= 0 and alpha.max() <= 1
    assert scipy.stats.kstest(alpha.numpy(), "uniform").pvalue > 0.01
    assert len(alpha.unique()) > 19_990  # and another for each image
    wrong = scipy.stats.kstest(alpha.sqrt().numpy(), "uniform").pvalue
    assert wrong < 1e-100  # so many draws would tell


def test_each_point_lies_between_its_own_two_images():
    real, fake = normal(40, 3, 2, 2), normal(40, 3, 2, 2, seed=1)
    points = recorded(real, fake)
    alpha = ((points - fake) / (real - fake)).flatten(1)
    assert_close(alpha, alpha.mean(1, keepdim=True).expand(-1, 12), rtol=0, atol=1e-6)
    assert (alpha > 0).all() and (alpha < 1).all()
    assert recorded(real, fake).equal(points) and not recorded(real, fake, seed=1).equal(points)


@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 3, 3)])
def test_the_penalties_have_right_gradients_with_respect_to_the_critics_weights(shape):
    """Second derivatives of a small curved critic, against differences, in float64."""
    real, fake = normal(*shape), normal(*shape, seed=1)
    first, second = normal(math.prod(shape[1:]), 5, seed=2), normal(5, seed=3)

    def penalty(a, b, kind):
        critic = lambda x: torch.tanh(x.flatten(1) @ a) @ b  # noqa: E731
        if kind == "zero":
            return zero_centred_penalty(critic, real)
        return gradient_penalty(critic, real, fake, generator=seeded())

    for kind in ("zero", "segment"):
        inputs = first.clone().requires_grad_(), second.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b: penalty(a, b, kind), inputs)  # noqa: B023


def test_a_flat_critic_gets_a_finite_gradient():
    weight = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    value = gradient_penalty(linear(weight), normal(4, 1, 3, 3), normal(4, 1, 3, 3, seed=1))
    assert_close(value, torch.ones(4).double(), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(value.sum(), weight)
    assert gradient.isfinite().all()


def test_no_gradient_of_a_penalty_reaches_the_images():
    """Else the generator would be moved by the discriminator's penalty, and no test of losses would tell."""
    weight = normal(1, 2, 2, seed=4).requires_grad_()
    real, fake = normal(3, 1, 2, 2).requires_grad_(), normal(3, 1, 2, 2, seed=1).requires_grad_()
    critic = lambda x: (x.pow(3) * weight).flatten(1).sum(1)  # noqa: E731
    for value in (
        gradient_penalty(critic, real, fake), zero_centred_penalty(critic, real), zero_centred_penalty(critic, fake)
    ):  # fmt: skip
        gradients = torch.autograd.grad(value.sum(), (real, fake, weight), allow_unused=True)
        assert gradients[0] is None and gradients[1] is None and gradients[2].abs().max() > 0
    assert real.grad is None and fake.grad is None and weight.grad is None


def test_real_and_generated_images_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"real \(4, 1, 2, 2\) and fake \(1, 1, 2, 2\) differ"):
        gradient_penalty(half_square, normal(4, 1, 2, 2), normal(1, 1, 2, 2))


def test_the_zero_centred_penalty_of_a_quadratic_is_exact():
    """s(x) = x A x / 2 + b x has the gradient A x + b, for a symmetric A, at the images themselves."""
    a, b, x = normal(6, 6), normal(6, seed=1), normal(7, 6, seed=2)
    a = (a + a.T) / 2
    found = zero_centred_penalty(lambda x: 0.5 * ((x @ a) * x).sum(1) + x @ b, x)
    expected = torch.stack([(a @ row + b).square().sum() for row in x])
    assert found.shape == (7,)
    assert_close(found, expected, **EXACT)
    images = normal(5, 2, 3, 3)
    assert_close(zero_centred_penalty(half_square, images), images.square().sum((1, 2, 3)), **EXACT)


# ---- instance noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.1, 2.0])
def test_instance_noise_has_its_deviation_and_no_mean(std):
    x = normal(100, 2, 10, 10, seed=5)
    added = instance_noise(x, std, generator=seeded()) - x
    n = added.numel()
    assert added.mean().abs() < 4 * std / math.sqrt(n)
    assert (added.square().mean() - std**2).abs() < 4 * std**2 * math.sqrt(2 / n) < 0.05 * std**2
    assert scipy.stats.kstest(added.flatten().numpy() / std, "norm").pvalue > 0.01
    pixels = added.flatten(1)  # no two pixels share a draw
    assert (torch.corrcoef(pixels.T) - torch.eye(200).double()).abs().max() < 0.6
    assert added.unique().numel() == n


def test_instance_noise_is_seeded_and_lets_the_gradient_through():
    x = normal(3, 1, 2, 2).requires_grad_()
    assert instance_noise(x, 0.3, generator=seeded(1)).equal(instance_noise(x, 0.3, generator=seeded(1)))
    (gradient,) = slope(instance_noise(x, 0.3), x)
    assert (gradient == 1).all()
    assert instance_noise(x, 0.0) is x


@pytest.mark.parametrize("std", [-0.1, math.nan])
def test_noise_of_no_deviation_is_refused(std):
    with pytest.raises(ValueError, match=f"std is {std}, expected at least 0"):
        instance_noise(normal(2, 2), std)
