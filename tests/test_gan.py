"""Generators and discriminators: sizes, padding, initialisation, and what each normalisation promises."""

import dataclasses
import itertools
import json
import math

import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu, pad
from torch.testing import assert_close

from imagegen import pretrained
from imagegen.gan import GAN, DownBlock, GANConfig, UpBlock, clip_weights, initialise
from imagegen.layers import overlap_count

SMALL = {"latent_dim": 6, "width": 4, "critic_width": 6, "max_width": 16}
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]
CONVOLUTIONS = ["dcgan", "residual"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(network: str = "dcgan", image_shape=(1, 28, 28), **settings) -> GAN:
    torch.manual_seed(0)
    return GAN(GANConfig(network, image_shape, **SMALL | settings))


def of_kind(module: nn.Module, *kinds: type) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kinds)]


# ---- sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "normalise_critic"),
    [("mlp", "none"), ("mlp", "spectral"), *itertools.product(CONVOLUTIONS, ["none", "batch", "spectral"])],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_network_gives_images_of_the_configs_shape_and_one_logit_each(network, shape, normalise_critic):
    model = made(network, shape, normalise_critic=normalise_critic)
    images = model.sample(3, generator=seeded())
    assert images.shape == (3, *shape) and images.abs().max() <= 1
    logits = model.discriminator(images)
    assert logits.shape == (3,) and logits.unique().numel() == 3
    assert (torch.autograd.grad(logits.sum(), images)[0].flatten(1).abs().amax(1) > 0).all()


def test_a_perceptron_plays_for_points_without_a_bound():
    model = made("mlp", (2,), depth=3)
    points = model.sample(500, generator=seeded())
    assert points.shape == (500, 2) and model.discriminator(points).shape == (500,)
    with torch.no_grad():
        model.generator.body[-3].weight.mul_(100)
    assert model.sample(500, generator=seeded()).abs().max() > 1.5
    assert len(of_kind(model.generator, nn.Linear)) == len(of_kind(model.discriminator, nn.Linear)) == 4
    assert [type(layer) for layer in model.generator.body[1:6:2]] == [
        nn.ReLU
    ] * 3  # one behind each hidden layer
    assert model.generator.body[0].out_features == 4 and model.discriminator.body[1].out_features == 6


@pytest.mark.parametrize("network", CONVOLUTIONS)
def test_widths_double_towards_the_coarse_end_up_to_the_largest(network):
    model = made(network, (3, 64, 64), width=3, critic_width=5, max_width=16)
    assert model.config.channels(3) == [3, 6, 12, 16] and model.config.channels(5) == [5, 10, 16, 16]
    assert model.generator.body[0].out_features == 16 * 4 * 4
    assert model.discriminator.features(torch.zeros(2, 3, 64, 64)).shape == (2, 16 * 4 * 4)
    kind = nn.ConvTranspose2d if network == "dcgan" else UpBlock
    widths = [
        getattr(layer, "in_channels", None) or layer.skip.in_channels
        for layer in of_kind(model.generator, kind)
    ]
    assert widths == [16, 12, 6, 3]


@pytest.mark.parametrize(
    ("size", "side", "margin"), [(8, 8, 0), (28, 32, 2), (32, 32, 0), (48, 64, 8), (64, 64, 0)]
)
def test_the_square_worked_in_is_the_next_power_of_two(size, side, margin):
    config = GANConfig(image_shape=(1, size, size))
    assert (config.side, config.margin) == (side, margin)
    assert len(config.channels(1)) == int(math.log2(side)) - 2


@pytest.mark.parametrize("network", CONVOLUTIONS)
def test_images_of_28_pixels_are_padded_with_black_and_never_resized(network):
    """The same weights for 28 and 32 pixels: D sees the image with a border of -1, G's border is cut off."""
    small, large = made(network, (1, 28, 28)).eval(), made(network, (1, 32, 32)).eval()
    large.load_state_dict(small.state_dict())
    x = torch.rand(4, 1, 28, 28, generator=seeded()) * 2 - 1
    bordered = torch.full((4, 1, 32, 32), -1.0)
    bordered[:, :, 2:30, 2:30] = x
    with torch.no_grad():
        assert_close(small.discriminator(x), large.discriminator(bordered), rtol=0, atol=0)
        z = small.draw(4, generator=seeded(1))
        assert_close(small.generator(z), large.generator(z)[:, :, 2:30, 2:30], rtol=0, atol=0)
        resized = nn.functional.interpolate(x, size=(32, 32), mode="bilinear")
        off = small.discriminator(x) - large.discriminator(resized)
        assert (off.abs() > 0.2 * small.discriminator(x).std()).all()  # resizing would show


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "unet"}, "network is 'unet', expected one of mlp, dcgan, residual"),
        ({"latent_dim": 0}, "latent_dim is 0, expected at least 1"),
        ({"width": -2}, "width is -2"),
        ({"critic_width": 0}, "critic_width is 0"),
        ({"max_width": 0}, "max_width is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"normalise": "spectral"}, "normalise is 'spectral', expected 'none' or 'batch'"),
        ({"normalise_critic": "layer"}, "normalise_critic is 'layer', expected one of none, batch, spectral"),
        ({"network": "mlp", "normalise_critic": "batch"}, "'batch', and a mlp takes no BatchNorm"),
        ({"image_shape": (28, 28)}, r"image_shape is \(28, 28\), expected \(C, H, W\) or \(D,\)"),
        ({"image_shape": (0, 28, 28)}, r"image_shape is \(0, 28, 28\)"),
        ({"image_shape": (2,)}, r"image_shape is \(2,\): a dcgan network needs \(C, H, W\)"),
        ({"image_shape": (3, 32, 64)}, r"image_shape is \(3, 32, 64\): expected squares of an even side"),
        ({"image_shape": (3, 27, 27)}, r"\(3, 27, 27\): expected squares of an even side, at least 8"),
        ({"image_shape": (3, 4, 4)}, r"\(3, 4, 4\)"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_by_its_config(settings, message):
    with pytest.raises(ValueError, match=message):
        GANConfig(**settings)


def test_a_config_survives_json():
    config = GANConfig("residual", (3, 32, 32), **SMALL)
    assert GANConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_inputs_of_another_shape_are_refused():
    model = made()
    for z in (torch.zeros(3, 5), torch.zeros(6), torch.zeros(3, 6, 1)):
        with pytest.raises(ValueError, match=r"z has shape .*, expected \(B, 6\)"):
            model.generator(z)
    for x in (torch.zeros(3, 1, 32, 32), torch.zeros(3, 3, 28, 28), torch.zeros(1, 28, 28)):
        with pytest.raises(ValueError, match=r"images of shape .*, expected \(B, 1, 28, 28\)"):
            model.discriminator(x)


# ---- what goes in and comes out --------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", *CONVOLUTIONS])
def test_a_generators_images_span_both_signs(network):
    """Data lie in [-1, 1]: a sigmoid at the end, or none, would leave the range or half of it."""
    model = made(network, (1, 28, 28), normalise="none")
    with torch.no_grad():
        for layer in of_kind(model.generator, nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
            layer.weight.mul_(20)
        images = model.sample(8, generator=seeded())
    assert -1 <= images.min() < -0.9 and 0.9 < images.max() <= 1


@pytest.mark.parametrize("network", ["mlp", *CONVOLUTIONS])
def test_the_discriminator_ends_in_a_linear_layer(network):
    """Its logit is linear in the head's weights, and leaves [0, 1] and [-1, 1] on either side: there is no sigmoid."""
    critic = made(network).discriminator
    x = torch.rand(64, 1, 28, 28, generator=seeded()) * 2 - 1
    with torch.no_grad():
        features = critic.features(x)
        assert features.dim() == 2 and len(features) == 64
        by_hand = features @ critic.head.weight[0] + critic.head.bias
        assert_close(critic(x), by_hand)
        critic.head.weight.mul_(1e4)
        critic.head.bias.copy_(-(features @ critic.head.weight[0]).mean())
        logits = critic(x)
    assert logits.min() < -1.5 and logits.max() > 1.5


def test_samples_are_a_function_of_the_generators_state():
    model = made().eval()
    first, again, other = (model.sample(5, generator=seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert_close(first, model.generator(model.draw(5, generator=seeded(3))), rtol=0, atol=0)
    torch.manual_seed(9)
    free = model.sample(5)
    torch.manual_seed(9)
    assert torch.equal(free, model.sample(5))


def test_latents_are_standard_normal():
    z = made().draw(5000, generator=seeded())
    assert z.shape == (5000, 6) and z.dtype == torch.float32
    assert scipy.stats.kstest(z.flatten().numpy(), "norm").pvalue > 0.01
    assert (torch.corrcoef(z.T) - torch.eye(6)).abs().max() < 4.5 / math.sqrt(5000)


def test_latents_lie_where_the_weights_are():
    model = GAN(GANConfig("mlp", (2,), **SMALL)).to("meta")
    assert model.draw(3).device.type == "meta"
    assert model.draw(3, generator=seeded()).device.type == "meta"


@pytest.mark.parametrize("kind", ["none", "spectral"])
@pytest.mark.parametrize("network", ["mlp", *CONVOLUTIONS])
def test_without_batch_normalisation_no_image_sees_another(network, kind):
    """A gradient penalty takes each logit to hang on its own image alone."""
    critic = made(network, normalise_critic=kind).discriminator
    x = (torch.rand(6, 1, 28, 28, generator=seeded()) * 2 - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x)[2], x)
    reached = gradient.flatten(1).abs().amax(1)
    assert reached[2] > 0 and reached.count_nonzero() == 1


@pytest.mark.parametrize("network", CONVOLUTIONS)
def test_batch_normalisation_stands_where_it_is_asked_for(network):
    both = made(network, (3, 32, 32), normalise_critic="batch")
    x = torch.rand(6, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(both.discriminator(x)[2], x)
    assert (gradient.flatten(1).abs().amax(1) > 0).all()  # each image's logit hangs on all of them
    levels = len(both.config.channels(1))
    found = len(of_kind(both.generator, nn.BatchNorm2d)), len(of_kind(both.discriminator, nn.BatchNorm2d))
    assert found == ((levels, levels - 1) if network == "dcgan" else (2 * levels + 1, 2 * levels - 1))
    bare = made(network, (3, 32, 32), normalise="none")
    assert not of_kind(bare, nn.BatchNorm2d)
    first = next(iter(of_kind(both.discriminator, nn.Conv2d, nn.BatchNorm2d)))
    assert isinstance(first, nn.Conv2d)  # nothing normalises the images themselves


# ---- the blocks ------------------------------------------------------------------------------------------------


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_the_up_block_is_its_two_paths_added():
    torch.manual_seed(0)
    block = UpBlock(3, 5, "none").double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    inner = block.second(torch.relu(block.first(doubled(torch.relu(x)))))
    assert_close(block(x), block.skip(doubled(x)) + inner)
    assert block(x).shape == (2, 5, 8, 8)


@pytest.mark.parametrize("first", [True, False])
def test_the_down_block_is_its_two_paths_averaged(first):
    torch.manual_seed(0)
    block = DownBlock(3, 5, "none", first=first).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    convolutions = of_kind(block.inner, nn.Conv2d)
    inner = convolutions[1](leaky_relu(convolutions[0](x if first else leaky_relu(x, 0.2)), 0.2))
    assert_close(block(x), avg_pool2d(block.skip(x) + inner, 2))
    assert block(x).shape == (2, 5, 4, 4)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_transposed_convolution_leaves_a_checkerboard(shape):
    """Every inner pixel of each layer's output is reached by the same number of inputs."""
    layers = of_kind(made("dcgan", shape).generator, nn.ConvTranspose2d)
    assert len(layers) == (4 if shape[-1] == 64 else 3)
    size = 4
    for layer in layers:
        setting = {
            "stride": layer.stride[0],
            "padding": layer.padding[0],
            "output_padding": layer.output_padding[0],
        }
        counts = overlap_count(size, layer.kernel_size[0], **setting)
        size *= 2
        assert len(counts) == size and counts[1:-1].unique().tolist() == [2]
        with torch.no_grad():
            even = nn.ConvTranspose2d(1, 1, layer.kernel_size, bias=False, **setting)
            even.weight.fill_(1.0)
            shown = even(torch.ones(1, 1, size // 2, size // 2))[..., 1:-1, 1:-1]
        assert shown.unique().tolist() == [4.0]


# ---- initialisation, clipping, spectral normalisation ----------------------------------------------------------


def test_weights_start_around_0_and_the_scales_of_batchnorm_around_1():
    model = made("dcgan", (3, 64, 64), width=32, critic_width=32, max_width=128, normalise_critic="batch")
    for player in (model.generator, model.discriminator):
        for layer in of_kind(player, nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
            n = layer.weight.numel()
            assert layer.weight.mean().abs() < 4.5 * 0.02 / math.sqrt(n)
            assert (layer.weight.std() / 0.02 - 1).abs() < 4.5 / math.sqrt(2 * n)
            assert (layer.bias == 0).all()
        scales = torch.cat([layer.weight for layer in of_kind(player, nn.BatchNorm2d)])
        assert (scales.mean() - 1).abs() < 4.5 * 0.02 / math.sqrt(len(scales))
        assert abs(scales.std().item() / 0.02 - 1) < 4.5 / math.sqrt(2 * len(scales))
        assert all((layer.bias == 0).all() for layer in of_kind(player, nn.BatchNorm2d))


def test_initialise_takes_another_deviation():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(100, 100, bias=False), nn.BatchNorm2d(4000), nn.ReLU())
    initialise(network, std=0.3)
    assert (
        abs(network[0].weight.std().item() - 0.3) < 0.02 and abs(network[1].weight.std().item() - 0.3) < 0.02
    )


def test_only_dcgan_starts_by_its_own_rule():
    weight = of_kind(made("residual", width=32).generator, nn.Conv2d)[0].weight
    assert abs(weight.std().item() - 0.02) > 0.01


@pytest.mark.parametrize("network", ["mlp", *CONVOLUTIONS])
def test_spectral_normalisation_brings_every_largest_singular_value_to_1(network):
    critic = made(network, (1, 28, 28), normalise_critic="spectral").discriminator
    layers = of_kind(critic, nn.Conv2d, nn.Linear)
    with torch.no_grad():
        for layer in layers:
            layer.parametrizations.weight.original.mul_(3.0)
        for _ in range(100):  # one step of the power method at each
            critic(torch.zeros(1, 1, 28, 28))
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.01)
    free = made(network, (1, 28, 28)).discriminator
    assert not any(nn.utils.parametrize.is_parametrized(layer) for layer in free.modules())
    assert not any(nn.utils.parametrize.is_parametrized(layer) for layer in made(network).generator.modules())


def test_clipping_moves_weights_and_biases_and_spares_batchnorm():
    critic = made("dcgan", (3, 32, 32), normalise_critic="batch").discriminator
    with torch.no_grad():
        critic.head.bias.fill_(0.7)
    before = {name: value.clone() for name, value in critic.named_parameters()}
    clip_weights(critic, 0.01)
    norms = {id(p) for layer in of_kind(critic, nn.BatchNorm2d) for p in layer.parameters()}
    assert len(norms) == 2 * 2
    for name, value in critic.named_parameters():
        expected = before[name] if id(value) in norms else before[name].clamp(-0.01, 0.01)
        assert torch.equal(value, expected), name
    assert critic.head.bias.item() == pytest.approx(0.01)
    assert all(value.requires_grad for value in critic.parameters())


def test_what_cannot_be_clipped_is_refused():
    for bound in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"bound is {bound}, expected more than 0"):
            clip_weights(made().discriminator, bound)
    with pytest.raises(ValueError, match="is normalised spectrally: clip or normalise"):
        clip_weights(made(normalise_critic="spectral").discriminator, 0.01)


# ---- as a whole ------------------------------------------------------------------------------------------------


def test_the_players_share_nothing():
    model = made()
    mine = {id(p) for p in model.generator.parameters()}
    theirs = {id(p) for p in model.discriminator.parameters()}
    assert not mine & theirs and mine | theirs == {id(p) for p in model.parameters()}
    assert model.generator.config is model.discriminator.config is model.config


@pytest.mark.parametrize("normalise_critic", ["none", "batch", "spectral"])
def test_both_players_are_kept_in_half_precision_and_come_back(tmp_path, normalise_critic):
    model = made("dcgan", (1, 28, 28), normalise_critic=normalise_critic)
    for _ in range(20):
        model.discriminator(model.sample(8))  # so that the statistics and singular vectors have moved
    pretrained.save(model, {"name": "pair"}, folder=tmp_path)
    again = pretrained.load("pair", folder=tmp_path)
    assert isinstance(again, GAN) and again.config == model.config and not again.training
    model.eval()
    with torch.no_grad():
        x = model.sample(8, generator=seeded())
        assert_close(again.sample(8, generator=seeded()), x, rtol=0, atol=2e-3)
        logits = model.discriminator(x)
        assert_close(again.discriminator(x), logits, rtol=0, atol=0.02 * logits.abs().max().item())


def test_the_padding_of_the_discriminator_leaves_its_input_alone():
    critic, x = made().discriminator, torch.zeros(2, 1, 28, 28)
    critic(x)
    assert (x == 0).all()
    assert_close(critic.features(x), critic.body(pad(x, (2, 2, 2, 2), value=-1.0)))
