"""How StyleGAN's generator is told its style: the mapping, the layers, noise, mixing and truncation."""

import math

import pytest
import scipy.stats
import torch
from tiny_stylegan import EXACT, OUTPUTS, SMALL, made, normal, recorded, seeded
from torch.nn.functional import conv2d
from torch.testing import assert_close

from imagegen.stylegan import (
    Mapping,
    StyleGANConfig,
    StyleLayer,
    ToImage,
    activated,
    filtered,
    mixed,
    modulated_conv2d,
    normalised,
)

# ---- from z to w -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 6, 512])
def test_a_latent_is_given_the_length_of_a_typical_one(dim):
    """The root of D and not 1: each number then has a mean square of 1, as the layers take their inputs to have."""
    z = normal(9, dim) * torch.logspace(-2, 2, 9)[:, None]
    found = normalised(z)
    assert_close(found.norm(dim=1), torch.full((9,), math.sqrt(dim)).double(), rtol=1e-3, atol=0)
    assert_close(found / found.norm(dim=1, keepdim=True), z / z.norm(dim=1, keepdim=True), **EXACT)
    assert normalised(torch.zeros(2, dim)).equal(torch.zeros(2, dim))


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_the_mapping_is_its_layers_one_after_another(rate):
    torch.manual_seed(7)
    config = StyleGANConfig(**SMALL | {"mapping_depth": 3, "mapping_rate": rate})
    mapping, z = Mapping(config).double(), normal(5, 6)
    w = z / z.square().mean(1, keepdim=True).sqrt()
    assert len(mapping.body) == 3
    for layer in mapping.body:
        torch.nn.init.normal_(layer.bias)
        w = layer.weight @ w[..., None] * rate / math.sqrt(6) + rate * layer.bias[:, None]
        w = (torch.where(w > 0, w, 0.2 * w) * math.sqrt(2)).squeeze(-1)
    assert_close(mapping(z), w, rtol=1e-6, atol=1e-6)
    assert_close(mapping(7 * z), w, rtol=1e-6, atol=1e-6)  # a latent's length says nothing


def test_a_deep_mapping_neither_fades_nor_blows_up():
    torch.manual_seed(7)
    mapping = Mapping(StyleGANConfig(latent_dim=256, mapping_depth=8))
    with torch.no_grad():
        w = mapping(normal(500, 256).float())
    assert 0.5 < w.square().mean() < 2


# ---- a layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [False, True])
def test_a_style_layer_modulates_adds_noise_and_bias_and_rectifies(up):
    torch.manual_seed(7)
    layer = StyleLayer(4, 5, 6, up=up).double()
    side = 16 if up else 8
    x, w, noise = normal(3, 4, 8, 8), normal(3, 6, seed=1), normal(3, 1, side, side, seed=2)
    assert (
        layer.strength.shape == layer.bias.shape == (5,) and not layer.strength.any() and not layer.bias.any()
    )
    assert_close(layer(x, w, noise), layer(x, w, None), rtol=0, atol=0)  # the strengths start at 0
    for parameter in (layer.strength, layer.bias):
        torch.nn.init.normal_(parameter)
    style = w @ layer.style.weight.T / math.sqrt(6) + 1
    inner = modulated_conv2d(x, layer.weight / math.sqrt(4 * 9), style, up=up, form="weights")
    by_hand = inner + layer.strength.view(1, 5, 1, 1) * noise + layer.bias.view(1, 5, 1, 1)
    assert_close(layer(x, w, noise), activated(by_hand), rtol=1e-6, atol=1e-8)
    gradient = torch.autograd.grad(layer(x, w, noise).sum(), layer.strength)[0]
    assert gradient.all()  # each channel learns its own


def test_a_channel_has_its_own_strength():
    torch.manual_seed(7)
    layer = StyleLayer(4, 5, 6).double()
    x, w, noise = normal(2, 4, 8, 8), normal(2, 6, seed=1), normal(2, 1, 8, 8, seed=2)
    with torch.no_grad():
        layer.strength[2] = 1
    moved = (layer(x, w, noise) - layer(x, w, None)).abs().amax((0, 2, 3))
    assert (moved > 0.1).tolist() == [False, False, True, False, False]


def test_a_layers_own_scale_is_taken_away_and_an_images_is_kept():
    torch.manual_seed(7)
    layer, paint = StyleLayer(4, 5, 6).double(), ToImage(4, 3, 6).double()
    x, w = normal(2, 4, 8, 8), normal(2, 6, seed=1)
    torch.nn.init.normal_(paint.bias)
    before, image = layer(x, w, None), paint(x, w)
    style = w @ paint.style.weight.T / math.sqrt(6) + 1
    by_hand = torch.stack([conv2d(i, paint.weight * s[:, None, None] / 2) for i, s in zip(x, style)])
    assert_close(image, by_hand + paint.bias[:, None, None], rtol=1e-6, atol=1e-8)
    with torch.no_grad():
        for part in (layer, paint):
            part.style.weight.mul_(10)
            part.style.bias.mul_(10)
    assert_close(layer(x, w, None), before, rtol=1e-5, atol=1e-6)
    bias = paint.bias[:, None, None]
    assert_close(paint(x, w) - bias, 10 * (image - bias), **EXACT)


# ---- the synthesis: which style and which noise go where -------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_layer_takes_its_style_and_hands_on_what_it_makes(output):
    """Every input and output of every layer, held against the drawing of figure 7 of arXiv:1912.04958."""
    synthesis = made(output=output).generator.synthesis
    body, paint, short = (
        recorded(*part) for part in (synthesis.body, synthesis.to_image, synthesis.shortcuts)
    )
    ws = normal(2, 6, 6)
    image = synthesis(ws, noise="fixed")
    body, paint, short = ([calls[0] for calls in part] for part in (body, paint, short))
    x = synthesis.constant.expand(2, -1, -1, -1)
    for k, (given, w, noise, _) in enumerate(body):
        assert w.equal(ws[:, k]) and noise is synthesis.get_buffer(f"noise_{k}")
        if k % 2 == 0 and k:  # the second of a grid
            assert given is body[k - 1][-1]
        elif k == 0 or output == "skip":
            assert given.equal(x if k == 0 else body[k - 1][-1])
    assert all(w.equal(ws[:, 2 * g + 1 if output == "skip" else -1]) for g, (_, w, _) in enumerate(paint))
    if output == "skip":
        assert [given is made_ for (given, *_), (*_, made_) in zip(paint, body[::2])] == [True] * 3
        first, second, third = (painted for *_, painted in paint)
        assert_close(image, filtered(filtered(first, up=2) + second, up=2) + third, **EXACT)
        return
    before = [body[0][-1], body[3][0], paint[0][0]]  # what each grid hands on
    for g, shortcut in enumerate(synthesis.shortcuts):
        assert short[g] and body[2 * g + 1][0] is before[g]
        around = conv2d(filtered(before[g], up=2), shortcut.weight / math.sqrt(shortcut.weight.shape[1]))
        assert_close(before[g + 1], (around + body[2 * g + 2][-1]) / math.sqrt(2), **EXACT)
    assert image is paint[0][-1]


@pytest.mark.parametrize("layer", range(6))
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_style_changes_the_image_and_nothing_before_its_layer(output, layer):
    synthesis = made(output=output).generator.synthesis
    body, paint = recorded(*synthesis.body), recorded(*synthesis.to_image)
    ws = normal(2, 6, 6)
    other = ws.clone()
    other[0, layer] += 1
    with torch.no_grad():
        moved = (synthesis(other, noise="none") - synthesis(ws, noise="none")).abs().amax((1, 2, 3))
    assert moved[0] > 0.01 and moved[1] == 0  # and no other image
    changed = [not calls[0][-1].equal(calls[1][-1]) for calls in body]
    assert changed == [k >= layer for k in range(5)]
    if output == "skip":
        painted = [not calls[0][-1].equal(calls[1][-1]) for calls in paint]
        assert painted == [2 * grid + 1 >= layer for grid in range(3)]


def test_noise_is_none_or_fixed_or_drawn_for_each_image():
    synthesis = made().generator.synthesis
    (calls,) = recorded(synthesis.body[2])
    ws = normal(1, 6, 6).expand(400, -1, -1)
    with torch.no_grad():
        none, again, fixed, other = (
            synthesis(ws[:2], noise=kind) for kind in ("none", "none", "fixed", "fixed")
        )
        first, second = (synthesis(ws, generator=seeded(3)) for _ in range(2))
        third = synthesis(ws[:2], noise="random", generator=seeded(4))
        torch.manual_seed(5)
        free = synthesis(ws[:2])
        torch.manual_seed(5)
        assert synthesis(ws[:2]).equal(free)
    assert none.equal(again) and fixed.equal(other) and first.equal(second)
    assert none[0].equal(none[1]) and fixed[0].equal(fixed[1])  # one style, one image
    assert (fixed - none).abs().max() > 0.1 and (first[:2] - third).abs().max() > 0.1
    assert (first[1:] - first[:-1]).abs().amax((1, 2, 3)).min() > 0.1
    assert calls[0][2] is None and calls[2][2] is synthesis.noise_2
    drawn = calls[4][2]
    assert drawn.shape == (400, 1, 8, 8) and drawn.dtype == torch.float64
    assert scipy.stats.kstest(drawn.flatten(), "norm").pvalue > 0.01
    assert scipy.stats.kstest(torch.cat([b.flatten() for b in synthesis.buffers()]), "norm").pvalue > 0.01


# ---- mixing, the mean of w, truncation -------------------------------------------------------------------------


def test_a_layers_style_can_be_changed_alone():
    """Not one w seen through all layers: writing one would change them all."""
    model = made(mixing=0.0).eval()
    styles = model.generator.styles(normal(2, 6)).detach()
    before = styles.clone()
    styles[:, 3] = 0
    assert torch.equal(styles[:, :3], before[:, :3]) and torch.equal(styles[:, 4:], before[:, 4:])


@pytest.mark.parametrize("cut", [0, 1, 3, 4, torch.tensor([0, 1, 2, 3, 4]), torch.tensor(2)])
def test_styles_are_mixed_at_the_cut(cut):
    first, second = normal(5, 2), normal(5, 2, seed=1)
    found = mixed(first, second, cut, 4)
    cuts = torch.as_tensor(cut).expand(5)
    for image in range(5):
        for layer in range(4):
            assert found[image, layer].equal((first if layer < cuts[image] else second)[image])
    with pytest.raises(ValueError, match=r"first \(5, 2\) and second \(1, 2\) differ"):
        mixed(first, second[:1], cut, 4)


def test_in_training_a_share_of_the_images_changes_its_w_at_a_random_layer():
    """It is w that changes: each of both is what the mapping makes of one standard normal latent."""
    n, generator = 3000, made().generator
    (calls,) = recorded(generator.mapping)
    ws = generator.styles(normal(n, 6), generator=seeded(1))
    (z, w), (other_z, other) = calls
    assert z.equal(normal(n, 6)) and ws.shape == (n, 6, 6)
    assert scipy.stats.kstest(other_z.flatten(), "norm").pvalue > 0.01
    assert abs(torch.corrcoef(torch.stack([z.flatten(), other_z.flatten()]))[0, 1]) < 4.5 / math.sqrt(
        z.numel()
    )
    own = (ws == w[:, None]).all(2)
    assert own[:, 0].all() and (own | (ws == other[:, None]).all(2)).all()
    cut = own.sum(1)  # layers of the image's own w, before the others
    assert own.equal(torch.arange(6) < cut[:, None])
    share = (cut < 6).double().mean().item()
    assert abs(share - 0.9) < 4.5 * math.sqrt(0.09 / n) < 0.03
    counts = torch.bincount(cut, minlength=7)[1:6]
    assert scipy.stats.chisquare(counts).pvalue > 0.01
    again = generator.styles(normal(n, 6), generator=seeded(1))
    assert again.equal(ws) and not generator.styles(normal(n, 6), generator=seeded(2)).equal(ws)


def test_nothing_is_mixed_outside_of_training_or_where_no_share_is():
    for generator in (made().generator.eval(), made(mixing=0.0).generator):
        z = normal(50, 6)
        assert generator.styles(z).equal(generator.mapping(z)[:, None].expand(-1, 6, -1))
    whole = made(mixing=1.0).generator.styles(normal(300, 6))
    assert (whole[:, 0] != whole[:, -1]).any(1).all()


def test_the_mean_of_w_moves_in_training_alone():
    generator, z = made(w_decay=0.8).generator, normal(40, 6)
    mean = generator.mapping(z).mean(0).detach()
    assert not generator.w_mean.any() and not generator.w_mean.requires_grad
    generator.styles(z)
    assert_close(generator.w_mean, 0.2 * mean, **EXACT)
    generator(z)
    assert_close(generator.w_mean, 0.36 * mean, **EXACT)
    generator.eval()
    generator(z)
    assert_close(generator.w_mean, 0.36 * mean, **EXACT)
    assert "w_mean" in generator.state_dict() and "w_mean" not in dict(generator.named_parameters())


def test_truncation_goes_towards_the_mean_of_w():
    """Not towards 0, and not of z."""
    generator = made(w_decay=0.0).generator
    generator.styles(normal(4000, 6, seed=9))
    generator.eval()
    z, centre = normal(7, 6), generator.w_mean
    assert centre.norm() > 0.5  # so that it can be told from 0
    whole, half, none = (generator.styles(z, truncation=psi) for psi in (1.0, 0.5, 0.0))
    assert whole.equal(generator.mapping(z)[:, None].expand(-1, 6, -1)) and whole.equal(generator.styles(z))
    assert_close(none, centre.expand(7, 6, 6), **EXACT)
    assert_close(half - centre, 0.5 * (whole - centre), **EXACT)
    assert_close(generator.styles(z, truncation=-1.0), 2 * centre - whole, **EXACT)
    for psi, ws in ((0.5, half), (0.0, none), (1.0, whole)):
        image = generator.synthesis(ws, noise="fixed")
        assert_close(generator(z, truncation=psi, noise="fixed"), image, **EXACT)
    mixing = made(w_decay=1.0).generator  # in training too, where two are mixed
    mixing.w_mean.fill_(3.0)
    assert_close(mixing.styles(z, truncation=0.0), torch.full((7, 6, 6), 3.0).double(), **EXACT)
