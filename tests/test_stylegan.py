"""Both players of StyleGAN: their sizes, what they refuse, what the critic sees, and the pair as a whole."""

import dataclasses
import itertools
import json
import math

import numpy as np
import onnxruntime
import pytest
import scipy.stats
import torch
from tiny_stylegan import EXACT, OUTPUTS, SMALL, made, normal, seeded
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.testing import assert_close

from imagegen import export, pretrained
from imagegen.stylegan import StyleGAN, StyleGANConfig, activated, filtered, with_spread
from imagegen.stylegan.networks import CriticBlock

# ---- sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "grids", "widths"), [(8, 2, 2), (32, 4, 4), (64, 5, 5), (256, 7, 7)])
def test_a_config_counts_grids_layers_and_channels(side, grids, widths):
    config = StyleGANConfig((3, side, side), max_width=24)
    assert config.grids == grids == math.log2(side) - 1
    assert config.layers == 1 + 2 * (grids - 1) + 1
    assert config.channels(3) == [24, 24, 24, 24, 12, 6, 3][-widths:]
    assert config.channels(100) == [24] * widths


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("side", [32, 64])
def test_both_players_have_the_configs_sizes(side, output):
    model = made(side, output=output).float()
    config, synthesis = model.config, model.generator.synthesis
    widths, critics = config.channels(4), config.channels(5)
    assert synthesis.constant.shape == (1, 12, 4, 4)
    steps = [(12, 12), *itertools.chain(*(((a, b), (b, b)) for a, b in zip(widths, widths[1:])))]
    assert [layer.weight.shape for layer in synthesis.body] == [(b, a, 3, 3) for a, b in steps]
    assert [layer.up for layer in synthesis.body] == [False, *[True, False] * (config.grids - 1)]
    assert len(synthesis.body) + 1 == config.layers
    painted = widths if output == "skip" else widths[-1:]
    assert [layer.weight.shape for layer in synthesis.to_image] == [(3, n, 1, 1) for n in painted]
    assert len(synthesis.shortcuts) == (0 if output == "skip" else config.grids - 1)
    sides = [4, *(s for level in range(1, config.grids) for s in (4 << level,) * 2)]
    noises = [synthesis.get_buffer(f"noise_{layer}").shape for layer in range(config.layers - 1)]
    assert noises == [(1, 1, s, s) for s in sides]
    assert len(model.generator.mapping.body) == 2
    images = model.sample(2, generator=seeded())
    assert images.shape == (2, 3, side, side)
    critic = model.discriminator
    assert critic.from_image.weight.shape == (5, 3, 1, 1)
    assert [(block.first.weight.shape[1], block.second.weight.shape[0]) for block in critic.body] == [
        (b, a) for a, b in reversed(list(zip(critics, critics[1:])))
    ]
    assert critic.features(images).shape == (2, 12) and critic(images).shape == (2,)
    made_of = [critic.last.weight.shape, critic.dense.weight.shape, critic.head.weight.shape]
    assert made_of == [(12, 13, 3, 3), (12, 12 * 16), (1, 12)]


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_parameter_has_a_part(output):
    model = made(output=output).float()
    model.discriminator(model.sample(4, generator=seeded())).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    mine = {id(p) for p in model.generator.parameters()}
    theirs = {id(p) for p in model.discriminator.parameters()}
    assert not mine & theirs and mine | theirs == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 0}, "latent_dim is 0, expected at least 1"),
        ({"width": 0}, "width is 0"),
        ({"critic_width": -1}, "critic_width is -1"),
        ({"max_width": 0}, "max_width is 0"),
        ({"mapping_depth": 0}, "mapping_depth is 0"),
        ({"group": 0}, "group is 0"),
        ({"image_shape": (32, 32)}, r"image_shape is \(32, 32\), expected \(C, S, S\)"),
        ({"image_shape": (0, 32, 32)}, r"image_shape is \(0, 32, 32\), expected \(C, S, S\)"),
        ({"image_shape": (3, 32, 64)}, r"image_shape is \(3, 32, 64\), expected \(C, S, S\)"),
        ({"image_shape": (3, 4, 4)}, r"\(3, 4, 4\): the side is a power of two, at least 8"),
        ({"image_shape": (3, 48, 48)}, r"\(3, 48, 48\): the side is a power of two, at least 8"),
        ({"output": "progressive"}, "output is 'progressive', expected one of skip, residual"),
        ({"mapping_rate": 0.0}, "mapping_rate is 0.0, expected more than 0"),
        ({"mapping_rate": math.nan}, "mapping_rate is nan"),
        ({"mixing": 1.1}, "mixing is 1.1, expected 0 to 1"),
        ({"mixing": math.nan}, "mixing is nan"),
        ({"w_decay": -0.1}, "w_decay is -0.1, expected 0 to 1"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_by_its_config(settings, message):
    with pytest.raises(ValueError, match=message):
        StyleGANConfig(**settings)


def test_a_config_survives_json():
    config = StyleGANConfig((3, 64, 64), **SMALL, output="residual")
    assert StyleGANConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_inputs_of_another_shape_are_refused():
    model = made().float()
    for z in (torch.zeros(3, 5), torch.zeros(6), torch.zeros(3, 1, 6)):
        with pytest.raises(ValueError, match=r"z has shape .*, expected \(B, 6\)"):
            model.generator(z)
    for ws in (torch.zeros(3, 6), torch.zeros(3, 5, 6), torch.zeros(3, 6, 5)):
        with pytest.raises(ValueError, match=r"ws has shape .*, expected \(B, 6, 6\)"):
            model.generator.synthesis(ws)
    with pytest.raises(ValueError, match="noise is 'same', expected one of random, fixed, none"):
        model.sample(2, noise="same")
    for x in (torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 16, 16), torch.zeros(3, 16, 16)):
        with pytest.raises(ValueError, match=r"images of shape .*, expected \(B, 3, 16, 16\)"):
            model.discriminator(x)


# ---- the critic ------------------------------------------------------------------------------------------------


def test_a_block_of_the_critic_is_its_two_paths_added():
    torch.manual_seed(7)
    block, x = CriticBlock(4, 5).double(), normal(2, 4, 8, 8)
    for layer in (block.first, block.second):
        torch.nn.init.normal_(layer.bias)
    inner = activated(block.second(activated(block.first(x))))
    around = conv2d(filtered(x, down=2), block.shortcut.weight / 2)
    assert_close(block(x), (inner + around) / math.sqrt(2), **EXACT)
    assert block(x).shape == (2, 5, 4, 4) and block.shortcut.bias is None
    assert (block.first.stride, block.second.stride) == (1, 2)  # the first still sees every pixel


def test_the_critic_is_its_layers_one_after_another_and_ends_in_a_linear_one():
    critic, x = made(group=2).discriminator, normal(6, 3, 16, 16)
    hidden = with_spread(critic.body(activated(critic.from_image(x))), 2)
    assert hidden.shape == (6, 13, 4, 4)
    features = activated(critic.dense(activated(critic.last(hidden)).flatten(1)))
    assert_close(critic.features(x), features, **EXACT)
    logits = features @ critic.head.weight[0] / math.sqrt(12) + critic.head.bias
    assert_close(critic(x), logits, **EXACT)
    with torch.no_grad():
        critic.head.weight.mul_(1e3)
        critic.head.bias.copy_(-(critic(x) - critic.head.bias).mean())
        assert critic(x).min() < -1.5 and critic(x).max() > 1.5


def test_the_critic_sees_a_collapse():
    """The same image among equals and among others; and no image hangs on those outside its group."""
    critic, x = made().discriminator, 2 * normal(8, 3, 1, 1) + normal(8, 3, 16, 16, seed=1)
    x.requires_grad_()
    alone, among = critic(x[:1].expand(8, -1, -1, -1)), critic(x)
    assert_close(alone, alone[:1].expand(8), **EXACT)
    assert (alone[0] - among[0]).abs() > 1e-2
    (gradient,) = torch.autograd.grad(among[2], x)
    assert (gradient.flatten(1).abs().amax(1) > 0).tolist() == [i % 2 == 0 for i in range(8)]
    assert critic(x[:1]).item() == pytest.approx(alone[0].item())  # one image has no spread


# ---- as a whole ------------------------------------------------------------------------------------------------


def test_samples_are_a_function_of_the_generators_state():
    for model in (made().float(), made().float().eval()):
        model.generator.w_mean.fill_(1.0)
        first, again = (made_.sample(3, generator=seeded(3)) for made_ in (model, model))
        assert first.equal(again) and not first.equal(model.sample(3, generator=seeded(4)))
    random = seeded(3)
    z = model.draw(3, generator=random)
    assert first.equal(model.generator(z, generator=random))
    fixed = model.sample(3, truncation=0.3, noise="fixed", generator=seeded(3))
    assert fixed.equal(model.generator(z, truncation=0.3, noise="fixed"))
    torch.manual_seed(9)
    free = model.sample(3)
    torch.manual_seed(9)
    assert free.equal(model.sample(3))


def test_latents_are_standard_normal_and_lie_where_the_weights_are():
    z = made().draw(5000, generator=seeded())
    assert z.shape == (5000, 6) and scipy.stats.kstest(z.flatten(), "norm").pvalue > 0.01
    assert (torch.corrcoef(z.T) - torch.eye(6)).abs().max() < 4.5 / math.sqrt(5000)
    model = made().to("meta")
    assert model.draw(3).device.type == model.draw(3, generator=seeded()).device.type == "meta"


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_state_holds_all_that_a_sample_hangs_on(output):
    model = made(output=output).float()
    model.sample(8)  # moves the mean of w
    torch.manual_seed(8)
    other = StyleGAN(model.config)
    other.load_state_dict(model.state_dict())
    x, y = (m.eval().sample(4, truncation=0.5, noise="fixed", generator=seeded()) for m in (model, other))
    assert x.equal(y) and model.discriminator(x).equal(other.discriminator(x))


def test_both_players_are_kept_in_half_precision_and_come_back(tmp_path):
    model = made().float()
    for _ in range(5):
        model.sample(50)
    pretrained.save(model, {"name": "pair"}, folder=tmp_path)
    again = pretrained.load("pair", folder=tmp_path)
    assert isinstance(again, StyleGAN) and again.config == model.config and not again.training
    with torch.no_grad():
        options = {"truncation": 0.5, "noise": "fixed"}
        x, y = (m.eval().sample(8, generator=seeded(), **options) for m in (model, again))
        assert_close(y, x, rtol=0, atol=0.01 * x.abs().max().item())
        assert_close(again.discriminator(x), model.discriminator(x), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("output", OUTPUTS)
def test_half_precision_gives_nearly_the_same_and_finite_gradients(output):
    model = made(output=output).float()
    z = model.draw(4, generator=seeded())
    whole = model.discriminator(model.generator.eval()(z, noise="fixed"))
    with torch.autocast("cpu", torch.bfloat16):
        image = model.generator(z, noise="fixed")
        half = model.discriminator(image)
    assert (half - whole).abs().max() < 0.1 * whole.abs().max() and (half != whole).any()
    half.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


class Painter(nn.Module):
    """w for each layer -> pixels, with the noise that is kept."""

    def __init__(self, model: StyleGAN) -> None:
        super().__init__()
        self.model = model.generator.synthesis

    def forward(self, ws: Tensor) -> Tensor:
        return self.model(ws, noise="fixed")


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_synthesis_is_exported(output, tmp_path):
    model, path, ws = made(8, output=output).float().eval(), tmp_path / "s.onnx", normal(7, 4, 6).float()
    reported = export.export_onnx(Painter(model), {"ws": ws[:1]}, path, output_names=["pixels"])
    assert reported <= export.TOLERANCE
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"ws": ws.numpy()})
    with torch.inference_mode():
        expected = model.generator.synthesis(ws, noise="fixed")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert torch.pdist(expected.flatten(1), p=float("inf")).min() > 0.01
