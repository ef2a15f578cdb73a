"""The quantiser against its definition and the plain form of its update, and what the VQ-VAE promises."""

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from imagegen import vq
from imagegen.images import to_unit
from imagegen.objectives import bernoulli_nll, codebook_loss, commitment_loss
from imagegen.recipes.code_terms import vq_terms
from imagegen.vq import VQVAE, Quantised, Quantiser, VQVAEConfig, VQVAEOutput, nearest_code, straight_through

EXACT = {"rtol": 0, "atol": 0}
SMALL = VQVAEConfig(
    image_shape=(1, 8, 8), codes=16, code_dim=4, widths=(4, 8), blocks=1, hidden=8, restart=0.1
)
CONFIGS = {
    "28 pixels": VQVAEConfig(codes=32, code_dim=8, widths=(4, 8), hidden=4),
    "64 pixels, colour": VQVAEConfig((3, 64, 64), codes=32, code_dim=8, widths=(4, 6, 8), hidden=4),
    "colour, not square": VQVAEConfig((3, 8, 12), codes=8, code_dim=5, widths=(4, 4), blocks=0),
    "one stage": VQVAEConfig((1, 6, 6), codes=8, code_dim=3, widths=(4,), blocks=1, hidden=2),
    "by gradient": dataclasses.replace(SMALL, update="gradient"),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def build(config: VQVAEConfig) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(config)


def pictures(config: VQVAEConfig, n: int = 6) -> Tensor:
    return torch.rand(n, *config.image_shape, generator=seeded(1)) * 2 - 1


def running(codebook: Tensor, uses: float | Tensor, **options) -> Quantiser:
    """Return a quantiser, in training mode, that has already started: with this codebook and these uses a batch."""
    quantiser = Quantiser(*codebook.shape, **{"restart": 0.0} | options).to(codebook.dtype)
    with torch.no_grad():
        quantiser.codebook.copy_(codebook)
        quantiser.counts.copy_(torch.as_tensor(uses).expand(len(codebook)))
    return quantiser


def rows_of(z: Tensor) -> Tensor:
    """Return the vectors of z (B, D, h, w), image by image and row by row: (B h w, D)."""
    return torch.stack([image[:, i, j] for image in z for i in range(z.shape[2]) for j in range(z.shape[3])])


# ---- the nearest code ------------------------------------------------------------------------------------------


def by_brute_force(z: Tensor, codebook: Tensor) -> Tensor:
    """Return the nearest codes from all squared differences, the first of those that tie."""
    squared = (z[:, None] - codebook).square().sum(2)
    return torch.tensor([row.index(min(row)) for row in squared.tolist()])


@pytest.mark.parametrize("n", [1, 7, 8, 9, 33])
def test_the_nearest_code_is_that_of_all_differences(n, monkeypatch):
    """Chunks of 8 rows: fewer than one, one, one and a row, and several with a rest."""
    codebook = normal(24, 5, seed=1)
    monkeypatch.setattr(vq, "_CELLS", 8 * 24)
    z = normal(n, 5)
    found = nearest_code(z, codebook)
    assert found.dtype == torch.int64
    assert_close(found, by_brute_force(z, codebook), **EXACT)


def test_the_lengths_of_the_codes_count():
    """Far codes have large products with z: the nearest is not the one with the largest product."""
    codebook = normal(40, 3, seed=1) * torch.logspace(-1, 1.5, 40, dtype=torch.float64)[:, None]
    z = 2 * normal(300, 3)
    found = nearest_code(z, codebook)
    assert_close(found, by_brute_force(z, codebook), **EXACT)
    assert not found.equal((z @ codebook.T).argmax(1))


def test_of_codes_that_tie_the_first_is_taken():
    """On whole numbers all arithmetic is exact, in float32 too."""
    codebook = torch.randint(-2, 3, (64, 3), generator=seeded(1)).float()
    z = torch.randint(-4, 5, (500, 3), generator=seeded()).float() / 2
    squared = (z[:, None] - codebook).square().sum(2)
    assert ((squared == squared.amin(1, keepdim=True)).sum(1) > 1).float().mean() > 0.5
    assert_close(nearest_code(z, codebook), by_brute_force(z, codebook), **EXACT)


def test_in_float32_no_code_is_nearer_than_the_one_found_by_more_than_rounding():
    z, codebook = normal(3000, 64), normal(512, 64, seed=1)
    found = nearest_code(z.float(), codebook.float())
    distance = torch.cdist(z, codebook)
    assert (distance.gather(1, found[:, None])[:, 0] - distance.amin(1)).max() < 1e-5


def test_the_search_passes_no_gradient_and_keeps_precision_under_autocast():
    z, codebook = normal(400, 6, dtype=torch.float32), normal(256, 6, seed=1, dtype=torch.float32)
    plain = nearest_code(z, codebook)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(nearest_code(z.requires_grad_(), codebook.requires_grad_()), plain, **EXACT)
    rounded = (z.bfloat16() @ codebook.bfloat16().T).float()
    assert not plain.equal(
        (0.5 * codebook.square().sum(1) - rounded).argmin(1)
    )  # what autocast would make of it


@pytest.mark.parametrize(("z", "codebook"), [((4, 3), (5, 2)), ((4, 3, 1), (5, 3)), ((4, 3), (3,))])
def test_vectors_that_do_not_fit_the_codebook_are_refused(z, codebook):
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(K, D\)"):
        nearest_code(torch.zeros(z), torch.zeros(codebook))


# ---- straight through ------------------------------------------------------------------------------------------


def test_straight_through_has_the_value_of_the_code_to_the_last_bit():
    z, nearest = normal(5, 7, dtype=torch.float32), 1e-4 * normal(5, 7, seed=1, dtype=torch.float32)
    assert_close(straight_through(z, nearest), nearest, **EXACT)
    assert not (z + (nearest - z)).equal(nearest)  # the form with a difference rounds


def test_straight_through_has_the_gradient_of_the_identity():
    z, nearest, gradient = (normal(3, 4, seed=seed) for seed in range(3))
    z.requires_grad_(), nearest.requires_grad_()
    out = straight_through(z, nearest)
    to_z, to_nearest = torch.autograd.grad(out, (z, nearest), gradient, allow_unused=True)
    assert_close(to_z, gradient, **EXACT)
    assert to_nearest is None
    jacobian = torch.autograd.functional.jacobian(lambda a: straight_through(a, nearest).flatten(), z)
    assert_close(jacobian.flatten(1), torch.eye(12, dtype=torch.float64), **EXACT)


def test_straight_through_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"z \(2, 3\) and nearest \(2, 1\) differ"):
        straight_through(torch.zeros(2, 3), torch.zeros(2, 1))


# ---- the quantiser: codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_each_vector_is_replaced_by_its_nearest_code_at_its_place(training):
    """A grid that is not square, and a batch: any exchange of axes shows."""
    codebook, z = normal(9, 4, seed=1), normal(3, 4, 2, 5)
    found = running(codebook, 3.0).train(training)(z)
    assert isinstance(found, Quantised) and found.indices.dtype == torch.int64
    assert found.indices.shape == (3, 2, 5) and found.quantised.shape == found.nearest.shape == z.shape
    assert_close(found.indices.flatten(), by_brute_force(rows_of(z), codebook), **EXACT)
    for b, i, j in torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(5)).tolist():
        vector = codebook[found.indices[b, i, j]]
        assert_close(found.nearest[b, :, i, j], vector, **EXACT)
        assert_close(found.quantised[b, :, i, j], vector, **EXACT)


def test_embedded_indices_are_the_quantised_to_the_last_bit():
    quantiser = Quantiser(32, 6)
    for step in range(3):
        quantiser(normal(4, 6, 3, 5, seed=step, dtype=torch.float32))
    found = quantiser.eval()(normal(4, 6, 3, 5, seed=9, dtype=torch.float32))
    assert_close(quantiser.embed(found.indices), found.quantised, **EXACT)
    assert len(found.indices.unique()) > 8


def test_the_layout_in_memory_changes_nothing():
    quantiser = running(normal(16, 4, seed=1), 1.0).eval()
    z = normal(3, 4, 5, 2)
    there = quantiser(z.to(memory_format=torch.channels_last))
    here = quantiser(z)
    assert there.indices.equal(here.indices) and there.quantised.equal(here.quantised)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 4, 4), (2, 4)])
def test_a_quantiser_refuses_vectors_of_another_dimension(shape):
    with pytest.raises(ValueError, match=r"expected \(B, 4, h, w\)"):
        Quantiser(8, 4)(torch.zeros(shape))


# ---- the quantiser: how the codebook learns --------------------------------------------------------------------


class PlainEMA:
    """The moving averages as the paper writes them: a one-hot product, two buffers, their quotient. No restarts."""

    def __init__(self, codebook: Tensor, uses: float, decay: float) -> None:
        self.decay, self.codebook = decay, codebook
        self.uses = torch.full((len(codebook),), uses, dtype=codebook.dtype)
        self.sums = codebook * uses

    def step(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes (N,) and the quantised vectors (N, D) of z (N, D), and move the codebook."""
        squared = z.square().sum(1, keepdim=True) - 2 * z @ self.codebook.T + self.codebook.square().sum(1)
        codes = squared.argmin(1)
        hits = one_hot(codes, len(self.codebook)).to(z.dtype)
        quantised = hits @ self.codebook
        self.uses = self.decay * self.uses + (1 - self.decay) * hits.sum(0)
        self.sums = self.decay * self.sums + (1 - self.decay) * hits.T @ z
        self.codebook = self.sums / self.uses[:, None]
        return codes, quantised


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_quantiser_is_the_plain_form_of_the_moving_averages(dtype, tolerance, decay):
    codebook = normal(12, 6, seed=50, dtype=dtype)
    plain, lean = PlainEMA(codebook, 10.0, decay), running(codebook, 10.0, decay=decay)
    for step in range(8):
        z = 0.8 * normal(5, 6, 4, 6, seed=step, dtype=dtype)
        codes, quantised = plain.step(rows_of(z))
        found = lean(z)
        assert_close(found.indices.flatten(), codes, **EXACT)
        assert_close(rows_of(found.quantised), quantised, rtol=0, atol=tolerance)
        assert_close(lean.codebook, plain.codebook, rtol=0, atol=tolerance)
        assert_close(lean.counts, plain.uses, rtol=tolerance, atol=0)
    assert (lean.codebook - codebook).abs().max() > 0.03  # it did move


def test_without_memory_an_update_is_a_step_of_lloyds_algorithm():
    """At decay 0 each used code goes to the mean of its vectors, twice in a row; the distance never grows."""
    codebook, z = normal(12, 2, seed=1), normal(4, 2, 5, 5)
    codebook[-1] = 100.0  # nothing is near this one
    quantiser, rows = running(codebook, 5.0, decay=0.0), rows_of(z)
    distances = []
    for _ in range(3):
        before = quantiser.codebook.clone()
        found = quantiser(z)
        codes = found.indices.flatten()
        distances.append((rows - before[codes]).square().sum().item())
        means = [rows[codes == k].mean(0) if (codes == k).any() else before[k] for k in range(12)]
        assert_close(quantiser.codebook, torch.stack(means), rtol=1e-12, atol=1e-12)
    assert distances[0] > distances[1] > distances[2]


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_code_that_nothing_is_nearest_to_stays_and_nothing_becomes_nan(decay):
    """200 steps: its count falls to zero, or underflows to it."""
    codebook = torch.cat([normal(3, 2, seed=1), torch.full((2, 2), 50.0)]).float()
    quantiser = running(codebook, 4.0, decay=decay)
    for step in range(200):
        quantiser(normal(2, 2, 3, 3, seed=step, dtype=torch.float32))
    assert_close(quantiser.codebook[3:], codebook[3:], **EXACT)
    assert quantiser.counts[3:].max() < 1e-30
    assert quantiser.codebook.isfinite().all() and quantiser.codebook[:3].abs().max() < 2


def test_the_decoder_sees_the_codebook_from_before_the_update():
    codebook, z = normal(6, 3, seed=1), normal(2, 3, 4, 4)
    quantiser = running(codebook, 5.0, decay=0.1)
    found = quantiser(z)
    assert_close(rows_of(found.quantised), codebook[found.indices.flatten()], **EXACT)
    assert not quantiser.codebook.equal(codebook)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_in_evaluation_nothing_moves(update):
    """Neither before the first training step nor after some."""
    quantiser = Quantiser(16, 3, update=update)
    for start in (0, 10):
        before = {name: value.clone() for name, value in quantiser.state_dict().items()}
        quantiser.eval()
        for step in range(3):
            quantiser(5 + normal(2, 3, 4, 4, seed=start + step, dtype=torch.float32))
        assert all(value.equal(before[name]) for name, value in quantiser.state_dict().items())
        quantiser.train()(normal(2, 3, 4, 4, seed=start, dtype=torch.float32))
        assert not all(value.equal(before[name]) for name, value in quantiser.state_dict().items())


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("restart", [0.0, 0.1])
def test_the_codebook_starts_on_vectors_of_the_first_batch(update, restart):
    """However far from 0 they are, every code is the nearest of one of them. A decay near 1: it hardly moves on."""
    z = 30 + 0.5 * normal(4, 3, 5, 5, dtype=torch.float32)
    quantiser = Quantiser(64, 3, update=update, decay=1 - 1e-6, restart=restart)
    found = quantiser(z)
    distance = torch.cdist(quantiser.codebook.detach().double(), rows_of(z).double())
    assert distance.amin(1).max() < 1e-4
    assert len(distance.argmin(1).unique()) == 64
    assert rows_of(found.quantised).unique(dim=0).shape[0] == 64


def test_a_batch_smaller_than_the_codebook_starts_it_all():
    z = normal(1, 3, 2, 3, dtype=torch.float32)
    quantiser = Quantiser(20, 3, decay=1 - 1e-6)
    quantiser(z)
    chosen = torch.cdist(quantiser.codebook, rows_of(z)).argmin(1)
    assert torch.bincount(chosen, minlength=6).tolist() in ([[4, 4, 3, 3, 3, 3]] + [
        c for c in torch.cartesian_prod(*[torch.tensor([3, 4])] * 6).tolist() if sum(c) == 20
    ])  # fmt: skip


def test_the_start_gives_each_code_its_fair_share_of_uses():
    quantiser = Quantiser(8, 3, decay=0.75)
    found = quantiser(normal(4, 3, 5, 4, dtype=torch.float32))  # 80 vectors: 10 a code
    uses = torch.bincount(found.indices.flatten(), minlength=8)
    assert_close(quantiser.counts, 0.75 * 10 + 0.25 * uses)


def test_a_code_with_too_few_uses_is_put_on_a_vector_of_the_batch():
    """Of four codes where nothing is, those below a tenth of the fair use of 10 restart; the others stay."""
    codebook = torch.cat([normal(4, 3, seed=1), torch.full((4, 3), 90.0)]).float()
    counts = torch.tensor([9.0, 9.0, 9.0, 9.0, 0.0, 0.9, 1.1, 30.0])
    quantiser = running(codebook, counts, decay=1 - 1e-6, restart=0.1)
    z = normal(4, 3, 5, 4, dtype=torch.float32)
    found = quantiser(z, generator=seeded())
    distance = torch.cdist(quantiser.codebook, rows_of(z)).amin(1)
    assert distance[4:6].max() < 1e-3
    assert_close(quantiser.codebook[6:], codebook[6:], **EXACT)
    assert_close(quantiser.codebook[:4], codebook[:4], rtol=0, atol=1e-3)
    assert {4, 5} <= set(found.indices.flatten().tolist())  # in use from this very batch on
    assert_close(quantiser.counts, torch.tensor([9.0, 9, 9, 9, 10, 10, 1.1, 30]), rtol=1e-3, atol=1e-3)


def test_without_restarts_a_dead_code_stays_dead():
    codebook = torch.cat([normal(4, 3, seed=1), torch.full((4, 3), 90.0)]).float()
    quantiser = running(codebook, 0.0, restart=0.0)
    quantiser(normal(4, 3, 5, 4, dtype=torch.float32))
    assert_close(quantiser.codebook[4:], codebook[4:], **EXACT)


def test_restarts_follow_the_generator_alone():
    z = normal(4, 3, 5, 5, dtype=torch.float32)

    def start(seed: int) -> Tensor:
        quantiser = Quantiser(16, 3)
        quantiser(z, generator=seeded(seed))
        return quantiser.codebook

    state = torch.random.get_rng_state()
    quantiser = Quantiser(16, 3)
    torch.random.set_rng_state(state)
    quantiser(z, generator=seeded())
    assert torch.random.get_rng_state().equal(state)
    assert start(0).equal(start(0)) and not start(0).equal(start(1))


@pytest.mark.parametrize(("restart", "in_use"), [(0.0, 1), (0.1, 16)])
def test_a_codebook_far_from_the_data_collapses_to_one_code_and_restarts_cure_it(restart, in_use):
    """The code that happens to be nearest moves to the data, and then wins every vector for good."""
    quantiser = running(normal(16, 4, seed=1, dtype=torch.float32), 8.0, decay=0.9, restart=restart)
    for step in range(60):
        z = 50 + normal(4, 4, 8, 4, seed=step, dtype=torch.float32)
        codes = quantiser(z, generator=seeded(step)).indices
    assert len(codes.unique()) == in_use


# ---- precision, memory, work -----------------------------------------------------------------------------------


def test_under_autocast_the_quantiser_computes_in_float32():
    """bfloat16 vectors, under autocast: the same codes, outputs and codebook as the same vectors in float32."""
    z = normal(8, 4, 6, 6, dtype=torch.bfloat16)
    codebook = normal(128, 4, seed=1, dtype=torch.float32)
    here, there = running(codebook, 2.0, decay=0.7), running(codebook, 2.0, decay=0.7)
    expected = here(z.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = there(z.requires_grad_())
    assert found.quantised.dtype == found.nearest.dtype == torch.float32
    assert found.indices.equal(expected.indices) and found.quantised.equal(expected.quantised)
    assert there.codebook.equal(here.codebook) and there.codebook.dtype == torch.float32
    found.quantised.sum().backward()
    assert z.grad.dtype == torch.bfloat16 and (z.grad == 1).all()


def test_a_model_under_autocast_encodes_with_float32_distances():
    model = VQVAE(VQVAEConfig((4, 4, 4), codes=256, code_dim=4, widths=(4,))).eval()
    model.encoder = torch.nn.AvgPool2d(2)
    x = normal(64, 4, 4, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.encode(x)
    assert found.equal(model.encode(x)) and found.equal(model(x).indices)


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **kwargs or {})
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_neither_a_table_of_all_distances_nor_a_one_hot_matrix_is_ever_made():
    """N 4096, K 512, D 32: the largest tensor of a whole step is of the size of z, or a chunk of distances."""
    quantiser, z = Quantiser(512, 32), normal(64, 32, 8, 8, dtype=torch.float32).requires_grad_()
    with Largest() as largest:
        found = quantiser(z)
        (found.quantised.sum() + commitment_loss(z, found.nearest).mean()).backward()
    assert z.numel() <= largest.elements <= vq._CELLS < 4096 * 512 / 4


def test_a_step_takes_one_product_of_all_vectors_with_all_codes():
    """A one-hot lookup and a one-hot sum would be two more of 2 N K D operations each."""
    quantiser, z = Quantiser(64, 16), normal(8, 16, 8, 8, dtype=torch.float32).requires_grad_()
    with FlopCounterMode(display=False) as counted:
        found = quantiser(z)
        (found.quantised.sum() + commitment_loss(z, found.nearest).mean()).backward()
    assert counted.get_total_flops() == 2 * 512 * 64 * 16


# ---- gradients -------------------------------------------------------------------------------------------------


def test_the_codebook_loss_moves_the_codebook_as_the_moving_average_does():
    """Its gradient at e_k is 2 (n_k e_k - s_k): times (1 - decay) / (2 counts_k), the update with the sign turned."""
    codebook, z = normal(6, 3, seed=1), normal(2, 3, 4, 4)
    by_gradient = running(codebook, 7.0, update="gradient", decay=0.9)
    by_average = running(codebook, 7.0, decay=0.9)
    (gradient,) = torch.autograd.grad(codebook_loss(z, by_gradient(z).nearest).sum(), by_gradient.codebook)
    by_average(z)
    step = 0.1 / (2 * by_average.counts)
    assert_close(codebook - step[:, None] * gradient, by_average.codebook, rtol=1e-12, atol=1e-12)
    assert_close(by_gradient.counts, by_average.counts)
    assert_close(by_gradient.codebook.detach(), codebook, **EXACT)  # it waits for the optimiser


def test_the_encoder_gets_the_decoders_gradient_as_it_is():
    z, weight = normal(2, 3, 4, 4).requires_grad_(), normal(2, 3, 4, 4, seed=5)
    for update in ("ema", "gradient"):
        found = running(normal(6, 3, seed=1), 5.0, update=update)(z)
        (gradient,) = torch.autograd.grad((found.quantised * weight).sum(), z)
        assert_close(gradient, weight, **EXACT)


def reached(term: Tensor, model: VQVAE) -> set[str]:
    """Return which parts of the model get a gradient that is not zero; of a network, in its last layer."""
    if not term.requires_grad:
        return set()
    model.zero_grad()
    term.sum().backward(retain_graph=True)
    parts = {"encoder": model.encoder[-1].weight, "decoder": model.decoder[-1].weight,
             "codebook": model.quantiser.codebook}  # fmt: skip
    return {name for name, p in parts.items() if p.grad is not None and p.grad.abs().max() > 0}


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_which_term_reaches_which_part(update):
    model = build(dataclasses.replace(SMALL, update=update))
    x = pictures(SMALL)
    out = model(x, generator=seeded())
    assert reached(bernoulli_nll(out.params, to_unit(x)), model) == {"encoder", "decoder"}
    assert reached(commitment_loss(out.z, out.nearest), model) == {"encoder"}
    expected = {"codebook"} if update == "gradient" else set()
    assert reached(codebook_loss(out.z, out.nearest), model) == expected


@pytest.mark.parametrize("beta", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("by_gradient", [False, True])
def test_beta_weighs_the_commitment_and_nothing_else(beta, by_gradient):
    """The recipe's loss: the codebook's gradient does not depend on beta, the encoder's beyond the decoder's does."""
    model = build(dataclasses.replace(SMALL, update="gradient"))
    x = pictures(SMALL)
    parts = [model.encoder[-1].weight, model.quantiser.codebook]
    found = vq_terms(model, x, beta=beta, noise=0.5, by_gradient=by_gradient, generator=seeded())
    to_encoder, to_codebook = torch.autograd.grad(found["loss"].sum(), parts, allow_unused=True)
    model = build(model.config)  # the same once more, before its codebook started
    out = model(x, generator=seeded())
    parts = [model.encoder[-1].weight, model.quantiser.codebook]
    distortion = (torch.sigmoid(out.params) - to_unit(x)).square().sum() / (2 * 0.5**2)
    commitment = commitment_loss(out.z, out.nearest).sum()
    (expected,) = torch.autograd.grad(distortion + beta * commitment, parts[:1], retain_graph=True)
    assert_close(to_encoder, expected)
    if by_gradient:
        (expected,) = torch.autograd.grad(codebook_loss(out.z, out.nearest).sum(), parts[1:])
        assert_close(to_codebook, expected)
    else:
        assert to_codebook is None


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_every_parameter_learns(config):
    """After a first step, which wakes the blocks that start as the identity, no gradient is zero."""
    model, x = build(config), pictures(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(2):
        optimizer.zero_grad()
        out = model(x, generator=seeded(step))
        loss = bernoulli_nll(out.params, to_unit(x)) + 0.25 * commitment_loss(out.z, out.nearest)
        if config.update == "gradient":
            loss = loss + codebook_loss(out.z, out.nearest)
        loss.mean().backward()
        optimizer.step()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


# ---- the config ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (28, 28)}, r"image_shape is \(28, 28\), expected \(C, H, W\)"),
        ({"image_shape": (0, 28, 28)}, r"image_shape is \(0, 28, 28\)"),
        ({"image_shape": (1, 30, 28)}, r"\(1, 30, 28\): H and W must be multiples of 4 to be halved 2 times"),
        ({"image_shape": (1, 28, 30)}, r"\(1, 28, 30\): H and W must be multiples of 4"),
        ({"widths": ()}, r"widths \(\)"),
        ({"widths": (32, 0)}, r"widths \(32, 0\)"),
        ({"hidden": 0}, "hidden 0 must be at least 1"),
        ({"blocks": -1}, "blocks is -1, expected at least 0"),
        ({"codes": 1}, "1 codes of dimension 64, expected at least 2 of dimension 1"),
        ({"code_dim": 0}, "512 codes of dimension 0"),
        ({"update": "kmeans"}, "update is 'kmeans', expected 'ema' or 'gradient'"),
        ({"decay": 1.0}, "decay is 1.0, expected 0 <= decay < 1"),
        ({"decay": -0.1}, "decay is -0.1"),
        ({"decay": math.nan}, "decay is nan"),
        ({"restart": 1.0}, r"restart is 1.0, expected a share of the fair use in \[0, 1\)"),
        ({"restart": -0.1}, "restart is -0.1"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VQVAEConfig(**options)
    rest = {key: value for key, value in options.items() if key in ("update", "decay", "restart")}
    if rest:
        with pytest.raises(ValueError, match=message):
            Quantiser(512, 64, **rest)


def test_a_config_is_frozen_and_survives_json():
    for config in CONFIGS.values():
        assert VQVAEConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.codes = 4


def test_the_quantiser_gets_what_the_config_says():
    quantiser = VQVAE(dataclasses.replace(SMALL, update="gradient", decay=0.7, restart=0.3)).quantiser
    assert quantiser.codebook.shape == (16, 4) and isinstance(quantiser.codebook, torch.nn.Parameter)
    assert (quantiser.update, quantiser.decay, quantiser.restart) == ("gradient", 0.7, 0.3)
    assert not isinstance(VQVAE(SMALL).quantiser.codebook, torch.nn.Parameter)


# ---- the model -------------------------------------------------------------------------------------------------

GRIDS = [(7, 7), (8, 8), (2, 3), (3, 3), (2, 2)]


@pytest.mark.parametrize(("config", "grid"), list(zip(CONFIGS.values(), GRIDS)), ids=list(CONFIGS))
def test_shapes(config, grid):
    model, x = build(config), pictures(config)
    out = model(x, generator=seeded())
    assert config.grid == grid and isinstance(out, VQVAEOutput)
    assert out.params.shape == x.shape
    assert out.z.shape == out.nearest.shape == (6, config.code_dim, *grid)
    assert out.indices.shape == model.encode(x).shape == (6, *grid)
    assert model.encode(x).dtype == torch.int64
    assert model.decode(torch.zeros(2, *grid, dtype=torch.int64)).shape == (2, *config.image_shape)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_decoded_codes_are_the_reconstruction(config):
    """What is stored is the codes alone: from them comes what the forward pass gives, to the last bit."""
    model, x = build(config), pictures(config)
    model(x, generator=seeded())
    out = model.eval()(x)
    assert out.indices.equal(model.encode(x)) and len(out.indices.unique()) > 1
    assert out.params.equal(model.decode(out.indices))
    assert out.nearest.equal(model.quantiser.embed(out.indices))
    assert out.z.equal(model.encoder(x))


def test_the_networks_end_without_an_activation():
    """z takes both signs, and a logit may be negative: vectors of one sign, or pixels above 0.5, would show one."""
    out = build(SMALL)(pictures(SMALL), generator=seeded())
    assert out.z.min() < 0 < out.z.max() and out.params.min() < 0


def test_encoding_moves_nothing_in_training_mode_either():
    model, x = build(SMALL).train(), pictures(SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.encode(x)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_a_code_changes_the_image_around_its_own_place():
    """No code's field covers the image: the far corner stays as it is, the near one does not."""
    model = build(dataclasses.replace(CONFIGS["28 pixels"], blocks=0)).eval()
    codes = torch.zeros(1, 7, 7, dtype=torch.int64)
    other = codes.clone()
    other[0, 0, 6] = 5
    changed = (model.decode(other) != model.decode(codes))[0, 0]
    assert changed[:4, 24:].any() and not changed[14:].any() and not changed[:, :14].any()


@pytest.mark.parametrize("config", [SMALL, CONFIGS["colour, not square"]], ids=["grey", "colour"])
def test_no_image_depends_on_another_of_its_batch(config):
    model, x = build(config).double().eval(), pictures(config).double()
    whole = model(x)
    for i, part in enumerate(x.split(2)):
        for of_part, of_whole in zip(model(part), whole):
            assert_close(of_part, of_whole[2 * i : 2 * i + 2], rtol=1e-10, atol=1e-10)


def test_the_generator_decides_a_training_step():
    def once(seed: int) -> list[Tensor]:
        model = build(SMALL)
        out = model(pictures(SMALL), generator=seeded(seed))
        return [out.params, model.quantiser.codebook]

    torch.manual_seed(7)
    assert all(a.equal(b) for a, b in zip(once(0), once(0)))
    assert not any(a.equal(b) for a, b in zip(once(0), once(1)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.encode(torch.zeros(2, 1, 8, 4)), ValueError, r"\(2, 1, 8, 4\), expected \(B, 1, 8, 8\)"),
        (lambda m: m.encode(torch.zeros(1, 8, 8)), ValueError, r"shape \(1, 8, 8\)"),
        (lambda m: m(torch.zeros(2, 3, 8, 8)), ValueError, r"shape \(2, 3, 8, 8\)"),
        (lambda m: m.decode(torch.zeros(2, 2, 2)), TypeError, "expected int64 codes, got torch.float32"),
        (lambda m: m.decode(torch.zeros(2, 2, 3).long()), ValueError, r"\(2, 2, 3\), expected \(B, 2, 2\)"),
        (lambda m: m.decode(torch.zeros(2, 2).long()), ValueError, r"codes of shape \(2, 2\)"),
    ],
)
def test_input_of_another_shape_or_type_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(build(SMALL))


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_eight_images_are_learnt_by_heart_through_the_codes(update):
    """A decoder that ignores its codes can do no better than the mean image; a quarter of that excess may be left."""
    config = dataclasses.replace(SMALL, widths=(8, 16), hidden=16, update=update, decay=0.9)
    model = build(config)
    target = (torch.rand(8, 1, 8, 8, generator=seeded(3)) > 0.5).float()
    mean_image = target.mean(0).expand_as(target)
    without_codes = bernoulli_nll(torch.logit(mean_image, eps=1e-6), target).mean().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(120):
        out = model(2 * target - 1, generator=seeded(step))
        loss = bernoulli_nll(out.params, target) + 0.25 * commitment_loss(out.z, out.nearest)
        if update == "gradient":
            loss = loss + codebook_loss(out.z, out.nearest)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    codes = model.eval().encode(2 * target - 1)
    assert len(codes.flatten(1).unique(dim=0)) == 8
    assert bernoulli_nll(model.decode(codes), target).mean().item() < 0.25 * without_codes


# ---- several processes -----------------------------------------------------------------------------------------

STEPS = 4


def share(rank: int, folder: str) -> None:
    """Be one of two processes: quantise half of each batch, from a start made alone and from one that is given."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    given = running(normal(12, 3, seed=90, dtype=torch.float32), 8.0, decay=0.8, restart=0.1)
    alone = Quantiser(12, 3, decay=0.8)
    starts = []
    for step in range(STEPS):
        half = normal(4, 3, 4, 6, seed=step, dtype=torch.float32).chunk(2)[rank]
        given(half, generator=seeded(rank))
        alone(half, generator=seeded(rank))
        starts.append(alone.counts.sum().item())
    torch.save([given.codebook, given.counts, alone.codebook, alone.counts, starts], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_learn_the_codebook_of_one_with_the_joint_batch(tmp_path):
    """Every restart and every update is the same in both, and with all codes in use equal to that of one process."""
    torch.multiprocessing.start_processes(share, (str(tmp_path),), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for here, there in zip(first[:4], second[:4]):
        assert here.equal(there)
    joint = running(normal(12, 3, seed=90, dtype=torch.float32), 8.0, decay=0.8, restart=0.1)
    for step in range(STEPS):
        joint(normal(4, 3, 4, 6, seed=step, dtype=torch.float32))
    assert joint.counts.min() > 0.8  # a tenth of 96 / 12: no code was restarted
    assert_close(first[0], joint.codebook, rtol=0, atol=1e-6)
    assert_close(first[1], joint.counts)
    assert_close(first[4], [96.0] * STEPS)  # all vectors of both, from the start on
