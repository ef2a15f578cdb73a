"""What a restorer's training minimises, and its alternating step against a critic of patches."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen.classifier import Classifier
from imagegen.data import Batch
from imagegen.degrade import Degradation, Mixture, Observed
from imagegen.objectives import (
    LOSSES,
    PIXEL_LOSSES,
    feature_loss,
    patch_discriminator_loss,
    patch_generator_loss,
    patch_penalty,
    pixel_loss,
)
from imagegen.recipes.adversarial import descend
from imagegen.recipes.recipe import Step
from imagegen.recipes.terms import Objective
from imagegen.restore import Restorer, RestorerConfig
from imagegen.training import EMA, seed_of

Told = tuple[Tensor, Tensor | None, Tensor | float | None]  # y, known and sigma: what a restorer is given


@dataclass(frozen=True)
class RestorationObjective(Objective):
    """pixel * distance to the clean image + feature * distance of a classifier's maps + adversarial * the critic's.

    degradation: drawn anew for each batch. pixel_loss: "mse", squared in units of [-1, 1], or "l1". judge: the shipped
    classifier whose maps are compared; none without a feature weight. What the protocol's Frechet distance compares are
    that network's last features, and these are kept out of the training. loss: of both players, for each patch. weight:
    of R1 on real images, as weight / 2, on every penalty_every-th step so many times as large. critic_lr: the critic's
    learning rate as a multiple of the recipe's. start: the shipped restorer whose estimator the training starts from.
    Raises: ValueError: a name or number that no training can use.
    Source: Ledig et al. 2017, arXiv:1609.04802, equation 3 (the sum of the three) and section 3.2 (the start).
    """

    degradation: Mixture | Degradation = Mixture()
    pixel: float = 1.0
    pixel_loss: str = "mse"
    feature: float = 0.0
    judge: str = ""
    adversarial: float = 0.0
    loss: str = "non-saturating"
    weight: float = 0.0
    penalty_every: int = 1
    critic_lr: float = 1.0
    start: str = ""
    network: ClassVar = Restorer

    def __post_init__(self) -> None:
        for name, known in (("loss", LOSSES), ("pixel_loss", PIXEL_LOSSES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name in ("pixel", "feature", "adversarial", "weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")
        if not self.pixel + self.feature + self.adversarial > 0:
            raise ValueError("pixel, feature and adversarial are all 0: nothing would be minimised")
        if bool(self.judge) != (self.feature > 0):
            raise ValueError(f"feature is {self.feature} and judge {self.judge!r}: name both or neither")
        if self.penalty_every < 1:
            raise ValueError(f"penalty_every is {self.penalty_every}, expected at least 1")
        if not self.critic_lr > 0:
            raise ValueError(f"critic_lr is {self.critic_lr}, expected more than 0")

    @property
    def reported(self) -> tuple[str, ...]:
        """The terms that a card keeps."""
        played = ("discriminator", "generator", "real_logit", "fake_logit") if self.adversarial else ()
        return ("pixel", *(("feature",) if self.feature else ()), *played)

    @property
    def requires(self) -> tuple[str, ...]:
        return tuple(name for name in (self.judge, self.start) if name)

    def begin(self, model: Restorer, models: dict[str, nn.Module]) -> None:
        """Give the estimator the weights of `start`'s.

        Raises: ValueError: their sizes differ.
        """
        if not self.start:
            return
        first, own = models[self.start], model.config
        if (
            dataclasses.replace(first.config, critic_width=own.critic_width, critic_layers=own.critic_layers)
            != own
        ):
            raise ValueError(f"start is {self.start!r}, of {first.config}, expected the sizes of {own}")
        model.estimator.load_state_dict(first.estimator.state_dict())

    def players(self, model: Restorer) -> tuple[nn.Module, nn.Module]:
        """Return the estimator and the critic. Raises: ValueError: the model has no critic."""
        if model.discriminator is None:
            raise ValueError(f"adversarial is {self.adversarial}, and critic_width is 0: there is no critic")
        return model.estimator, model.discriminator

    def observe(self, config: RestorerConfig, x: Tensor, *, generator: torch.Generator) -> Told:
        """Return what a restorer is given of images (B, C, H, W), degraded with draws from the generator."""
        seen = self.degradation(x, generator=generator)
        if isinstance(seen, Observed):
            return tuple(seen)
        sigma = self.degradation.amount if self.degradation.noise == "gaussian" else 0.0
        return told(config, seen.y, seen.known, sigma)

    def distances(self, estimate: Tensor, x: Tensor, judge: Classifier | None) -> dict[str, Tensor]:
        """Return the terms that compare estimates with clean images, each (B,); loss is their weighted sum."""
        terms = {"pixel": pixel_loss(estimate, x, loss=self.pixel_loss)}
        loss = self.pixel * terms["pixel"]
        if self.feature:
            with torch.no_grad():
                wanted = maps(judge, x)
            terms["feature"] = feature_loss(maps(judge, estimate), wanted)
            loss = loss + self.feature * terms["feature"]
        return {"loss": loss} | terms

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int, judge: Classifier | None = None,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        config = getattr(model, "module", model).config
        return self.distances(model(*self.observe(config, batch.x, generator=generator)), batch.x, judge)


def told(config: RestorerConfig, y: Tensor, known: Tensor | None, sigma: Tensor | float) -> Told:
    """Return y with what a restorer of this config asks for: known, all of it where nothing is hidden, and sigma."""
    if config.mask and known is None:
        known = torch.ones_like(y[:, :1], dtype=torch.bool)
    return y, known if config.mask else None, sigma if config.noise else None


def maps(judge: Classifier, x: Tensor) -> list[Tensor]:
    """Return a classifier's maps (B, C', H', W') of images (B, C, H, W), after the activation at each resolution.

    These come before the features that measure generators.
    """
    found = []
    for layer in judge.trunk:
        if isinstance(layer, nn.Flatten):
            break
        x = layer(x)
        if isinstance(layer, nn.SiLU):
            found.append(x)
    return found


def restoration_step(recipe: Any, n_steps: int, model: Restorer, players: tuple[nn.Module, nn.Module],
                     optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer], ema: EMA, fabric: Any, *,
                     judge: Classifier | None = None) -> Step:  # fmt: skip
    """Return a restorer's adversarial step: (index, batch) -> scalar terms, after an update of the critic, then of it.

    What each sees: the restorer what is left of the images, the mask and the noise level. The critic the clean images
    of this batch, and what the restorer makes of them: never y, and never which belongs to which. So it can ask whether
    an estimate looks like an image, and only the distances ask whether it is the right one.
    Args: as `alternating_step`; judge: the classifier of the feature loss, its weights fixed.
    """
    objective = recipe.objective
    (estimator, critic), (adam, critic_adam) = players, optimisers
    random = torch.Generator(fabric.device)
    update = descend(recipe, n_steps, fabric)

    def judged(x: Tensor) -> Tensor:
        with fabric.autocast():
            return model.discriminator(x).float()

    def step(numbered: tuple[int, Batch]) -> dict[str, Tensor]:
        index, batch = numbered
        random.manual_seed(seed_of(recipe.seed, index, fabric.global_rank))
        estimate = estimator(*objective.observe(model.config, batch.x, generator=random))
        real_logits, fake_logits = critic(torch.cat([batch.x, estimate.detach()])).chunk(2)
        losses = patch_discriminator_loss(real_logits, fake_logits, loss=objective.loss)
        total = losses.mean()
        if objective.weight and index % objective.penalty_every == 0:  # in full precision, by the bare critic
            penalty = patch_penalty(model.discriminator, batch.x, generator=random).mean()
            total = total + 0.5 * objective.weight * objective.penalty_every * penalty
        norm = update(critic, critic_adam, total, recipe.lr * objective.critic_lr, index)
        model.discriminator.requires_grad_(False)
        terms = objective.distances(estimate, batch.x, judge)
        terms["generator"] = patch_generator_loss(judged(estimate), loss=objective.loss)
        terms["loss"] = terms["loss"] + objective.adversarial * terms["generator"]
        norm = norm.maximum(update(estimator, adam, terms["loss"].mean(), recipe.lr, index))
        model.discriminator.requires_grad_(True)
        ema.update(model)
        terms |= {"discriminator": losses, "real_logit": real_logits, "fake_logit": fake_logits}
        return {name: value.detach().mean() for name, value in terms.items()} | {"gradient_norm": norm}

    return step
