"""A restorer's terms against their slow forms, patch by patch, and R1 of patches that overlap."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from imagegen.objectives import (
    LOSSES,
    PIXEL_LOSSES,
    discriminator_loss,
    feature_loss,
    generator_loss,
    patch_discriminator_loss,
    patch_generator_loss,
    patch_penalty,
    pixel_loss,
)

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


# ---- distances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
def test_a_pixel_loss_is_the_mean_over_the_values_of_each_image(loss):
    a, b = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    found = pixel_loss(a, b, loss=loss)
    assert found.shape == (3,)
    for i in range(3):
        total = 0.0
        for mine, theirs in zip(a[i].flatten().tolist(), b[i].flatten().tolist(), strict=True):
            total += (mine - theirs) ** 2 if loss == "mse" else abs(mine - theirs)
        assert found[i].item() == pytest.approx(total / 40, rel=1e-12)
    assert_close(pixel_loss(a, b), pixel_loss(a, b, loss="mse"), **EXACT)


@pytest.mark.parametrize(("loss", "best"), [("mse", "mean"), ("l1", "median")])
def test_the_best_constant_is_the_mean_for_squares_and_the_median_for_l1(loss, best):
    draws = torch.tensor([-1.0, -0.9, -0.8, 0.1, 0.9]).double()[:, None, None, None]
    tried = torch.linspace(-1, 1, 2001).double()
    losses = torch.stack([pixel_loss(torch.full_like(draws, t), draws, loss=loss).mean() for t in tried])
    wanted = draws.mean() if best == "mean" else draws.median()
    assert abs(tried[losses.argmin()] - wanted) < 1e-3
    assert abs(draws.mean() - draws.median()) > 0.1  # or the two could not be told apart


def test_a_feature_loss_is_a_mean_in_each_map_and_a_sum_over_maps():
    shapes = [(3, 4, 6, 6), (3, 8, 3, 3)]
    a, b = ([normal(*shape, seed=seed) for shape in shapes] for seed in (0, 1))
    expected = [sum(((x[i] - y[i]) ** 2).mean() for x, y in zip(a, b, strict=True)) for i in range(3)]
    assert_close(feature_loss(a, b), torch.stack(expected), **EXACT)
    assert_close(feature_loss(a[:1], b[:1]), pixel_loss(a[0], b[0]), **EXACT)


# ---- patches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_each_patch_has_its_loss_and_an_image_has_their_mean(loss):
    real, fake = 3 * normal(4, 2, 3), 3 * normal(4, 2, 3, seed=1)
    found, fooled = patch_discriminator_loss(real, fake, loss=loss), patch_generator_loss(fake, loss=loss)
    assert found.shape == fooled.shape == (4,)
    for i in range(4):
        of_critic, of_restorer = [], []
        for row in range(2):
            for column in range(3):
                r, f = (logits[i, row, column].reshape(1) for logits in (real, fake))
                of_critic.append(discriminator_loss(r, f, loss=loss))
                of_restorer.append(generator_loss(f, loss=loss))
        assert_close(found[i], torch.stack(of_critic).mean(), **EXACT)
        assert_close(fooled[i], torch.stack(of_restorer).mean(), **EXACT)
    if loss not in ("wasserstein",):  # which alone is linear: elsewhere the mean logit's loss is another
        means = discriminator_loss(real.mean((1, 2)), fake.mean((1, 2)), loss=loss)
        assert (found - means).abs().max() > 0.01


def test_the_losses_are_the_non_saturating_ones_unless_said_otherwise():
    real, fake = normal(4, 2, 3), normal(4, 2, 3, seed=1)
    assert patch_discriminator_loss(real, fake).equal(
        patch_discriminator_loss(real, fake, loss="non-saturating")
    )
    assert patch_generator_loss(fake).equal(patch_generator_loss(fake, loss="non-saturating"))


def critic_of(stride: int) -> nn.Module:
    """Return a critic of 4 x 4 patches, which overlap where the stride is smaller; its slope hangs on the image."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 6, 4, stride=stride), nn.Tanh(), nn.Conv2d(6, 1, 1)).double()
    return lambda x: layers(x).squeeze(1)


def patch_by_patch(critic, x: Tensor) -> Tensor:
    """Return |gradient|^2 of each logit, by one backward a patch: (B, h, w)."""
    x = x.clone().requires_grad_()
    logits = critic(x)
    found = torch.zeros_like(logits)
    for i in range(len(x)):
        for row in range(logits.shape[1]):
            for column in range(logits.shape[2]):
                (gradient,) = torch.autograd.grad(logits[i, row, column], x, retain_graph=True)
                found[i, row, column] = gradient.square().sum()
    return found.detach()


def test_r1_of_patches_that_do_not_overlap_is_the_mean_over_patches_to_the_digit():
    critic, x = critic_of(4), normal(3, 2, 12, 12)
    expected = patch_by_patch(critic, x).mean((1, 2))
    assert_close(patch_penalty(critic, x, generator=seeded()), expected, rtol=1e-9, atol=1e-12)
    assert_close(patch_penalty(critic, x, generator=seeded(5)), expected, rtol=1e-9, atol=1e-12)


def test_r1_of_patches_that_overlap_is_their_mean_over_the_signs():
    critic, x, n = critic_of(1), normal(1, 2, 7, 7), 40_000
    draws = torch.cat(
        [
            patch_penalty(critic, x.expand(4000, -1, -1, -1), generator=seeded(seed)).detach()
            for seed in range(10)
        ]
    )
    expected = patch_by_patch(critic, x).mean()
    stderr = draws.std() / n**0.5
    assert abs(draws.mean() - expected) < 4 * stderr
    assert stderr < 0.01 * expected
    everywhere = torch.ones((), dtype=torch.float64)  # the sum of the logits, no signs
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(y).sum() * everywhere, y)
    assert abs(gradient.square().sum() / 16 - expected) > 20 * stderr


def test_r1_reaches_the_critics_weights_and_not_the_images():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 1, 1)).double()
    x = normal(2, 1, 6, 6).requires_grad_()
    patch_penalty(lambda images: layers(images).squeeze(1), x, generator=seeded()).sum().backward()
    assert x.grad is None and layers[0].weight.grad.abs().max() > 0


# ---- what is refused -------------------------------------------------------------------------------------------------

LOGITS = torch.zeros(2, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pixel_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 1)),
            r"\(2, 1, 4, 4\) and \(2, 1, 4, 1\)",
        ),
        (lambda: pixel_loss(LOGITS, LOGITS, loss="l2"), "loss is 'l2', expected one of mse, l1"),
        (lambda: feature_loss([], []), "0 and 0 maps"),
        (lambda: feature_loss([LOGITS], [LOGITS, LOGITS]), "1 and 2 maps, expected as many"),
        (lambda: feature_loss([LOGITS], [LOGITS[:, :1]]), "differ, expected the same shape"),
        (
            lambda: patch_discriminator_loss(LOGITS, LOGITS[:, 0]),
            r"fake_logits has shape \(2, 3\), expected \(B, h, w\)",
        ),
        (lambda: patch_discriminator_loss(LOGITS, LOGITS[:, :2]), "differ, expected the same shape"),
        (lambda: patch_generator_loss(LOGITS[0, 0]), "fake_logits has shape"),
        (
            lambda: patch_penalty(lambda x: x.mean((1, 2, 3)), torch.zeros(2, 1, 4, 4), generator=seeded()),
            r"logits has shape \(2,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
