"""The explorers of a style-based generator on the Python side: what they show, answer, and write for the website."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from imagegen import export, widgets
from imagegen.gan import GAN, GANConfig
from imagegen.stylegan import StyleGAN, StyleGANConfig
from imagegen.widgets import StyleMixer, StyleSliders, TruncationExplorer
from imagegen.widgets.generators import gaussians
from imagegen.widgets.styles import PSIS, crowd, grids_of, groups_of

SIZE, SIDE, LAYERS = 6, 8, 4


def make(seed: int = 0, shape: tuple[int, ...] = (3, SIDE, SIDE), **options) -> StyleGAN:
    torch.manual_seed(seed)
    options = {"width": 4, "max_width": 8, "critic_width": 4, "mapping_depth": 2} | options
    gan = StyleGAN(StyleGANConfig(shape, latent_dim=SIZE, **options)).eval()
    with torch.no_grad():
        for name, weight in gan.generator.named_parameters():
            if name.endswith("strength"):
                weight.fill_(0.3)  # as if trained: the noise counts
        gan.generator.w_mean.copy_(torch.randn(SIZE) / 2)
    return gan


DIRECTIONS = {
    "red hair": torch.tensor([0, 0, 0.5, 0, 0, 0]),
    "glasses": torch.tensor([0.3, 0, 0, 0, 0, -0.4]),
}


def make_truncation(gan: StyleGAN | None = None, **options) -> TruncationExplorer:
    return TruncationExplorer(gan or make(), **options)


def make_mixer(gan: StyleGAN | None = None, **options) -> StyleMixer:
    return StyleMixer(gan or make(), **options)


def make_sliders(gan: StyleGAN | None = None, directions=DIRECTIONS, **options) -> StyleSliders:
    return StyleSliders(gan or make(), directions, **options)


MAKERS = {
    "truncation-explorer": make_truncation,
    "style-mixer": make_mixer,
    "style-sliders": make_sliders,
}


@pytest.fixture
def ask(monkeypatch):
    """ask(widget, op, values) -> (content, arrays) of the one message that goes back."""
    sent = []
    for kind in (TruncationExplorer, StyleMixer, StyleSliders):
        monkeypatch.setattr(kind, "send", lambda self, content, buffers=None: sent.append((content, buffers)))

    def asked(widget, op: str, values: torch.Tensor) -> tuple[dict, list[torch.Tensor]]:
        buffer = values.float().contiguous().numpy().tobytes()
        widget._answer(widget, {"id": "one", "op": op}, [memoryview(buffer)])
        ((content, buffers),) = sent
        sent.clear()
        return content, [torch.frombuffer(bytearray(b), dtype=torch.float32) for b in buffers or []]

    return asked


def pixels_of(gan: StyleGAN, ws: torch.Tensor) -> torch.Tensor:
    """Return the images (B, C, H, W), 0 to 255, of w for each layer, by the network itself."""
    with torch.no_grad():
        return 127.5 * (gan.generator.synthesis(ws, noise="fixed") + 1).clamp(0, 2)


def style_of(gan: StyleGAN, seed: int, psi: float = 1.0) -> torch.Tensor:
    """Return w for each layer (L, D) of a seed, by the network itself."""
    with torch.no_grad():
        return gan.generator.styles(gaussians(seed, SIZE)[None], truncation=psi)[0]


def tile(widget, place: int) -> np.ndarray:
    """Return a tile of the static picture (C, H, W), found as the page finds it."""
    data = base64.b64decode(widget.picture.partition(",")[2])
    sheet = np.asarray(Image.open(io.BytesIO(data)), dtype=float)
    row, column = divmod(place, widget.meta["start"]["columns"])
    top, left = 2 + row * (SIDE + 2), 2 + column * (SIDE + 2)
    return sheet[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1)


def check_tiles(widget, gan: StyleGAN, ws: dict[int, torch.Tensor]) -> None:
    images = pixels_of(gan, torch.stack(list(ws.values())))
    for place, image in zip(ws, images.numpy(), strict=True):
        assert np.abs(tile(widget, place) - image).max() <= 0.52
    assert torch.pdist(images.flatten(1), p=float("inf")).max() > 5  # they differ: it could fail


# ---- what is shown ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_the_bundle_serves_a_kernel_a_page_and_a_printout(kind):
    widget = MAKERS[kind]()
    data, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    found = re.fullmatch(
        rf'<{kind} src="({kind}-[0-9a-f]{{10}})"><img alt="([^"]+)" src="data:image/png;base64,[^"]+">'
        rf"<small [^>]*>([^<]+)</small></{kind}>",
        data["text/html"],
    )
    assert found[1] == widget.file_name and found[2] == found[3] and len(found[2]) > 60
    assert widget.meta["kind"] == kind and widget.meta["shape"] == [3, SIDE, SIDE]


def test_truncation_goes_towards_the_mean():
    gan = make()
    widget = make_truncation(gan)
    w = style_of(gan, 5)[0]
    for psi in (0.0, 0.3, 1.0, 1.2):
        expected = gan.generator.w_mean + psi * (w - gan.generator.w_mean)
        assert torch.allclose(widget.style(5, psi=psi), expected, atol=1e-6)
        assert torch.allclose(widget.style(5, psi=psi), style_of(gan, 5, psi)[0], atol=1e-6)


def test_the_picture_of_truncation_is_what_its_text_says():
    gan = make()
    widget = make_truncation(gan, seed=4, psi=0.8, faces=5)
    places = {i: style_of(gan, 4, psi) for i, psi in enumerate(PSIS)}
    places |= {7 + i: style_of(gan, 4 + i, 0.8) for i in range(5)}
    places |= {14 + i: style_of(gan, 4 + i, 0.4) for i in range(5)}
    check_tiles(widget, gan, places)
    assert tile(widget, 12).min() == 255  # where there is no face: paper
    for words in ("seed 4", "psi from 0 at the left to 1.2", "5 seeds from 4 on at psi 0.8", "at psi 0.4"):
        assert words in widget._alt
    assert widget.meta["start"] == {"seed": 4, "psi": 0.8, "faces": 5, "columns": 7}
    assert make_truncation(gan, faces=9).meta["start"]["columns"] == 9


def test_the_picture_of_the_mixer_is_what_its_text_says():
    gan = make(shape=(3, SIDE, SIDE))
    groups = {"first": [0], "others": range(1, LAYERS), "two": (3, 1)}
    widget = make_mixer(gan, seeds=(4, 9), psi=0.5, groups=groups)
    a, b = style_of(gan, 4, 0.5), style_of(gan, 9, 0.5)
    places = {0: a, 1: b}
    for place, chosen in enumerate(groups.values(), 2):
        places[place] = torch.stack([b[i] if i in chosen else a[i] for i in range(LAYERS)])
        assert torch.allclose(widget.mixed(chosen), places[place], atol=1e-6)
    check_tiles(widget, gan, places)
    assert "A of seed 4, B of seed 9" in widget._alt and "from B: first, others, two" in widget._alt
    assert widget.meta["groups"][2] == {"name": "two", "layers": [1, 3]}


def test_the_picture_of_the_sliders_is_what_its_text_says():
    """A row for each direction, from end to end; the middle of each is the face itself."""
    gan = make()
    widget = make_sliders(gan, layers={"glasses": [2, 1]}, seed=3, psi=0.9, reach=2.0)
    places = {}
    for row, (label, vector) in enumerate(DIRECTIONS.items()):
        for column in range(7):
            ws = style_of(gan, 3, 0.9).clone()
            ws[[1, 2] if label == "glasses" else slice(None)] += (column - 3) * 2 / 3 * vector
            places[7 * row + column] = ws
    check_tiles(widget, gan, places)
    assert np.array_equal(tile(widget, 3), tile(widget, 10))
    assert "from -2 at the left" in widget._alt and widget._alt.endswith("red hair, glasses.")
    found = widget.meta["directions"]
    assert [d["layers"] for d in found] == [[0, 1, 2, 3], [1, 2]]
    assert found[1]["vector"] == pytest.approx([0.3, 0, 0, 0, 0, -0.4], abs=1e-6)  # its own length


@pytest.mark.parametrize("side, n", [(8, 1), (16, 2), (32, 3), (64, 3)])
def test_the_grids_and_groups_are_those_of_the_layers(side, n):
    """A forward hook on each modulated layer tells on which grid it drew; the groups hold each layer once."""
    gan = make(shape=(3, side, side))
    seen = []
    for layer in gan.generator.synthesis.body:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    pixels_of(gan, style_of(gan, 1)[None])
    config = gan.config
    assert grids_of(config) == [*seen, side] and len(grids_of(config)) == config.layers
    groups = groups_of(config)
    assert sorted(layer for chosen in groups.values() for layer in chosen) == list(range(config.layers))
    assert (
        list(groups) == ["coarse", "middle", "fine"][:n] and groups["coarse"] == [0, 1, 2, 3][: 3 + (n == 1)]
    )


def test_a_crowd_goes_on_from_the_first_seed():
    assert crowd(3, 4) == [3, 4, 5, 6] and crowd(999_998, 4) == [999_998, 999_999, 1, 2]


def test_the_page_cuts_the_picture_where_python_put_the_tiles():
    source = (widgets.explorer.Path(widgets.__file__).parents[1] / "explorer.js").read_text("utf-8")
    assert "const PAD = 2;" in source  # images.grid's own: what `tile` above relies on


# ---- what the kernel answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_the_kernel_maps_and_draws(kind, ask):
    gan = make()
    widget = MAKERS[kind](gan)
    z, ws = gaussians(8, SIZE), torch.randn(LAYERS, SIZE)
    with torch.no_grad():
        expected = gan.generator.mapping(z[None])[0]
    assert torch.equal(ask(widget, "mapping", z)[1][0], expected)
    drawn = ask(widget, "synthesis", ws)[1][0]
    assert torch.allclose(drawn * 255, pixels_of(gan, ws[None]).flatten(), atol=1e-3)
    for op, values, message in (
        ("mapping", torch.zeros(5), r"z has shape \(1, 5\), expected \(B, 6\)"),
        ("synthesis", torch.zeros(23), "ws holds 23 numbers, expected 4 layers of 6"),
        ("decode", z, "op is 'decode', expected 'mapping' or 'synthesis'"),
    ):
        content, arrays = ask(widget, op, values)
        assert re.search(message, content["error"]) and not arrays


def test_one_style_is_that_of_every_layer():
    widget = make_truncation()
    w = torch.randn(3, SIZE)
    assert torch.allclose(widget.decode(w), widget.decode(w[:, None].repeat(1, LAYERS, 1)), atol=1e-6)


# ---- what the website gets -------------------------------------------------------------------------------


def test_all_share_two_networks_that_compute_what_pytorch_computes(tmp_path):
    """The noise is stored once, in fp16, which holds shipped weights exactly."""
    runtime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    gan = make().half().float()
    made = [make_truncation(gan), make_mixer(gan), make_sliders(gan), make_truncation(gan, seed=9)]
    for widget in made:
        widget.write_site_files(tmp_path)
    networks = sorted(path.name for path in tmp_path.glob("*.onnx"))
    assert len(networks) == 2 and all(sorted(w.meta["files"].values()) == networks for w in made)
    assert len({w.file_name for w in made}) == 4
    for widget in made:
        stored = json.loads((tmp_path / f"{widget.file_name}.json").read_text())
        assert stored == json.loads(json.dumps(widget.meta))
    ws, z = torch.randn(3, LAYERS, SIZE), torch.randn(3, SIZE)
    files = made[0].meta["files"]
    for part, inputs, expected in (
        ("mapping", {"z": z}, made[0].mapping(z)),
        ("synthesis", {"ws": ws}, made[0].decode(ws)),
    ):
        session = runtime.InferenceSession(tmp_path / files[part], providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        assert np.abs(found - expected.numpy()).max() <= export.TOLERANCE
    weights = onnx.load(tmp_path / files["synthesis"]).graph.initializer
    noise = [w for w in weights if len(w.dims) == 4 and w.dims[2] == w.dims[3] == SIDE]
    assert [list(w.dims) for w in noise] == [[1, 1, SIDE, SIDE]] * 2  # not once for each channel
    assert {w.data_type for w in noise} == {onnx.TensorProto.FLOAT16}


def test_only_the_generator_names_the_files():
    gan, other = make(), make()
    with torch.no_grad():
        for parameter in other.discriminator.parameters():
            parameter.add_(1)
    assert make_mixer(gan).file_name == make_mixer(other).file_name
    with torch.no_grad():
        other.generator.w_mean.add_(0.1)  # not a part of a network, but of every image
    assert make_mixer(gan).meta["files"] == make_mixer(other).meta["files"]
    assert make_mixer(gan).file_name != make_mixer(other).file_name
    with torch.no_grad():
        other.generator.synthesis.noise_0.add_(0.1)
    assert make_mixer(gan).meta["files"]["synthesis"] != make_mixer(other).meta["files"]["synthesis"]
    assert make_mixer(gan).meta["files"]["mapping"] == make_mixer(other).meta["files"]["mapping"]


def test_the_mean_travels_with_the_page():
    gan = make()
    for kind in MAKERS.values():
        assert kind(gan).meta["w_mean"] == pytest.approx(gan.generator.w_mean.tolist(), abs=1e-6)


# ---- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_it, message",
    [
        (
            lambda: make_truncation(GAN(GANConfig("mlp", (3, 8, 8), latent_dim=4, width=8, critic_width=4))),
            "the generator has no mapping and no synthesis and no w_mean: it is not style-based",
        ),
        (lambda: make_truncation(make(shape=(2, 8, 8))), r"the generator draws \(2, 8, 8\)"),
        (lambda: make_truncation(subject=" "), "subject is ' ', expected a word"),
        (lambda: make_truncation(seed=0), "seed is 0, expected a whole number from 1 to 999999"),
        (lambda: make_truncation(seed=1.5), "seed is 1.5"),
        (lambda: make_truncation(seed=True), "seed is True"),
        (lambda: make_truncation(psi=-0.1), "psi is -0.1, expected 0 to 1.2"),
        (lambda: make_truncation(psi=float("nan")), "psi is nan"),
        (lambda: make_truncation(faces=1), "faces is 1, expected a whole number from 2 to 12"),
        (lambda: make_truncation(faces=13), "faces is 13"),
        (lambda: make_truncation(faces=2.5), "faces is 2.5"),
        (lambda: make_mixer(seeds=(1,)), r"seeds is \(1,\), expected two"),
        (lambda: make_mixer(seeds=(1, 1_000_000)), "seed is 1000000"),
        (lambda: make_mixer(psi=1.3), "psi is 1.3"),
        (lambda: make_mixer(groups={}), "groups is empty"),
        (lambda: make_mixer(groups={"": [1]}), "a name is ''"),
        (lambda: make_mixer(groups={"a": []}), r"layers \[\] of 'a', expected some from 0 to 3"),
        (lambda: make_mixer(groups={"a": [1, 4]}), r"layers \[1, 4\] of 'a'"),
        (lambda: make_mixer(groups={"a": [-1]}), r"layers \[-1\] of 'a'"),
        (lambda: make_sliders(directions={}), "0 directions, expected 1 to 12"),
        (lambda: make_sliders(directions={str(k): torch.ones(6) for k in range(13)}), "13 directions"),
        (lambda: make_sliders(directions={"": torch.ones(6)}), "a name is ''"),
        (
            lambda: make_sliders(directions={"a": torch.ones(5)}),
            r"direction 'a' has shape \(5,\), expected \(6,\)",
        ),
        (lambda: make_sliders(directions={"a": torch.zeros(6)}), "direction 'a' has length 0"),
        (
            lambda: make_sliders(directions={"a": torch.full((6,), float("inf"))}),
            "direction 'a' has length inf",
        ),
        (lambda: make_sliders(layers={"hat": [1]}), "layers names hat, which is no direction"),
        (lambda: make_sliders(layers={"glasses": [4]}), r"layers \[4\] of 'glasses'"),
        (lambda: make_sliders(reach=0.0), "reach is 0.0, expected a positive number"),
        (lambda: make_sliders(reach=float("inf")), "reach is inf"),
        (lambda: make_sliders(psi=2), "psi is 2"),
        (lambda: make_sliders(seed=-1), "seed is -1"),
    ],
)
def test_bad_arguments_are_named(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()
