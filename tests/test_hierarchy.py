"""The VQ-VAE of two levels: what each level is told, what is withheld, which gradient reaches what, and errors."""

import dataclasses
import json

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from imagegen.hierarchy import HierarchicalVQVAE, HierarchyConfig, HierarchyOutput
from imagegen.images import to_unit
from imagegen.objectives import bernoulli_nll, commitment_loss, gaussian_nll

EXACT = {"rtol": 0, "atol": 0}
SMALL = HierarchyConfig((1, 8, 8), codes=(8, 16), code_dim=4, widths=(6,), blocks=1, hidden=6)
CONFIGS = {
    "8 pixels": SMALL,
    "32 pixels, colour": HierarchyConfig((3, 32, 32), codes=(8, 16), code_dim=4, widths=(4, 6), hidden=4),
    "64 pixels, colour": HierarchyConfig(codes=(8, 16), code_dim=4, widths=(4, 6, 8), hidden=4),
    "not square": HierarchyConfig((2, 8, 24), codes=(5, 9), code_dim=3, widths=(4, 4), blocks=0),
}
GRIDS = [((2, 2), (4, 4)), ((4, 4), (8, 8)), ((4, 4), (8, 8)), ((1, 3), (2, 6))]
EACH = pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(config: HierarchyConfig = SMALL) -> HierarchicalVQVAE:
    torch.manual_seed(0)
    return HierarchicalVQVAE(config)


def started(config: HierarchyConfig = SMALL) -> HierarchicalVQVAE:
    """Return a model in evaluation mode whose codebooks lie on the data, so that several codes are in use."""
    model = build(config)
    model(pictures(config), generator=seeded())
    return model.eval()


def pictures(config: HierarchyConfig = SMALL, n: int = 6, seed: int = 1) -> Tensor:
    return torch.rand(n, *config.image_shape, generator=seeded(seed)) * 2 - 1


def mask(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


# ---- shapes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "grids"), list(zip(CONFIGS.values(), GRIDS)), ids=list(CONFIGS))
def test_shapes(config, grids):
    model, x = build(config), pictures(config)
    out = model(x, withheld=mask(1, 0, 0, 1, 0, 1), generator=seeded())
    assert config.grids == grids and isinstance(out, HierarchyOutput)
    assert out.params.shape == x.shape
    levels = zip(out.z, out.nearest, out.indices, model.encode(x), config.codes, grids, strict=True)
    for z, nearest, indices, codes, size, grid in levels:
        assert z.shape == nearest.shape == (6, config.code_dim, *grid)
        assert indices.shape == codes.shape == (6, *grid) and indices.dtype == codes.dtype == torch.int64
        assert 0 <= codes.min() and codes.max() < size
    top, bottom = (torch.zeros(2, *grid, dtype=torch.int64) for grid in grids)
    assert model.decode(top).shape == model.decode(top, bottom).shape == (2, *config.image_shape)


def test_each_codebook_has_its_own_size():
    model = build(CONFIGS["not square"])
    assert model.top.codebook.shape == (5, 3) and model.bottom.codebook.shape == (9, 3)


def test_the_shipped_sizes_give_an_eighth_and_a_sixteenth_of_the_pixels():
    assert HierarchyConfig().grids == ((4, 4), (8, 8))


# ---- codes are the whole description ---------------------------------------------------------------------------


@EACH
def test_decoded_codes_are_the_reconstruction(config):
    model, x = started(config), pictures(config)
    out = model(x)
    top, bottom = model.encode(x)
    assert out.indices[0].equal(top) and out.indices[1].equal(bottom)
    assert len(top.unique()) > 1 and len(bottom.unique()) > 1
    assert out.params.equal(model.decode(top, bottom))
    assert out.nearest[0].equal(model.top.embed(top)) and out.nearest[1].equal(model.bottom.embed(bottom))


@EACH
def test_the_top_codes_alone_decode_to_what_forward_gives_with_everything_withheld(config):
    model, x = started(config), pictures(config)
    top, bottom = model.encode(x)
    alone = model(x, withheld=torch.ones(6, dtype=torch.bool)).params
    assert alone.equal(model.decode(top))
    assert (alone - model.decode(top, bottom)).abs().amax(dim=(1, 2, 3)).min() > 1e-4


def test_what_is_withheld_is_decided_image_by_image():
    model, x = started(), pictures()
    top, bottom = model.encode(x)
    shown = model(x, withheld=mask(1, 0, 0, 1, 0, 1)).params
    told, alone = model.decode(top, bottom), model.decode(top)
    for i, withheld in enumerate((1, 0, 0, 1, 0, 1)):
        assert_close(shown[i], (alone if withheld else told)[i])
    assert model(x).params.equal(model(x, withheld=mask(0, 0, 0, 0, 0, 0)).params)


def test_a_picture_of_the_top_alone_depends_on_no_bottom_code():
    model, x = started(), pictures()
    top, bottom = model.encode(x)
    before = model.decode(top), model.decode(top, bottom)
    model.bottom.codebook.add_(1.0)
    assert model.decode(top).equal(before[0]) and not model.decode(top, bottom).equal(before[1])


def test_encoding_moves_nothing_in_training_mode_either():
    model, x = started().train(), pictures()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.encode(x)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


# ---- the bottom level knows the top one ------------------------------------------------------------------------


def test_the_bottom_is_quantised_from_the_features_and_the_quantised_top():
    """Both ways, the forward pass and `encode`, against the definition written out, by distances to all codes."""
    model, x = started().double(), pictures().double()

    def quantise(z: Tensor, codebook: Tensor) -> Tensor:
        return (z[:, :, None] - codebook.T[None, :, :, None, None]).square().sum(1).argmin(1)

    features = model.encoder(x)
    top = quantise(model.to_top(features), model.top.codebook)
    coarse = model.from_top(model.top.codebook[top].permute(0, 3, 1, 2))
    z_bottom = model.to_bottom(torch.cat([features, coarse], dim=1))
    bottom = quantise(z_bottom, model.bottom.codebook)
    out, codes = model(x), model.encode(x)
    assert_close(out.z[1], z_bottom)
    for found in (out.indices, codes):
        assert found[0].equal(top) and found[1].equal(bottom)
    detail = model.from_bottom(model.bottom.codebook[bottom].permute(0, 3, 1, 2))
    assert_close(out.params, model.decoder(coarse + detail))


def test_other_top_vectors_lead_to_other_bottom_codes_of_the_same_image():
    model, x = started(), pictures()
    _, bottom = model.encode(x)
    model.top.codebook.mul_(-3.0)
    features = model.encoder(x)
    assert features.equal(model.encoder(x))
    assert not model.encode(x)[1].equal(bottom) and not model(x).indices[1].equal(bottom)


def test_the_decoder_sees_the_codes_and_not_the_encoder():
    """Noise on the outputs that changes no code changes no pixel, at either level."""
    model, x = started(), pictures()
    out = model(x)
    for level, layer in ((0, model.to_top), (1, model.to_bottom)):
        hook = layer.register_forward_hook(lambda module, inputs, z: z + 1e-5)
        moved = model(x)
        hook.remove()
        assert not moved.z[level].equal(out.z[level]) and moved.indices[level].equal(out.indices[level])
        assert moved.params.equal(out.params)


# ---- gradients -------------------------------------------------------------------------------------------------

PARTS = ("encoder", "to_top", "from_top", "to_bottom", "from_bottom", "decoder")
REACHES = {
    "distortion, told both": (1, 1, 1, 1, 1, 1),
    "distortion, told the top": (1, 1, 1, 0, 0, 1),
    "commitment of the top": (1, 1, 0, 0, 0, 0),
    "commitment of the bottom": (1, 1, 1, 1, 0, 0),
}


def term(name: str, model: HierarchicalVQVAE, x: Tensor) -> Tensor:
    withheld = torch.full((len(x),), name.endswith("told the top"))
    out = model(x, withheld=withheld, generator=seeded())
    if name.startswith("commitment"):
        level = int(name.endswith("bottom"))
        return commitment_loss(out.z[level], out.nearest[level]).mean()
    return gaussian_nll(torch.sigmoid(out.params), to_unit(x), -4.0).mean()


@pytest.mark.parametrize("name", REACHES)
def test_which_term_reaches_which_part(name):
    """Each cell of the table: a gradient that is not 0, or one that is exactly 0."""
    model = started(dataclasses.replace(SMALL, blocks=0)).train()
    term(name, model, pictures()).backward()
    for part, expected in zip(PARTS, REACHES[name], strict=True):
        for parameter in getattr(model, part).parameters():
            there = parameter.grad is not None and parameter.grad.abs().max().item() > 0
            assert there == bool(expected), part


def test_no_gradient_reaches_a_bottom_level_that_was_withheld_and_one_reaches_each_that_was_told():
    model, x = started().train(), pictures()
    withheld = mask(1, 0, 0, 1, 0, 1)
    out = model(x, withheld=withheld)
    loss = gaussian_nll(torch.sigmoid(out.params), to_unit(x), -4.0).sum()
    to_top, to_bottom = torch.autograd.grad(loss, out.z)
    size = to_bottom.abs().amax(dim=(1, 2, 3))
    assert (size[withheld] == 0).all() and (size[~withheld] > 1e-4).all()
    assert (to_top.abs().amax(dim=(1, 2, 3)) > 1e-4).all()


def test_both_levels_get_the_decoders_gradient_straight_through():
    """The gradient at each encoder output is the decoder's at the vector it was replaced by."""
    model, x = started(), pictures()
    out = model(x)
    straight = torch.autograd.grad(out.params.square().sum(), out.z)
    quantised = [nearest.detach().requires_grad_() for nearest in out.nearest]
    coarse = model.from_top(quantised[0])
    params = model.decoder(coarse + model.from_bottom(quantised[1]))
    # the top reaches the picture on two ways: by itself, and through the bottom's encoder, which is told it
    z_bottom = model.to_bottom(torch.cat([model.encoder(x), coarse], dim=1))
    direct, to_bottom = torch.autograd.grad(params.square().sum(), quantised, retain_graph=True)
    (through,) = torch.autograd.grad(z_bottom, quantised[0], to_bottom)
    assert_close(straight[1], to_bottom)
    assert_close(straight[0], direct + through)
    assert through.abs().max() > 1e-4


# ---- training --------------------------------------------------------------------------------------------------


def test_both_codebooks_start_on_the_data():
    """Before the first batch all codes are normal noise; after it each is within a hundredth of the data's spread."""
    model, x = build(), pictures(n=40)
    out = model(x, generator=seeded())
    for quantiser, z in zip((model.top, model.bottom), out.z, strict=True):
        rows = z.detach().permute(0, 2, 3, 1).flatten(0, 2)
        nearest = torch.cdist(quantiser.codebook, rows).amin(1)
        spread = torch.cdist(rows, rows).max()
        assert nearest.max() < 0.02 * spread
        assert (quantiser.counts >= 0).all()


def test_the_generator_decides_a_training_step():
    def once(seed: int) -> list[Tensor]:
        model = build()
        out = model(pictures(n=40), generator=seeded(seed))
        return [out.params, model.top.codebook, model.bottom.codebook]

    torch.manual_seed(7)
    assert all(a.equal(b) for a, b in zip(once(0), once(0)))
    assert not any(a.equal(b) for a, b in zip(once(0), once(1)))


@EACH
def test_no_image_depends_on_another_of_its_batch(config):
    model, x = started(config).double(), pictures(config).double()
    withheld = mask(1, 0, 0, 1, 0, 1)
    whole = model(x, withheld=withheld)
    for i in range(3):
        part = slice(2 * i, 2 * i + 2)
        alone = model(x[part], withheld=withheld[part])
        assert_close(alone.params, whole.params[part], rtol=1e-10, atol=1e-10)
        for here, there in zip(alone.indices, whole.indices):
            assert here.equal(there[part])


def test_eight_images_are_learnt_by_heart_through_both_levels_and_through_the_top_alone():
    """A decoder that ignores its codes can do no better than the mean image; a quarter of that may be left, with half
    of the images withheld from the bottom, of both pictures: of both levels' codes, and of the top's alone."""
    model = build(dataclasses.replace(SMALL, widths=(16,), hidden=16))
    for quantiser in (model.top, model.bottom):
        quantiser.decay = 0.9
    target = (torch.rand(8, 1, 8, 8, generator=seeded(3)) > 0.5).float()
    mean_image = torch.logit(target.mean(0), eps=1e-6).expand_as(target)
    without_codes = bernoulli_nll(mean_image, target).mean().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(200):
        withheld = torch.rand(8, generator=seeded(step)) < 0.5
        out = model(2 * target - 1, withheld=withheld, generator=seeded(step))
        commitment = sum(commitment_loss(z, e) for z, e in zip(out.z, out.nearest, strict=True))
        loss = (bernoulli_nll(out.params, target) + 0.25 * commitment).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    top, bottom = model.eval().encode(2 * target - 1)
    assert len(top.flatten(1).unique(dim=0)) == 8
    for shown in (model.decode(top, bottom), model.decode(top)):
        assert bernoulli_nll(shown, target).mean().item() < 0.25 * without_codes


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_shape": (1, 28, 28), "widths": (8, 16)}, r"\(1, 28, 28\): H and W must be multiples of 8"),
        ({"image_shape": (1, 8, 12), "widths": (8, 16)}, "multiples of 8 to be halved 3 times"),
        ({"image_shape": (1, 12, 8), "widths": (8, 16)}, "multiples of 8 to be halved 3 times"),
        ({"image_shape": (3, 64)}, r"image_shape is \(3, 64\)"),
        ({"image_shape": (0, 8, 8)}, r"image_shape is \(0, 8, 8\)"),
        ({"codes": (8,)}, r"codes is \(8,\), expected \(top, bottom\), each at least 2"),
        ({"codes": (8, 1)}, r"codes is \(8, 1\)"),
        ({"codes": (1, 8)}, r"codes is \(1, 8\)"),
        ({"widths": ()}, r"widths \(\)"),
        ({"widths": (8, 0)}, r"widths \(8, 0\)"),
        ({"hidden": 0}, "hidden 0"),
        ({"code_dim": 0}, "code_dim 0"),
        ({"blocks": -1}, "blocks -1 at least 0"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **fields)


def test_a_config_is_frozen_and_survives_json():
    for config in CONFIGS.values():
        assert HierarchyConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.blocks = 3


def codes(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.encode(torch.zeros(2, 1, 8, 4)), ValueError, r"\(2, 1, 8, 4\), expected \(B, 1, 8, 8\)"),
        (lambda m: m.encode(torch.zeros(1, 8, 8)), ValueError, r"shape \(1, 8, 8\)"),
        (lambda m: m(torch.zeros(2, 3, 8, 8)), ValueError, r"shape \(2, 3, 8, 8\)"),
        (lambda m: m(pictures(), withheld=mask(1)), ValueError, r"withheld of shape \(1,\).*bool \(6,\)"),
        (lambda m: m(pictures(), withheld=torch.ones(6)), ValueError, r"torch.float32, expected bool \(6,\)"),
        (lambda m: m.decode(torch.zeros(2, 2, 2)), TypeError, "expected int64 top codes, got torch.float32"),
        (lambda m: m.decode(codes(2, 2, 2), torch.zeros(2, 4, 4)), TypeError, "expected int64 bottom codes"),
        (lambda m: m.decode(codes(2, 4, 4)), ValueError, r"top codes .*\(2, 4, 4\), expected \(2, 2, 2\)"),
        (lambda m: m.decode(codes(2, 4)), ValueError, r"top codes of shape \(2, 4\)"),
        (lambda m: m.decode(codes(2, 2, 2), codes(2, 2, 2)), ValueError, r"bottom .*expected \(2, 4, 4\)"),
        (
            lambda m: m.decode(codes(2, 2, 2), codes(1, 4, 4)),
            ValueError,
            r"bottom codes of shape \(1, 4, 4\)",
        ),
    ],
)
def test_input_of_another_shape_or_type_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(started())
