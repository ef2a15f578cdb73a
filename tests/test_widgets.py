"""The explorers on the Python side: what they show, what the kernel answers, and what the website gets."""

import base64
import doctest
import html
import importlib
import io
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagegen import images, viz, widgets
from imagegen.decoder import AttributeDecoder, AttributeDecoderConfig
from imagegen.gan import GAN, GANConfig
from imagegen.prior import Prior, PriorConfig
from imagegen.vae import VAE, VAEConfig
from imagegen.vq import VQVAE, VQVAEConfig
from imagegen.widgets import (
    AttributeExplorer,
    CodeExplorer,
    GeneratorExplorer,
    ImageExplorer,
    LatentMap,
    PriorExplorer,
    RingExplorer,
)
from imagegen.widgets import ring as ring_module
from imagegen.widgets.attributes import words
from imagegen.widgets.codes import alike
from imagegen.widgets.generators import gaussians, slerp

CLASSES = ("boot", "bag & belt", "coat")
ATTRIBUTES = {"hair": ("bald", "bobBangs", "curlyBun"), "hair_colour": ("none", "red"), "skin": ("1", "2")}
FACES = torch.tensor([[1, 1, 0], [0, 0, 1], [2, 1, 1]])


def make(latent_dim: int = 5, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE(VAEConfig(latent_dim=latent_dim, network="mlp", hidden=16)).eval()


def pictures(n: int = 30) -> torch.Tensor:
    return torch.randint(
        0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def make_map(model: VAE | None = None, **options) -> LatentMap:
    return LatentMap(model or make(2), **options)


def make_explorer(model: VAE | None = None, **options) -> ImageExplorer:
    labels = torch.arange(30) % 3
    return ImageExplorer(model or make(), pictures(), labels=labels, classes=CLASSES, **options)


def make_decoder(seed: int = 0) -> AttributeDecoder:
    torch.manual_seed(seed)
    return AttributeDecoder(AttributeDecoderConfig((3, 16, 16), (3, 2, 2), widths=(4, 4), hidden=16)).eval()


def make_attributes(model: AttributeDecoder | None = None, labels=FACES, **options) -> AttributeExplorer:
    return AttributeExplorer(model or make_decoder(), ATTRIBUTES, labels=labels, **options)


def make_tokeniser(seed: int = 0) -> VQVAE:
    torch.manual_seed(seed)
    model = VQVAE(VQVAEConfig((3, 16, 24), codes=14, code_dim=4, widths=(8, 8), blocks=1, hidden=8))
    with torch.no_grad():
        model.encoder[-1].weight.mul_(30)
    model(torch.rand(4, 3, 16, 24) * 2 - 1)  # training mode: the codes are put on the encoder's outputs
    return model.eval()


def make_prior(seed: int = 0, **options) -> Prior:
    torch.manual_seed(seed)
    config = {"codes": 14, "grid": (4, 6), "attributes": (3, 2), "width": 16, "depth": 1, "heads": 2}
    model = Prior(PriorConfig(**config | options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


def paintings(n: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (n, 3, 16, 24), dtype=torch.uint8, generator=generator)


def make_codes(model: VQVAE | None = None, images=None, **options) -> CodeExplorer:
    names = [f"painting {letter}" for letter in "abcde"]
    return CodeExplorer(
        model or make_tokeniser(), paintings() if images is None else images, **{"names": names} | options
    )


def make_sampler(prior: Prior | None = None, model: VQVAE | None = None, **options) -> PriorExplorer:
    return PriorExplorer(prior or make_prior(), model or make_tokeniser(), **{"attributes": KINDS} | options)


def make_gan(seed: int = 0, network: str = "mlp", shape: tuple[int, ...] = (3, 12, 12)) -> GAN:
    torch.manual_seed(seed)
    gan = GAN(GANConfig(network, shape, latent_dim=5, width=8, critic_width=4)).eval()
    with torch.no_grad():
        for parameter in gan.generator.parameters():
            parameter.mul_(2)
    return gan


STEERS = {"red hair": torch.tensor([0, 0, 3.0, 0, 0]), "glasses": torch.tensor([0.1, 0, 0, 0, -0.1])}


def make_generator(gan: GAN | None = None, directions=STEERS, **options) -> GeneratorExplorer:
    return GeneratorExplorer(gan or make_gan(), directions, **{"subject": "face"} | options)


def text_of(values: torch.Tensor) -> str:
    return base64.b64encode(values.to(torch.uint8).contiguous().numpy().tobytes()).decode()


def record(frames: int = 3, side: int = 4, **changes) -> dict:
    """A recording of two trainings, with two points, in the form of recordings/ring.json."""
    points = torch.tensor([[[0, 0], [255, 0]], [[0, 255], [128, 128]], [[255, 255], [64, 191]]])[:frames]
    fields = torch.stack([torch.full((side, side), level) for level in (0, 128, 255)])[:frames].clone()
    fields[:, 0, 0] = torch.tensor([255, 0, 128])[:frames]
    run = {
        "loss": "minimax", "setting": "none", "label": "Minimax", "steps": [0, 50, 400][:frames],
        "points": text_of(points), "field": text_of(fields), "modes": [1, 3, 8][:frames],
        "high_quality": [0.1, 0.5, 0.934][:frames],
    }  # fmt: skip
    other = run | {"loss": "wasserstein", "setting": "clip", "label": "Wasserstein", "field_kind": "score"}
    real = text_of(torch.tensor([[255, 128], [128, 0]]))
    return {"extent": 3.0, "side": side, "n": 2, "real": real, "runs": [run | changes, other]}


def make_ring(recording=None, **options) -> RingExplorer:
    return RingExplorer(recording or record(), **options)


KINDS = {"kind": ("boot", "handBag", "coat"), "sleeve_length": ("short", "long")}
MAKERS = {
    "latent-map": make_map,
    "image-explorer": make_explorer,
    "attribute-explorer": make_attributes,
    "code-explorer": make_codes,
    "prior-explorer": make_sampler,
    "generator-explorer": make_generator,
    "ring-explorer": make_ring,
}
SPOKEN = {
    "latent-map": "z[0]",
    "image-explorer": "z[0]",
    "attribute-explorer": "hair bob bangs",
    "code-explorer": "painting b, number 2",
    "prior-explorer": "kind hand bag, sleeve length short",
    "generator-explorer": "red hair, glasses",
    "ring-explorer": "Minimax: 8 of 8 modes, 93 % of high quality",
}
LATENT = ("latent-map", "image-explorer")


class Comm:
    """Stands for the front end: sends a message to the widget and returns its one answer."""

    def __init__(self, widget, monkeypatch) -> None:
        self.widget, self.answers = widget, []
        monkeypatch.setattr(
            widget, "send", lambda content, buffers=None: self.answers.append((content, buffers))
        )

    def ask(self, op: str, values: torch.Tensor, id: str = "1"):
        message = {"method": "custom", "content": {"id": id, "op": op}}
        self.widget._handle_msg(
            {"content": {"data": message}, "buffers": [memoryview(values.numpy().tobytes())]}
        )
        (content, buffers), self.answers = self.answers[0], self.answers[1:]
        assert content["id"] == id
        return content, [torch.from_numpy(np.frombuffer(b, np.float32).copy()) for b in buffers or []]


# ---- what is shown ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_the_bundle_serves_a_kernel_a_page_and_a_printout(kind):
    widget = MAKERS[kind]()
    data, _ = widget._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    page = re.fullmatch(
        rf'<{kind} src="({kind}-[0-9a-f]{{10}})">'
        rf'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)">'
        rf'<small aria-hidden="true" style="display: block">([^<]+)</small></{kind}>',
        data["text/html"],
    )
    assert page[4] == page[2]  # in words for those who see the picture, too; heard once
    assert page[1] == widget.file_name
    assert len(page[2]) > 60 and SPOKEN[kind] in page[2]
    picture = Image.open(io.BytesIO(base64.b64decode(page[3])))
    assert min(picture.size) > 30 and np.asarray(picture).std() > 0
    assert "0x" not in data["text/plain"]  # no address, which would change from run to run


def test_the_maps_picture_is_the_decoded_grid_as_its_text_says():
    model = make(2)
    widget = make_map(model, limit=2.0)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(widget.picture.split(",")[1]))))
    corners = {
        (-1, 1): (0, 0),
        (1, 1): (0, 14),
        (-1, -1): (14, 0),
        (1, -1): (14, 14),
    }  # sign of z: row, column
    for (sign_0, sign_1), (row, column) in corners.items():
        z = torch.tensor([[sign_0 * 2 * 14 / 15, sign_1 * 2 * 14 / 15]])
        expected = images.to_uint8(2 * widget.decode(z)[0, 0] - 1).int().numpy()
        tile = sheet[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
        assert np.abs(tile - expected).max() <= 1
    assert "from -1.87 at the left to 1.87 at the right" in widget._alt


def test_the_explorers_text_names_its_images():
    widget = make_explorer()
    assert "boot, number 1; bag & belt, number 2; coat, number 3" in widget._alt
    assert html.escape(widget._alt) in widget._repr_mimebundle_()[0]["text/html"]
    assert [image["alt"] for image in widget.meta["images"]][3] == "boot, number 4"
    assert len(widget.meta["images"]) == 24
    stored = base64.b64decode(widget.meta["images"][5]["pixels"])
    assert stored == pictures()[5].numpy().tobytes()  # uint8 to float and back loses nothing


def test_the_sliders_are_the_most_active_latents():
    model = make(5)
    with torch.no_grad():  # means of dimension d spread with scale[d]; all log-variances are 0
        last = model.encoder[-1]
        last.weight[5:], last.bias[5:], last.bias[:5] = 0, 0, 0
        last.weight[:5] = last.weight[0] * torch.tensor([0.1, 4.0, 0.0, 9.0, 1.0])[:, None]
    assert make_explorer(model, n_dims=3).meta["dims"] == [3, 1, 4]
    assert make_explorer(model, dims=[2, 0]).meta["dims"] == [2, 0]
    widget = make_explorer(model, n_dims=5)
    mean, log_var = widget.encode(images.to_float(pictures()))
    prior, normal = (
        torch.distributions.Normal(0.0, 1.0),
        torch.distributions.Normal(mean, (log_var / 2).exp()),
    )
    kl = torch.distributions.kl_divergence(normal, prior).mean(0)
    assert widget.meta["kl"] == pytest.approx([kl[d].item() for d in widget.meta["dims"]], abs=1e-3)


def test_points_off_the_map_are_left_out_and_many_are_thinned():
    points = torch.tensor([[0.5, -1.0], [9.0, 0.0], [0.0, -9.0], [2.0, 3.0]])
    widget = make_map(points=points, labels=torch.tensor([0, 1, 2, 1]), classes=CLASSES)
    assert widget.meta["points"] == [[0.5, -1.0, 0], [2.0, 3.0, 1]]
    assert widget.meta["start"]["z"] == [0.5, -1.0]
    many = make_map(points=torch.rand(9000, 2)).meta["points"]
    assert len(many) == 4000 and len(many[0]) == 2
    assert make_map(points=points[1:]).meta["start"]["z"] == [0, 0]  # the first is off the map


def test_the_names_of_code_become_words():
    outcome = doctest.testmod(importlib.import_module("imagegen.widgets.attributes"))
    assert outcome.attempted and not outcome.failed
    assert make_attributes().meta["attributes"] == [
        {"name": "hair", "values": ["bald", "bob bangs", "curly bun"]},
        {"name": "hair colour", "values": ["none", "red"]},
        {"name": "skin", "values": ["1", "2"]},
    ]
    assert words("shortComboverChops") == "short combover chops"


def test_the_attribute_strip_is_what_its_text_says():
    """Each row is one face with more and more withheld, the first attribute first; in colour."""
    widget, model = make_attributes(), make_decoder()
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(widget.picture.split(",")[1]))))
    assert sheet.shape == (2 * 18 + 2, 4 * 18 + 2, 3)
    for row, face in enumerate(((1, 1, 0), (2, 1, 1))):  # the first and the last of FACES
        for column in range(4):
            labels = torch.tensor([[-1] * column + list(face[column:])])
            with torch.no_grad():
                pixels = torch.sigmoid(model(model.conditions(labels)))[0].permute(1, 2, 0)
            top, left = 2 + 18 * row, 2 + 18 * column
            tile = sheet[top : top + 16, left : left + 16].astype(float)
            assert np.abs(tile - 255 * pixels.numpy()).max() <= 0.51
    assert "hair bob bangs, hair colour red, skin 1; hair curly bun, hair colour red, skin 2" in widget._alt
    assert "To the right 1, 2 and then all are withheld, from hair on" in widget._alt


def test_the_faces_to_pick_from_are_those_given_and_many_are_thinned():
    widget = make_attributes()
    assert widget.meta["faces"] == FACES.tolist()
    assert widget.meta["start"]["labels"] == FACES[0].tolist()
    stored = np.frombuffer(base64.b64decode(widget.meta["start"]["pixels"]), np.uint8)
    assert np.abs(stored - 255 * widget.draw(FACES[:1]).flatten().numpy()).max() <= 0.51
    many = make_attributes(labels=FACES.repeat(400, 1)).meta["faces"]
    assert len(many) == 500 and many[0] == FACES[0].tolist() and many[-1] == FACES[2].tolist()
    assert make_attributes(labels=None).meta["faces"] is None


def sheet_of(widget) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(widget.picture.split(",")[1])))).astype(float)


def test_the_codes_of_the_images_travel_with_them():
    model = make_tokeniser()
    widget = make_codes(model)
    with torch.no_grad():
        codes = model.encode(images.to_float(paintings())).flatten(1)
    assert len(codes.unique()) > 4
    assert [image["codes"] for image in widget.meta["images"]] == codes.tolist()
    assert base64.b64decode(widget.meta["images"][3]["pixels"]) == paintings()[3].numpy().tobytes()
    assert [image["alt"] for image in widget.meta["images"]][1] == "painting b, number 2"
    assert make_codes(names=None).meta["images"][4]["alt"] == "Image, number 5"
    assert widget.meta["grid"] == [4, 6]
    with torch.no_grad():
        expected = 255 * torch.sigmoid(model.decode(codes[:1].reshape(1, 4, 6)))
    stored = np.frombuffer(base64.b64decode(widget.meta["start"]["pixels"]), np.uint8)
    assert np.abs(stored - expected.flatten().numpy()).max() <= 0.51


def test_the_code_strip_is_what_its_text_says():
    """Images, what they decode to, and the first with one code replaced, by another one in each column."""
    model = make_tokeniser()
    widget = make_codes(model)
    sheet = sheet_of(widget)
    assert sheet.shape == (3 * 18 + 2, 5 * 26 + 2, 3)
    tile = lambda row, column: sheet[2 + 18 * row :][:16, 2 + 26 * column :][:, :24]  # noqa: E731
    with torch.no_grad():
        codes = model.encode(images.to_float(paintings()))
        decoded = 255 * torch.sigmoid(model.decode(codes)).permute(0, 2, 3, 1).numpy()
        grids = codes[:1].repeat(14, 1, 1)
        grids[:, 2, 3] = torch.arange(14)
        variants = 255 * torch.sigmoid(model.decode(grids)).permute(0, 2, 3, 1).numpy()
    found = []
    for column in range(5):
        assert np.array_equal(tile(0, column), paintings()[column].permute(1, 2, 0).numpy())
        assert np.abs(tile(1, column) - decoded[column]).max() <= 0.51
        distances = np.abs(variants - tile(2, column)).max((1, 2, 3))
        assert distances.min() <= 0.51
        found.append(int(distances.argmin()))
    assert len(set(found)) == 5 and codes[0, 2, 3].item() not in found
    assert "the code in row 3, column 4 of its grid replaced by 5 others of the 14" in widget._alt
    assert "decoded from its 4 by 6 codes" in widget._alt


@pytest.mark.parametrize("kind", ["code-explorer", "prior-explorer"])
def test_the_codebook_is_shown_as_patches(kind):
    """Each is the cell in the middle of the picture of a grid that holds this code alone."""
    model = make_tokeniser()
    widget = make_codes(model) if kind == "code-explorer" else make_sampler(model=model)
    book = widget.meta["book"]
    assert book["patch"] == [3, 4, 4] and book["codes"] == 14 and book["columns"] == 12
    stored = np.frombuffer(base64.b64decode(book["patches"]), np.uint8).reshape(14, 3, 4, 4).astype(float)
    for code in range(14):
        with torch.no_grad():
            pixels = torch.sigmoid(model.decode(torch.full((1, 4, 6), code)))[0]
        assert np.abs(stored[code] - 255 * pixels[:, 8:12, 12:16].numpy()).max() <= 0.51
    assert sorted(book["order"]) == list(range(14))


def test_similar_codes_lie_together():
    """Patches of 12 brightnesses and 8 slopes, shuffled, come back as rows and columns of them."""
    level, slope = torch.arange(12) / 12, (torch.arange(8) - 3.5) / 300
    ramp = torch.arange(4) - 1.5
    made = level[:, None, None, None] + slope[None, :, None, None] * ramp  # (12, 8, 1, 4)
    pictures = made.expand(12, 8, 4, 4).reshape(96, 1, 4, 4)
    shuffled = torch.randperm(96, generator=torch.Generator().manual_seed(0))
    order = shuffled[alike(pictures[shuffled], 8)].reshape(12, 8)
    assert torch.equal(order // 8, torch.arange(12)[:, None].expand(12, 8))  # from dark to bright
    assert all(torch.equal(row % 8, order[0] % 8) for row in order)
    assert (order[0] % 8).tolist() in (list(range(8)), list(range(7, -1, -1)))
    assert alike(torch.zeros(5, 1, 2, 2), 3).tolist() == [0, 1, 2, 3, 4]
    assert sorted(alike(torch.rand(3, 1, 1, 1), 2).tolist()) == [0, 1, 2]  # one axis alone


def test_the_page_of_a_prior_starts_half_way_through_an_example():
    model, prior = make_tokeniser(), make_prior()
    widget = make_sampler(prior, model)
    meta, start = widget.meta, widget.meta["start"]
    assert [a["name"] for a in meta["attributes"]] == ["kind", "sleeve length"]
    assert len(meta["examples"]) == 3 and [e["labels"] for e in meta["examples"]] == [[0, 0], [1, 0], [2, 1]]
    drawn = prior.sample(
        3, labels=torch.tensor([[0, 0], [1, 0], [2, 1]]), generator=torch.Generator().manual_seed(0)
    )
    assert [e["codes"] for e in meta["examples"]] == drawn.flatten(1).tolist()
    assert start["codes"] == meta["examples"][0]["codes"][:12] and start["labels"] == [0, 0]
    assert meta["fill"] == drawn.flatten().mode().values
    grid = torch.tensor([start["codes"] + [meta["fill"]] * 12]).reshape(1, 4, 6)
    with torch.no_grad():
        logits = prior(grid, labels=torch.tensor([[0, 0]]))[0].flatten(1)[:, 12]
        pixels = 255 * torch.sigmoid(model.decode(grid)).flatten()
    assert torch.allclose(torch.tensor(start["logits"]), logits, atol=1e-4)
    stored = np.frombuffer(base64.b64decode(start["pixels"]), np.uint8)
    assert np.abs(stored - pixels.numpy()).max() <= 0.51


def test_a_prior_can_start_from_given_codes():
    codes = torch.arange(48).reshape(2, 4, 6) % 14
    widget = make_sampler(start=codes)
    assert [e["codes"] for e in widget.meta["examples"]] == codes.flatten(1).tolist()
    assert [e["labels"] for e in widget.meta["examples"]] == [None, None]
    assert widget.meta["start"]["labels"] == [-1, -1]  # not known
    assert widget.meta["start"]["codes"] == codes[0].flatten()[:12].tolist()
    assert make_sampler(start=codes[1]).meta["examples"][0]["codes"] == codes[1].flatten().tolist()
    plain = make_sampler(make_prior(attributes=()), attributes=None)
    assert plain.meta["attributes"] == [] and plain.meta["start"]["labels"] == []
    numbered = make_sampler(attributes=None).meta["attributes"]
    assert numbered[1] == {"name": "attribute 2", "values": ["0", "1"]}


def test_the_prior_strip_is_what_its_text_says():
    model = make_tokeniser()
    widget = make_sampler(model=model)
    sheet = sheet_of(widget)
    assert sheet.shape == (3 * 18 + 2, 6 * 26 + 2, 3)
    counts = [4, 8, 12, 16, 20, 24]
    assert f"From left to right {', '.join(map(str, counts))} of the 24 codes are drawn" in widget._alt
    for row, example in enumerate(widget.meta["examples"]):
        for column, count in enumerate(counts):
            codes = example["codes"][:count] + [widget.meta["fill"]] * (24 - count)
            with torch.no_grad():
                pixels = torch.sigmoid(model.decode(torch.tensor(codes).reshape(1, 4, 6)))[0]
            for i in range(4):
                for j in range(6):
                    if i * 6 + j >= count:
                        cell = pixels[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
                        cell.mul_(0.4).add_(0.3)  # greyed out
            tile = sheet[2 + 18 * row :][:16, 2 + 26 * column :][:, :24]
            assert np.abs(tile - 255 * pixels.permute(1, 2, 0).numpy()).max() <= 0.51


def test_a_seed_is_a_draw_of_the_prior():
    """The numbers are those of N(0, 1), others for each seed and place."""
    z = torch.stack([gaussians(seed, 64) for seed in range(1, 401)])
    assert (
        z.dtype == torch.float32 and len(z.unique()) > z.numel() - 30
    )  # some differ by less than float32 tells
    n = z.numel()
    for moment, expected, variance in ((z, 0, 1), (z**2, 1, 2), (z**4, 3, 96), (z[:, 1:] * z[:, :-1], 0, 1)):
        assert moment.double().mean().item() == pytest.approx(expected, abs=4.5 * (variance / n) ** 0.5)
    assert (z[1:] * z[:-1]).mean().abs() < 4.5 / n**0.5  # seeds that follow one another
    below = (z < 1.5).double().mean().item()
    assert below == pytest.approx(0.9331928, abs=4.5 * (0.0624 / n) ** 0.5)
    assert torch.equal(gaussians(7, 5), gaussians(7, 64)[:5])
    widget = make_generator()
    assert torch.equal(widget.latent(7), gaussians(7, 5))


def test_a_walk_keeps_to_the_arc():
    """Both ends, equal angles for equal shares, and a length that does not sink between."""
    a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0, 2.0, 0])
    for t in (0.0, 0.25, 0.5, 0.9, 1.0):
        angle = torch.tensor(t * torch.pi / 2)
        expected = 2 * torch.stack([angle.cos(), angle.sin(), torch.zeros(())])
        assert torch.allclose(slerp(a, b, t), expected, atol=1e-6)
    long, short = torch.tensor([0.0, 4.0]), torch.tensor([1.0, 0.0])
    assert torch.allclose(slerp(long, short, 0.5), torch.tensor([0.5**0.5, 4 * 0.5**0.5]), atol=1e-6)
    for opposite in (3 * a, -a):  # no arc is singled out: the line
        assert torch.allclose(slerp(a, opposite, 0.25), 0.75 * a + 0.25 * opposite, atol=1e-5)


def test_the_generators_strip_is_what_its_text_says():
    """A walk from A to B, and the first moved along each direction of length 1, from end to end."""
    gan = make_gan()
    widget = make_generator(gan, reach=2.0, seeds=(4, 9))
    sheet = sheet_of(widget)
    assert sheet.shape == (3 * 14 + 2, 8 * 14 + 2, 3)
    a, b = gaussians(4, 5), gaussians(9, 5)
    units = (torch.tensor([0, 0, 1.0, 0, 0]), torch.tensor([0.5**0.5, 0, 0, 0, -(0.5**0.5)]))
    for column in range(8):
        share = column / 7
        rows = (slerp(a, b, share), *(a + (4 * share - 2) * unit for unit in units))
        for row, z in enumerate(rows):
            with torch.no_grad():
                expected = 127.5 * (gan.generator(z[None])[0] + 1)
            tile = sheet[2 + 14 * row :][:12, 2 + 14 * column :][:, :12]
            assert np.abs(tile - expected.permute(1, 2, 0).numpy()).max() <= 0.52
    assert "from seed 4 at the left to seed 9 at the right" in widget._alt
    assert "from -2 at the left to 2 at the right: one row each for red hair, glasses" in widget._alt
    assert "Below" not in make_generator(directions={})._alt


def test_the_page_of_a_generator_starts_with_two_seeds():
    gan = make_gan(network="residual")
    widget = make_generator(gan, seeds=(4, 9))
    assert widget.meta["start"]["seeds"] == [4, 9] and widget.meta["subject"] == "face"
    assert [d["name"] for d in widget.meta["directions"]] == ["red hair", "glasses"]
    assert widget.meta["directions"][0]["vector"] == [0, 0, 1, 0, 0]
    assert widget.meta["directions"][1]["vector"] == [0.707107, 0, 0, 0, -0.707107]
    for seed, stored in zip((4, 9), widget.meta["start"]["pixels"], strict=True):
        with torch.no_grad():
            expected = 127.5 * (gan.generator(gaussians(seed, 5)[None]) + 1)
        stored = np.frombuffer(base64.b64decode(stored), np.uint8)
        assert np.abs(stored - expected.flatten().numpy()).max() <= 0.52
    assert (
        len(
            {
                make_generator(gan, reach=r, seeds=s).file_name
                for r, s in ((3, (4, 9)), (3, (4, 8)), (2, (4, 9)))
            }
        )
        == 3
    )


def test_only_the_generator_is_kept():
    """The discriminator decides nothing that is shown: neither the name nor the page knows it."""
    gan, other = make_gan(), make_gan()
    with torch.no_grad():
        for parameter in other.discriminator.parameters():
            parameter.add_(1)
    assert make_generator(gan).file_name == make_generator(other).file_name
    with torch.no_grad():
        next(other.generator.parameters()).add_(1e-3)
    assert make_generator(gan).file_name != make_generator(other).file_name


def test_the_recording_reaches_the_page_as_it_is(tmp_path):
    given = record() | {"remark": "of no use to the page"}
    widget = make_ring(given)
    kept = {
        "kind": "ring-explorer",
        "shape": [],
        "files": {},
        "worker": False,
        "total": 8,
        "start": {"run": 0, "frame": 2},
    }  # two equals: the first
    assert {k: v for k, v in widget.meta.items() if k != "runs"} == kept | {
        k: given[k] for k in ("extent", "side", "n", "real")
    }
    assert widget.meta["runs"][0] == given["runs"][0] | {"field_kind": "probability"}
    assert widget.meta["runs"][1] == given["runs"][1]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(given))
    assert make_ring(path).meta == make_ring(str(path)).meta == widget.meta
    assert make_ring(path).file_name == widget.file_name != make_ring(record(label="other")).file_name
    written = widget.write_site_files(tmp_path / "site")
    assert [p.name for p in written] == [f"{widget.file_name}.json"]  # and no network


def test_it_starts_at_the_end_of_the_training_that_ends_best():
    """With the most modes; among those, with the largest share of high quality. The second run ends at 8 and 0.934."""
    for modes, quality, run in (
        ([8, 8, 7], [0.99, 0.99, 0.99], 1),  # a lucky frame on the way does not count
        ([1, 3, 8], [0.1, 0.5, 0.93], 1),
        ([1, 3, 8], [0.1, 0.5, 0.94], 0),
    ):
        meta = make_ring(record(modes=modes, high_quality=quality)).meta
        assert meta["start"] == {"run": run, "frame": 2}
    shorter = record()
    shorter["runs"][1] = record(2, label="Hinge", modes=[0, 8], high_quality=[0, 1])["runs"][0] | {
        "loss": "hinge"
    }
    assert make_ring(shorter).meta["start"] == {"run": 1, "frame": 1}


def test_the_packages_own_recording_is_shown_where_none_is_given(tmp_path, monkeypatch):
    path = tmp_path / "ring.json"
    path.write_text(json.dumps(record(label="Its own")))
    monkeypatch.setattr(ring_module, "RECORDING", path)
    assert RingExplorer().meta["runs"][0]["label"] == "Its own"


def test_the_rings_strip_is_what_its_text_says():
    """A row for each run and five frames from the first to the last; left is left, and up is up."""
    widget = make_ring()
    sheet = sheet_of(widget)
    assert sheet.shape == (2 * 98 + 2, 5 * 98 + 2, 3)
    tile = lambda row, column: sheet[2 + 98 * row :][:96, 2 + 98 * column :][:, :96]  # noqa: E731
    rgb = lambda text: [int(text[i : i + 2], 16) for i in (1, 3, 5)]  # noqa: E731
    real, generated = rgb(ring_module.REAL), rgb(ring_module.GENERATED)
    low, middle, high = (rgb(text) for text in ring_module.FIELD)
    first, last = tile(0, 0), tile(0, 4)
    assert first[95, 0].tolist() == first[95, 95].tolist() == generated  # y = 0 is at the bottom
    assert (
        first[23, 23].tolist() == high and first[24, 24].tolist() == low
    )  # row 0 of the field is at the top
    assert first[47, 95].tolist() == real and first[95, 48].tolist() == real
    assert last[0, 95].tolist() == generated and last[24, 24].tolist() == generated
    assert last[0, 0].tolist() == pytest.approx(middle, abs=1) and last[80, 80].tolist() == high
    assert tile(0, 2)[47, 48].tolist() == generated and tile(0, 2)[0, 1].tolist() == generated
    assert np.array_equal(tile(1, 4), last)
    assert "2 recorded trainings on a ring of 8 Gaussians" in widget._alt
    assert "(steps 0, 0, 50, 400, 400)" in widget._alt
    score = "In the rows of {} it is the critic's score, scaled in each tile."
    assert score.format("Wasserstein") in widget._alt
    assert score.format("Minimax and Wasserstein") in make_ring(record(field_kind="score"))._alt
    plain = record()
    del plain["runs"][1]["field_kind"]
    assert "score" not in make_ring(plain)._alt


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_rings_points_can_be_seen_on_its_field():
    """At least 3 to 1 (WCAG 2.2, 1.4.11) on every colour of the field, and the page has the colours of the print."""
    source = (Path(widgets.__file__).parents[1] / "explorer.js").read_text("utf-8")
    found = re.search(r"const FIELD = \[(.*?)\], REAL = '(.*?)', GENERATED = '(.*?)';", source)
    assert tuple(re.findall(r"#[0-9a-f]{6}", found[1])) == ring_module.FIELD
    assert (found[2], found[3]) == (ring_module.REAL, ring_module.GENERATED)
    for point in (ring_module.REAL, ring_module.GENERATED):
        for ground in ring_module.FIELD:
            assert (luminance(ground) + 0.05) / (luminance(point) + 0.05) >= 3
    assert f"const LAST_SEED = {widgets.generators._LAST_SEED};" in source


# ---- what the kernel answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LATENT)
def test_the_kernel_answers_in_float32_what_torch_computes(kind, monkeypatch):
    model = make(2 if kind == "latent-map" else 5)
    comm = Comm(MAKERS[kind](model), monkeypatch)
    z, x = torch.randn(model.config.latent_dim), torch.rand(1, 28, 28) * 2 - 1
    with torch.no_grad():
        pixels, (mean, log_var) = torch.sigmoid(model.decode(z[None])), model.encode(x[None])
    assert torch.equal(comm.ask("decode", z)[1][0], pixels.flatten())
    found = comm.ask("encode", x, id="second")[1]
    assert torch.equal(found[0], mean[0]) and torch.equal(found[1], log_var[0])


def test_the_kernel_draws_what_the_attributes_say(monkeypatch):
    model = make_decoder()
    comm = Comm(make_attributes(model), monkeypatch)
    for labels in ([2, 0, 1], [-1, 0, 1], [-1, -1, -1]):
        conditions = model.conditions(torch.tensor([labels]))
        with torch.no_grad():
            expected = torch.sigmoid(model(conditions)).flatten()
        assert torch.equal(comm.ask("decode", conditions[0])[1][0], expected)
    content, buffers = comm.ask("encode", torch.zeros(3))
    assert "op is 'encode'" in content["error"] and not buffers


def test_the_kernel_draws_what_the_generator_draws(monkeypatch):
    gan = make_gan(network="dcgan")
    comm, z = Comm(make_generator(gan), monkeypatch), torch.randn(5) * 3
    with torch.no_grad():
        expected = (gan.generator(z[None]).flatten() + 1) / 2
    assert torch.allclose(comm.ask("decode", z)[1][0], expected, atol=1e-6)
    content, buffers = comm.ask("decode", torch.zeros(4))
    assert "z has shape (1, 4), expected (B, 5)" in content["error"] and not buffers


@pytest.mark.parametrize("kind", ["code-explorer", "prior-explorer"])
def test_the_kernel_decodes_codes(kind, monkeypatch):
    model = make_tokeniser()
    comm = Comm(make_codes(model) if kind == "code-explorer" else make_sampler(model=model), monkeypatch)
    codes = torch.arange(24) % 14
    with torch.no_grad():
        expected = torch.sigmoid(model.decode(codes.reshape(1, 4, 6))).flatten()
    assert torch.equal(comm.ask("decode", codes.float())[1][0], expected)
    for wrong, message in (
        (codes[:23], r"codes of shape \(1, 23\), expected \(B, 24\)"),
        (codes + 1, "code 14, expected a whole number from 0 to 13"),
        (codes - 1, "code -1, expected"),
        (codes + 0.5, "code 0.5, expected a whole number"),
        (codes * float("nan"), "code nan, expected"),
    ):
        content, buffers = comm.ask("decode", wrong.float())
        assert re.search(message, content["error"]) and not buffers


def test_the_kernel_gives_the_logits_of_one_place(monkeypatch):
    prior = make_prior()
    comm = Comm(make_sampler(prior), monkeypatch)
    codes = torch.arange(24) % 14
    for labels in ([2, 1], [-1, 0], [-1, -1]):
        with torch.no_grad():
            expected = prior(codes.reshape(1, 4, 6), labels=torch.tensor([labels]))[0].flatten(1)
        for place in (0, 7, 23):
            asked = torch.tensor([*codes.tolist(), *labels, place], dtype=torch.float32)
            assert torch.equal(comm.ask("prior", asked)[1][0], expected[:, place])
    for tail, message in (
        ([2, 1, 24], "place is 24, expected 0 to 23"),
        ([2, 1, -1], "place is -1"),
        ([3, 1, 0], r"labels \[\[3.0, 1.0\]\], expected -1 to one less than \[3, 2\]"),
        ([-2, 1, 0], r"labels \[\[-2.0, 1.0\]\]"),
        ([0.5, 1, 0], "labels"),
        ([2, 0], r"labels of shape \(1, 1\), expected \(1, 2\)"),
    ):
        content, buffers = comm.ask("prior", torch.tensor([*codes.tolist(), *tail], dtype=torch.float32))
        assert re.search(message, content["error"]) and not buffers
    plain = make_prior(attributes=())
    comm = Comm(make_sampler(plain, attributes=None), monkeypatch)
    with torch.no_grad():
        expected = plain(codes.reshape(1, 4, 6))[0].flatten(1)[:, 5]
    assert torch.equal(comm.ask("prior", torch.cat([codes, torch.tensor([5])]).float())[1][0], expected)
    content, _ = comm.ask("dream", codes.float())
    assert "op is 'dream'" in content["error"]


def test_codes_are_never_learned_by_looking():
    """The explorer's copy is in eval mode: neither encoding nor decoding moves the codebook, nor drops a unit."""
    model, prior = make_tokeniser().train(), make_prior(dropout=0.5).train()
    before = model.quantiser.codebook.clone()
    widget = make_sampler(prior, model)
    make_codes(model)
    assert torch.equal(model.quantiser.codebook, before) and model.training and prior.training
    codes, labels = torch.zeros(1, 24), torch.zeros(1, 2)
    assert torch.equal(widget.logits(codes, labels), widget.logits(codes, labels))


@pytest.mark.parametrize(
    "op, values, message",
    [
        ("decode", torch.zeros(3), r"ValueError: latents of shape \(1, 3\), expected \(B, 2\)"),
        ("encode", torch.zeros(3), "RuntimeError"),
        ("dream", torch.zeros(2), "op is 'dream'"),
    ],
)
def test_errors_go_to_the_front_end(op, values, message, monkeypatch):
    content, buffers = Comm(make_map(), monkeypatch).ask(op, values)
    assert re.search(message, content["error"]) and not buffers


def test_the_kernel_answers_from_another_thread(monkeypatch):
    """Grad mode is a thread's own: the answer must not depend on the caller's."""
    widget = make_map()
    comm, found = Comm(widget, monkeypatch), []
    thread = threading.Thread(target=lambda: found.append(comm.ask("decode", torch.ones(2))))
    thread.start()
    thread.join()
    assert torch.equal(found[0][1][0], widget.decode(torch.ones(1, 2)).flatten())


def test_the_explorer_keeps_its_own_copy_of_the_network():
    model = make(2).train()
    widget = make_map(model)
    before = widget.decode(torch.ones(1, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert not torch.equal(torch.sigmoid(model.decode(torch.ones(1, 2))), before)  # training goes on
    assert torch.equal(widget.decode(torch.ones(1, 2)), before)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


# ---- what the website gets -------------------------------------------------------------------------------


def test_the_name_is_the_contents():
    assert make_map(make(2)).file_name == make_map(make(2)).file_name
    changed = make(2)
    with torch.no_grad():
        changed.decoder[0].weight[0, 0] += 1e-4
    names = {make_map(m, **o).file_name for m, o in ((make(2), {}), (changed, {}), (make(2), {"limit": 2.5}))}
    assert len(names) == 3
    assert make_map(name="fashion-2d").file_name.startswith("fashion-2d-")


@pytest.mark.parametrize(
    "kind, suffixes",
    [
        ("latent-map", ["", ".json"]),
        ("image-explorer", [".decoder", ".encoder"]),
        ("attribute-explorer", ["", ".json"]),
        ("code-explorer", [".decoder"]),
        ("prior-explorer", [".decoder", ".prior"]),
        ("generator-explorer", [""]),
        ("ring-explorer", []),
    ],
)
def test_only_a_site_build_writes_files(kind, suffixes, tmp_path, monkeypatch):
    monkeypatch.delenv("IMAGEGEN_SITE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    MAKERS[kind]()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("IMAGEGEN_SITE_DIR", str(tmp_path / "site"))
    widget = MAKERS[kind]()
    written = {path.name for path in (tmp_path / "site").iterdir() if path.is_file()}
    networks = {f"{widget.file_name}{s}.onnx" for s in suffixes if s != ".json"}
    assert written == networks | {f"{widget.file_name}.json"}
    stored = json.loads((tmp_path / "site" / f"{widget.file_name}.json").read_text())
    assert stored == json.loads(json.dumps(widget.meta))
    assert set(stored["files"].values()) == networks


# ---- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_it, message",
    [
        (lambda: make_map(make(1)), "1 latent dimensions"),
        (lambda: make_map(make(17)), "17 latent dimensions"),
        (lambda: make_map(limit=0.0), "limit is 0.0"),
        (lambda: make_map(limit=float("inf")), "limit is inf"),
        (lambda: make_map(name="Über map"), "name is 'Über map'"),
        (lambda: make_map(name="../up"), r"name is '\.\./up'"),
        (lambda: make_map(points=torch.zeros(4, 3)), r"points of shape \(4, 3\), expected \(N, 2\)"),
        (
            lambda: make_map(points=torch.zeros(4, 2), labels=torch.zeros(3)),
            r"labels of shape \(3,\), expected \(4,\)",
        ),
        (
            lambda: make_map(points=torch.zeros(2, 2), labels=torch.tensor([0, 3]), classes=CLASSES),
            "labels run from 0 to 3, expected 0 to 2",
        ),
        (
            lambda: ImageExplorer(make(), pictures()[:, 0]),
            r"images of shape \(30, 28, 28\), expected \(N, 1, 28, 28\)",
        ),
        (lambda: ImageExplorer(make(), pictures()[:0]), r"images of shape \(0, 1, 28, 28\)"),
        (lambda: ImageExplorer(make(), pictures().float()), r"values span \[0, 255\]"),
        (lambda: make_explorer(dims=[1, 1]), r"dims is \[1, 1\]"),
        (lambda: make_explorer(dims=[5]), r"dims is \[5\], expected different dimensions from 0 to 4"),
        (lambda: make_explorer(dims=[]), r"dims is \[\]"),
        (lambda: make_explorer(n_dims=0), "n_dims is 0"),
        (
            lambda: AttributeExplorer(make_decoder(), {"hair": ("bald", "long")}),
            r"attributes have \(2,\) values, the model expects \(3, 2, 2\)",
        ),
        (
            lambda: AttributeExplorer(make_decoder(), {"a b": "xyz", "a_b": "xy", "c": "xy"}),
            "attributes have the same name in words: a b, a b, c",
        ),
        (
            lambda: AttributeExplorer(make_decoder(), ATTRIBUTES | {"hair": ("any", "aB", "a_b")}),
            r"values of hair have the same name in words: any, a b, a b",
        ),
        (
            lambda: make_codes(images=paintings()[:, 0]),
            r"images of shape \(5, 16, 24\), expected \(N, 3, 16, 24\)",
        ),
        (lambda: make_codes(images=paintings()[:0], names=None), "with N from 1 to 24"),
        (lambda: make_codes(images=paintings(25), names=None), r"images of shape \(25, 3, 16, 24\)"),
        (lambda: make_codes(names=["a"]), "1 names, expected 5"),
        (
            lambda: make_sampler(make_prior(codes=15)),
            r"the prior has 15 codes on a grid \(4, 6\), the model 14 on \(4, 6\)",
        ),
        (lambda: make_sampler(make_prior(grid=(6, 4))), r"14 codes on a grid \(6, 4\)"),
        (lambda: make_sampler(make_prior(context_codes=3, context_grid=(2, 3))), "codes of another grid"),
        (lambda: make_sampler(attributes={"a": "xyz"}), r"have \(3,\) values, the model expects \(3, 2\)"),
        (lambda: make_sampler(start=torch.zeros(3, 24)), r"start of shape \(3, 24\), expected \(N, 4, 6\)"),
        (lambda: make_sampler(start=torch.zeros(13, 4, 6)), "with N from 1 to 12"),
        (lambda: make_sampler(start=torch.full((4, 6), 14)), "code 14, expected a whole number from 0 to 13"),
        (lambda: make_generator(make_gan(shape=(2,))), r"the generator draws \(2,\), expected \(1, H, W\)"),
        (lambda: make_generator(make_gan(shape=(2, 8, 8))), r"the generator draws \(2, 8, 8\)"),
        (lambda: make_generator(reach=0.0), "reach is 0.0"),
        (lambda: make_generator(reach=float("inf")), "reach is inf"),
        (lambda: make_generator(seeds=(1,)), r"seeds is \(1,\), expected two whole numbers from 1 to 999999"),
        (lambda: make_generator(seeds=(0, 2)), r"seeds is \(0, 2\)"),
        (lambda: make_generator(seeds=(1.5, 2)), r"seeds is \(1.5, 2\), expected two whole numbers"),
        (lambda: make_generator(seeds=("1", 2)), r"seeds is \('1', 2\)"),
        (lambda: make_generator(subject=" "), "subject is ' ', expected a word"),
        (lambda: make_generator(directions={"": torch.ones(5)}), "a direction has the name ''"),
        (lambda: make_generator(seeds=(1, 1_000_000)), r"seeds is \(1, 1000000\)"),
        (
            lambda: make_generator(directions={"a": torch.ones(4)}),
            r"direction 'a' has shape \(4,\), expected \(5,\)",
        ),
        (lambda: make_generator(directions={"a": torch.zeros(5)}), "direction 'a' has length 0"),
        (
            lambda: make_generator(directions={"a": torch.full((5,), float("nan"))}),
            "direction 'a' has length nan",
        ),
        (
            lambda: make_generator(directions={str(k): torch.ones(5) for k in range(13)}),
            "13 directions, expected at most 12",
        ),
        (lambda: make_ring({"runs": []}), "the recording lacks extent, side, n, real"),
        (lambda: make_ring(record() | {"runs": []}), "the recording has no runs"),
        (lambda: make_ring(record() | {"runs": [{"loss": "hinge"}]}), "run 0 lacks setting, label, steps"),
        (lambda: make_ring(record() | {"side": 4.0}), "side is 4.0, expected a whole number from 1 on"),
        (lambda: make_ring(record() | {"n": 0}), "n is 0, expected a whole number"),
        (lambda: make_ring(record() | {"n": "2"}), "n is '2', expected a whole number"),
        (lambda: make_ring(record() | {"n": True}), "n is True, expected a whole number"),
        (lambda: make_ring(record() | {"extent": 0}), "extent is 0, expected a positive number"),
        (lambda: make_ring(record() | {"extent": float("nan")}), "extent is nan"),
        (lambda: make_ring(record() | {"extent": None}), "extent is None"),
        (lambda: make_ring(record(modes=[1, 9, 8])), "run 0 has 9 modes, expected whole numbers from 0 to 8"),
        (lambda: make_ring(record(modes=[1, -1, 8])), "run 0 has -1 modes"),
        (lambda: make_ring(record(modes=[1, 2.5, 8])), "run 0 has 2.5 modes"),
        (
            lambda: make_ring(record(high_quality=[0.1, 93.4, 1])),
            "run 0 has a share 93.4 of high quality, expected 0 to 1",
        ),
        (lambda: make_ring(record(high_quality=[0, float("nan"), 1])), "run 0 has a share nan"),
        (lambda: make_ring(record(high_quality=[0, None, 1])), "run 0 has a share None"),
        (lambda: make_ring(record() | {"n": 3}), r"4 bytes, expected 6 for \(3, 2\)"),
        (lambda: make_ring(record() | {"side": 5}), r"field of run 0: 48 bytes, expected 75 for \(3, 5, 5\)"),
        (lambda: make_ring(record(points="no base64!")), "points of run 0: numbers that are not in base64"),
        (
            lambda: make_ring(record(points=text_of(torch.zeros(3, 2)))),
            "points of run 0: 6 bytes, expected 12",
        ),
        (lambda: make_ring(record(modes=[1, 2])), "run 0 has 2 modes, expected 3, one a step"),
        (lambda: make_ring(record(high_quality=[])), "run 0 has 0 high_quality"),
        (lambda: make_ring(record(0)), "run 0 has 0 modes, expected 0"),
        (
            lambda: make_ring(record(field_kind="logit")),
            "field_kind of run 0 is 'logit', expected one of prob",
        ),
        (
            lambda: make_ring(record(loss="wasserstein", setting="clip")),
            "two runs have the same loss and setting",
        ),
        (lambda: make_attributes(labels=FACES[:, :2]), r"labels of shape \(3, 2\), expected \(N, 3\)"),
        (lambda: make_attributes(labels=FACES[:0]), r"labels of shape \(0, 3\), .* with N >= 1"),
        (lambda: make_attributes(labels=FACES - 1), "label -1 of attribute 2, expected 0 to 1"),
        (lambda: make_attributes(labels=FACES + 1), "label 2 of attribute 1, expected 0 to 1"),
    ],
)
def test_bad_arguments_are_named(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


def test_a_class_has_the_same_colour_in_figures_and_explorers():
    """The list in explorer.js is that of viz."""
    source = (Path(widgets.__file__).parents[1] / "explorer.js").read_text("utf-8")
    found = re.search(r"const COLOURS = \[(.*?)\]", source)
    assert tuple(re.findall(r"#[0-9a-f]{6}", found[1])) == viz.COLOURS


def test_codes_come_from_images_of_256_levels():
    with pytest.raises(TypeError, match="uint8"):
        make_codes(images=paintings().float() / 255)
