"""Weights at rest: what comes back is what was saved, and an altered byte is refused by name."""

import json
import os

import pytest
import torch

from imagegen import pretrained
from imagegen.pretrained import PretrainedError
from imagegen.training import CheckpointError
from imagegen.vae import VAE, VAEConfig

CONFIG = VAEConfig(image_shape=(1, 8, 8), latent_dim=2, network="mlp", hidden=16)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    pretrained.save(VAE(CONFIG), {"name": "small", "metrics": {}}, folder=tmp_path)
    return tmp_path


def test_load_returns_the_saved_weights_rounded_to_fp16(folder):
    torch.manual_seed(0)
    original = VAE(CONFIG).state_dict()
    model = pretrained.load("small", folder=folder)
    assert type(model) is VAE and model.config == CONFIG and not model.training
    for key, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, original[key].half().float()), key


def test_a_second_save_of_what_was_loaded_changes_no_byte(folder):
    before = (folder / "small.safetensors").read_bytes()
    card = pretrained.save(pretrained.load("small", folder=folder), {"name": "small"}, folder=folder)
    assert (folder / "small.safetensors").read_bytes() == before
    assert card == pretrained.card("small", folder=folder)


def test_the_card_describes_the_model(folder):
    card = pretrained.card("small", folder=folder)
    assert card["family"] == "vae" and card["config"]["latent_dim"] == 2
    assert card["parameters"] == sum(p.numel() for p in VAE(CONFIG).parameters())
    assert card["licence"] and len(card["sha256"]) == 64
    assert pretrained.names(folder=folder) == ["small"]


@pytest.mark.parametrize("place", [0, 9, 500, -1])
def test_an_altered_byte_is_refused_naming_file_expected_and_found(folder, place):
    path = folder / "small.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    expected = pretrained.card("small", folder=folder)["sha256"]
    for look in (pretrained.load, pretrained.verify):
        with pytest.raises(PretrainedError) as caught:
            look("small", folder=folder)
        assert str(path) in str(caught.value) and expected in str(caught.value)
        assert str(caught.value).count("SHA-256 is ") == 1


def test_truncated_and_missing_weights_are_refused(folder):
    path = folder / "small.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PretrainedError, match=r"small\.safetensors is altered"):
        pretrained.load("small", folder=folder)
    path.unlink()
    with pytest.raises(PretrainedError, match=r"cannot read .*small\.safetensors"):
        pretrained.load("small", folder=folder)


def test_a_missing_model_lists_those_there_are(folder):
    with pytest.raises(PretrainedError, match="no model 'large'.*models there: small"):
        pretrained.load("large", folder=folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("family", "flow", "family 'flow'"),
        ("config", {"latent_dim": 3}, "does not fit"),
        ("config", {"x": 1}, "does not fit"),
    ],
)
def test_a_card_that_does_not_fit_its_weights_is_refused(folder, field, value, message):
    path = folder / "small.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {field: value}))
    with pytest.raises(PretrainedError, match=message):
        pretrained.load("small", folder=folder)


def test_a_broken_card_is_named(folder):
    (folder / "small.json").write_text("{")
    with pytest.raises(PretrainedError, match=r"small\.json is not a model card"):
        pretrained.load("small", folder=folder)


def test_a_weight_that_fp16_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    model = VAE(CONFIG)
    with torch.no_grad():
        next(model.parameters())[0] = 1e6
    with pytest.raises(PretrainedError, match="fp16"):
        pretrained.save(model, {"name": "small"}, folder=tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_failed_save_leaves_weights_and_card_together(folder, monkeypatch):
    def full(path, content):
        raise CheckpointError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(pretrained, "write_atomic", full)
    with pytest.raises(CheckpointError):
        pretrained.save(VAE(CONFIG), {"name": "small"}, folder=folder)
    pretrained.verify("small", folder=folder)


def test_metrics_stay_with_the_same_weights_and_go_with_new_ones(folder):
    measured = pretrained.card("small", folder=folder) | {"metrics": {"nll": {"value": 1.0}}}
    pretrained.write_card(measured, folder=folder)
    same = pretrained.save(
        pretrained.load("small", folder=folder), {"name": "small", "metrics": {}}, folder=folder
    )
    assert same["metrics"] == {"nll": {"value": 1.0}}
    torch.manual_seed(1)
    assert pretrained.save(VAE(CONFIG), {"name": "small", "metrics": {}}, folder=folder)["metrics"] == {}


@pytest.mark.parametrize("name", pretrained.names())
def test_every_shipped_model_loads_and_says_where_it_comes_from(name):
    model, card = pretrained.load(name), pretrained.card(name)
    assert all(p.isfinite().all() for p in model.parameters())
    for field in (
        "recipe",
        "config",
        "seed",
        "commit",
        "device",
        "torch",
        "seconds",
        "images_seen",
        "licence",
    ):
        assert card[field] is not None, field


def test_the_shipped_weights_stay_small():
    total = sum(path.stat().st_size for path in pretrained.FOLDER.glob("*"))
    assert total < 32 * 2**20  # MiB, so that the whole repository stays under 40
