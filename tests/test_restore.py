"""Restorers: what they return before any training, what a mask hides and keeps, and how far each network sees."""

import dataclasses
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from imagegen import pretrained
from imagegen.restore import PatchDiscriminator, RestoredPixels, Restorer, RestorerConfig

SMALL = {"width": 6}
WAYS = {
    "denoiser": {"network": "denoiser", "blocks": 3},
    "unet": {"network": "unet"},
    "masked": {"network": "unet", "mask": True},
    "masked denoiser": {"network": "denoiser", "mask": True},
    "told": {"network": "denoiser", "noise": True},
    "masked and told": {"network": "unet", "mask": True, "noise": True},
    "enlarged": {"network": "unet", "factor": 4},
    "placed": {"network": "unet", "mask": True, "noise": True, "places": True},
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
SHAPES = [(1, 28, 28), (3, 32, 48)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def made(image_shape=(1, 28, 28), *, stirred: bool = False, **settings) -> Restorer:
    """Return a restorer; stirred: with weights that are nowhere 0."""
    torch.manual_seed(0)
    model = Restorer(RestorerConfig(image_shape=image_shape, **SMALL | settings))
    if stirred:
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0.0, 0.1)
    return model


def inputs(model: Restorer, n: int = 3) -> list[Tensor]:
    """Return y, then what the restorer asks for: known, with about three quarters of True, or None; and sigma."""
    config = model.config
    channels, height, width = config.image_shape
    y = normal(n, channels, height // config.factor, width // config.factor)
    known = torch.rand(n, 1, height, width, generator=seeded(1)) < 0.75
    sigma = torch.linspace(0.2, 0.6, n)
    return [y, known if config.mask else None, sigma if config.noise else None]


# ---- what comes out ------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("shape", SHAPES)
def test_a_restorer_returns_images_and_each_from_its_own_input(shape, way):
    model = made(shape, stirred=True, **way)
    y, *told = inputs(model)
    x = model(y, *told)
    assert x.shape == (3, *shape)
    parts = [[part if part is None else part[i : i + 1] for part in (y, *told)] for i in range(3)]
    alone = torch.cat([model(*each) for each in parts])
    torch.testing.assert_close(x, alone)
    assert not x[0].equal(x[1])


@ways
def test_a_new_restorer_changes_nothing(way):
    model = made(**way)
    y, *told = inputs(model)
    x = model(y, *told)
    if model.config.factor > 1:
        assert x.equal(interpolate(y, scale_factor=4, mode="bicubic"))
    elif model.config.mask:
        assert x.equal(torch.where(told[0], y, 0.0))
    else:
        assert x.equal(y)
    (gradient,) = torch.autograd.grad((x - 1).square().sum(), last_layer(model).weight)
    assert gradient.abs().max() > 0  # and yet it learns


def last_layer(model: Restorer) -> nn.Conv2d:
    body = model.estimator.body
    return body.last if model.config.network == "unet" else body[-1]


@pytest.mark.parametrize("network", ["denoiser", "unet"])
def test_the_network_predicts_the_noise_and_it_is_taken_off(network):
    model = made(network=network)
    nn.init.constant_(last_layer(model).bias, 0.25)
    y, *_ = inputs(model)
    torch.testing.assert_close(model(y), y - 0.25)


@pytest.mark.parametrize("name", ["masked", "masked denoiser"])
def test_known_pixels_stay_to_the_bit_and_hidden_ones_are_not_looked_at(name):
    model = made((3, 32, 48), stirred=True, **WAYS[name])
    y, known, _ = inputs(model)
    x, everywhere = model(y, known), known.expand_as(y)
    assert x[everywhere].equal(y[everywhere])
    assert (x != y)[~everywhere].double().mean() > 0.99
    assert model(torch.where(known, y, float("nan")), known).equal(x)
    shared = model(y, known[:1])
    assert shared.equal(model(y, known[:1].expand(3, -1, -1, -1)))


def test_known_pixels_are_copied_where_there_was_no_noise_and_estimated_where_there_was():
    model = made((3, 32, 48), stirred=True, **WAYS["masked and told"])
    y, known, _ = inputs(model)
    everywhere = known.expand_as(y)
    x = model(y, known, torch.tensor([0.3, 0.0, 0.3]))
    assert x[1][everywhere[1]].equal(y[1][everywhere[1]])
    torch.testing.assert_close(x[1], model(y, known, 0.0)[1])
    for i in (0, 2):  # all pixels are redrawn, and not alone those that nobody saw
        assert (x != y)[i].double().mean() > 0.99
    torch.testing.assert_close(x[::2], model(y, known, 0.3)[::2])
    assert model(torch.where(known, y, float("nan")), known, 0.3).isfinite().all()
    denoiser = made(stirred=True, **WAYS["told"])
    y, _, _ = inputs(denoiser)
    assert denoiser(y, None, 0.0).equal(y) and not denoiser(y, None, 0.1).equal(y)


@pytest.mark.parametrize("name", ["told", "masked and told"])
def test_the_network_is_told_the_noise_of_each_image(name):
    model = made(stirred=True, **WAYS[name])
    y, known, _ = inputs(model)
    y = y[:1].expand(3, -1, -1, -1)
    known = known if known is None else known[:1]
    x = model(y, known, torch.tensor([0.1, 0.5, 0.1]))
    torch.testing.assert_close(x[0], x[2])
    assert ((x[0] - x[1]).abs() > 1e-3).double().mean() > 0.5
    first = model.estimator.body[0] if name == "told" else model.estimator.body.first
    with torch.no_grad():
        first.weight[:, -1] = 0.0  # the channel that says it
    x = model(y, known, torch.tensor([0.1, 0.5, 0.1]))
    torch.testing.assert_close(x[0], x[1])


@pytest.mark.parametrize("name", ["masked", "masked denoiser"])
def test_the_network_is_shown_the_mask(name):
    """A known pixel of grey and a hidden one look alike in y; only the mask tells them apart."""
    model = made(stirred=True, **WAYS[name])
    y = torch.zeros(1, 1, 28, 28)
    known = torch.ones(1, 1, 28, 28, dtype=torch.bool)
    known[..., 14, 14] = False
    other = known.clone()
    other[..., 14, 15] = False
    assert model(y, known)[..., 14, 14] != model(y, other)[..., 14, 14]


def test_a_denoiser_and_a_unet_fit_one_image_of_noise():
    """The gradient reaches all layers: a few steps bring the error far below that of doing nothing."""
    for network in ("denoiser", "unet"):
        model = made((1, 8, 8), network=network, levels=1, width=12)
        clean = normal(4, 1, 8, 8, seed=3)
        y = clean + 0.5 * normal(4, 1, 8, 8, seed=4)
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        start = (y - clean).square().mean().item()
        for _ in range(60):
            loss = (model(y) - clean).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert loss.item() < 0.3 * start
        assert all(p.grad.abs().max() > 0 for p in model.parameters())


# ---- what a page runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unet", "masked", "masked and told", "enlarged"])
def test_a_page_gives_numbers_and_gets_pixels(name):
    model = made((3, 32, 48), stirred=True, **WAYS[name])
    page, (y, known, sigma) = RestoredPixels(model), inputs(model)
    given = [y] + ([] if known is None else [known.float()]) + ([] if sigma is None else [sigma[:, None]])
    found = page(*given)
    torch.testing.assert_close(found, (model(y, known, sigma) / 2 + 0.5).clamp(0, 1))
    assert found.min() == 0 and found.max() == 1 and found.std() > 0.1
    examples = page.examples()
    assert list(examples) == ["y", "known", "sigma"][: len(given)]
    for example, value in zip(examples.values(), given, strict=True):
        assert example.shape == (2, *value.shape[1:]) and example.dtype == torch.float32
    if known is not None:
        assert examples["known"].mean() == 0.5
    assert page(*examples.values()).shape == (2, 3, 32, 48)


def test_a_page_cannot_tell_the_noise_to_a_restorer_without_a_mask():
    with pytest.raises(ValueError, match="noise is True and mask False"):
        RestoredPixels(made(**WAYS["told"])).examples()


# ---- how far they see ----------------------------------------------------------------------------------------------


def seen(output: Tensor, x: Tensor) -> tuple[int, int]:
    """Return height and width of the part of x that one output hangs on."""
    (gradient,) = torch.autograd.grad(output, x)
    rows, columns = gradient[0].abs().sum(0).nonzero().T
    return tuple((places.max() - places.min() + 1).item() for places in (rows, columns))


@pytest.mark.parametrize(("layers", "patch"), [(1, 8), (2, 18), (3, 38)])
def test_a_logit_sees_the_patch_that_the_config_says(layers, patch):
    config = RestorerConfig(image_shape=(3, 96, 80), critic_width=4, critic_layers=layers, **SMALL)
    torch.manual_seed(0)
    critic, x = PatchDiscriminator(config), normal(1, 3, 96, 80).requires_grad_()
    logits = critic(x)
    assert logits.shape == (1, 96 >> layers, 80 >> layers)
    middle = logits[0, logits.shape[1] // 2, logits.shape[2] // 2]
    assert config.patch == patch and seen(middle, x) == (patch, patch)
    widths = [layer.out_channels for layer in critic.body if isinstance(layer, nn.Conv2d)]
    assert widths == [4 << level for level in range(layers)] + [1]
    assert logits.min() < 0  # nothing is squashed


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_denoiser_sees_as_far_as_its_docstring_says(blocks):
    model = made((1, 40, 44), stirred=True, network="denoiser", blocks=blocks)
    x = normal(1, 1, 40, 44).requires_grad_()
    assert seen(model(x)[0, 0, 20, 22], x) == (5 + 4 * blocks,) * 2
    assert "5 + 4 blocks" in RestorerConfig.__doc__


def test_a_unet_sees_across_a_hole_that_a_denoiser_of_its_blocks_does_not():
    known = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    known[..., 9:23, 9:23] = False
    reached = {}
    for network in ("denoiser", "unet"):
        model = made((1, 32, 32), stirred=True, network=network, mask=True)
        y = normal(1, 1, 32, 32).requires_grad_()
        (gradient,) = torch.autograd.grad(model(y, known)[0, 0, 15, 15], y)
        assert gradient[~known].eq(0).all()
        reached[network] = bool(gradient[known].any())
    assert reached == {"denoiser": False, "unet": True}


def test_each_resolution_is_joined_with_what_it_held_on_the_way_down():
    body, x = made(stirred=True, levels=2).estimator.body, normal(1, 1, 28, 28).requires_grad_()
    assert [layer.in_channels for layer in body.down] == [6, 12]
    assert [layer.in_channels for layer in body.up] == [24, 12]
    for up in body.up:  # nothing comes back from below
        nn.init.zeros_(up.weight)
    near = seen(body(x)[0, 0, 14, 14], x)
    assert near == (13, 13)  # first, last, and a block of two on either way, at full resolution
    nn.init.zeros_(body.join[-1].weight)
    (gradient,) = torch.autograd.grad(body(x)[0, 0, 14, 14], x)
    assert gradient.eq(0).all()


# ---- config ----------------------------------------------------------------------------------------------------------


def test_learned_maps_are_added_at_each_resolution_on_the_way_down():
    """By hand: the features of the first convolution, of the first halving, and of the second, each with its map."""
    body = made((1, 16, 24), stirred=True, places=True).estimator.body
    shapes = [(1, 6, 16, 24), (1, 12, 8, 12), (1, 24, 4, 6)]
    assert [tuple(place.shape) for place in body.places] == shapes
    x = normal(2, 1, 16, 24)
    fine = body.before[0](body.first(x) + body.places[0])
    coarse = body.before[1](body.down[0](fine) + body.places[1])
    up = body.up[0](body.middle(body.down[1](coarse) + body.places[2]))
    up = body.up[1](body.after[0](body.join[0](torch.cat([up, coarse], 1))))
    expected = body.last(nn.functional.silu(body.after[1](body.join[1](torch.cat([up, fine], 1)))))
    assert torch.allclose(body(x), expected, rtol=1e-4, atol=1e-5)


def test_only_learned_maps_tell_the_middle_of_a_plain_image_from_another_place():
    x = torch.zeros(1, 1, 64, 64)
    for places in (False, True):
        found = made((1, 64, 64), stirred=True, places=places, levels=1).estimator.body(x)[0, 0]
        far = found[16:48, 16:48]  # the zeros around the image do not reach here
        assert (far[::2, ::2].std() > 1e-4) == places
    fresh = made((1, 64, 64), places=True).estimator.body
    assert all(not place.any() and place.requires_grad for place in fresh.places)


def test_a_critic_is_there_if_asked_for():
    assert made().discriminator is None
    model = made((3, 32, 48), critic_width=5)
    assert model.discriminator(normal(2, 3, 32, 48)).shape == (2, 8, 12)


def test_blocks_and_width_are_the_configs():
    from imagegen.layers import ResidualBlock

    def count(model: Restorer) -> int:
        return sum(isinstance(layer, ResidualBlock) for layer in model.modules())

    assert count(made(network="denoiser", blocks=4)) == 4
    assert count(made(blocks=3, levels=2)) == 3 * 5 and count(made(levels=1)) == 3
    assert last_layer(made(width=9)).in_channels == 9


@ways
def test_a_restorer_is_saved_and_found_again_as_a_family(way, tmp_path):
    model = made(stirred=True, critic_width=4, **way).eval()
    pretrained.save(model, {"name": "tiny"}, folder=tmp_path)
    again = pretrained.load("tiny", folder=tmp_path)
    assert type(again) is Restorer and again.config == model.config
    torch.testing.assert_close(again(*inputs(model)), model(*inputs(model)), rtol=0, atol=0.02)
    fields = json.loads(json.dumps(dataclasses.asdict(model.config)))
    assert RestorerConfig(**fields) == model.config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "gan"}, "network is 'gan', expected one of denoiser, unet"),
        ({"width": 0}, "width is 0, expected at least 1"),
        ({"blocks": 0}, "blocks is 0"),
        ({"levels": 0}, "levels is 0"),
        ({"factor": 0}, "factor is 0"),
        ({"critic_layers": 0}, "critic_layers is 0"),
        ({"critic_width": -1}, "critic_width is -1, expected 0, for no critic, or more"),
        ({"image_shape": (28, 28)}, r"image_shape is \(28, 28\), expected \(C, H, W\)"),
        ({"mask": True, "factor": 2}, "factor is 2 with mask, expected 1"),
        ({"noise": True, "factor": 2}, "factor is 2 with noise, expected 1"),
        ({"levels": 3}, r"image_shape is \(1, 28, 28\): H and W must be multiples of 2\^levels, 8"),
        ({"factor": 3}, "must be multiples of factor, 3"),
        (
            {"image_shape": (1, 28, 30)},
            r"image_shape is \(1, 28, 30\): H and W must be multiples of 2\^levels, 4",
        ),
        ({"critic_width": 4, "critic_layers": 3}, r"must be multiples of 2\^critic_layers, 8"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RestorerConfig(**settings)


def test_a_denoiser_takes_sides_that_a_unet_cannot_halve():
    assert made((1, 27, 29), network="denoiser")(normal(1, 1, 27, 29)).shape == (1, 1, 27, 29)


KNOWN = torch.ones(2, 1, 28, 28, dtype=torch.bool)


@pytest.mark.parametrize(
    ("way", "given", "error", "message"),
    [
        (
            "unet",
            [normal(2, 1, 27, 28)],
            ValueError,
            r"y has shape \(2, 1, 27, 28\), expected \(B, 1, 28, 28\)",
        ),
        ("enlarged", [normal(2, 1, 28, 28)], ValueError, r"expected \(B, 1, 7, 7\)"),
        ("unet", [normal(2, 1, 28, 28), KNOWN], ValueError, "known is given, and mask is False"),
        ("masked", [normal(2, 1, 28, 28)], ValueError, "known is missing, and mask is True"),
        (
            "masked",
            [normal(2, 1, 28, 28), KNOWN.float()],
            TypeError,
            "known is torch.float32, expected torch.bool",
        ),
        (
            "masked",
            [normal(3, 1, 28, 28), KNOWN],
            ValueError,
            r"\(2, 1, 28, 28\), expected \(3 or 1, 1, 28, 28\)",
        ),
        ("masked", [normal(2, 1, 28, 28), KNOWN[..., :7]], ValueError, r"known has shape \(2, 1, 28, 7\)"),
        ("told", [normal(2, 1, 28, 28)], ValueError, "sigma is missing, and noise is True"),
        ("masked", [normal(2, 1, 28, 28), KNOWN, 0.1], ValueError, "sigma is given, and noise is False"),
        (
            "told",
            [normal(2, 1, 28, 28), None, torch.ones(2, 1)],
            ValueError,
            r"sigma has shape \(2, 1\), expected \(\) or \(2,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_named(way, given, error, message):
    with pytest.raises(error, match=message):
        made(**WAYS[way])(*given)


def test_a_critic_refuses_images_of_another_shape():
    critic = made(critic_width=4).discriminator
    with pytest.raises(ValueError, match=r"images of shape \(2, 3, 28, 28\), expected \(B, 1, 28, 28\)"):
        critic(normal(2, 3, 28, 28))
