"""The derivation of StyleGAN2: what goes in, what a layer does with it, and what keeps the game stable."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
import torch
from tiny_stylegan import EXACT, made, normal, recorded, seeded
from torch import Tensor, nn
from torch.nn.functional import conv2d, instance_norm, leaky_relu, softplus
from torch.testing import assert_close

from imagegen import stylegan as sg
from imagegen.augment import augment
from imagegen.objectives import path_lengths, path_penalty, zero_centred_penalty
from imagegen.recipes.style import corrected
from imagegen.stylegan.operators import LEAK


def within_4_errors(draws: Tensor, value: float, power: float = 0.01) -> None:
    """The mean of the draws is the value, judged by its standard error, which must be below a share of the value."""
    error = (draws.std() / math.sqrt(len(draws))).item()
    assert error < power * abs(value), "too few draws to tell"
    assert abs(draws.mean().item() - value) < 4 * error


# ---- what goes in ----------------------------------------------------------------------------------------------


@pytest.mark.equation("stylegan-length", tolerance="1e-6; Kolmogorov and Smirnov, p > 0.001")
def test_a_normalised_latent_is_uniform_on_the_sphere_and_forgets_its_length():
    """Its length is sqrt(D) whatever z's was; a squared coordinate over D has the beta law of a uniform direction."""
    z = normal(4000, 7)
    found = sg.normalised(z)
    assert_close(found.norm(dim=1), torch.full((4000,), math.sqrt(7.0)).double(), rtol=1e-6, atol=0)
    factors = 1 + normal(4000, 1, seed=1).abs()  # above the small number under the root
    assert_close(sg.normalised(factors * z), found, rtol=1e-6, atol=1e-6)
    law = scipy.stats.beta(0.5, 3.0)  # of one squared coordinate of a uniform unit vector in 7 dimensions
    for j in (0, 4):
        assert scipy.stats.kstest((found[:, j].square() / 7).numpy(), law.cdf).pvalue > 0.001
    lengths = z.norm(dim=1)  # and the direction says nothing of the length
    assert abs(torch.corrcoef(torch.stack([lengths, found[:, 0].square()]))[0, 1]) < 4 / math.sqrt(4000)


def test_a_mapping_at_its_start_is_positively_homogeneous():
    """With biases of 0 a latent of length 1 gives a w that is smaller by sqrt(D), as the chapter says."""
    mapping = made().generator.mapping
    with torch.no_grad():
        for layer in mapping.body:
            layer.bias.zero_()
        z = normal(5, 6)
        unit, w = z / z.norm(dim=1, keepdim=True), mapping(z)
        for layer in mapping.body:
            unit = sg.activated(layer(unit))
    assert_close(unit * math.sqrt(6), w, rtol=1e-6, atol=1e-8)


@pytest.mark.equation("stylegan-mapping", tolerance="1e-8; Kolmogorov and Smirnov, p > 0.001")
@pytest.mark.parametrize("law", [scipy.stats.gamma(2.5), scipy.stats.beta(0.7, 2.0), scipy.stats.laplace()])
def test_a_map_carries_the_normal_law_to_any_other(law):
    """Check the mapped density by the change of variables, f by its numerical slope, and samples by their law."""
    normal_law = scipy.stats.norm()

    def f(z):
        return law.ppf(normal_law.cdf(z))

    z = np.linspace(-2.5, 2.5, 41)
    slope = (f(z + 1e-5) - f(z - 1e-5)) / 2e-5
    np.testing.assert_allclose(law.pdf(f(z)) * slope, normal_law.pdf(z), rtol=2e-3)
    assert scipy.stats.kstest(f(normal(5000, seed=2).numpy()), law.cdf).pvalue > 0.001


# ---- what a layer does -----------------------------------------------------------------------------------------


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return AdaIN of maps (B, C, H, W), number by number."""
    out = torch.empty_like(x)
    for b, c in itertools.product(range(len(x)), range(x.shape[1])):
        values = x[b, c].flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        out[b, c] = scale[b, c] * (x[b, c] - mean) / math.sqrt(variance) + shift[b, c]
    return out


@pytest.mark.equation("stylegan-adain", tolerance="1e-6")
def test_adain_sets_mean_and_deviation_to_what_the_style_says():
    """It is PyTorch's instance normalisation, scaled and shifted; mean and deviation over the places are b and |a|."""
    x, scale, shift = 3 + 2 * normal(2, 3, 5, 4), normal(2, 3, seed=1), normal(2, 3, seed=2)
    found = adain(x, scale, shift)
    library = instance_norm(x, eps=0.0) * scale[..., None, None] + shift[..., None, None]
    assert_close(found, library, rtol=1e-6, atol=1e-6)
    assert_close(found.mean((2, 3)), shift, rtol=1e-6, atol=1e-6)
    assert_close(found.var((2, 3), unbiased=False).sqrt(), scale.abs(), rtol=1e-6, atol=1e-6)


@pytest.mark.equation("stylegan-blind", tolerance="1e-6")
def test_adain_does_not_see_a_channels_scale_and_a_demodulated_layer_does():
    """Scale and shift each channel by numbers of its own; a factor below 0 is the one thing that shows."""
    x, scale, shift = normal(2, 3, 5, 4), normal(2, 3, seed=1), normal(2, 3, seed=2)
    factors, moves = normal(1, 3, 1, 1, seed=3).exp(), normal(1, 3, 1, 1, seed=4)
    changed = factors * x + moves
    assert_close(adain(changed, scale, shift), adain(x, scale, shift), rtol=1e-6, atol=1e-6)
    assert (adain(-x, scale, shift) - adain(x, scale, shift)).abs().max() > 0.1
    weight, style = normal(4, 3, 3, 3, seed=5), normal(2, 3, seed=6)
    seen = sg.modulated_conv2d(factors * x, weight, style) - sg.modulated_conv2d(x, weight, style)
    assert seen.abs().max() > 0.1


@pytest.mark.equation("stylegan-spike", tolerance="1e-9; for high spikes 1 %")
def test_a_spike_sets_the_variance_and_lets_the_size_of_the_rest_through():
    """Compare with NumPy's variance for several heights and places; the rest of a spiked map keeps its ratio."""
    x = normal(9, 11, seed=1).flatten().numpy() + 0.4
    n, m, v = x.size, x.mean(), x.var()
    for place, height in itertools.product((0, 17, 98), (-3.0, 0.5, 40.0)):
        spiked = x.copy()
        spiked[place] += height
        expected = v + 2 * height / n * (x[place] - m) + height**2 / n * (1 - 1 / n)
        assert spiked.var() == pytest.approx(expected, rel=1e-9)
    u = (x - m) / v**0.5
    for c in (0.5, 2.0):
        spiked = c * u
        spiked[3] += 5000.0
        out = (spiked - spiked.mean()) / spiked.std()
        assert np.delete(out, 3).std() == pytest.approx(c * np.delete(u, 3).std() * n**0.5 / 5000, rel=0.01)


@pytest.mark.equation("stylegan-modulate", tolerance="1e-10")
def test_a_style_may_scale_the_inputs_or_the_weights():
    """Sum over channels and kernel in loops, at one place, and compare with the package's layer."""
    x, weight, style = normal(2, 3, 5, 5), normal(4, 3, 3, 3, seed=1), normal(2, 3, seed=2)
    found = sg.modulated_conv2d(x, weight, style, demodulate=False)
    for b, o in itertools.product(range(2), range(4)):
        sums = [0.0, 0.0]
        for i, j, k in itertools.product(range(3), range(3), range(3)):
            value = x[b, i, 1 + j, 2 + k].item()
            sums[0] += weight[o, i, j, k].item() * (style[b, i].item() * value)
            sums[1] += (style[b, i].item() * weight[o, i, j, k].item()) * value
        for total in sums:
            assert found[b, o, 2, 3].item() == pytest.approx(total, rel=1e-10)


@pytest.mark.equation("stylegan-variance", tolerance="4 standard errors, below 1 %")
@pytest.mark.parametrize("law", ["normal", "signs"])
def test_variances_of_independent_inputs_add(law):
    """Draw the inputs 100,000 times, for two laws of variance 1: the output's mean square is the sum of squares."""
    weight, style = normal(2, 5, 1, 1, seed=1), normal(1, 5, seed=2)
    x = normal(1, 5, 250, 400, seed=3)
    x = x if law == "normal" else x.sign()
    y = sg.modulated_conv2d(x, weight, style, demodulate=False)[0].flatten(1)
    for o in range(2):
        expected = sum((style[0, i] * weight[o, i, 0, 0]).item() ** 2 for i in range(5))
        within_4_errors(y[o].square(), expected)


@pytest.mark.equation("stylegan-demodulate", tolerance="4 standard errors, below 1.5 %")
def test_a_demodulated_output_has_variance_1_whatever_the_style():
    """Draw inputs; only dependent ones break it: copies of one channel give the square of a sum, not of squares."""
    weight = normal(3, 4, 3, 3, seed=1)
    for scale in (0.01, 1.0, 300.0):
        style = scale * normal(1, 4, seed=2)
        x = normal(1, 4, 303, 603, seed=3)
        y = sg.modulated_conv2d(x, weight, style)[0, :, 1:-1, 1:-1]
        thin = y[:, ::3, ::3].flatten(1)  # windows that share no input: independent draws
        for row in thin:
            within_4_errors(row.square(), 1.0, power=0.015)
    copies = normal(1, 1, 303, 603, seed=4).expand(-1, 4, -1, -1)
    y = sg.modulated_conv2d(copies, weight, normal(1, 4, seed=2))[0, :, 1:-1, 1:-1]
    assert (y.square().mean((1, 2)) - 1).abs().max() > 0.1


@pytest.mark.equation("stylegan-homogeneous", tolerance="1e-6")
def test_a_demodulated_layer_passes_its_inputs_size_on_and_not_its_styles():
    """Scale input and style by factors of each image; without demodulation the style's size shows."""
    x, weight, style = normal(3, 4, 6, 6), normal(5, 4, 3, 3, seed=1), normal(3, 4, seed=2)
    c = torch.tensor([0.2, 3.0, 50.0]).double()
    out = sg.modulated_conv2d(x, weight, style)
    by_input = sg.modulated_conv2d(c[:, None, None, None] * x, weight, style)
    assert_close(by_input / out, c[:, None, None, None].expand_as(out), rtol=1e-6, atol=0)
    assert_close(sg.modulated_conv2d(x, weight, c[:, None] * style), out, rtol=1e-6, atol=1e-6)
    plain = sg.modulated_conv2d(x, weight, c[:, None] * style, demodulate=False)
    assert not torch.allclose(plain, sg.modulated_conv2d(x, weight, style, demodulate=False))


@pytest.mark.equation("stylegan-forms", tolerance="1e-10")
@pytest.mark.parametrize("up", [False, True])
def test_one_kernel_for_all_images_equals_one_for_each(up):
    """Both forms, and the matrix of each image's own kernel, whose factors are diagonal matrices left and right."""
    x, weight, style = normal(3, 4, 5, 5), normal(2, 4, 3, 3, seed=1), normal(3, 4, seed=2)
    forms = [sg.modulated_conv2d(x, weight, style, up=up, form=form) for form in ("weights", "activations")]
    assert_close(*forms, **EXACT)
    if not up:
        columns = nn.functional.unfold(x, 3, padding=1)  # (B, C k k, places)
        for image, a, found in zip(columns, style, forms[0]):
            shared = weight.flatten(1)
            right = torch.diag(a.repeat_interleave(9))
            left = torch.diag((shared @ right).square().sum(1).add(1e-8).rsqrt())
            assert_close((left @ shared @ right) @ image, found.flatten(1), **EXACT)


@pytest.mark.equation("stylegan-gain", tolerance="1e-6; 4 standard errors, below 1 %")
def test_the_rectifiers_gain_and_the_sum_of_two_ways():
    """Integrate the squared rectifier over a normal; average the squared output of the critic's sum of two ways."""
    density = scipy.stats.norm(scale=1.7).pdf
    halves = [
        scipy.integrate.quad(
            lambda y: sg.activated(torch.tensor(y, dtype=torch.float64)).item() ** 2 * density(y), *ends
        )[0]
        for ends in ((-15, 0), (0, 15))
    ]
    assert sum(halves) == pytest.approx((1 + LEAK**2) * 1.7**2, rel=1e-6)
    y, other = normal(2, 200_000, seed=5)
    within_4_errors(((1.5 * y + 0.5 * other) / math.sqrt(2)).square(), (1.5**2 + 0.5**2) / 2)
    within_4_errors(((y + 2 * other) / math.sqrt(2)).square(), (1 + 2**2) / 2)


@pytest.mark.equation("stylegan-skip", tolerance="1e-10")
def test_the_picture_is_the_sum_of_what_the_grids_paint():
    """Record the image layers; enlarge each picture by one matrix an axis, without the package's filter, and add."""
    model = made(32).generator.eval()
    calls = recorded(*model.synthesis.to_image)
    with torch.no_grad():
        image = model(normal(2, 6), noise="none")
    total = torch.zeros_like(image)
    for (call,) in calls:
        term = call[-1]
        while term.shape[-1] < 32:
            n = term.shape[-1]
            double = torch.zeros(2 * n, n, dtype=torch.float64)
            for i, (step, tap) in itertools.product(range(n), ((-1, 1), (0, 3), (1, 3), (2, 1))):
                if 0 <= 2 * i + step < 2 * n:
                    double[2 * i + step, i] = tap / 4
            term = double @ term @ double.T
        total += term
    assert len(calls) == 4
    assert_close(total, image, **EXACT)


@pytest.mark.equation("stylegan-alias", tolerance="1e-10")
def test_thinning_out_adds_the_fast_half_of_the_spectrum_to_the_slow():
    """Compare the discrete spectra of a signal and of its every second value; an alias is that of a slow wave."""
    x = normal(24, seed=6).numpy()
    whole, thin = np.fft.fft(x), np.fft.fft(x[::2])
    np.testing.assert_allclose(thin, 0.5 * (whole[:12] + whole[12:]), rtol=1e-10, atol=1e-10)
    j = np.arange(48)
    np.testing.assert_allclose(
        np.cos(0.9 * math.pi * j)[::2], np.cos(0.1 * math.pi * j)[::2], rtol=0, atol=1e-10
    )


@pytest.mark.equation("stylegan-blur", tolerance="1e-6")
def test_the_filters_response_is_the_cube_of_a_cosine():
    """Send waves through the package's filter, and measure their amplitude behind it."""
    j = torch.arange(64, dtype=torch.float64)
    for omega in np.linspace(0.05, math.pi, 9).tolist():
        waves = torch.stack([(omega * j).cos(), (omega * j).sin()])[:, None, None].expand(-1, 1, 64, -1)
        real, imaginary = sg.filtered(waves)[:, 0, 20, 8:-8]
        amplitude = (real**2 + imaginary**2).sqrt()
        assert_close(amplitude, torch.full_like(amplitude, math.cos(omega / 2) ** 3), rtol=0, atol=1e-6)
    two = np.convolve([0.5, 0.5], np.convolve([0.5, 0.5], [0.5, 0.5]))
    np.testing.assert_allclose(two, np.array([1, 3, 3, 1]) / 8)


@pytest.mark.equation("stylegan-noise", tolerance="1e-8; 4 standard errors")
def test_noise_has_mean_0_the_strengths_square_and_a_gradient_through_its_own_values():
    """Undo the rectifier of a layer to see what noise adds; compare the gradient with a sum, its mean with Stein's."""
    torch.manual_seed(0)
    layer = sg.StyleLayer(3, 4, 5).double()
    with torch.no_grad():
        layer.strength.copy_(torch.tensor([0.0, 0.5, -1.0, 2.0]))
    x, w = normal(1, 3, 4, 4), normal(1, 5, seed=1)

    def before(out: Tensor) -> Tensor:
        out = out / math.sqrt(2)
        return torch.where(out < 0, out / LEAK, out)

    with torch.no_grad():
        silent = before(layer(x, w, None))
        noise = normal(4000, 1, 4, 4, seed=2)
        added = before(layer(x.expand(4000, -1, -1, -1), w.expand(4000, -1), noise)) - silent
    for o, b in enumerate(layer.strength.tolist()):
        draws = added[:, o, 1, 2]
        assert abs(draws.mean().item()) <= 4 * abs(b) / math.sqrt(4000) + 1e-12
        assert abs(draws.var().item() - b**2) <= 4 * math.sqrt(2 / 4000) * b**2 + 1e-12
    one = noise[:1]
    out = layer(x, w, one)
    target = normal(*out.shape, seed=3)
    (found,) = torch.autograd.grad((out * target).sum(), layer.strength)
    # By what stands before the rectifier.
    slope = math.sqrt(2) * (LEAK + (1 - LEAK) * (out > 0).double()) * target
    assert_close(found, (slope * one).sum((0, 2, 3)).detach(), rtol=1e-8, atol=1e-8)
    # A loss y' A y' / 2 at each place has the curvature A: the mean gradient is A b, once a place, and 0 at b = 0.
    curvature = torch.tensor([[1.0, 0.5, 0, 0], [0.5, -2, 0, 1], [0, 0, 1, 0], [0, 1, 0, -1]]).double()
    y, n = normal(4, 6, seed=5), normal(100_000, 1, 6, seed=6)
    for b in (torch.tensor([0.0, 0.5, -1.0, 2.0]).double(), torch.zeros(4).double()):
        draws = (n * (curvature @ (y + b[:, None] * n))).sum(2)
        for o, mean in enumerate((6 * curvature @ b).tolist()):
            error = (draws[:, o].std() / math.sqrt(len(draws))).item()
            assert abs(draws[:, o].mean().item() - mean) < 4 * error < 0.1


# ---- the learning rate -----------------------------------------------------------------------------------------


@pytest.mark.equation("stylegan-equalised", tolerance="4 standard errors, below 1 %")
@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_an_equalised_layer_starts_as_any_other(rate):
    """Read the effective weights from the layer's outputs on unit vectors: mean square 1 / n for any multiplier."""
    torch.manual_seed(0)
    n = 40
    layer = sg.EqualLinear(n, 2000, rate=rate)
    with torch.no_grad():
        effective = layer(torch.eye(n)) - layer(torch.zeros(1, n))
    within_4_errors(effective.double().flatten().square(), 1 / n)
    within_4_errors(layer.weight.detach().double().flatten().square(), 1 / rate**2)
    torch.manual_seed(0)
    conv = sg.EqualConv2d(4, 3000, 3, bias=False)
    with torch.no_grad():
        centre = conv(torch.eye(4)[:, :, None, None])[:, :, 0, 0]
    within_4_errors(centre.double().flatten().square(), 1 / 36, power=0.02)


def moved(layer: nn.Module, optimiser: torch.optim.Optimizer, n: int) -> tuple[Tensor, Tensor]:
    """Return the gradient of a loss by the effective weights, and their change by one step."""
    basis = torch.eye(n, dtype=torch.float64)
    target = normal(n, layer.weight.shape[0], seed=3)
    before = layer(basis)
    (gradient,) = torch.autograd.grad(((before - target) ** 2).sum(), before)
    ((layer(basis) - target) ** 2).sum().backward()
    optimiser.step()
    return gradient, (layer(basis) - before).detach()


@pytest.mark.equation("stylegan-step", tolerance="1e-5")
@pytest.mark.parametrize(("n", "rate"), [(4, 1.0), (100, 1.0), (100, 0.1)])
def test_descent_steps_with_the_square_of_the_scale_and_adam_with_the_scale(n, rate):
    """Take one step of each optimiser, and look at the effective weights through unit vectors."""
    scale = rate / math.sqrt(n)
    for kind in (torch.optim.SGD, torch.optim.Adam):
        torch.manual_seed(0)
        layer = sg.EqualLinear(n, 6, rate=rate).double()
        exact = {"eps": 1e-30} if kind is torch.optim.Adam else {}
        gradient, change = moved(layer, kind([layer.weight], lr=0.003, **exact), n)
        expected = -(scale**2) * gradient if kind is torch.optim.SGD else -scale * gradient.sign()
        assert_close(change, 0.003 * expected, rtol=1e-5, atol=1e-9)


@pytest.mark.equation("stylegan-relative", tolerance="5 %")
def test_adam_changes_each_equalised_layer_by_one_share():
    """One step of layers of 16 to 256 inputs: the share is the rate times m, or the rate times the root of n."""
    for n, rate in itertools.product((16, 64, 256), (1.0, 0.01)):
        torch.manual_seed(0)
        plain = nn.Linear(n, 300, bias=False).double()
        nn.init.normal_(plain.weight, 0, n**-0.5)
        equal = sg.EqualLinear(n, 300, rate=rate).double()
        shares = []
        for layer, first in ((equal, equal.weight), (plain, plain.weight)):
            before = layer(torch.eye(n).double()).detach() - layer(torch.zeros(1, n).double()).detach()
            _, change = moved(layer, torch.optim.Adam([first], lr=0.003), n)
            shares.append((change.square().mean() / before.square().mean()).sqrt().item())
        assert shares[0] == pytest.approx(0.003 * rate, rel=0.05)
        assert shares[1] == pytest.approx(0.003 * math.sqrt(n), rel=0.05)


# ---- what the critic is told -----------------------------------------------------------------------------------


@pytest.mark.equation("stylegan-spread", tolerance="1e-3, the root of the small number under the root")
def test_the_spread_is_the_mean_deviation_and_0_only_for_equal_images():
    """NumPy's deviations, averaged; equal images give the small number alone, and one pixel in one image shows."""
    x = normal(4, 3, 5, 5)
    told = sg.with_spread(x, 4)[:, -1]
    assert_close(told, torch.full_like(told, x.numpy().std(0).mean()), rtol=1e-6, atol=1e-6)
    same = x[:1].repeat(4, 1, 1, 1)
    assert sg.with_spread(same, 4)[:, -1].max() <= 1.001e-4
    same[2, 1, 3, 3] += 1.0
    expected = math.sqrt(3) / 4 / 75  # of 0, 0, 1, 0 the deviation; one of 75 places
    assert sg.with_spread(same, 4)[0, -1, 0, 0].item() == pytest.approx(expected, abs=1e-3)
    assert sg.with_spread(same, 4)[0, -1, 0, 0] > 5e-3


# ---- the game --------------------------------------------------------------------------------------------------


def features(x: Tensor) -> Tensor:
    """Return four features (N, 4) of points (N, 2)."""
    return torch.stack([x[:, 0], x[:, 1] ** 2, torch.sin(x[:, 0] + x[:, 1]), x.prod(1)], 1)


@pytest.mark.equation("stylegan-r1", tolerance="1e-8")
def test_r1_is_a_quadratic_form_in_the_critics_parameters():
    """Build M from the features' Jacobians, and compare with the package's penalty and its gradient."""
    x, psi = normal(50, 2, seed=1), normal(4, seed=2).requires_grad_()
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: features(v[None])[0], v) for v in x]
    )
    m = (jacobians @ jacobians.mT).mean(0)  # (4, 4)
    gamma = 0.7
    penalty = gamma / 2 * zero_centred_penalty(lambda v: features(v) @ psi, x).mean()
    (gradient,) = torch.autograd.grad(penalty, psi)
    assert_close(penalty.detach(), gamma / 2 * (psi @ m @ psi).detach(), rtol=1e-8, atol=1e-8)
    assert_close(gradient, gamma * (m @ psi).detach(), rtol=1e-8, atol=1e-8)
    flat = torch.tensor([0.0, 1.0, 0.0, 0.0]).double()  # a slope everywhere but at the data
    at_axis = torch.stack([x[:, 0], 0 * x[:, 1]], 1)
    assert zero_centred_penalty(lambda v: features(v) @ flat, at_axis).max() == 0
    assert zero_centred_penalty(lambda v: features(v) @ flat, x).max() > 0.1


@pytest.mark.equation("stylegan-friction", tolerance="1e-6")
def test_r1_takes_from_the_distance_what_the_critics_slope_says():
    """Differentiate both losses at the goal; the energy that the linear flow loses is the integral of the friction."""
    x, gamma = normal(30, 2, seed=1), 0.3
    x = torch.cat([x, x * torch.tensor([-1.0, 1.0]).double()])
    change = normal(3, 2, 2, seed=2)  # the generator moves the data's points by a map that theta sets

    def samples(theta: Tensor) -> Tensor:
        return x + x @ torch.einsum("k,kij->ij", theta, change)

    def players(state: Tensor) -> Tensor:
        def critic_loss(psi: Tensor) -> Tensor:
            real, fake = features(x) @ psi, features(samples(state[:3])) @ psi
            slopes = torch.func.vmap(torch.func.grad(lambda v: features(v[None])[0] @ psi))(x)
            r1 = gamma / 2 * slopes.square().sum(1).mean()
            return softplus(-real).mean() + softplus(fake).mean() + r1

        def generator_loss(theta: Tensor) -> Tensor:
            return softplus(-features(samples(theta)) @ state[3:]).mean()

        grad = torch.func.grad
        return -torch.cat([grad(generator_loss)(state[:3]), grad(critic_loss)(state[3:])])

    found = torch.func.jacrev(players)(torch.zeros(7, dtype=torch.float64)).numpy()
    f = features(x)
    slope = torch.autograd.functional.jacobian(
        lambda v: features(samples(v)).mean(0), torch.zeros(3).double()
    )
    q, k = 0.5 * slope.T.numpy(), (f.T @ f / len(f)).numpy()
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: features(v[None])[0], v) for v in x]
    )
    m = (jacobians @ jacobians.mT).mean(0).numpy()
    friction = 0.5 * k + gamma * m
    flow = np.block([[np.zeros((3, 3)), q], [-q.T, -friction]])
    np.testing.assert_allclose(found, flow, rtol=1e-8, atol=1e-10)
    assert np.abs(q).max() > 0.1 and np.abs(k).max() > 0.1
    start = normal(7, seed=3).numpy()

    def state(t):
        return scipy.linalg.expm(t * flow) @ start

    lost, _ = scipy.integrate.quad(lambda t: state(t)[3:] @ friction @ state(t)[3:], 0, 2, epsabs=1e-10)
    energies = [0.5 * state(t) @ state(t) for t in (0.0, 2.0)]
    assert energies[0] - energies[1] == pytest.approx(lost, rel=1e-6) and lost > 0.1
    flow[3:, 3:] = 0
    free = scipy.linalg.expm(2 * flow) @ start
    assert 0.5 * free @ free == pytest.approx(energies[0], rel=1e-6)


def dirac(h: float, gamma: float, k: int, lazy: bool) -> np.ndarray:
    """Return the matrix of k steps of the Dirac-GAN near its equilibrium: the derivative of real steps by the start."""
    softplus, grad = nn.functional.softplus, torch.func.grad

    def steps(state: Tensor) -> Tensor:
        theta, psi = state
        for index in range(k):
            psi = psi - h * grad(lambda p, t: softplus(p * t))(psi, theta)
            theta = theta - h * grad(lambda t, p: softplus(-p * t))(theta, psi)
            if not lazy or index == k - 1:
                psi = psi - h * grad(lambda p: 0.5 * gamma * (k if lazy else 1) * p**2)(psi)
        return torch.stack([theta, psi])

    return torch.func.jacrev(steps)(torch.zeros(2, dtype=torch.float64)).numpy()


@pytest.mark.equation("stylegan-lazy", tolerance="1e-9")
@pytest.mark.parametrize(
    ("h", "gamma", "k"), [(0.05, 0.5, 1), (0.05, 0.5, 16), (0.02, 2.0, 4), (0.05, 3.0, 16)]
)
def test_lazy_steps_of_the_dirac_gan_have_the_stated_determinants(h, gamma, k):
    """Differentiate whole rounds of real steps at the equilibrium, and take determinants and eigenvalues."""
    every, lazy = dirac(h, gamma, k, False), dirac(h, gamma, k, True)
    assert np.linalg.det(every) == pytest.approx((1 - h * gamma) ** k, rel=1e-9)
    assert np.linalg.det(lazy) == pytest.approx(1 - h * k * gamma, rel=1e-9)
    moduli = [np.abs(np.linalg.eigvals(matrix)).max() for matrix in (every, lazy)]
    assert moduli[0] < 1
    assert (moduli[1] > 1) == (h * k * gamma > 2)


@pytest.mark.equation("stylegan-adam", tolerance="1e-9")
@pytest.mark.parametrize("k", [1, 4, 16])
def test_with_corrected_betas_adam_forgets_and_moves_as_much(k):
    """Let PyTorch's Adam see one gradient and then zeros: its averages fade alike over k and over k + 1 steps."""
    lr, betas = corrected(0.01, (0.6, 0.95), k)
    kept, way = [], []
    for (rate, pair), steps in (((0.01, (0.6, 0.95)), k), ((lr, betas), k + 1)):
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        adam = torch.optim.Adam([weight], lr=rate, betas=pair)
        weight.grad = torch.ones_like(weight)
        adam.step()
        first = [adam.state[weight][name].item() for name in ("exp_avg", "exp_avg_sq")]
        weight.grad = torch.zeros_like(weight)
        for _ in range(steps):
            adam.step()
        last = [adam.state[weight][name].item() for name in ("exp_avg", "exp_avg_sq")]
        kept.append([b / a for a, b in zip(first, last)])
        constant = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        adam = torch.optim.Adam([constant], lr=rate, betas=pair)
        for _ in range(steps):  # under a constant gradient each step is the rate
            constant.grad = torch.ones_like(constant)
            adam.step()
        way.append(constant.item())
    assert kept[0] == pytest.approx(kept[1], rel=1e-9)
    assert way[0] == pytest.approx(way[1], rel=1e-6)


# ---- path length -----------------------------------------------------------------------------------------------


def squares_of(jacobian: Tensor, n: int, seed: int = 0) -> Tensor:
    """Return |J^T y|^2 of the package for n draws of y, for the linear generator w -> J w."""
    w = normal(1, jacobian.shape[1], seed=9).repeat(n, 1).requires_grad_()
    return path_lengths(w @ jacobian.T, w, generator=seeded(seed)).square().detach()


@pytest.mark.equation("stylegan-path", tolerance="4 standard errors, below 1 %")
def test_the_mean_squared_length_is_the_sum_of_squares_of_the_jacobian():
    """Average the package's lengths over y; the sums of entries and of singular values agree with it."""
    jacobian = normal(12, 5, seed=1)
    entries = sum(v**2 for v in jacobian.flatten().tolist())
    assert torch.linalg.svdvals(jacobian).square().sum().item() == pytest.approx(entries, rel=1e-10)
    within_4_errors(squares_of(jacobian, 40_000), entries)


@pytest.mark.equation("stylegan-even", tolerance="4 standard errors, below 3 %")
def test_lengths_vary_least_where_the_singular_values_are_even():
    """The relative variance over y, for even, uneven and rank-one Jacobians; it is 2 / D only for even ones."""
    left, right = (torch.linalg.qr(normal(n, 6, seed=n)).Q for n in (12, 6))
    variances = []  # of the lengths themselves, over their mean square
    for values in ([1.0] * 6, [3.0, 2, 1, 1, 0.5, 0.1], [2.0, 0, 0, 0, 0, 0]):
        sigma = torch.tensor(values, dtype=torch.float64)
        squares = squares_of(left @ torch.diag(sigma) @ right.T, 100_000)
        mean = sigma.square().sum()
        expected = (2 * sigma.pow(4).sum() / mean**2).item()
        within_4_errors(((squares - mean) / mean).square(), expected, power=0.03)
        assert expected >= 2 / 6 - 1e-12 and (expected < 2 / 6 + 1e-9) == (len(set(values)) == 1)
        variances.append((squares.sqrt().var() / mean).item())
    assert variances[0] < 0.8 * variances[1] < 0.64 * variances[2]


@pytest.mark.equation("stylegan-penalty", tolerance="1e-8")
def test_the_penalty_is_a_variance_and_a_squared_distance():
    """The package's penalty, averaged, against NumPy's variance and mean; at the mean it is the variance alone."""
    lengths = normal(500, seed=4).exp()
    values = lengths.numpy()
    for a in (0.3, values.mean(), 4.0):
        expected = values.var() + (values.mean() - a) ** 2
        assert path_penalty(lengths, float(a)).mean().item() == pytest.approx(expected, rel=1e-8)


# ---- augmentation ----------------------------------------------------------------------------------------------


@pytest.mark.equation("stylegan-augment", tolerance="1e-10; 4.5 standard errors")
def test_what_is_shown_is_a_matrix_times_the_law_of_the_originals():
    """Count the package's mirrored images of 1 x 3 pixels; the matrix's eigenvalues are 1 - p + p lambda."""
    space = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3))).view(8, 1, 1, 3).double()
    mirror = torch.zeros(8, 8, dtype=torch.float64)
    for j, image in enumerate(space):
        target = image.flip(2)
        i = next(i for i, other in enumerate(space) if torch.equal(other, target))
        mirror[i, j] = 1.0
    flips = 0.5 * (torch.eye(8).double() + mirror)  # drawn evenly: stays, or is mirrored
    p, n = 0.6, 60_000
    law = normal(8, seed=1).exp()
    law = law / law.sum()
    drawn = torch.multinomial(law, n, replacement=True, generator=seeded())
    shown = augment(space[drawn], p, generator=seeded(1), kinds=("flip",))
    number = ((shown.flatten(1) > 0) * torch.tensor([4, 2, 1])).sum(1)
    frequencies = number.bincount(minlength=8).double() / n
    change = (1 - p) * torch.eye(8).double() + p * flips
    expected = change @ law
    assert ((frequencies - expected).abs() < 4.5 * (expected / n).sqrt()).all()
    assert (frequencies - law).abs().max() > 0.01
    for t, q in itertools.product((flips, mirror), (0.3, 0.5, 0.6, 1.0)):
        matrix = (1 - q) * torch.eye(8).double() + q * t
        values = 1 - q + q * torch.linalg.eigvalsh(t)
        assert_close(torch.linalg.eigvalsh(matrix).sort().values, values.sort().values, **EXACT)
        fatal = bool(values.abs().min() < 1e-10)
        assert fatal == (torch.linalg.matrix_rank(matrix) < 8)
        assert fatal == (q == 1.0 if t is flips else q == 0.5)


def test_the_chapters_layer_is_the_packages():
    """A styled layer written out: style, kernel of each image, noise, bias, rectifier with its gain."""
    torch.manual_seed(1)
    layer = sg.StyleLayer(3, 4, 5).double()
    with torch.no_grad():
        layer.strength.copy_(normal(4))
        layer.bias.copy_(normal(4, seed=1))
    x, w, noise = normal(2, 3, 6, 6, seed=2), normal(2, 5, seed=3), normal(2, 1, 6, 6, seed=4)
    a = w @ layer.style.weight.T / math.sqrt(5) + layer.style.bias
    rows = []
    for image, style in zip(x, a):
        kernel = layer.weight / math.sqrt(27) * style[:, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        rows.append(conv2d(image[None], kernel, padding=1))
    y = torch.cat(rows) + layer.strength[:, None, None] * noise + layer.bias[:, None, None]
    assert_close(layer(x, w, noise), math.sqrt(2) * leaky_relu(y, LEAK), **EXACT)
