"""The weights this package ships: load them, save them, and verify them against their model cards."""

import dataclasses
import datetime
import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors
from torch import nn

from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.decoder import AttributeDecoder, AttributeDecoderConfig
from imagegen.gan import GAN, GANConfig
from imagegen.hierarchy import HierarchicalVQVAE, HierarchyConfig
from imagegen.pair import Pair, PairConfig
from imagegen.prior import Prior, PriorConfig
from imagegen.restore import Restorer, RestorerConfig
from imagegen.stylegan import StyleGAN, StyleGANConfig
from imagegen.training import write_atomic
from imagegen.vae import VAE, Autoencoder, VAEConfig
from imagegen.vq import VQVAE, VQVAEConfig

FOLDER = Path(__file__).parent / "pretrained"
LICENCE = "Apache-2.0"
FAMILIES: dict[str, tuple[type, type[nn.Module]]] = {
    "vae": (VAEConfig, VAE),
    "autoencoder": (VAEConfig, Autoencoder),
    "classifier": (ClassifierConfig, Classifier),
    "decoder": (AttributeDecoderConfig, AttributeDecoder),
    "vqvae": (VQVAEConfig, VQVAE),
    "prior": (PriorConfig, Prior),
    "hierarchy": (HierarchyConfig, HierarchicalVQVAE),
    "gan": (GANConfig, GAN),
    "stylegan": (StyleGANConfig, StyleGAN),
    "restorer": (RestorerConfig, Restorer),
    "pair": (PairConfig, Pair),
}


class PretrainedError(RuntimeError):
    """Weights or their card are missing, altered or unreadable; the message names the file."""


def names(*, folder: Path | str = FOLDER) -> list[str]:
    """Return the names of the models that are there, sorted."""
    return sorted(path.stem for path in Path(folder).glob("*.json"))


def card(name: str, *, folder: Path | str = FOLDER) -> dict[str, Any]:
    """Return the model card: recipe, config, seed, commit, device, metrics, sha256 and more.

    Raises: PretrainedError: there is no such card (the message lists those there are), or it is not JSON.
    """
    path = Path(folder) / f"{name}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        have = ", ".join(names(folder=folder)) or "none"
        raise PretrainedError(f"no model {name!r}: {path} is missing; models there: {have}") from None
    except (OSError, ValueError) as error:
        raise PretrainedError(f"{path} is not a model card: {error}") from error
    if not isinstance(content, dict) or "sha256" not in content:
        raise PretrainedError(f"{path} is not a model card: it holds no sha256")
    return content


def load(name: str, *, folder: Path | str = FOLDER) -> nn.Module:
    """Return the model in evaluation mode, in float32, on the CPU, its weights verified against the card.

    Raises: PretrainedError: a file is missing, or the SHA-256 of the weights is not the card's.
    """
    described = card(name, folder=folder)
    path = Path(folder) / f"{name}.safetensors"
    content = _verified(path, described["sha256"])
    family, fields = described.get("family"), described.get("config")
    if family not in FAMILIES:
        raise PretrainedError(f"the card of {path} names the family {family!r}; known: {', '.join(FAMILIES)}")
    config_class, model_class = FAMILIES[family]
    try:
        model = model_class(_config(config_class, fields))
        model.load_state_dict(tensors_from_bytes(content))  # fp16 at rest, copied into float32
    except (TypeError, ValueError, RuntimeError) as error:
        raise PretrainedError(f"{path} does not fit the model that its card describes: {error}") from error
    return model.eval()


def verify(name: str, *, folder: Path | str = FOLDER) -> None:
    """Raise PretrainedError, naming the file, unless card and weights are there and belong together."""
    _verified(Path(folder) / f"{name}.safetensors", card(name, folder=folder)["sha256"])


def save(model: nn.Module, described: dict[str, Any], *, folder: Path | str = FOLDER) -> dict[str, Any]:
    """Write NAME.safetensors (fp16) and NAME.json, each whole or not at all, and return the finished card.

    Args: described: the card, with at least `name`; family, config, sha256, licence and the number of
        parameters are filled in from the model.
    Raises: PretrainedError: the model is of no known family, or a weight is too large for fp16 or not finite.
    """
    family = next((key for key, (_, kind) in FAMILIES.items() if type(model) is kind), None)
    if family is None:
        raise PretrainedError(f"a {type(model).__name__} is of no known family: {', '.join(FAMILIES)}")
    tensors = {key: _half(key, value) for key, value in model.state_dict().items()}
    content = bytes_from_tensors(tensors)
    finished = described | {
        "family": family,
        "config": dataclasses.asdict(model.config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "licence": LICENCE,
    }
    finished = json.loads(json.dumps(finished))  # as it will be read: tuples are lists
    path = Path(folder) / f"{finished['name']}.safetensors"
    if path.with_suffix(".json").exists():
        old = card(finished["name"], folder=folder)
        if old["sha256"] == finished["sha256"]:  # the same weights: what was measured on them still holds
            finished["metrics"] = old.get("metrics", {})
    write_atomic(path, content)
    write_card(finished, folder=folder)
    return finished


def write_card(described: dict[str, Any], *, folder: Path | str = FOLDER) -> None:
    """Write NAME.json whole or not at all."""
    text = json.dumps(described, indent=1, sort_keys=False) + "\n"
    write_atomic(Path(folder) / f"{described['name']}.json", text.encode())


def provenance(device: torch.device | str) -> dict[str, Any]:
    """Return what a result must say of its origin: commit, dirty, device, torch, date.

    commit is None outside a git repository of this package, dirty then too; the weights and results that a
    training or an evaluation writes itself do not make it dirty.
    """
    device = torch.device(device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", ".", ":!src/imagegen/pretrained", ":!book/results")
    return {
        "commit": commit or None,
        "dirty": None if not commit or changes is None else bool(changes),
        "device": machine,
        "torch": str(torch.__version__),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _verified(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PretrainedError(f"cannot read {path}: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise PretrainedError(
            f"{path} is altered or does not belong to its card: SHA-256 is {found}, expected {sha256}; "
            "restore the file, or train the weights again"
        )
    return content


def _half(key: str, value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    if not value.is_floating_point():
        return value
    half = value.half()
    if not half.isfinite().all():
        raise PretrainedError(f"{key} holds a value that fp16 cannot (largest: {value.abs().max():g})")
    return half


def _config(kind: type, fields: dict[str, Any]) -> Any:
    """Build a frozen config from JSON, where tuples have become lists."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
