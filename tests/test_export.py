"""ONNX export: what is written computes what PyTorch computes, and a file that does not is never written."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from imagegen import export
from imagegen.decoder import AttributeDecoder, AttributeDecoderConfig
from imagegen.gan import GAN, GANConfig
from imagegen.prior import Prior, PriorConfig
from imagegen.vae import VAE, VAEConfig
from imagegen.vq import VQVAE, VQVAEConfig

SMALL = {
    "conv": VAEConfig(latent_dim=3, width=4, blocks=1, hidden=16),
    "mlp": VAEConfig(latent_dim=3, network="mlp", hidden=16),
}


def make(network: str = "conv", scale: float = 2.0) -> VAE:
    """A seeded VAE with larger weights than a fresh one's, so that its outputs vary with the input."""
    torch.manual_seed(0)
    model = VAE(SMALL[network])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model.eval()


def export_decoder(model: VAE, path, **options) -> float:
    inputs = {"z": torch.zeros(2, model.config.latent_dim)}
    return export.export_onnx(export.PixelDecoder(model), inputs, path, output_names=["pixels"], **options)


def run(path, **inputs: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})


@pytest.mark.parametrize("network", SMALL)
@pytest.mark.parametrize("batch", [1, 7])
def test_the_file_computes_what_the_model_computes(network, batch, tmp_path):
    model = make(network)
    reported = export_decoder(model, tmp_path / "d.onnx")
    inputs = {"x": torch.zeros(1, 1, 28, 28)}  # one example is enough: the batch stays free
    export.export_onnx(export.Encoder(model), inputs, tmp_path / "e.onnx", output_names=["mean", "log_var"])
    z, x = torch.randn(batch, 3), torch.rand(batch, 1, 28, 28) * 2 - 1
    with torch.inference_mode():
        pixels, (mean, log_var) = torch.sigmoid(model.decode(z)), model.encode(x)
    assert reported <= export.TOLERANCE
    np.testing.assert_allclose(run(tmp_path / "d.onnx", z=z)[0], pixels, atol=1e-5)
    found = run(tmp_path / "e.onnx", x=x)
    np.testing.assert_allclose(found[0], mean, atol=1e-4)
    np.testing.assert_allclose(found[1], log_var, atol=1e-4)
    if batch > 1:
        assert pixels.std(0).max() > 0.01  # the outputs do depend on the input


def test_an_attribute_decoder_is_exported_as_the_pixels_it_draws(tmp_path):
    """Also where an attribute, or each of them, is withheld: a block of zeros."""
    torch.manual_seed(0)
    model = AttributeDecoder(AttributeDecoderConfig((3, 16, 16), (3, 4), widths=(4, 4), hidden=16)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    labels = torch.tensor([[0, 3], [2, 1], [-1, 1], [2, -1], [-1, -1]])
    conditions, path = model.conditions(labels), tmp_path / "a.onnx"
    module = export.AttributePixels(model)
    export.export_onnx(module, {"conditions": conditions[:1]}, path, output_names=["pixels"])
    with torch.inference_mode():
        expected = torch.sigmoid(model(conditions))
    np.testing.assert_allclose(run(path, conditions=conditions)[0], expected, atol=1e-5)
    assert torch.pdist(expected.flatten(1), p=float("inf")).min() > 0.01  # each input gives another picture


@pytest.mark.parametrize("network", ["dcgan", "residual", "mlp"])
def test_a_generator_is_exported_as_the_pixels_it_draws(network, tmp_path):
    """With the running statistics of its batches, in [0, 1]."""
    torch.manual_seed(0)
    gan = GAN(GANConfig(network, (3, 12, 12), latent_dim=5, width=8, critic_width=4))
    with torch.no_grad():
        for weight in gan.generator.parameters():
            if weight.dim() > 1:
                weight.mul_(4)
        for _ in range(30):
            gan.sample(32)  # in training mode: moves the running statistics
    gan.eval()
    path, z = tmp_path / "g.onnx", torch.randn(7, 5)
    module = export.GeneratorPixels(gan.generator)
    reported = export.export_onnx(module, {"z": z[:1]}, path, output_names=["pixels"])
    assert reported <= export.TOLERANCE
    with torch.inference_mode():
        x = gan.generator(z)
    expected = (x + 1) / 2
    (found,) = run(path, z=z)
    assert found.shape == (7, 3, 12, 12) and expected.min() >= 0 and expected.max() <= 1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert torch.pdist(expected.flatten(1), p=float("inf")).min() > 0.01  # each z gives another picture


def test_what_leaves_the_range_is_cut(tmp_path):
    """A generator without a tanh: a screen shows nothing darker than black."""
    path, z = tmp_path / "g.onnx", torch.tensor([[-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]])
    export.export_onnx(export.GeneratorPixels(torch.nn.Identity()), {"z": z}, path, output_names=["pixels"])
    assert run(path, z=z)[0].tolist() == [[0, 0, 0.25, 0.5, 0.75, 1, 1]]


def make_codes() -> VQVAE:
    """A seeded VQ-VAE with 11 codes on a grid of 2 by 3, each of which draws something else."""
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig((3, 8, 12), codes=11, code_dim=4, widths=(8, 8), blocks=1, hidden=8)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def make_prior(attributes: tuple[int, ...] = (3, 4), network: str = "transformer") -> Prior:
    torch.manual_seed(0)
    model = Prior(PriorConfig(network, 11, (2, 3), attributes, width=16, depth=2, heads=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model


def test_a_decoder_of_codes_is_exported_as_the_pixels_it_draws(tmp_path):
    """Every code; and numbers that are no codes are the nearest ones, so that random inputs can be compared."""
    model, path = make_codes(), tmp_path / "c.onnx"
    module = export.CodePixels(model)
    assert module.examples()["codes"].unique().tolist() == list(range(11))
    reported = export.export_onnx(module, module.examples(), path, output_names=["pixels"])
    assert reported <= export.TOLERANCE
    indices = torch.stack([torch.full((2, 3), k) for k in range(11)] + [torch.arange(6).reshape(2, 3)])
    with torch.inference_mode():
        expected = torch.sigmoid(model.decode(indices))
    (found,) = run(path, codes=indices.flatten(1).float())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert torch.pdist(expected.flatten(1), p=float("inf")).min() > 0.01
    (near,) = run(path, codes=torch.tensor([[-3.0, 0.4, 1.6, 10.4, 99.0, 5.0]]))
    (exact,) = run(path, codes=torch.tensor([[0.0, 0.0, 2.0, 10.0, 10.0, 5.0]]))
    assert np.array_equal(near, exact)


def test_an_encoder_to_codes_is_exported(tmp_path):
    model, path = make_codes(), tmp_path / "e.onnx"
    x = torch.rand(40, 3, 8, 12) * 2 - 1
    module = export.ImageCodes(model)
    export.export_onnx(module, {"x": x[:2]}, path, output_names=["codes"])
    expected = model.encode(x).flatten(1)
    assert len(expected.unique()) > 2
    assert np.array_equal(run(path, x=x)[0], expected.float().numpy())


@pytest.mark.parametrize("network", ["transformer", "pixelcnn"])
@pytest.mark.parametrize("attributes", [(3, 4), ()])
def test_a_prior_is_exported_as_the_logits_of_every_place(network, attributes, tmp_path):
    model, path = make_prior(attributes, network), tmp_path / "p.onnx"
    module = export.PriorLogits(model)
    examples = module.examples()
    assert examples["codes"].unique().tolist() == list(range(11))
    assert list(examples) == (["codes", "labels"] if attributes else ["codes"])
    if attributes:
        assert examples["labels"][0].tolist() == [-1, -1] and examples["labels"][-1].tolist() == [2, 3]
    export.export_onnx(module, examples, path, output_names=["logits"])
    indices = torch.randint(0, 11, (7, 2, 3), generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[0, 0], [2, 3], [-1, 1], [1, -1], [-1, -1], [0, 2], [2, 0]])
    given = {"labels": labels} if attributes else {}
    with torch.inference_mode():
        expected = model(indices, **given)
    codes = indices.flatten(1).float()
    (found,) = run(path, codes=codes, **{name: value.float() for name, value in given.items()})
    assert found.shape == (7, 6, 11)
    np.testing.assert_allclose(found, expected.flatten(2).mT, atol=1e-4)
    (again,) = run(path, codes=codes[:1], **{name: value[:1].float() for name, value in given.items()})
    np.testing.assert_allclose(again, found[:1], atol=1e-5)
    if attributes:  # a label that there is not is the nearest one
        (far,) = run(path, codes=codes[:1], labels=torch.tensor([[-5.0, 9.0]]))
        (near,) = run(path, codes=codes[:1], labels=torch.tensor([[-1.0, 3.0]]))
        assert np.array_equal(far, near) and np.abs(far - found[:1]).max() > 0.01


def test_parity_sees_perturbed_weights(tmp_path):
    model = make()
    module = export.PixelDecoder(model)
    export_decoder(model, tmp_path / "d.onnx")
    assert export.parity(module, tmp_path / "d.onnx", {"z": (3,)}) <= export.TOLERANCE
    with torch.no_grad():
        next(model.decoder.parameters()).mul_(1.02)
    assert export.parity(module, tmp_path / "d.onnx", {"z": (3,)}) > export.TOLERANCE


class Fickle(torch.nn.Module):
    """Computes something else when it is exported than when it runs."""

    def __init__(self, wrong: float) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + self.wrong if torch.compiler.is_compiling() else z


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_file_that_differs_is_refused_with_the_figure(wrong, tmp_path):
    path = tmp_path / "f.onnx"
    path.write_bytes(b"what was there before")
    with pytest.raises(export.ExportError, match=f"f.onnx differs from PyTorch by {wrong:g}"):
        export.export_onnx(Fickle(wrong), {"z": torch.zeros(2, 3)}, path, output_names=["y"])
    assert path.read_bytes() == b"what was there before"  # and nothing else is left behind
    assert [p.name for p in tmp_path.iterdir()] == ["f.onnx"]


class FicklePlace(torch.nn.Module):
    """Computes something else when it is exported, at whole numbers alone."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + (z == 3.0) * 0.01 if torch.compiler.is_compiling() else z + 0.0


def test_the_examples_are_compared_too(tmp_path):
    """Random inputs do not meet every case; those that the caller names are met."""
    path, options = tmp_path / "f.onnx", {"output_names": ["y"]}
    assert export.export_onnx(FicklePlace(), {"z": torch.zeros(2, 3)}, path, **options) == 0
    path.unlink()
    with pytest.raises(export.ExportError, match="differs from PyTorch by 0.01"):
        export.export_onnx(FicklePlace(), {"z": torch.full((2, 3), 3.0)}, path, **options)
    assert not path.exists()


def test_a_failure_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(export.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export_decoder(make("mlp"), tmp_path / "d.onnx")
    assert list(tmp_path.iterdir()) == []


def test_half_is_the_rounded_module_in_half_the_size(tmp_path):
    model = make()
    export_decoder(model, tmp_path / "full.onnx")
    assert export_decoder(model, tmp_path / "half.onnx", half=True) <= export.TOLERANCE
    rounded = make().half().float()  # what `pretrained` ships and loads
    z = torch.randn(5, 3)
    with torch.inference_mode():
        expected = torch.sigmoid(rounded.decode(z))
    np.testing.assert_allclose(run(tmp_path / "half.onnx", z=z)[0], expected, atol=1e-5)
    export_decoder(
        rounded, tmp_path / "shipped.onnx"
    )  # nothing is lost, so it is stored in half without being asked
    weights = {name: _bytes_of_weights(tmp_path / f"{name}.onnx") for name in ("full", "half", "shipped")}
    assert weights["half"] == weights["shipped"] < 0.6 * weights["full"]


def _bytes_of_weights(path) -> int:
    return sum(onnx.numpy_helper.to_array(w).nbytes for w in onnx.load(path).graph.initializer)


def test_a_weight_beyond_fp16_is_named(tmp_path):
    model = make("mlp")
    with torch.no_grad():
        model.decoder[0].bias[0] = 1e6
    with pytest.raises(export.ExportError, match=r"model.decoder.0.bias does not fit fp16.*1e\+06"):
        export_decoder(model, tmp_path / "d.onnx", half=True)


def test_an_export_is_made_once_for_each_content(tmp_path, monkeypatch):
    made = []
    convert = export._convert
    monkeypatch.setattr(export, "_convert", lambda *a: made.append(1) or convert(*a))
    model = make("mlp")
    for name in ("first", "second"):
        export_decoder(model, tmp_path / f"{name}.onnx", cache=tmp_path / "kept")
    assert len(made) == 1
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    with torch.no_grad():
        model.decoder[0].weight[0, 0] += 0.5
    export_decoder(model, tmp_path / "third.onnx", cache=tmp_path / "kept")
    assert len(made) == 2
    for kept in (tmp_path / "kept").iterdir():  # a damaged copy is not believed
        kept.write_bytes((tmp_path / "first.onnx").read_bytes())
    with pytest.raises(export.ExportError, match="differs"):
        export_decoder(model, tmp_path / "fourth.onnx", cache=tmp_path / "kept")


def test_the_module_is_left_as_it_was(tmp_path):
    model = make("mlp").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_decoder(model, tmp_path / "d.onnx", half=True)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_export_is_quiet_and_names_no_folder(tmp_path, capfd):
    export_decoder(make("mlp"), tmp_path / "d.onnx")
    assert capfd.readouterr() == ("", "")
    content = (tmp_path / "d.onnx").read_bytes()
    assert b"site-packages" not in content and b".py" not in content


def test_an_empty_request_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got \['z'\] and \[\]"):
        export.export_onnx(make("mlp"), {"z": torch.zeros(2, 3)}, tmp_path / "d.onnx", output_names=[])
