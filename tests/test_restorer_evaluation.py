"""What is measured of a restorer, by the slow form, and what `imagegen evaluate` and `export` do with one."""

import dataclasses
import json
import math

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import nn

from imagegen import cli, data, evaluation, metrics, pretrained, recipes
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.degrade import Degradation
from imagegen.evaluation import DEGRADATIONS, Protocol, restorers
from imagegen.gan import GANConfig
from imagegen.images import to_float, to_uint8
from imagegen.pair import Pair, PairConfig
from imagegen.restore import Restorer, RestorerConfig
from imagegen.training import seed_of

SHAPE = (1, 16, 16)
CONFIG = RestorerConfig(image_shape=SHAPE, width=4, levels=1, mask=True, noise=True)
SMALL = {"a": Degradation(mask="box", share=0.3), "b": Degradation(noise="gaussian", amount=0.4),
         "c": Degradation(factor=4)}  # fmt: skip


def made_up(split):
    """Return blurred noise, 300 training and 60 test images."""
    n, seed = (300, 0) if split == "train" else (60, 1)
    noise = torch.rand(n, 1, 18, 18, generator=torch.Generator().manual_seed(seed))
    images = (nn.functional.avg_pool2d(noise, 3, stride=1) * 255).round().to(torch.uint8)
    return data.ImageSet(images, torch.zeros(n, dtype=torch.int64), ("all",))


def restorer(config=CONFIG) -> Restorer:
    torch.manual_seed(0)
    model = Restorer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return model


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Return a folder with a feature network and a restorer of `made-up`."""
    monkeypatch.setitem(recipes.DATA, "made-up", made_up)
    monkeypatch.setattr(restorers, "DEGRADATIONS", SMALL)
    card = {"recipe": {"data": "made-up"}, "metrics": {}}
    torch.manual_seed(0)
    judge = Classifier(ClassifierConfig(image_shape=SHAPE, classes=(2,), widths=(4,), features=6))
    pretrained.save(judge, card | {"name": "judge"}, folder=tmp_path)
    pretrained.save(restorer(), card | {"name": "restore-small"}, folder=tmp_path)
    protocol = Protocol("small", "made-up", "judge", 60, folder=tmp_path)
    monkeypatch.setitem(evaluation.PROTOCOLS, "made-up", protocol)
    return tmp_path


IMAGES = made_up("test").images


def test_the_named_degradations_are_what_their_names_say():
    for name, degradation in DEGRADATIONS.items():
        if "noise_" in name:  # a hundred times sigma in units of [-1, 1]
            hundredths = float(name.rpartition("_")[2])
            assert degradation.noise == "gaussian" and degradation.amount == pytest.approx(hundredths / 100)
        else:
            assert degradation.noise == "none"
        kind = name.split("_")[0]
        masks = {"box": "centre", "scribble": "scribble", "half": "half"}
        assert degradation.mask == masks.get(kind, "none")
        assert degradation.factor == (4 if kind == "down" else 1) and degradation.blur == 0
    assert {"noise_40", "box", "down_4"} <= DEGRADATIONS.keys()


def test_a_restorer_is_given_the_degradations_that_fit_it():
    def fitting(**settings):
        config = dataclasses.replace(CONFIG, **settings)
        return [name for name, each in DEGRADATIONS.items() if restorers.fits(config, each)]

    assert fitting() == [name for name in DEGRADATIONS if name != "down_4"]
    assert fitting(mask=False, noise=False, factor=4) == ["down_4"]
    assert fitting(mask=False) == ["noise_20", "noise_40", "noise_80"]
    assert fitting(noise=False) == ["box", "scribble", "half"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_restored_images_are_the_models_of_what_each_batch_lost(name, monkeypatch):
    monkeypatch.setattr(restorers, "BATCH", 25)
    model, degradation = restorer(), SMALL[name]
    found = evaluation.restored(restorers.by_model(model), degradation, IMAGES, 7)
    assert found.dtype == torch.uint8 and found.shape == IMAGES.shape and not found.requires_grad
    parts = []
    for start in (0, 25, 50):
        generator = torch.Generator().manual_seed(seed_of(7, start))
        y, known, _ = degradation(to_float(IMAGES[start : start + 25]), generator=generator)
        if known is None:
            known = torch.ones(len(y), 1, 16, 16, dtype=torch.bool)
        with torch.no_grad():
            parts.append(model(y, known, 0.4 if name == "b" else 0.0))
    assert found.equal(to_uint8(torch.cat(parts).clamp(-1, 1)))
    if name == "a":  # known pixels pass through all of it
        assert 0.6 < (found == IMAGES).double().mean() < 0.8
    other = evaluation.restored(restorers.by_model(model), degradation, IMAGES, 8)
    assert not found.equal(other)


def test_each_measure_is_its_slow_form(shelf):
    protocol = evaluation.PROTOCOLS["made-up"]
    restore = restorers.by_model(restorer())
    found = evaluation.measure_restoration(restore, "a", IMAGES, protocol=protocol)
    assert list(found) == ["psnr_a", "ssim_a", "mse_a", "fd_small_a"]
    ruler, _, _ = evaluation.reference(protocol)
    for i, seed in enumerate((0, 1, 2)):
        again = evaluation.restored(restore, SMALL["a"], IMAGES, seed)
        a, b = again.double() / 255, IMAGES.double() / 255
        errors = [(x - y).square().mean().item() for x, y in zip(a, b, strict=True)]
        decibels = [-10 * math.log10(error) for error in errors]
        assert found["mse_a"]["values"][i] == pytest.approx(sum(errors) / 60, rel=1e-4)
        assert found["psnr_a"]["values"][i] == pytest.approx(sum(decibels) / 60, abs=1e-4)
        ssim = [
            structural_similarity(
                x[0].numpy(), y[0].numpy(), data_range=1.0, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )
            for x, y in zip(a, b, strict=True)
        ]  # fmt: skip
        assert found["ssim_a"]["values"][i] == pytest.approx(sum(ssim) / 60, abs=1e-4)
        fd = metrics.frechet_distance(ruler.features(again), ruler.features(IMAGES))
        assert found["fd_small_a"]["values"][i] == pytest.approx(fd, rel=1e-5)
    for entry in found.values():
        assert entry["n"] == 60 and entry["std"] > 0 and "drawn for each seed 0, 1, 2" in entry["detail"]
    assert found["psnr_a"]["unit"] == "dB"


def test_images_without_an_error_count_as_those_that_rounding_alone_separates():
    levels = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rounding = ((255 * levels).round() / 255 - levels).square().mean()
    assert restorers.CEILING == pytest.approx(-10 * math.log10(rounding), abs=0.05)
    clean = to_float(IMAGES)
    whole = evaluation.measure_restoration(lambda seen, _: clean, "box", IMAGES)
    assert whole["psnr_box"]["value"] == pytest.approx(restorers.CEILING) and whole["mse_box"]["value"] == 0
    assert whole["ssim_box"]["value"] == pytest.approx(1.0) and len(whole) == 3
    lost = clean.clone()
    lost[30:] = 0.0
    half = evaluation.measure_restoration(lambda seen, _: lost, "box", IMAGES)
    assert 35 < half["psnr_box"]["value"] < 45


def test_a_restorer_is_measured_on_all_that_fits_it(shelf):
    found = evaluation.measure_restorer(restorer().train(), IMAGES)
    assert list(found) == ["psnr_a", "ssim_a", "mse_a", "psnr_b", "ssim_b", "mse_b"]
    small = dataclasses.replace(CONFIG, mask=False, noise=False, factor=4)
    found = evaluation.measure_restorer(restorer(small), IMAGES)
    assert list(found) == ["psnr_c", "ssim_c", "mse_c"]


def call(capsys, *arguments):
    code = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_evaluates_a_restorer(capsys, shelf):
    places = ["--weights", shelf, "--results", shelf / "results"]
    code, out, err = call(capsys, "evaluate", "restore-small", "--json", "--quiet", *places)
    assert code == 0, err
    result = json.loads(out)
    expected = [f"{measure}_{case}" for case in "ab" for measure in ("psnr", "ssim", "mse", "fd_small")]
    assert result["family"] == "restorer" and list(result["metrics"]) == expected
    assert result["protocol"]["features"] == "judge"
    model, protocol = pretrained.load("restore-small", folder=shelf), evaluation.PROTOCOLS["made-up"]
    again = evaluation.measure_restorer(model, IMAGES, protocol=protocol)
    for name, entry in again.items():
        assert result["metrics"][name]["values"] == pytest.approx(entry["values"], rel=1e-4), name
    code, out, err = call(capsys, "evaluate", "restore-small", "--json", "--quiet", "--limit", 20, *places)
    assert code == 0 and json.loads(out)["metrics"]["psnr_a"]["n"] == 20, err


def test_of_a_pair_the_generator_and_the_restorer_are_measured_as_others_of_their_kind(capsys, shelf):
    torch.manual_seed(1)
    pair = Pair(PairConfig(GANConfig(image_shape=SHAPE, latent_dim=5, width=6, critic_width=4), CONFIG))
    pair.estimator.load_state_dict(restorer().estimator.state_dict())
    card = {"recipe": {"data": "made-up", "ema": 0.99}, "metrics": {}, "name": "pair-small"}
    pretrained.save(pair, card, folder=shelf)
    code, out, err = call(capsys, "evaluate", "pair-small", "--json", "--quiet", "--weights", shelf,
                          "--results", shelf / "results")  # fmt: skip
    assert code == 0, err
    result = json.loads(out)
    model, protocol = pretrained.load("pair-small", folder=shelf), evaluation.PROTOCOLS["made-up"]
    drawn = evaluation.measure_gan(model.gan, protocol, ema=0.99)
    alone = pretrained.load("restore-small", folder=shelf)
    wanted = drawn | evaluation.measure_restorer(alone, IMAGES, protocol=protocol)
    assert result["family"] == "pair" and list(result["metrics"]) == list(wanted)
    for name in set(wanted) - {"images_per_second"}:
        entry = result["metrics"][name]
        assert entry["values"] == pytest.approx(wanted[name]["values"], rel=1e-4), name
        assert entry["detail"] == wanted[name]["detail"]
    assert result["protocol"]["features"] == "judge"


@pytest.mark.parametrize("told", [True, False], ids=["mask and noise", "smaller"])
@torch.no_grad()
def test_the_command_exports_a_restorer(capsys, shelf, told):
    onnxruntime = pytest.importorskip("onnxruntime")
    small = dataclasses.replace(CONFIG, mask=False, noise=False, factor=4)
    model = restorer(CONFIG if told else small)
    pretrained.save(model, {"name": "other"}, folder=shelf)
    model, path = pretrained.load("other", folder=shelf), shelf / "other.onnx"
    code, out, err = call(capsys, "export", "other", "--weights", shelf, "-o", path)
    assert code == 0 and "other: restorer in" in out, err
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random = torch.Generator().manual_seed(1)
    y = torch.rand(3, 1, *((16, 16) if told else (4, 4)), generator=random) * 2 - 1
    known = (torch.rand(3, 1, 16, 16, generator=random) < 0.7).float()
    sigma = torch.tensor([[0.0], [0.3], [0.6]])
    inputs = {"y": y, "known": known, "sigma": sigma} if told else {"y": y}
    (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    expected = model(y, known > 0.5, sigma[:, 0]) if told else model(y)
    expected = ((expected + 1) / 2).clamp(0, 1)
    assert (torch.from_numpy(found) - expected).abs().max() < 1e-5 and expected.std() > 0.1
    if told:
        kept = known[0] > 0.5
        assert torch.from_numpy(found)[0][kept].equal((y[0][kept] + 1) / 2)
