"""One protocol of measurement: what is measured of every family of models, and the record that is kept of it.

The names of the parts are importable from here: `reconstruction` measures models with a latent code on given images,
`codes` a VQ-VAE and a prior over its codes, `levels` a hierarchy and the priors of its levels, `code_length` how many
bits store an image, `attributes` classifiers and attribute decoders, `directions` what steers a generator, `samples`
any generator against the real images of its data set, `adversarial` a GAN, `restorers` what a restorer makes of
degraded images. Of a pair its generator and its restorer are measured, each as others of its kind.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import torch

from imagegen import pretrained
from imagegen.classifier import Classifier
from imagegen.decoder import AttributeDecoder
from imagegen.evaluation.adversarial import generated, measure_gan
from imagegen.evaluation.attributes import measure_classifier, measure_decoder
from imagegen.evaluation.code_length import measure_code_length, shown_by
from imagegen.evaluation.codes import measure_prior, measure_vqvae
from imagegen.evaluation.directions import Direction, attribute_directions, drawn_at, points_in
from imagegen.evaluation.entries import Entry, over_images, over_seeds
from imagegen.evaluation.levels import measure_hierarchy, measure_kept, measure_level_prior
from imagegen.evaluation.reconstruction import measure_autoencoder, measure_vae
from imagegen.evaluation.restorers import DEGRADATIONS, measure_restoration, measure_restorer, restored
from imagegen.evaluation.samples import (
    LEAST,
    PROTOCOLS,
    Protocol,
    Reference,
    Ruler,
    drawers,
    floor,
    measure_generator,
    measure_levels,
    measure_samples,
    reference,
    sampled_codes,
)
from imagegen.gan import GAN
from imagegen.hierarchy import HierarchicalVQVAE
from imagegen.pair import Pair
from imagegen.prior import Prior
from imagegen.recipes import DATA, RecipeError
from imagegen.restore import Restorer
from imagegen.stylegan import StyleGAN
from imagegen.vae import VAE, Autoencoder
from imagegen.vq import VQVAE

__all__ = [
    "DEGRADATIONS", "PROTOCOLS", "Direction", "Entry", "Protocol", "Reference", "Ruler", "attribute_directions",
    "drawers", "drawn_at", "evaluate", "floor", "generated", "measure_autoencoder", "measure_classifier",
    "measure_code_length", "measure_decoder", "measure_gan", "measure_generator", "measure_hierarchy", "measure_kept",
    "measure_level_prior", "measure_levels", "measure_prior", "measure_restoration", "measure_restorer",
    "measure_samples", "measure_vae", "measure_vqvae", "over_images", "over_seeds", "points_in", "reference",
    "restored", "sampled_codes", "shown_by", "tokeniser_of",
]  # fmt: skip


def tokeniser_of(name: str, *, folder: Path | str = pretrained.FOLDER) -> VQVAE | HierarchicalVQVAE:
    """Return the model whose codes the prior called `name` was trained on, from `folder` or else from the package.

    Raises: PretrainedError: it is missing, or its weights are not those that the prior's card names.
    """
    requires = pretrained.card(name, folder=folder).get("requires", {})
    if len(requires) != 1:
        raise pretrained.PretrainedError(
            f"the card of {name} names {len(requires)} models whose codes it draws, not 1"
        )
    ((tokeniser, sha256),) = requires.items()
    home = folder if tokeniser in pretrained.names(folder=folder) else pretrained.FOLDER
    if pretrained.card(tokeniser, folder=home)["sha256"] != sha256:
        raise pretrained.PretrainedError(f"{name} was trained on the codes of other weights of {tokeniser}")
    return pretrained.load(tokeniser, folder=home)


def _of_prior(name: str, prior: Prior, folder: Path | str, test: Any, train: Any, protocol: Protocol | None,
              progress: bool, where: dict[str, Any]) -> tuple[dict[str, Entry], dict[str, str]]:  # fmt: skip
    """Return the figures of a prior, and the SHA-256 of the weights, beside its own, that they hang on.

    Raises: PretrainedError: the prior of the bottom level, and that of the top stands on another tokeniser.
    """
    tokeniser = tokeniser_of(name, folder=folder)
    requires = dict(pretrained.card(name, folder=folder)["requires"])
    images, labels = test
    options = {"progress": progress} | where
    if isinstance(tokeniser, VQVAE):
        measured = measure_prior(prior, tokeniser, images, labels, **where)
        described, what = shown_by(tokeniser, prior, **where), "the codes under the prior"
        measured |= measure_code_length(described, train.images, images, what=what)
        return measured | (
            measure_generator(tokeniser, protocol, prior=prior, **options) if protocol else {}
        ), requires
    if not prior.config.context_codes:
        return measure_level_prior(prior, tokeniser, images, labels, **where), requires
    above = name.removesuffix("-bottom") + "-top"
    card = pretrained.card(above, folder=folder)
    if (found := card.get("requires", {})) != requires:  # before the measuring, which takes long
        raise pretrained.PretrainedError(
            f"{above} was trained on the codes of {found}, {name} on those of {requires}"
        )
    requires[above] = card["sha256"]
    priors = pretrained.load(above, folder=folder), prior
    measured = measure_level_prior(prior, tokeniser, images, labels, **where)
    described, what = shown_by(tokeniser, *priors, **where), "the codes of both levels under their priors"
    measured |= measure_code_length(described, train.images, images, what=what)
    if protocol:
        measured |= measure_levels(tokeniser, protocol, priors=priors, **options)
        judge, names = pretrained.load(protocol.network, folder=protocol.folder), tuple(train.attributes)
        measured |= measure_kept(tokeniser, priors, judge, images, labels, names, **where)
    return measured, requires


def evaluate(name: str, *, folder: Path | str = pretrained.FOLDER, limit: int | None = None,
             n_samples: int = 100, seed: int = 0, progress: bool = False,
             device: torch.device | str = "cpu") -> tuple[dict[str, Any], bool]:  # fmt: skip
    """Return all that is measured of the model called `name`, as book/results holds it, and whether it is complete.

    Args: limit: only the first so many test images, and as many samples. n_samples, seed: of the draws of z for a
        VAE's likelihood; the samples' seeds are the protocol's.
    Returns: the result, and True where all test images and at least 100 draws of seed 0 were used.
    Raises: PretrainedError: no such model, or its weights or the feature network's changed meanwhile.
        RecipeError: the limit is too small for samples to be measured.
    """
    card = pretrained.card(name, folder=folder)
    model = pretrained.load(name, folder=folder)
    source = card.get("recipe", {}).get("data", "fashion-mnist")
    if source not in DATA:
        known = ", ".join(DATA)
        raise pretrained.PretrainedError(f"the card of {name} names the data {source!r}; known: {known}")
    protocol = PROTOCOLS.get(source)
    decoder = isinstance(model, AttributeDecoder)  # it is not sampled: its attributes are given
    half = (
        isinstance(model, Prior) and card.get("recipe", {}).get("objective", {}).get("level") == "top"
    )  # nor is half a model
    other = isinstance(model, Classifier) and (protocol is None or protocol.network != name)
    if protocol is not None and (decoder or half or other):
        protocol = None
    if protocol is not None and isinstance(model, Classifier):  # measured by itself, not by the shipped one
        protocol = dataclasses.replace(protocol, folder=folder)
    if protocol is not None and limit is not None:
        if limit < LEAST:
            raise RecipeError(f"--limit is {limit}; samples are measured from {LEAST} images on")
        protocol = dataclasses.replace(protocol, n=min(limit, protocol.n))
    test = DATA[source]("test")
    images, labels = test.images[:limit], test.labels[:limit]
    began, used = time.perf_counter(), protocol and protocol.described()
    where, requires = {"device": device}, {}
    if isinstance(model, Classifier):
        names = tuple(getattr(test, "attributes", ()))
        measured = measure_classifier(model, images, labels, names=names, **where)
        measured |= floor(protocol, device) if protocol else {}
    elif decoder:
        train = DATA[source]("train")
        measured = measure_decoder(model, (images, labels), (train.images, train.labels), **where)
    elif isinstance(model, Prior):
        train = DATA[source]("train")
        measured, requires = _of_prior(
            name, model, folder, (images, labels), train, protocol, progress, where
        )
    elif isinstance(model, GAN | StyleGAN):
        ema = card.get("recipe", {}).get("ema")
        measured = measure_gan(model, protocol, ema=ema, progress=progress, **where) if protocol else {}
    elif isinstance(model, Restorer):
        measured = measure_restorer(model, images, protocol=protocol, progress=progress, **where)
    elif isinstance(model, Pair):
        ema = card.get("recipe", {}).get("ema")
        measured = measure_gan(model.gan, protocol, ema=ema, progress=progress, **where) if protocol else {}
        measured |= measure_restorer(model.estimator, images, protocol=protocol, progress=progress, **where)
    else:
        train, options = DATA[source]("train").images, {"progress": progress} | where
        if isinstance(model, VAE):
            measured = measure_vae(model, images, n_samples=n_samples, seed=seed, **options)
            what = "KL(q(z | x) || p(z)) as bits-back coding pays it, one draw of z"
        elif isinstance(model, VQVAE | HierarchicalVQVAE):
            measure = measure_vqvae if isinstance(model, VQVAE) else measure_hierarchy
            measured, what = measure(model, images, **where), "the codes, evenly spread"
        else:
            measured = measure_autoencoder(model, images, **where)
        if not isinstance(model, Autoencoder):  # its codes have no distribution, and so no length
            described = shown_by(model, seed=seed, **where)
            measured |= measure_code_length(described, train, images, what=what)
        if protocol:
            measure = measure_levels if isinstance(model, HierarchicalVQVAE) else measure_generator
            measured |= measure(model, protocol, **options)
    result = {
        "name": name,
        "kind": "model",
        "family": card["family"],
        "recipe": card.get("recipe", {}).get("name"),
        "seed": seed,
        **pretrained.provenance(device),
        "seconds": round(time.perf_counter() - began, 1),
        "data": f"{source}, {len(images)} test images",
        "weights_sha256": card["sha256"],
        "requires": requires,
        "metrics": measured,
    }
    if protocol:
        result["protocol"] = used
    if pretrained.card(name, folder=folder)["sha256"] != card["sha256"]:
        raise pretrained.PretrainedError(
            f"the weights of {name} changed while they were measured: measure again"
        )
    if protocol and protocol.described() != used:
        raise pretrained.PretrainedError(f"{protocol.network} changed while {name} was measured: again")
    return result, len(images) == len(test.images) and n_samples >= 100 and seed == 0
