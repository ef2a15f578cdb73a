"""The VAE: its sizes, the draw of z, and which gradient reaches which parameter."""

import dataclasses
import json
import math

import pytest
import torch
from torch.testing import assert_close

from imagegen.images import to_unit
from imagegen.objectives import bernoulli_nll, gaussian_kl, gaussian_nll
from imagegen.vae import VAE, Autoencoder, LinearVAE, VAEConfig, VAEOutput, reparameterise

SMALL = VAEConfig(image_shape=(1, 8, 8), latent_dim=3, width=4, neck=2, hidden=16)
DENSE = VAEConfig(image_shape=(1, 8, 8), latent_dim=3, network="mlp", hidden=16)
CONFIGS = {
    "convolutions": SMALL,
    "colour, not square": VAEConfig(
        image_shape=(3, 8, 12), latent_dim=5, width=4, neck=3, hidden=16, blocks=2
    ),
    "no residual block": dataclasses.replace(SMALL, blocks=0, dense_blocks=0),
    "one latent": dataclasses.replace(SMALL, latent_dim=1, dense_blocks=2),
    "dense": DENSE,
    "dense, odd sizes": VAEConfig(
        image_shape=(2, 5, 3), latent_dim=4, network="mlp", hidden=8, dense_blocks=0
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(config: VAEConfig) -> VAE:
    torch.manual_seed(0)
    return VAE(config)


def pictures(config: VAEConfig, n: int = 6) -> torch.Tensor:
    return torch.rand(n, *config.image_shape, generator=seeded(1)) * 2 - 1


# ---- the config ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (28, 28)}, r"image_shape is \(28, 28\), expected \(C, H, W\)"),
        ({"image_shape": (0, 28, 28)}, r"image_shape is \(0, 28, 28\)"),
        ({"image_shape": (1, 30, 28)}, r"\(1, 30, 28\): H and W must be multiples of 4"),
        ({"image_shape": (1, 28, 30)}, r"\(1, 28, 30\): H and W must be multiples of 4"),
        ({"network": "transformer"}, "network is 'transformer'"),
        ({"latent_dim": 0}, "latent_dim is 0, expected at least 1"),
        ({"width": 0}, "width is 0"),
        ({"neck": 0}, "neck is 0"),
        ({"hidden": -3}, "hidden is -3"),
        ({"blocks": -1}, "blocks is -1, expected at least 0"),
        ({"dense_blocks": -1}, "dense_blocks is -1"),
        ({"dropout": 1.0}, r"dropout is 1.0, expected a share in \[0, 1\)"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VAEConfig(**options)


def test_a_config_is_frozen_and_survives_json():
    for config in CONFIGS.values():
        assert VAEConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.latent_dim = 4


# ---- the draw of z ---------------------------------------------------------------------------------------------


@pytest.mark.equation("vae-reparameterisation", tolerance="4 standard errors, below 1 %")
@pytest.mark.parametrize(("mu", "sigma"), [(1.0, 0.5), (-2.0, 1.5)])
def test_draws_have_the_mean_and_the_variance_asked_for(mu, sigma):
    """Compare mean, variance and fourth moment of the draws with those of N(mu, sigma^2)."""
    shape = (200_000, 1)
    mean = torch.full(shape, mu, dtype=torch.float64)
    log_var = torch.full(shape, 2 * math.log(sigma), dtype=torch.float64)
    z = reparameterise(mean, log_var, generator=seeded())
    moments = [(z, mu), ((z - mu) ** 2, sigma**2), ((z - mu) ** 4, 3 * sigma**4)]
    for draws, value in moments:
        error = draws.std().item() / math.sqrt(len(draws))
        assert error < 0.01 * abs(value)
        assert abs(draws.mean().item() - value) < 4 * error


@pytest.mark.equation("vae-reparameterisation", tolerance="1e-12")
def test_the_draw_moves_with_its_mean_and_its_standard_deviation():
    """Differentiate z = mu + sigma eps: 1 with respect to mu, and sigma eps / 2 with respect to log sigma^2."""
    mean = torch.randn(4, 3, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    log_var = torch.randn(4, 3, generator=seeded(2), dtype=torch.float64, requires_grad=True)
    z = reparameterise(mean, log_var, generator=seeded(3))
    to_mean, to_log_var = torch.autograd.grad(z.sum(), (mean, log_var))
    assert_close(to_mean, torch.ones_like(mean), rtol=1e-12, atol=1e-12)
    assert_close(to_log_var, (z - mean).detach() / 2, rtol=1e-12, atol=1e-12)
    eps = (z - mean).detach() / torch.sqrt(log_var.detach().exp())
    assert_close(eps, torch.randn(4, 3, generator=seeded(3), dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_every_element_of_a_draw_has_noise_of_its_own():
    z = reparameterise(torch.zeros(5, 4), torch.zeros(5, 4), generator=seeded())
    assert z.unique().numel() == 20
    assert torch.equal(z, reparameterise(torch.zeros(5, 4), torch.zeros(5, 4), generator=seeded()))
    assert not torch.equal(z, reparameterise(torch.zeros(5, 4), torch.zeros(5, 4), generator=seeded(1)))


def test_a_draw_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"mean \(8, 2\) and log_var \(8, 1\) differ"):
        reparameterise(torch.zeros(8, 2), torch.zeros(8, 1))


# ---- the model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_shapes(config):
    vae, x = build(config), pictures(config)
    out = vae(x, generator=seeded())
    assert isinstance(out, VAEOutput)
    assert out.params.shape == x.shape
    assert out.mean.shape == out.log_var.shape == out.z.shape == (6, config.latent_dim)
    assert vae.decode(torch.zeros(2, config.latent_dim)).shape == (2, *config.image_shape)


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["conv", "mlp"])
def test_forward_encodes_draws_and_decodes(config):
    vae, x = build(config), pictures(config)
    out = vae(x, generator=seeded(5))
    mean, log_var = vae.encode(x)
    assert out.mean.equal(mean) and out.log_var.equal(log_var)
    assert out.z.equal(reparameterise(mean, log_var, generator=seeded(5)))
    assert out.params.equal(vae.decode(out.z))


def test_the_first_half_of_the_encoder_is_the_mean_and_the_second_the_log_variance():
    vae = build(SMALL)
    with torch.no_grad():
        vae.encoder[-1].weight.zero_()
        vae.encoder[-1].bias.copy_(torch.tensor([1.0, 2.0, 3.0, -4.0, -5.0, -6.0]))
    mean, log_var = vae.encode(pictures(SMALL, 2))
    assert mean.tolist() == [[1.0, 2.0, 3.0]] * 2 and log_var.tolist() == [[-4.0, -5.0, -6.0]] * 2


def test_images_and_pixels_pass_the_networks_as_they_are():
    """Stand-ins for both networks show what enters the encoder, and how the decoder's output is laid out."""
    vae = VAE(VAEConfig(image_shape=(3, 4, 4), latent_dim=48, network="mlp"))
    vae.encoder, vae.decoder = torch.nn.Flatten(), torch.nn.Identity()
    x = torch.rand(2, 3, 4, 4, generator=seeded()) * 2 - 1
    mean, _ = vae.encode(x)
    assert mean.equal(x.flatten(1)[:, :24])
    assert vae.decode(x.flatten(1)).equal(x)


def test_z_is_drawn_in_evaluation_too():
    """The mean in place of a draw would give a better number, and no bound."""
    vae, x = build(SMALL).eval(), pictures(SMALL)
    out = vae(x, generator=seeded(5))
    assert out.z.equal(reparameterise(out.mean, out.log_var, generator=seeded(5)))
    assert not out.z.equal(out.mean)


@pytest.mark.parametrize(
    "config", [CONFIGS["dense, odd sizes"], CONFIGS["no residual block"]], ids=["mlp", "conv"]
)
def test_the_dense_layers_do_not_collapse_into_one(config):
    """Without an activation between them, the networks would be affine: f(a) + f(b) = f(a + b) + f(0)."""
    vae = build(config).double()
    if config.network == "conv":  # its dense part alone: the convolutions have activations of their own
        i = next(i for i, layer in enumerate(vae.encoder) if isinstance(layer, torch.nn.Flatten))
        j = next(j for j, layer in enumerate(vae.decoder) if isinstance(layer, torch.nn.Unflatten))
        parts = [vae.encoder[i + 1 :], vae.decoder[:j]]
    else:
        parts = [vae.encoder[1:], vae.decoder]
    for part in parts:
        a, b = torch.randn(2, 3, part[0].in_features, generator=seeded(), dtype=torch.float64)
        assert (part(a) + part(b) - part(a + b) - part(0 * a)).abs().max() > 0.01


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["conv", "mlp"])
def test_no_image_depends_on_another_of_its_batch(config):
    """So the loss of a batch is that of its parts: nothing normalises over the batch."""
    vae, x = build(config).double(), pictures(config).double()
    whole = vae.encode(x)
    for i, part in enumerate(x.split(2)):
        for of_part, of_whole in zip(vae.encode(part), whole):
            assert_close(of_part, of_whole[2 * i : 2 * i + 2], rtol=1e-10, atol=1e-10)


def test_dropout_acts_in_training_alone():
    vae = build(dataclasses.replace(DENSE, dropout=0.5))
    with torch.no_grad():
        for (
            parameter
        ) in vae.parameters():  # a residual block starts as the identity, which hides what it drops
            parameter.normal_()
    z = torch.ones(2, 3)
    assert not vae.decode(z).equal(vae.decode(z))
    vae.eval()
    assert vae.decode(z).equal(vae.decode(z))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vae: vae.encode(torch.zeros(2, 1, 8, 4)), r"shape \(2, 1, 8, 4\), expected \(B, 1, 8, 8\)"),
        (lambda vae: vae.encode(torch.zeros(1, 8, 8)), r"shape \(1, 8, 8\)"),
        (lambda vae: vae(torch.zeros(2, 3, 8, 8)), r"shape \(2, 3, 8, 8\)"),
        (lambda vae: vae.decode(torch.zeros(2, 4)), r"latents of shape \(2, 4\), expected \(B, 3\)"),
        (lambda vae: vae.decode(torch.zeros(3)), r"shape \(3,\)"),
    ],
)
def test_input_of_another_shape_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(build(SMALL))


# ---- gradients -------------------------------------------------------------------------------------------------


def reached(term: torch.Tensor, vae: VAE) -> dict[str, bool]:
    """Return, of encoder and decoder, whether the gradient of a term is not zero in every last layer."""
    vae.zero_grad()
    term.sum().backward(retain_graph=True)
    last = {"encoder": vae.encoder[-1].weight, "decoder": vae.decoder[-1].weight}
    return {name: w.grad is not None and bool(w.grad.abs().max() > 0) for name, w in last.items()}


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["conv", "mlp"])
def test_the_distortion_reaches_both_networks_and_the_rate_the_encoder_alone(config):
    vae, x = build(config), pictures(config)
    out = vae(x, generator=seeded())
    assert reached(bernoulli_nll(out.params, to_unit(x)), vae) == {"encoder": True, "decoder": True}
    assert reached(gaussian_kl(out.mean, out.log_var), vae) == {"encoder": True, "decoder": False}


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["conv", "mlp"])
def test_the_distortion_reaches_both_halves_of_the_encoder(config):
    vae, x = build(config), pictures(config)
    out = vae(x, generator=seeded())
    bernoulli_nll(out.params, to_unit(x)).sum().backward()
    halves = vae.encoder[-1].weight.grad.chunk(2)
    assert all(half.abs().amax(1).min() > 0 for half in halves)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_every_parameter_learns(config):
    """After a first step, which wakes the blocks that start as the identity, no gradient is zero."""
    vae, x = build(config), pictures(config)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        out = vae(x, generator=seeded())
        (bernoulli_nll(out.params, to_unit(x)) + gaussian_kl(out.mean, out.log_var)).mean().backward()
        optimizer.step()
    still = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["conv", "mlp"])
def test_eight_images_are_learnt_by_heart_through_z(config):
    """A decoder that ignores z can do no better than the mean image; a quarter of that excess is to be left."""
    vae = build(config)
    target = (torch.rand(8, *config.image_shape, generator=seeded(3)) > 0.5).float()
    x = 2 * target - 1
    mean_image = target.mean(0).expand_as(target)
    without_z = bernoulli_nll(torch.logit(mean_image, eps=1e-6), target).mean().item()
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    for step in range(200):
        out = vae(x, generator=seeded(step))
        loss = (bernoulli_nll(out.params, target) + 0.1 * gaussian_kl(out.mean, out.log_var)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    out = vae(x, generator=seeded(1000))
    assert bernoulli_nll(out.params, target).mean().item() < 0.25 * without_z


# ---- the linear VAE --------------------------------------------------------------------------------------------


def linear(*, autoregressive: bool = False) -> LinearVAE:
    torch.manual_seed(0)
    vae = LinearVAE(4, 2, autoregressive=autoregressive).double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.normal_()
    return vae


def test_the_linear_vae_is_linear_in_both_directions():
    vae = linear()
    x = torch.randn(5, 4, generator=seeded(1), dtype=torch.float64)
    z = torch.randn(5, 2, generator=seeded(2), dtype=torch.float64)
    mean, log_var = vae.encode(x)
    assert_close(mean, x @ vae.encoder.weight.T + vae.encoder.bias)
    assert log_var.shape == (5, 2) and all(row.equal(vae.log_var) for row in log_var)
    mean, log_noise = vae.decode(z)
    assert_close(mean, z @ vae.decoder.weight.T + vae.decoder.bias)
    assert log_noise.shape == (5, 4) and all(row.equal(vae.log_noise) for row in log_noise)
    assert vae.decode(z, x)[0].equal(mean)  # without a history, the decoder looks at z alone


def test_an_autoregressive_decoder_sees_the_past_and_nothing_else():
    vae = linear(autoregressive=True)
    z = torch.randn(2, generator=seeded(2), dtype=torch.float64)
    x = torch.randn(4, generator=seeded(1), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda a: vae.decode(z[None], a[None])[0][0], x)
    for i in range(4):
        for j in range(4):
            assert jacobian[i, j] == (vae.history[i, j] if j < i else 0.0)  # exactly
    plain = vae.decoder(z[None])[0]
    assert vae.decode(z[None], torch.zeros(1, 4).double())[0][0].equal(plain)


def test_an_autoregressive_decoder_starts_without_history_and_can_learn_it():
    vae = LinearVAE(3, 1, autoregressive=True)
    assert vae.history.abs().max() == 0
    x = torch.randn(5, 3, generator=seeded(1))
    vae.decode(torch.zeros(5, 1), x)[0].square().sum().backward()
    assert (vae.history.grad.abs() > 0).equal(torch.ones(3, 3).tril(-1).bool())


def test_every_parameter_of_a_linear_vae_learns():
    vae = linear(autoregressive=True)
    x = torch.randn(5, 4, generator=seeded(1), dtype=torch.float64)
    mean, log_var = vae.encode(x)
    p_mean, p_log_var = vae.decode(reparameterise(mean, log_var, generator=seeded()), x)
    (gaussian_nll(p_mean, x, p_log_var) + gaussian_kl(mean, log_var)).mean().backward()
    names = {
        "encoder.weight",
        "encoder.bias",
        "log_var",
        "decoder.weight",
        "decoder.bias",
        "log_noise",
        "history",
    }
    assert names == {
        name for name, p in vae.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }


def test_a_linear_vae_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="n_features is 0 and latent_dim is 2"):
        LinearVAE(0, 2)
    with pytest.raises(ValueError, match="latent_dim is 0"):
        LinearVAE(2, 0)
    with pytest.raises(ValueError, match=r"autoregressive decoder needs x \(B, P\)"):
        linear(autoregressive=True).decode(torch.zeros(1, 2).double())


# --- the autoencoder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_an_autoencoder_is_the_vaes_networks_with_one_number_a_latent(config):
    torch.manual_seed(0)
    model, twin = Autoencoder(config).eval(), VAE(config).eval()
    x = torch.rand(3, *config.image_shape) * 2 - 1
    out = model(x)
    assert out.z.shape == (3, config.latent_dim) and out.params.shape == x.shape
    torch.testing.assert_close(out.z, model.encoder(x))  # the network's output as it is
    torch.testing.assert_close(out.z, model.encode(x))
    torch.testing.assert_close(out.params, model.decode(model.encode(x)))
    parts = [[tuple(p.shape) for p in network.parameters()] for network in (model.decoder, twin.decoder)]
    assert parts[0] == parts[1]
    assert len(list(model.encoder.parameters())) == len(list(twin.encoder.parameters()))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_every_parameter_of_an_autoencoder_learns(config):
    torch.manual_seed(0)
    model = Autoencoder(config)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for _ in range(
        3
    ):  # the last layer of a residual block starts at zero, so the one before it learns a step later
        loss = model(torch.rand(4, *config.image_shape) * 2 - 1).params.square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert [name for name, value in model.named_parameters() if torch.equal(value, before[name])] == []


def test_an_autoencoder_refuses_other_shapes():
    model = Autoencoder(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, network="mlp", hidden=8))
    with pytest.raises(ValueError, match=r"images of shape \(2, 1, 4, 16\)"):
        model.encode(torch.zeros(2, 1, 4, 16))
    with pytest.raises(ValueError, match=r"latents of shape \(2, 3\), expected \(B, 2\)"):
        model.decode(torch.zeros(2, 3))
