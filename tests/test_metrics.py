"""The measures, against independent implementations and cases whose answer is known."""

import math

import pytest
import scipy.special
import scipy.stats
import torch
from torch.testing import assert_close
from torchmetrics.functional.image import peak_signal_noise_ratio

from imagegen.data import LinearGaussian
from imagegen.metrics import active_units, importance_weighted_nll, mse, psnr, standard_error
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
def test_psnr_agrees_with_torchmetrics_image_by_image(span):
    x, y = (
        torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(s)).double() * span for s in (0, 1)
    )
    found = psnr(x, y, span=span)
    for i in range(4):
        expected = peak_signal_noise_ratio(y[i : i + 1], x[i : i + 1], data_range=span)
        assert_close(found[i], expected, rtol=1e-6, atol=1e-6)


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


def test_the_standard_error_agrees_with_scipy():
    values = normal(50)
    assert standard_error(values) == pytest.approx(scipy.stats.sem(values.numpy()), rel=1e-12)
    assert standard_error(torch.tensor([1.0, 3.0])) == 1.0
    for bad in (torch.zeros(1), torch.zeros(3, 2)):
        with pytest.raises(ValueError, match=rf"N >= 2, got \({bad.shape[0]},"):
            standard_error(bad)
