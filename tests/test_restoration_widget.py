"""The restoration explorer on the Python side: what it shows, what the kernel answers, and what the website gets."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from imagegen import images, metrics
from imagegen.restore import Restorer, RestorerConfig
from imagegen.widgets import RestorationExplorer
from imagegen.widgets.generators import gaussians
from imagegen.widgets.restoration import decibels, middle_box, seen

COLOUR, GREY = (3, 16, 16), (1, 28, 28)
SEEN, SQUARED, ADVERSARIAL, ORIGINAL = range(4)  # the columns of the static picture


def make(seed: int = 0, shape: tuple[int, int, int] = COLOUR, **options) -> Restorer:
    """A small restorer whose last layer is not 0, as a new one's is."""
    torch.manual_seed(seed)
    config = {"image_shape": shape, "width": 4, "levels": 1, "mask": True, "noise": True} | options
    model = Restorer(RestorerConfig(**config)).eval()
    with torch.no_grad():
        model.estimator.body.last.weight.normal_(std=0.3)
    return model


def pictures(n: int = 3, shape: tuple[int, int, int] = COLOUR) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def make_explorer(squared=None, adversarial=None, shown=None, **options) -> RestorationExplorer:
    squared, adversarial = squared or make(1), adversarial or make(2, critic_width=4)
    shown = pictures(shape=squared.config.image_shape) if shown is None else shown
    return RestorationExplorer(squared, adversarial, shown, **options)


def tiles(widget) -> np.ndarray:
    """Return the static picture's tiles as (2, 4, C, H, W)."""
    channels, height, width = widget.meta["shape"]
    sheet = Image.open(io.BytesIO(base64.b64decode(widget.picture.partition(",")[2])))
    assert sheet.size == (4 * (width + 2) + 2, 2 * (height + 2) + 2)
    sheet = np.asarray(sheet).reshape(sheet.size[1], sheet.size[0], channels)
    cut = [
        [sheet[2 + r * (height + 2) :, 2 + c * (width + 2) :][:height, :width] for c in range(4)]
        for r in range(2)
    ]
    return np.array(cut).transpose(0, 1, 4, 2, 3)


@pytest.fixture
def ask(monkeypatch):
    """ask(widget, op, values) -> (content, pixels) of the one message that goes back."""
    sent = []
    monkeypatch.setattr(
        RestorationExplorer, "send", lambda self, content, buffers=None: sent.append((content, buffers))
    )

    def asked(widget, op: str, values: torch.Tensor) -> tuple[dict, torch.Tensor | None]:
        widget._answer(widget, {"id": "one", "op": op}, [memoryview(values.numpy().tobytes())])
        ((content, buffers),) = sent
        sent.clear()
        return content, torch.frombuffer(bytearray(buffers[0]), dtype=torch.float32) if buffers else None

    return asked


# ---- what is shown ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [COLOUR, GREY])
def test_the_bundle_serves_a_kernel_a_page_and_a_printout(shape):
    widget = make_explorer(make(1, shape), make(2, shape))
    data, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    found = re.fullmatch(
        r'<restoration-explorer src="(restoration-explorer-[0-9a-f]{10})"><img alt="([^"]+)" '
        r'src="data:image/png;base64,[^"]+"><small [^>]*>([^<]+)</small></restoration-explorer>',
        data["text/html"],
    )
    assert found[1] == widget.file_name and found[2] == found[3]
    assert widget.meta["kind"] == "restoration-explorer" and widget.meta["worker"] is True
    assert widget.meta["shape"] == list(shape) and sorted(widget.meta["files"]) == ["adversarial", "squared"]


@pytest.mark.parametrize("shape", [COLOUR, GREY])
def test_the_picture_is_what_its_text_says(shape):
    squared, adversarial = make(1, shape), make(2, shape)
    widget = make_explorer(squared, adversarial, names=("boat", "bus", "bike"))
    found, clean = tiles(widget), images.to_float(pictures(shape=shape)[:1])
    noise = gaussians(1, clean.numel()).view_as(clean)
    noisy = clean + 0.4 * noise  # 0.2 in units of [0, 1]
    known = middle_box(*shape[1:]) > 0.5
    assert (~known).float().mean() == 0.25
    everything = torch.ones_like(known)
    psnr = []
    for row, (mask, y, sigma) in enumerate(((known, clean, 0.0), (everything, noisy, 0.4))):
        for column, model in ((SQUARED, squared), (ADVERSARIAL, adversarial)):
            with torch.no_grad():
                x = model(torch.where(mask, y, 9.0), mask, sigma)  # behind the mask anything may be
            assert np.abs(found[row, column] - 127.5 * (x[0].clamp(-1, 1) + 1).numpy()).max() <= 0.51
            restored = images.to_unit(images.to_float(images.to_uint8(x.clamp(-1, 1))))
            psnr.append(metrics.psnr(restored, images.to_unit(clean), span=1.0).item())
        assert (found[row, ORIGINAL] == pictures(shape=shape)[0].numpy()).all()
        shown = np.where(mask[0], 127.5 * (y[0].clamp(-1, 1) + 1), found[row, SEEN])
        assert np.abs(found[row, SEEN] - shown).max() <= 0.51
    hidden = found[0, SEEN][:, ~known[0, 0].numpy()]
    assert set(hidden.flatten().tolist()) == {107, 158}  # stripes of two greys
    assert (hidden == hidden[0]).all() and len(set(psnr)) == 4
    assert widget.meta["start"] == {"columns": 4, "psnr": pytest.approx(psnr[:2], abs=0.01)}
    told = f"{psnr[0]:.1f} dB and {psnr[1]:.1f} dB", f"[0, 1]; PSNR: {psnr[2]:.1f} dB and {psnr[3]:.1f} dB"
    for words in (
        "boat, number 1",
        "box in the middle",
        "the least-squares restoration",
        "noise of deviation 0.2",
        *told,
    ):
        assert words in widget._alt


def test_the_page_holds_the_images_and_their_names():
    widget = make_explorer(names=("boat", "bus", "bike"))
    for i, entry in enumerate(widget.meta["images"]):
        kept = np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(COLOUR)
        assert (kept == pictures()[i].numpy()).all()
    assert [entry["alt"] for entry in widget.meta["images"]] == [
        "boat, number 1", "bus, number 2", "bike, number 3",
    ]  # fmt: skip
    assert make_explorer().meta["images"][1]["alt"] == "Image, number 2"
    assert widget.file_name != make_explorer().file_name  # another content, another name


def test_psnr_is_that_of_the_package():
    a, b = pictures(2)
    expected = metrics.psnr(a[None] / 255, b[None] / 255, span=1.0).item()
    assert decibels(a, b) == pytest.approx(expected, abs=0.006)
    assert decibels(a, a) is None


def test_an_image_that_is_restored_without_an_error_is_told():
    black = torch.zeros(1, *GREY, dtype=torch.uint8)
    models = [make(seed, GREY) for seed in (1, 2)]
    for model in models:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.estimator.body.last.bias.fill_(1.0)  # y - 1: 0 becomes -1, black
    widget = make_explorer(*models, black)
    assert widget.meta["start"]["psnr"] == [None, None]
    assert "PSNR of the restorations: no error and no error" in widget._alt


def test_stripes_stand_for_what_is_hidden():
    y, known = torch.full((1, 1, 4, 6), 3.0), torch.ones(1, 1, 4, 6)
    known[..., 3:] = 0
    found = seen(y, known)
    assert (found[..., :3] == 1).all()  # cut off at white
    assert found[0, 0, 0, 3:].tolist() == pytest.approx([0.62, 0.42, 0.42])
    assert found[0, 0, 1, 3:].tolist() == pytest.approx([0.42, 0.42, 0.62])


# ---- what the kernel answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [COLOUR, GREY])
def test_the_kernel_restores_with_the_network_that_is_asked_for(shape, ask):
    models = {"squared": make(1, shape), "adversarial": make(2, shape, critic_width=4)}
    widget = make_explorer(*models.values())
    clean = images.to_float(pictures(1, shape))
    known = torch.rand(1, 1, *shape[1:], generator=torch.Generator().manual_seed(0)) > 0.4
    for sigma in (0.0, 0.5):
        y = torch.where(known, clean + sigma * gaussians(5, clean.numel()).view_as(clean), 0.0)
        values = torch.cat([y.flatten(), known.float().flatten(), torch.tensor([sigma])])
        found = {}
        for part, model in models.items():
            content, pixels = ask(widget, part, values)
            assert content == {"id": "one"}
            with torch.no_grad():
                expected = model(y, known, sigma).add(1).mul(0.5).clamp(0, 1)
            assert torch.allclose(pixels.view(expected.shape), expected, atol=1e-5)
            found[part] = pixels.view(shape)
        assert (found["squared"] - found["adversarial"]).abs().max() > 0.1
        if sigma == 0:  # what is seen without noise is kept
            kept = known[0].expand(shape)
            assert torch.allclose(found["squared"][kept], images.to_unit(clean)[0][kept], atol=1e-6)


def test_what_cannot_be_answered_is_told(ask):
    widget = make_explorer()
    n = 4 * 16 * 16 + 1
    content, _ = ask(widget, "decode", torch.zeros(n))
    assert content["error"] == "ValueError: op is 'decode', expected one of squared, adversarial"
    content, _ = ask(widget, "squared", torch.zeros(n - 1))
    assert content["error"] == f"ValueError: {n - 1} values, expected {n}: y, known and sigma"


def test_it_keeps_copies(ask):
    squared = make(1)
    widget = make_explorer(squared)
    values = torch.cat([torch.rand(3 * 256), torch.zeros(256), torch.tensor([0.2])])
    before = ask(widget, "squared", values)[1]
    with torch.no_grad():
        squared.estimator.body.last.weight.mul_(5)
    assert torch.equal(ask(widget, "squared", values)[1], before)
    assert squared.estimator.body.last.weight.requires_grad


# ---- what the website gets -------------------------------------------------------------------------------


def test_both_networks_are_written_for_the_page(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    squared, adversarial = make(1, places=True), make(2, places=True, critic_width=4)
    widget = make_explorer(squared, adversarial)
    paths = widget.write_site_files(tmp_path)
    assert [path.name for path in paths] == [*widget.meta["files"].values(), f"{widget.file_name}.json"]
    assert json.loads(paths[-1].read_text()) == widget.meta
    y = 2 * torch.rand(1, *COLOUR, generator=torch.Generator().manual_seed(1)) - 1
    known = middle_box(16, 16)
    found = []
    for path, model in zip(paths, (squared, adversarial), strict=False):
        session = runtime.InferenceSession(str(path))
        assert [i.name for i in session.get_inputs()] == ["y", "known", "sigma"]
        assert [o.name for o in session.get_outputs()] == ["pixels"]
        inputs = {"y": y.numpy(), "known": known.numpy(), "sigma": np.float32([[0.3]])}
        (pixels,) = session.run(None, inputs)
        with torch.no_grad():
            expected = model(y, known > 0.5, 0.3).add(1).mul(0.5).clamp(0, 1)
        assert np.abs(pixels - expected.numpy()).max() <= 1e-4
        found.append(pixels)
    assert np.abs(found[0] - found[1]).max() > 0.1


# ---- what does not fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_bad, message",
    [
        (
            lambda: make_explorer(make(mask=False)),
            "squared has mask False and noise True, expected both True",
        ),
        (
            lambda: make_explorer(adversarial=make(noise=False)),
            "adversarial has mask True and noise False, expected both True",
        ),
        (
            lambda: make_explorer(adversarial=make(width=6)),
            "differ in width 4 and 6, expected the same but for the critic",
        ),
        (
            lambda: make_explorer(make(shape=(2, 8, 8)), make(shape=(2, 8, 8))),
            r"squared restores \(2, 8, 8\)",
        ),
        (
            lambda: make_explorer(torch.nn.Linear(2, 2), shown=pictures()),
            "squared is a Linear, expected a Restorer",
        ),
        (lambda: make_explorer(shown=pictures(shape=GREY)), r"\(3, 1, 28, 28\), expected \(N, 3, 16, 16\)"),
        (lambda: make_explorer(shown=pictures(25)), r"N from 1 to 24"),
        (lambda: make_explorer(shown=pictures(0)), r"\(0, 3, 16, 16\), expected \(N, 3, 16, 16\)"),
        (lambda: make_explorer(names=("one",)), "1 names, expected 3"),
        (lambda: make_explorer(name="My Faces"), "name is 'My Faces'"),
    ],
)
def test_what_does_not_fit_is_refused(make_bad, message):
    with pytest.raises(ValueError, match=message):
        make_bad()


def test_images_must_be_uint8():
    with pytest.raises(TypeError, match=r"images are torch\.float32, expected torch\.uint8"):
        make_explorer(shown=pictures().float())


def test_the_critics_may_differ_and_nothing_else():
    fields = {field.name for field in dataclasses.fields(RestorerConfig)}
    assert {name for name in fields if name.startswith("critic_")} == {"critic_width", "critic_layers"}
    make_explorer(make(1), make(2, critic_width=8, critic_layers=1))
