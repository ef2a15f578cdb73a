"""The measures of one image, against independent implementations and cases whose answer is known."""

import functools
import math

import pytest
import scipy.special
import scipy.stats
import skimage.metrics
import torch
from torch.testing import assert_close
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from imagegen.data import LinearGaussian
from imagegen.metrics import active_units, importance_weighted_nll, mse, psnr, ssim, standard_error
from imagegen.objectives import gaussian_nll, log_importance_weight

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- likelihood ------------------------------------------------------------------------------------------------


class Drawn:
    """A `log_weight` that hands out the rows of a table in order, and keeps what was asked of it."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table, self.asked = table, []

    def __call__(self, x: torch.Tensor, k: int) -> torch.Tensor:
        start = sum(self.asked)
        self.asked.append(k)
        return self.table[start : start + k]


@pytest.mark.parametrize(("chunk", "asked"), [(3, [3, 3, 1]), (7, [7]), (50, [7]), (1, [1] * 7)])
def test_the_nll_is_that_of_the_mean_weight_however_it_is_cut_up(chunk, asked):
    table, x = 3 * normal(7, 4) - 300, torch.zeros(4, 1, 2, 2, dtype=torch.float64)
    draws = Drawn(table)
    found = importance_weighted_nll(draws, x, n_samples=7, chunk=chunk)
    assert draws.asked == asked
    expected = math.log(7) - scipy.special.logsumexp(table.numpy(), axis=0)
    assert_close(found, torch.as_tensor(expected), **EXACT)
    assert found.shape == (4,)


def linear_gaussian_weights(widen: float):
    """Return a linear-Gaussian model, data, and a `log_weight` with q the posterior, its variance times e^widen."""
    weight = torch.tensor([[1.0], [-0.5]], dtype=torch.float64)
    model = LinearGaussian(weight, torch.tensor([0.2, 0.1], dtype=torch.float64), 0.6)
    x = model.sample(40, generator=torch.Generator().manual_seed(1))
    mean, covariance = model.posterior(x)
    log_var = covariance.log().expand_as(mean) + widen
    generator = torch.Generator().manual_seed(2)

    def log_weight(x: torch.Tensor, k: int) -> torch.Tensor:
        eps = torch.randn(k, *mean.shape, generator=generator, dtype=mean.dtype)
        z = mean + torch.exp(log_var / 2) * eps
        decoded = (z @ model.weight.T + model.bias).reshape(-1, 2)
        nll = gaussian_nll(decoded, x.repeat(k, 1), 2 * math.log(0.6)).reshape(k, -1)
        return log_importance_weight(nll, z, mean, log_var)

    return model, x, log_weight


def test_with_the_true_posterior_the_nll_is_exact_for_any_number_of_samples():
    model, x, log_weight = linear_gaussian_weights(0.0)
    for n in (1, 5, 21):
        assert_close(importance_weighted_nll(log_weight, x, n_samples=n), -model.log_marginal(x), **EXACT)


def test_with_another_posterior_the_nll_falls_towards_the_truth():
    """The mean over images and repeats falls with the number of samples, and is right in the end."""
    model, x, log_weight = linear_gaussian_weights(1.5)
    truth = -model.log_marginal(x).mean().item()

    def average(n: int, repeats: int) -> tuple[float, float]:
        found = torch.stack(
            [importance_weighted_nll(log_weight, x, n_samples=n, chunk=500).mean() for _ in range(repeats)]
        )
        return found.mean().item() - truth, standard_error(found)

    one, few, many = average(1, 100), average(5, 100), average(2000, 10)
    assert one[0] > few[0] + 4 * (one[1] + few[1]) and few[0] > 4 * few[1]
    assert abs(many[0]) < 4 * many[1] + 1e-3 and many[1] < 0.01 * truth


def test_the_nll_refuses_bad_sizes():
    x = torch.zeros(4, 1)
    with pytest.raises(ValueError, match="n_samples is 0 and chunk is 20"):
        importance_weighted_nll(Drawn(torch.zeros(1, 4)), x, n_samples=0)
    with pytest.raises(ValueError, match="chunk is 0"):
        importance_weighted_nll(Drawn(torch.zeros(1, 4)), x, chunk=0)
    with pytest.raises(ValueError, match=r"log_weight gave \(4, 3\), expected \(k, B\) = \(3, 4\)"):
        importance_weighted_nll(lambda x, k: torch.zeros(len(x), k), x, n_samples=3)


def test_active_units_vary_over_the_data():
    column = torch.tensor([-1.0, 1.0, -1.0, 1.0])  # variance 4/3
    means = torch.stack([column, 0.1 * column, 5.0 + 0 * column, 0.05 * column], dim=1)
    assert active_units(means).tolist() == [True, True, False, False]  # 1.33, 0.0133, 0, 0.0033
    assert active_units(means, threshold=0.001).tolist() == [True, True, False, True]
    assert active_units(means, threshold=0.02).tolist() == [True, False, False, False]
    for bad in (torch.zeros(1, 3), torch.zeros(5)):
        with pytest.raises(ValueError, match=rf"N >= 2, got \({bad.shape[0]},"):
            active_units(bad)


# ---- reconstruction --------------------------------------------------------------------------------------------


def test_mse_is_the_mean_over_each_image():
    x, y = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    found = mse(x, y)
    assert found.shape == (3,)
    for i in range(3):
        assert_close(found[i], torch.nn.functional.mse_loss(x[i], y[i]), **EXACT)
    assert_close(mse(x[:1] + 3, x[:1]).item(), 9.0, **EXACT)
    assert torch.autograd.gradcheck(mse, (x.requires_grad_(), y))
    with pytest.raises(ValueError, match=r"images \(3, 2, 4, 5\) and \(3, 1, 4, 5\) differ"):
        mse(x, y[:, :1])


@pytest.mark.parametrize("span", [1.0, 2.0])
def test_psnr_agrees_with_torchmetrics_and_scikit_image_image_by_image(span):
    x, y = (
        torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(s)).double() * span for s in (0, 1)
    )
    found = psnr(x, y, span=span)
    for i in range(4):
        expected = peak_signal_noise_ratio(y[i : i + 1], x[i : i + 1], data_range=span)
        assert_close(found[i], expected, rtol=1e-6, atol=1e-6)
        other = skimage.metrics.peak_signal_noise_ratio(x[i].numpy(), y[i].numpy(), data_range=span)
        assert found[i].item() == pytest.approx(other, rel=1e-6)


def test_psnr_does_not_change_with_the_range_that_images_are_stored_in():
    p, q = (torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(s)).double() for s in (0, 1))
    assert_close(psnr(2 * p - 1, 2 * q - 1, span=2), psnr(p, q, span=1), **EXACT)
    assert psnr(p, p, span=1).tolist() == [math.inf] * 3
    assert_close(psnr(p * 0, p * 0 + 0.1, span=1), torch.full((3,), 20.0, dtype=torch.float64), **EXACT)


def test_psnr_refuses_a_span_that_the_images_leave():
    x = torch.tensor([[-1.0, 1.0]])
    for args in ((x, 0 * x), (0 * x, x)):
        with pytest.raises(ValueError, match="values span 2, more than span = 1"):
            psnr(*args, span=1)
    for span in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"span is {span}"):
            psnr(x, x, span=span)
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 1\) differ"):
        psnr(x, x[:, :1], span=2)
    with pytest.raises(ValueError, match="values span nan"):
        psnr(x, x * math.nan, span=2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_images_that_are_no_floats_are_refused(dtype):
    """Differences of bytes wrap around, and a similarity written back as a byte is 0."""
    x = torch.arange(3 * 144).reshape(3, 1, 12, 12).remainder(251).to(dtype)
    for measure in (mse, functools.partial(psnr, span=255), functools.partial(ssim, span=255)):
        assert measure(x.float(), x.float()).shape == (3,)
        for pair in ((x, x), (x.float(), x), (x, x.float())):
            with pytest.raises(ValueError, match=f"images hold .*{dtype}.*, expected floats"):
                measure(*pair)


# ---- structure -------------------------------------------------------------------------------------------------


def pictures(n: int, channels: int, height: int, width: int, span: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Return smooth images of different contrast in [0, span], and the same with noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 4, 4, generator=generator, dtype=torch.float64)
    x = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    x = x * torch.linspace(0.05, 1.0, n, dtype=torch.float64)[:, None, None, None]
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return span * x, span * (x + 0.1 * noise).clamp(0, 1)


def by_skimage(x: torch.Tensor, y: torch.Tensor, span: float) -> torch.Tensor:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    pairs = zip(x.numpy(), y.numpy(), strict=True)
    found = [skimage.metrics.structural_similarity(a, b, data_range=span, **options) for a, b in pairs]
    return torch.tensor(found, dtype=x.dtype)


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (3, 3, 64, 40), (2, 2, 11, 13)])
@pytest.mark.parametrize("span", [1.0, 255.0])
def test_ssim_agrees_with_scikit_image(shape, span):
    x, y = pictures(*shape, span)
    found = ssim(x, y, span=span)
    assert found.shape == shape[:1] and found.dtype == torch.float64
    assert_close(found, by_skimage(x, y, span), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (3, 3, 64, 40)])
def test_ssim_agrees_with_torchmetrics_where_its_windows_lie_within_the_image(shape):
    """torchmetrics fills up the windows at the edge with mirrored pixels; inside, its map has the same mean."""
    x, y = pictures(*shape)
    _, whole = structural_similarity_index_measure(
        x, y, data_range=1.0, reduction="none", return_full_image=True
    )
    assert whole.shape == x.shape
    assert_close(ssim(x, y, span=1), whole[..., 5:-5, 5:-5].flatten(1).mean(1), rtol=1e-6, atol=1e-6)


def test_ssim_is_one_for_equal_images_symmetric_and_falls_with_noise():
    x, noisy = pictures(200, 1, 28, 28)  # more than are compared at once
    assert_close(ssim(x, x, span=1), torch.ones(200, dtype=torch.float64), **EXACT)
    near, far = (x + share * (noisy - x) for share in (0.3, 1.0))
    first, second = ssim(x, near, span=1), ssim(x, far, span=1)
    assert (first < 1).all() and (second < first).all() and (second > 0).all()
    assert_close(ssim(far, x, span=1), second, **EXACT)
    assert_close(torch.cat([ssim(x[i : i + 1], far[i : i + 1], span=1) for i in range(200)]), second, **EXACT)
    assert_close(ssim(255 * x, 255 * far, span=255), second, **EXACT)


def test_ssim_of_single_precision_images_is_computed_in_double():
    """Variances are differences of squares: in float32 a nearly flat image would lose them."""
    x, y = (0.9 + 1e-4 * image for image in pictures(3, 1, 28, 28))
    found = ssim(x.float(), y.float(), span=1)
    assert found.dtype == torch.float32
    expected = by_skimage(x.float().double(), y.float().double(), 1.0)
    assert_close(found.double(), expected, rtol=0, atol=1e-7)


def test_ssim_refuses_a_range_whose_black_is_not_zero():
    x, y = (2 * image - 1 for image in pictures(4, 1, 16, 16))
    with pytest.raises(
        ValueError, match=r"values in \[-1, .*\], expected \[0, 2\]: use images.to_unit and span=1"
    ):
        ssim(x, y, span=2)
    with pytest.raises(ValueError, match="more than span = 1: is the range"):
        ssim(x, y, span=1)
    with pytest.raises(ValueError, match=r"values in \[2, .*\], expected \[0, 1\]"):
        ssim((x + 1) / 2 + 2, (y + 1) / 2 + 2, span=1)
    with pytest.raises(ValueError, match="span is 0"):
        ssim(0 * x, 0 * y, span=0)


def test_ssim_refuses_shapes_without_a_whole_window():
    x = torch.zeros(2, 1, 10, 28)
    with pytest.raises(
        ValueError, match=r"images are \(2, 1, 10, 28\), expected \(B, C, H, W\) with H and W >= 11"
    ):
        ssim(x, x, span=1)
    with pytest.raises(ValueError, match=r"images are \(2, 28\), expected"):
        ssim(x[:, 0, 0], x[:, 0, 0], span=1)
    with pytest.raises(ValueError, match=r"images \(2, 1, 10, 28\) and \(1, 1, 10, 28\) differ"):
        ssim(x, x[:1], span=1)


def test_the_standard_error_agrees_with_scipy():
    values = normal(50)
    assert standard_error(values) == pytest.approx(scipy.stats.sem(values.numpy()), rel=1e-12)
    assert standard_error(torch.tensor([1.0, 3.0])) == 1.0
    for bad in (torch.zeros(1), torch.zeros(3, 2)):
        with pytest.raises(ValueError, match=rf"N >= 2, got \({bad.shape[0]},"):
            standard_error(bad)
