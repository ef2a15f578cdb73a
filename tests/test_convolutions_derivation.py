"""The derivation of convolutional generators, step by step: matrices, sizes, counts, and what a regression learns."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from imagegen.data import Batch
from imagegen.decoder import WITHHELD, AttributeDecoder, AttributeDecoderConfig
from imagegen.images import to_unit
from imagegen.layers import (
    conv_size,
    downsample,
    overlap_count,
    receptive_field,
    resize_upsample,
    transposed_size,
    upsample,
)
from imagegen.objectives import bernoulli_nll
from imagegen.recipes.terms import AttributeObjective, AutoencoderObjective, withheld
from imagegen.vae import Autoencoder, VAEConfig

EXACT = {"rtol": 1e-10, "atol": 1e-10}
SETTINGS = [  # size, kernel, stride, padding, dilation
    (8, 4, 2, 1, 1), (9, 3, 2, 1, 1), (7, 3, 1, 0, 1), (11, 3, 3, 2, 2), (10, 5, 4, 0, 1), (6, 2, 1, 1, 3),
]  # fmt: skip


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(weight: Tensor, size: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Return A, written as its equation reads: a bracket for each pair of output and input."""
    n_out = conv_size(size, len(weight), stride=stride, padding=padding, dilation=dilation)
    weights = weight.tolist()
    rows = [
        [
            sum(w * (place == stride * i + dilation * j - padding) for j, w in enumerate(weights))
            for place in range(size)
        ]
        for i in range(n_out)
    ]
    return torch.tensor(rows, dtype=torch.float64)


# ---- the matrix and its transpose ------------------------------------------------------------------------------


@pytest.mark.equation("conv-sum", tolerance="1e-10")
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), SETTINGS)
def test_the_sum_over_the_window_is_torchs_convolution(size, kernel, stride, padding, dilation):
    """Add up w_j x over the window of each output, zeros outside, and compare with F.conv1d."""
    x, weight = normal(size), normal(kernel, seed=1)
    n_out = conv_size(size, kernel, stride=stride, padding=padding, dilation=dilation)
    for i, value in enumerate(
        F.conv1d(
            x[None],
            weight[None, None],
            torch.tensor([0.5], dtype=torch.float64),
            stride=stride,
            padding=padding,
            dilation=dilation,
        )[0]
    ):
        places = [stride * i + dilation * j - padding for j in range(kernel)]
        by_hand = 0.5 + sum(weight[j] * x[p] for j, p in enumerate(places) if 0 <= p < size)
        assert_close(value, by_hand, **EXACT)
    assert i == n_out - 1


@pytest.mark.equation("conv-matrix", "conv-transposed", tolerance="1e-10")
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), SETTINGS)
def test_one_matrix_is_the_convolution_and_its_transpose_the_transposed_one(
    size, kernel, stride, padding, dilation
):
    """Build A, compare A x with F.conv1d and A^T y with F.conv_transpose1d, and the latter with its double sum."""
    x, weight = normal(size), normal(kernel, seed=1)
    how = {"stride": stride, "padding": padding, "dilation": dilation}
    a = matrix(weight, size, stride, padding, dilation)
    assert_close(a @ x, F.conv1d(x[None], weight[None, None], **how)[0], **EXACT)
    y = normal(len(a), seed=2)
    extra = size - transposed_size(len(a), kernel, **how)  # which of the sizes that lead to this one is meant
    transposed = F.conv_transpose1d(y[None], weight[None, None], output_padding=extra, **how)[0]
    assert_close(a.T @ y, transposed, **EXACT)
    stamped = torch.zeros(size, dtype=torch.float64)
    for i, j in itertools.product(range(len(a)), range(kernel)):
        place = stride * i + dilation * j - padding
        if 0 <= place < size:
            stamped[place] += weight[j] * y[i]
    assert_close(stamped, transposed, **EXACT)


@pytest.mark.equation("conv-matrix", "conv-transposed", tolerance="1e-10")
def test_in_two_dimensions_and_with_channels_the_matrices_are_transposes_too():
    """Take the columns of both layers of the package by applying them to unit images: one matrix is the other's."""
    down, up = downsample(2, 3).double(), upsample(3, 2).double()
    with torch.no_grad():
        up.weight.copy_(down.weight)
        down.bias.zero_()
        up.bias.zero_()
        a = down(torch.eye(72, dtype=torch.float64).view(72, 2, 6, 6)).flatten(1).T
        b = up(torch.eye(27, dtype=torch.float64).view(27, 3, 3, 3)).flatten(1).T
    assert a.shape == (27, 72)
    assert_close(b, a.T, **EXACT)
    assert (b @ a - torch.eye(72, dtype=torch.float64)).abs().max() > 0.1  # and no inverse


@pytest.mark.equation("conv-backward", tolerance="1e-10")
def test_the_gradient_of_a_convolution_is_the_transposed_convolution():
    """Differentiate a loss that is not linear through A x, and compare with A^T applied to dL/dy; and the reverse."""
    x, weight = normal(1, 2, 9, 8).requires_grad_(), normal(3, 2, 4, 3, seed=1)
    y = F.conv2d(x, weight, stride=2, padding=1)
    (above,) = torch.autograd.grad(y.sin().sum(), y, retain_graph=True)
    (below,) = torch.autograd.grad(y.sin().sum(), x)
    assert_close(
        below, F.conv_transpose2d(above, weight, stride=2, padding=1, output_padding=(1, 1)), **EXACT
    )
    z = normal(1, 3, 4, 4).requires_grad_()
    out = F.conv_transpose2d(z, weight, stride=2, padding=1)
    (above,) = torch.autograd.grad(out.sin().sum(), out, retain_graph=True)
    (below,) = torch.autograd.grad(out.sin().sum(), z)
    assert_close(below, F.conv2d(above, weight, stride=2, padding=1), **EXACT)


@pytest.mark.equation("conv-adjoint", tolerance="1e-10")
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), SETTINGS)
def test_both_inner_products_are_the_same_number(size, kernel, stride, padding, dilation):
    """Compare <A x, y> with <x, A^T y> for ten random pairs, without building A."""
    how = {"stride": stride, "padding": padding, "dilation": dilation}
    weight, n_out = normal(1, 1, kernel), conv_size(size, kernel, **how)
    extra = size - transposed_size(n_out, kernel, **how)
    for seed in range(10):
        x, y = normal(1, 1, size, seed=seed), normal(1, 1, n_out, seed=seed + 50)
        left = (F.conv1d(x, weight, **how) * y).sum()
        right = (x * F.conv_transpose1d(y, weight, output_padding=extra, **how)).sum()
        assert_close(left, right, **EXACT)


# ---- sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("conv-size", tolerance="exact")
def test_the_size_is_the_number_of_windows_that_fit():
    """Slide the window along the padded input, one stride at a time, and count until its end leaves the input."""
    for size, kernel, stride, padding, dilation in itertools.product(
        range(1, 12), range(1, 6), range(1, 5), range(3), range(1, 4)
    ):
        start, windows = -padding, 0
        while start + dilation * (kernel - 1) <= size - 1 + padding:
            windows, start = windows + 1, start + stride
        if windows:
            assert conv_size(size, kernel, stride=stride, padding=padding, dilation=dilation) == windows
        else:
            with pytest.raises(ValueError, match="would be empty"):
                conv_size(size, kernel, stride=stride, padding=padding, dilation=dilation)


@pytest.mark.equation("conv-transposed-size", "conv-round-trip", tolerance="exact")
def test_the_transposed_sizes_are_all_the_sizes_that_lead_there():
    """Ask every size whether the convolution maps it to m: the answers are those of output padding 0 .. stride - 1."""
    for m, kernel, stride, padding, dilation in itertools.product(
        range(1, 7), range(1, 6), range(1, 5), range(3), range(1, 3)
    ):
        how = {"stride": stride, "padding": padding, "dilation": dilation}
        smallest = stride * (m - 1) + dilation * (kernel - 1) + 1 - 2 * padding
        if smallest < 1:
            continue
        leading = []
        for n in range(1, 60):
            if n + 2 * padding > dilation * (kernel - 1) and conv_size(n, kernel, **how) == m:
                leading.append(n)
        assert leading == [transposed_size(m, kernel, output_padding=o, **how) for o in range(stride)]


@pytest.mark.equation("conv-receptive", tolerance="exact")
def test_the_receptive_field_is_the_width_of_a_row_of_the_product_of_matrices():
    """Multiply the matrices of a stack with positive weights, and measure how far the entries of a row reach."""
    for stack in (
        [(3, 1, 1), (4, 2, 1), (3, 1, 2)],
        [(4, 2, 1), (4, 2, 1), (3, 1, 1), (3, 1, 1)],
        [(5, 3, 2)],
    ):
        size, product = 90, torch.eye(90, dtype=torch.float64)
        for kernel, stride, dilation in stack:
            a = matrix(torch.ones(kernel), size, stride, 0, dilation)
            product, size = a @ product, len(a)
        row = product[len(product) // 2].nonzero().flatten()
        assert row[-1] - row[0] + 1 == receptive_field(stack), stack


# ---- checkerboards ---------------------------------------------------------------------------------------------


@pytest.mark.equation("conv-overlap", tolerance="exact")
def test_the_counts_are_even_exactly_where_the_stride_divides_the_kernel():
    """Compare the counts away from the ends with ceil((kernel - r) / stride), r = (l + padding) mod stride."""
    for kernel, stride, padding in itertools.product(range(1, 9), range(1, 6), range(3)):
        counts = overlap_count(30, kernel, stride=stride, padding=padding)
        inner = range(kernel, len(counts) - kernel)
        expected = [math.ceil((kernel - (place + padding) % stride) / stride) for place in inner]
        assert counts[kernel : len(counts) - kernel].tolist() == expected
        assert (len(set(expected)) == 1) == (kernel % stride == 0), (kernel, stride)


def power_by_phase(kernel: int, n: int = 20_000) -> tuple[Tensor, Tensor]:
    """Return mean and standard error of the square of 2 x 2 inner pixels, weights and inputs drawn n times."""
    x, weight = normal(1, 4 * n, 3, 3), normal(4 * n, 1, kernel, kernel, seed=1)
    out = F.conv_transpose2d(x, weight, stride=2, padding=1, groups=n)  # one layer of 4 channels a draw
    draws = out[0, :, 2:4, 2:4].square().flatten(1)  # (n, 4)
    return draws.mean(0), draws.std(0) / math.sqrt(n)


@pytest.mark.equation("conv-checkerboard", tolerance="4 standard errors, below 3 %")
@pytest.mark.parametrize("kernel", [3, 4])
def test_the_power_of_a_pixel_is_proportional_to_its_count(kernel):
    """Draw weights and inputs anew thousands of times: the mean square of each pixel is C o_1 o_2, C channels."""
    mean, error = power_by_phase(kernel)
    counts = overlap_count(3, kernel, stride=2, padding=1)[2:4].double()
    expected = 4 * (counts[:, None] * counts).flatten()
    assert (error < 0.03 * mean).all(), "too few draws to tell"
    assert ((mean - expected).abs() < 4 * error).all()
    assert (expected.max() / expected.min()).item() == (4 if kernel == 3 else 1)


@pytest.mark.equation("conv-overlap", tolerance="exact")
def test_in_a_stack_of_kernel_3_the_counts_grow_apart_as_fibonacci_numbers():
    """Feed the counts of a layer to the next one: largest over smallest is 2, 3, 5, 8 for kernel 3, and 1 for 4."""
    for kernel, expected in ((3, [2, 3, 5, 8]), (4, [1, 1, 1, 1])):
        counts, ratios = torch.ones(12), []
        for layer in range(4):
            spread = F.conv_transpose1d(counts[None, None], torch.ones(1, 1, kernel), stride=2, padding=1)[
                0, 0
            ]
            if layer == 0:
                assert spread.long().equal(overlap_count(12, kernel, stride=2, padding=1))
            counts, third = spread, len(spread) // 3
            ratios.append((counts[third:-third].max() / counts[third:-third].min()).item())
        assert ratios == expected


@pytest.mark.equation("conv-overlap", tolerance="exact")
def test_both_cures_give_every_inner_pixel_the_same_count():
    """Fill the package's two doubling layers with ones and feed them ones: inside, one number."""
    for layer, terms in ((upsample(1, 1), 4), (resize_upsample(1, 1), 9)):
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            inner = layer(torch.ones(1, 1, 5, 5))[..., 2:-2, 2:-2]
        assert inner.unique().tolist() == [terms]


# ---- normalisation ---------------------------------------------------------------------------------------------

NORMS = {
    "batch": ((0, 2, 3), lambda x, g, h: F.batch_norm(x, None, None, g, h, training=True)),
    "instance": ((2, 3), lambda x, g, h: F.instance_norm(x, weight=g, bias=h)),
    "layer": ((1, 2, 3), lambda x, g, h: F.group_norm(x, 1, g, h)),
}


@pytest.mark.equation("conv-normalise", "conv-statistics", tolerance="1e-10")
@pytest.mark.parametrize(("axes", "torchs"), NORMS.values(), ids=list(NORMS))
def test_a_normalisation_is_its_axes(axes, torchs):
    """Subtract the mean over the set, divide by the biased deviation, apply gain and shift: torch's layer."""
    x, gain, shift = 3 * normal(4, 6, 5, 3) + 1, normal(6, seed=1), normal(6, seed=2)
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    by_hand = (x - mean) / torch.sqrt(variance + 1e-5) * gain.view(6, 1, 1) + shift.view(6, 1, 1)
    assert_close(by_hand, torchs(x, gain, shift), **EXACT)


@pytest.mark.equation("conv-normalise", "conv-statistics", tolerance="1e-10")
def test_group_normalisation_lies_between_layer_and_instance():
    """Average over places and the channels of a group by a loop; one group is `layer`, a group a channel `instance`."""
    x = 3 * normal(4, 6, 5, 3) + 1
    by_hand = torch.empty_like(x)
    for b, group in itertools.product(range(4), range(3)):
        values = x[b, 2 * group : 2 * group + 2]
        deviation = torch.sqrt((values - values.mean()).square().mean() + 1e-5)
        by_hand[b, 2 * group : 2 * group + 2] = (values - values.mean()) / deviation
    assert_close(by_hand, F.group_norm(x, 3), **EXACT)
    assert_close(F.group_norm(x, 1), F.layer_norm(x, x.shape[1:]), **EXACT)
    assert_close(F.group_norm(x, 6), F.instance_norm(x), **EXACT)


@pytest.mark.equation("conv-running", tolerance="1e-10")
def test_running_averages_forget_their_start_step_by_step():
    """Show one batch T times: running mean (1 - 0.9^T) m, running variance 0.9^T + (1 - 0.9^T) n/(n-1) v."""
    x, layer = 3 * normal(4, 2, 5, 3) + 1, nn.BatchNorm2d(2).double()
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=1)  # n = 60 values a channel
    biased = x.var((0, 2, 3), correction=0)
    assert_close(variance, biased * 60 / 59, **EXACT)
    for step in range(1, 30):
        layer(x)
        kept = 0.9**step
        assert_close(layer.running_mean, (1 - kept) * mean, **EXACT)
        assert_close(layer.running_var, kept + (1 - kept) * variance, **EXACT)
    evaluated = layer.eval()(x)
    by_hand = (x - layer.running_mean.view(2, 1, 1)) / torch.sqrt(layer.running_var.view(2, 1, 1) + 1e-5)
    assert_close(evaluated, by_hand, **EXACT)
    assert (evaluated - F.batch_norm(x, None, None, training=True)).abs().max() > 0.05  # still not the same


# ---- what a regression learns ----------------------------------------------------------------------------------

# A world that can be enumerated: 2 x 3 combinations of attributes, not independent, two pictures of 4 pixels each.
P_C = torch.tensor([[0.25, 0.05, 0.10], [0.05, 0.35, 0.20]], dtype=torch.float64)
PICTURES = torch.rand(2, 3, 2, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
P_PICTURE = torch.tensor([0.3, 0.7], dtype=torch.float64)
P = P_C[..., None] * P_PICTURE  # (2, 3, 2), sums to 1
MEAN = (P_PICTURE[:, None] * PICTURES).sum(2)  # (2, 3, 4): of all that fit, both attributes given
MEAN_FIRST = (P[..., None] * PICTURES).sum((1, 2)) / P.sum((1, 2))[:, None]  # (2, 4): the first alone


def expect(values: Tensor) -> Tensor:
    return (P * values).sum()


@pytest.mark.equation("conv-mean", tolerance="1e-10")
def test_the_squared_error_is_the_spread_plus_the_distance_to_the_mean():
    """Enumerate the expected error of twenty arbitrary answers; the least error is at the conditional mean."""
    spread = expect((PICTURES - MEAN[:, :, None]).square().sum(-1))
    for seed in range(20):
        answer = normal(2, 3, 4, seed=seed)
        error = expect((PICTURES - answer[:, :, None]).square().sum(-1))
        distance = (P_C * (MEAN - answer).square().sum(-1)).sum()
        assert_close(error, spread + distance, **EXACT)
        assert error > spread + 0.1


@pytest.mark.equation("conv-cross-entropy", "conv-mean", tolerance="1e-6")
def test_both_losses_are_least_at_the_conditional_mean():
    """At its logits the gradient of both expected losses is 0, and the loss rises in every direction tried."""
    losses = {
        "squared error": lambda t: expect((torch.sigmoid(t)[:, :, None] - PICTURES).square().sum(-1)),
        "cross-entropy": lambda t: expect(
            bernoulli_nll(t[:, :, None].expand_as(PICTURES).reshape(12, 4), PICTURES.reshape(12, 4)).view(
                2, 3, 2
            )
        ),
    }
    best = torch.logit(MEAN).requires_grad_()
    for loss in losses.values():
        value = loss(best)
        (gradient,) = torch.autograd.grad(value, best)
        assert gradient.abs().max() < 1e-12
        for seed in range(20):
            assert loss(best + 0.1 * normal(2, 3, 4, seed=seed)) > value + 1e-5
    for wrong in (MEAN * 0.9, 1 - MEAN):  # and elsewhere it is not
        t = torch.logit(wrong).requires_grad_()
        for loss in losses.values():
            assert torch.autograd.grad(loss(t), t)[0].abs().max() > 1e-3


@pytest.mark.equation("conv-withheld", "conv-spread", tolerance="1e-10")
def test_withholding_gives_the_mean_of_means_and_costs_their_spread():
    """Average the means over the attribute withheld, and compare both sides of the law of total variance."""
    given_first = P_C / P_C.sum(1, keepdim=True)
    assert_close((given_first[..., None] * MEAN).sum(1), MEAN_FIRST, **EXACT)
    unweighted = MEAN.mean(1)  # forgetting that attributes go together
    assert (unweighted - MEAN_FIRST).abs().max() > 0.01
    told_less = expect((PICTURES - MEAN_FIRST[:, None, None]).square().sum(-1))
    told_all = expect((PICTURES - MEAN[:, :, None]).square().sum(-1))
    between = (P_C * (MEAN - MEAN_FIRST[:, None]).square().sum(-1)).sum()
    assert_close(told_less, told_all + between, **EXACT)
    assert between > 0.01


@pytest.mark.equation("conv-withheld", tolerance="1e-10")
def test_a_withheld_attribute_reaches_the_network_as_nothing():
    """Withhold the labels of one attribute: its block is 0, so that every value of it gets the same picture."""
    decoder = AttributeDecoder(
        AttributeDecoderConfig(image_shape=(1, 4, 4), attributes=(3, 2), widths=(4,), hidden=8)
    ).double()
    labels = torch.tensor(list(itertools.product(range(3), range(2))))
    told = decoder.conditions(labels)
    assert told.sum(1).unique().tolist() == [2.0] and len(told.unique(dim=0)) == 6
    first = labels.clone()
    first[:, 1] = WITHHELD
    conditions = decoder.conditions(first)
    assert conditions[:, 3:].abs().max() == 0
    pictures = decoder(conditions.double())
    for value in range(3):
        same = pictures[labels[:, 0] == value]
        assert_close(same[0], same[1], **EXACT)


def sharpness(x: Tensor) -> Tensor:
    """Return the sum of squared differences of neighbours, of images (..., 4) read as 2 x 2."""
    x = x.unflatten(-1, (2, 2))
    return x.diff(dim=-1).square().sum((-1, -2)) + x.diff(dim=-2).square().sum((-1, -2))


@pytest.mark.equation("conv-sharpness", tolerance="1e-10")
def test_an_average_loses_the_sharpness_of_the_differences():
    """Enumerate both sides, image by image: told the first attribute, and told both."""
    for mean, p in (
        (MEAN_FIRST[:, None, None].expand_as(PICTURES), P),
        (MEAN[:, :, None].expand_as(PICTURES), P),
    ):
        lost = (p * sharpness(PICTURES - mean)).sum()
        assert_close((p * sharpness(mean)).sum(), (p * sharpness(PICTURES)).sum() - lost, **EXACT)
        assert lost > 0.01
    # and for each condition apart, not only on average
    for first in range(2):
        weights = P[first] / P[first].sum()
        kept = (weights * sharpness(PICTURES[first])).sum()
        lost = (weights * sharpness(PICTURES[first] - MEAN_FIRST[first])).sum()
        assert_close(sharpness(MEAN_FIRST[first]), kept - lost, **EXACT)


# ---- the autoencoder -------------------------------------------------------------------------------------------


def linear_data() -> tuple[Tensor, Tensor, Tensor]:
    """Return centred data (N, 6), the eigenvalues of their covariance, the largest first, and the eigenvectors."""
    x = normal(400, 6) @ torch.diag(torch.tensor([3.0, 2.0, 1.5, 0.7, 0.4, 0.2], dtype=torch.float64))
    x = x @ torch.linalg.qr(normal(6, 6, seed=1))[0]
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    return x, values.flip(0), vectors.flip(1)


@pytest.mark.equation("conv-autoencoder", "conv-linear-autoencoder", tolerance="1e-10")
def test_the_best_linear_autoencoder_leaves_the_small_eigenvalues():
    """Copy through the leading eigenvectors: the mean error is the sum of the other eigenvalues, for every D."""
    x, values, vectors = linear_data()
    for n_codes in range(1, 6):
        encoder, decoder = vectors[:, :n_codes].T, vectors[:, :n_codes]
        loss = (x - x @ encoder.T @ decoder.T).square().sum(1).mean()
        assert_close(loss, values[n_codes:].sum(), **EXACT)
        for seed in range(20):  # no pair of matrices does better, near by or far away
            for size in (0.05, 1.0):
                e = encoder + size * normal(n_codes, 6, seed=seed)
                d = decoder + size * normal(6, n_codes, seed=seed + 99)
                assert (x - x @ e.T @ d.T).square().sum(1).mean() > loss


@pytest.mark.equation("conv-linear-autoencoder", tolerance="1e-10")
def test_a_subspace_keeps_a_share_of_each_eigenvalue_and_the_shares_add_up_to_its_dimensions():
    """Project on random subspaces: the error is |x|^2 less sum_j lambda_j |Q^T v_j|^2, shares in [0, 1] with sum D."""
    x, values, vectors = linear_data()
    for n_codes, seed in itertools.product(range(1, 6), range(5)):
        q = torch.linalg.qr(normal(6, n_codes, seed=seed))[0]
        shares = (q.T @ vectors).square().sum(0)
        assert shares.max() <= 1 + 1e-12 and abs(shares.sum().item() - n_codes) < 1e-10
        error = (x - x @ q @ q.T).square().sum(1).mean()
        assert_close(error, values.sum() - (values * shares).sum(), **EXACT)
        assert (values * shares).sum() < values[:n_codes].sum()


@pytest.mark.equation("conv-linear-autoencoder", tolerance="1e-6")
def test_training_a_linear_autoencoder_ends_there():
    """Minimise the mean squared error over both matrices from a random start: the closed form's loss and product."""
    x, values, vectors = linear_data()
    e, d = (0.3 * normal(2, 6, seed=3)).requires_grad_(), (0.3 * normal(6, 2, seed=4)).requires_grad_()
    optimiser = torch.optim.LBFGS([e, d], max_iter=200, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = (x - x @ e.T @ d.T).square().sum(1).mean()
        value.backward()
        return value

    optimiser.step(loss)
    assert_close(loss().detach(), values[2:].sum(), rtol=1e-6, atol=1e-6)
    assert_close((d @ e).detach(), vectors[:, :2] @ vectors[:, :2].T, rtol=0, atol=1e-4)


@pytest.mark.equation("conv-free-codes", tolerance="1e-8")
def test_any_invertible_map_between_encoder_and_decoder_leaves_every_copy_as_it_was():
    """Fold T into the encoder's last layer and its inverse into the decoder's first: same copies, other codes."""
    torch.manual_seed(0)
    config = VAEConfig(image_shape=(1, 4, 4), latent_dim=3, network="mlp", hidden=8)
    model, x = Autoencoder(config).double(), normal(50, 1, 4, 4).clamp(-1, 1)
    before = model(x)
    assert_close(before.params, model.decode(model.encode(x)), **EXACT)
    stretch = torch.tensor([[10.0, 0, 0], [0, 1, 7], [0, 0, 0.1]], dtype=torch.float64)
    last, first = model.encoder[-1], model.decoder[0]
    with torch.no_grad():
        last.weight.copy_(stretch @ last.weight)
        last.bias.copy_(stretch @ last.bias)
        first.weight.copy_(first.weight @ torch.linalg.inv(stretch))
    after = model(x)
    assert_close(after.params, before.params, rtol=1e-8, atol=1e-8)
    assert_close(after.z, before.z @ stretch.T, **EXACT)
    assert (torch.cov(after.z.T) - torch.cov(before.z.T)).abs().max() > 0.1
    moved = model.decode(normal(50, 3))  # and a code from N(0, I) now gives another picture
    with torch.no_grad():
        last.weight.copy_(torch.linalg.inv(stretch) @ last.weight)
        first.weight.copy_(first.weight @ stretch)
    assert (moved - model.decode(normal(50, 3))).abs().max() > 0.1


# ---- the chapter's losses are the recipes' ---------------------------------------------------------------------


def test_the_decoders_loss_in_the_chapter_is_the_recipes_on_the_same_draw():
    torch.manual_seed(0)
    config = AttributeDecoderConfig(image_shape=(1, 4, 4), attributes=(3, 2), widths=(4,), hidden=8)
    model, x = AttributeDecoder(config), normal(20, 1, 4, 4).clamp(-1, 1).float()
    labels = torch.tensor(list(itertools.product(range(3), range(2)))).repeat(4, 1)[:20]
    told = withheld(labels, share=0.5, generator=torch.Generator().manual_seed(3))
    assert 4 <= (told == WITHHELD).any(1).sum() <= 16
    chapter = bernoulli_nll(model(model.conditions(told)), to_unit(x))
    recipe = AttributeObjective().terms(
        model, Batch(x, labels), step=0, n_steps=1, generator=torch.Generator().manual_seed(3)
    )
    assert_close(chapter, recipe["loss"])


def test_the_autoencoders_loss_in_the_chapter_is_the_recipes():
    torch.manual_seed(0)
    model = Autoencoder(VAEConfig(image_shape=(1, 4, 4), latent_dim=3, network="mlp", hidden=8))
    x = normal(20, 1, 4, 4).clamp(-1, 1).float()
    recipe = AutoencoderObjective().terms(model, Batch(x, None), step=0, n_steps=1)
    assert_close(bernoulli_nll(model(x).params, to_unit(x)), recipe["loss"])
