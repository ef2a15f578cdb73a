"""What is measured of a GAN, and what `imagegen sample` and `evaluate` do with one, at tiny size."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from imagegen import cli, data, evaluation, pretrained, recipes
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.evaluation import Protocol
from imagegen.gan import GAN, GANConfig
from imagegen.stylegan import StyleGAN, StyleGANConfig

SHAPE = (1, 8, 8)
MEASURES = ["fd_small", "kid_small", "precision", "recall", "coverage", "memorisation"]


def made_up(split):
    """Return blurred noise, 300 training and 60 test images."""
    n, seed = (300, 0) if split == "train" else (60, 1)
    noise = torch.rand(n, 1, 10, 10, generator=torch.Generator().manual_seed(seed))
    images = (nn.functional.avg_pool2d(noise, 3, stride=1) * 255).round().to(torch.uint8)
    return data.ImageSet(images, torch.zeros(n, dtype=torch.int64), ("all",))


def dcgan() -> GAN:
    """Return a GAN whose BatchNorm has seen batches."""
    model = GAN(GANConfig("dcgan", SHAPE, latent_dim=3, width=8, critic_width=4))
    with torch.no_grad():
        for layer in model.generator.body:
            if hasattr(layer, "weight") and layer.weight.dim() > 1:
                layer.weight.mul_(10)
        for _ in range(30):
            model.sample(50)
    return model


def stylegan() -> StyleGAN:
    """Return a StyleGAN whose noise shows and whose mean of w is known."""
    config = StyleGANConfig(SHAPE, latent_dim=3, width=8, critic_width=4, max_width=8, mapping_depth=1)
    model = StyleGAN(config)
    with torch.no_grad():
        for name, weights in model.generator.named_parameters():
            if name.endswith("strength"):
                weights.fill_(0.3)
        model.generator.styles(model.draw(50))
    return model


MADE = {"gan": dcgan, "stylegan": stylegan}


@pytest.fixture(params=MADE)
def family(request):
    return request.param


@pytest.fixture
def shelf(tmp_path, monkeypatch, family):
    """Return a folder with a feature network and a GAN of the family; `made-up` uses it."""
    monkeypatch.setitem(recipes.DATA, "made-up", made_up)
    torch.manual_seed(0)
    model = MADE[family]()
    config = ClassifierConfig(image_shape=SHAPE, classes=(2,), widths=(4,), features=6)
    card = {"recipe": {"data": "made-up", "ema": 0.95}, "metrics": {}}
    pretrained.save(Classifier(config), card | {"name": "judge"}, folder=tmp_path)
    pretrained.save(model, card | {"name": "gan-small"}, folder=tmp_path)
    protocol = Protocol("small", "made-up", "judge", 60, folder=tmp_path)
    monkeypatch.setitem(evaluation.PROTOCOLS, "made-up", protocol)
    return tmp_path


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_images_are_the_generators_rounded_to_8_bits(shelf, family):
    model = pretrained.load("gan-small", folder=shelf)
    found = evaluation.generated(model, 600, seeded(4))  # more than two batches
    assert found.dtype == torch.uint8 and found.shape == (600, *SHAPE)
    with torch.no_grad():
        generator = seeded(4)
        z = torch.randn(600, 3, generator=generator)
        drawn = [
            model.generator(part, **({"generator": generator} if family == "stylegan" else {}))
            for part in z.split(250)
        ]
        levels = (torch.cat(drawn).clamp(-1, 1) + 1) / 2 * 255
    assert (found - levels).abs().max() < 0.501
    assert levels.std() > 20  # not all grey
    assert torch.equal(found, evaluation.generated(model, 600, seeded(4)))
    assert not found.requires_grad


def test_a_gans_samples_are_measured_as_any_generators(shelf):
    model, protocol = pretrained.load("gan-small", folder=shelf), evaluation.PROTOCOLS["made-up"]
    found = evaluation.measure_gan(model, protocol, ema=0.95)
    expected = evaluation.measure_samples(lambda n, g: evaluation.generated(model, n, g), protocol)
    assert list(found) == [*MEASURES, "images_per_second"] and list(expected) == MEASURES
    for name in MEASURES:
        assert found[name]["values"] == pytest.approx(expected[name]["values"], rel=1e-4, abs=1e-6), name
        assert found[name]["floor"] == expected[name]["floor"]
        assert "averaged over the training (decay 0.95)" in found[name]["detail"]
        assert "z from N(0, I)" in found[name]["detail"]
    assert found["fd_small"]["std"] > 0  # another draw for each seed
    rate = found["images_per_second"]
    assert rate["value"] > 0 and rate["n"] == 60 and len(rate["values"]) == 3 and "CPU time" in rate["detail"]


def test_a_model_in_training_mode_is_measured_in_evaluation_mode(shelf):
    """Else BatchNorm would make an image of a batch hang on the others, and what is measured on the batch's size."""
    model, protocol = pretrained.load("gan-small", folder=shelf), evaluation.PROTOCOLS["made-up"]
    expected = evaluation.measure_gan(model, protocol)
    assert "of the last step" in expected["fd_small"]["detail"]
    again = evaluation.measure_gan(model.train(), protocol)
    assert again["fd_small"]["values"] == expected["fd_small"]["values"] and not model.training


def test_evaluate_names_family_protocol_and_the_average(shelf, family):
    result, complete = evaluation.evaluate("gan-small", folder=shelf)
    assert complete and result["family"] == family and result["requires"] == {}
    assert result["protocol"]["features"] == "judge" and result["data"] == "made-up, 60 test images"
    assert list(result["metrics"]) == [*MEASURES, "images_per_second"]
    assert "decay 0.95" in result["metrics"]["recall"]["detail"]
    part, complete = evaluation.evaluate("gan-small", folder=shelf, limit=20)
    assert not complete and part["metrics"]["precision"]["n"] == 20
    with pytest.raises(recipes.RecipeError, match="--limit is 9; samples are measured from 10"):
        evaluation.evaluate("gan-small", folder=shelf, limit=9)


def call(capsys, *arguments):
    code = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_evaluates_a_gan(capsys, shelf):
    places = ["--weights", shelf, "--results", shelf / "results"]
    code, out, err = call(capsys, "evaluate", "gan-small", "--json", "--quiet", *places)
    assert code == 0, err
    result = json.loads(out)
    assert result["name"] == "gan-small" and set(MEASURES) < set(result["metrics"])


def test_the_command_samples_a_gan(capsys, shelf):
    def drawn(name, seed):
        arguments = ["sample", "gan-small", "--weights", shelf, "-n", 30, "--seed", seed, "-o", shelf / name]
        code, out, err = call(capsys, *arguments)
        assert code == 0 and "30 images of shape (1, 8, 8)" in out, err
        with np.load(shelf / name) as file:
            return file["images"]

    first, again, other = drawn("a.npz", 0), drawn("b.npz", 0), drawn("c.npz", 1)
    assert (first == again).all() and (first != other).any()
    model = pretrained.load("gan-small", folder=shelf)
    assert (torch.from_numpy(first) == evaluation.generated(model, 30, seeded(0))).all()


def test_a_stylegan_is_sampled_nearer_to_the_mean_of_w_and_no_other_model_is(capsys, shelf, family):
    arguments = ["sample", "gan-small", "--weights", shelf, "-n", 30, "-o", shelf / "a.npz", "--truncation"]
    code, _, err = call(capsys, *arguments, 0.5)
    if family == "gan":
        assert code == 2 and "gan-small has no w: --truncation is a StyleGAN's" in err
        return
    assert code == 0, err
    with np.load(shelf / "a.npz") as file:
        drawn = torch.from_numpy(file["images"])
    model = pretrained.load("gan-small", folder=shelf)
    assert torch.equal(drawn, evaluation.generated(model, 30, seeded(0), truncation=0.5))
    whole = evaluation.generated(model, 30, seeded(0))
    assert drawn.float().var(0).sum() < whole.float().var(0).sum()
    for value in ("-0.1", "nan", "inf"):
        code, _, err = call(capsys, *arguments, value)
        assert code == 2 and f"--truncation is {value}; expected a number from 0 on" in err


@pytest.mark.parametrize("option", [["--label", 1], ["--temperature", 0.5], ["--top-p", 0.5]])
def test_a_gan_has_no_labels_and_no_temperature(capsys, shelf, option):
    code, _, err = call(capsys, "sample", "gan-small", "--weights", shelf, "-o", shelf / "x.npz", *option)
    assert code == 2 and err.startswith(
        "imagegen: gan-small has no codes: --label, --temperature and --top-p"
    )
    assert not (shelf / "x.npz").exists()


def exported(capsys, shelf, inputs, *option):
    """Return what ONNX Runtime computes of these inputs from a file that the command wrote."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path = shelf / "part.onnx"
    code, out, err = call(capsys, "export", "gan-small", "--weights", shelf, "-o", path, *option)
    assert code == 0 and "gan-small: " in out, err
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(found)


@torch.no_grad()
def test_the_command_exports_a_generator(capsys, shelf, family):
    generator, z = pretrained.load("gan-small", folder=shelf).eval().generator, torch.randn(5, 3)
    if family == "gan":
        expected = (generator(z) + 1) / 2
        assert (exported(capsys, shelf, {"z": z}) - expected).abs().max() < 1e-5
    else:
        w = exported(capsys, shelf, {"z": z}, "--part", "mapping")
        assert (w - generator.mapping(z)).abs().max() < 1e-5
        ws = w[:, None].repeat(1, generator.config.layers, 1)
        expected = (generator.synthesis(ws, noise="fixed") + 1).clamp(0, 2) / 2
        assert expected.std() > 0.1  # there is something to compare
        assert (exported(capsys, shelf, {"ws": ws}) - expected).abs().max() < 1e-5
    have = {"gan": "decoder", "stylegan": "synthesis, mapping"}[family]
    arguments = ["export", "gan-small", "--weights", shelf, "-o", shelf / "x", "--part", "encoder"]
    code, _, err = call(capsys, *arguments)
    assert code == 2 and f"gan-small has no encoder; it has {have}" in err
