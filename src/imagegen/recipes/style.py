"""What a StyleGAN's training minimises, and its step: two regularisers that take turns with the losses."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen.augment import augment
from imagegen.data import Batch
from imagegen.objectives import (
    discriminator_loss,
    generator_loss,
    path_lengths,
    path_penalty,
    zero_centred_penalty,
)
from imagegen.recipes.adversarial import AdversarialObjective, descend
from imagegen.recipes.recipe import Step
from imagegen.stylegan import StyleGAN
from imagegen.training import EMA, seed_of


@dataclass(frozen=True)
class StyleObjective(AdversarialObjective):
    """The losses of `AdversarialObjective` with R1 alone; its regularisers take steps of their own ("lazy").

    R1 is stepped on after every penalty_every-th step of the losses, weighed with penalty_every * weight / 2. path_*:
    the path length's weight, how often it is stepped on, the share of a batch that it is taken of, and how fast the
    mean moves that the lengths are held to. augment: probability of each augmentation of what the discriminator sees.
    Raises: ValueError: a name or number that this training cannot use.
    Source: Karras et al. 2020, arXiv:1912.04958, sections 3.1 and 3.2, and appendix B.
    """

    penalty: str = "r1"
    weight: float = 0.1
    penalty_every: int = 16
    path_weight: float = 2.0
    path_every: int = 4
    path_share: float = 0.5
    path_decay: float = 0.01
    augment: float = 0.0
    network: ClassVar = StyleGAN
    reported: ClassVar = ("discriminator", "generator", "real_logit", "fake_logit", "path_length")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty not in ("none", "r1"):
            raise ValueError(f"penalty is {self.penalty!r}, expected 'none' or 'r1'")
        for name, only in (("critic_steps", 1), ("noise", 0.0), ("bound", 0.0)):
            if getattr(self, name) != only:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, and a StyleGAN's step knows none but {only}"
                )
        if not self.path_weight >= 0:
            raise ValueError(f"path_weight is {self.path_weight}, expected at least 0")
        if self.path_every < 1:
            raise ValueError(f"path_every is {self.path_every}, expected at least 1")
        for name in ("path_share", "path_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0, at most 1")
        if not 0 <= self.augment < 1:
            raise ValueError(f"augment is {self.augment}, expected 0 to less than 1")


def corrected(lr: float, betas: tuple[float, float], every: int) -> tuple[float, tuple[float, float]]:
    """Return Adam's rate and betas for k + 1 steps in the place of k = `every`: lr c and betas^c, with c = k / (k + 1).

    Over the k + 1 steps its averages then fade by as much, and the weights move by as much, as over k.
    Source: Karras et al. 2020, arXiv:1912.04958, appendix B.
    """
    share = every / (every + 1)
    return lr * share, (betas[0] ** share, betas[1] ** share)


def settings(recipe: Any) -> list[tuple[float, tuple[float, float]]]:
    """Return rate and betas of the generator's and of the discriminator's Adam, corrected where one is regularised."""
    objective = recipe.objective
    found = []
    for lr, weight, every in (
        (recipe.lr, objective.path_weight, objective.path_every),
        (recipe.lr * objective.critic_lr, objective.weight, objective.penalty_every),
    ):
        found.append(corrected(lr, recipe.betas, every) if weight else (lr, recipe.betas))
    return found


def style_optimisers(recipe: Any, model: StyleGAN) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return AdamW for the generator and for the discriminator; without a weight decay it is Adam."""
    players = model.generator, model.discriminator
    options = {"weight_decay": recipe.weight_decay, "fused": True}
    made = [
        torch.optim.AdamW(player.parameters(), lr=lr, betas=betas, **options)
        for player, (lr, betas) in zip(players, settings(recipe), strict=True)
    ]
    return made[0], made[1]


def style_step(recipe: Any, n_steps: int, model: StyleGAN, players: tuple[nn.Module, nn.Module],
               optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer], ema: EMA,
               fabric: Any) -> Step:  # fmt: skip
    """Return a StyleGAN's step: (index, batch) -> scalar terms, after the updates of both players.

    Up to four updates: of the discriminator by its loss and, on some steps, by R1; of the generator by its loss and, on
    some steps, by the path length. Both losses are of the same generated images. gradient_norm is the largest of the
    norms before they were clipped.
    Args: as `alternating_step`. The regularisers go through the bare networks in full precision, which a gradient's
        gradient needs, and their gradients are averaged over the processes here.
    """
    objective = recipe.objective
    (generator_net, critic), (generator_adam, critic_adam) = players, optimisers
    (generator_peak, _), (critic_peak, _) = settings(recipe)
    random = torch.Generator(fabric.device)
    update = descend(recipe, n_steps, fabric)

    def seen(x: Tensor) -> Tensor:
        return augment(x, objective.augment, generator=random) if objective.augment else x

    def judged(x: Tensor) -> Tensor:
        with fabric.autocast():
            return model.discriminator(seen(x)).float()

    def path_loss(n: int) -> tuple[Tensor, Tensor]:
        styles = model.generator.styles(model.draw(n, generator=random), generator=random)
        lengths = path_lengths(model.generator.synthesis(styles, generator=random), styles, generator=random)
        now = fabric.all_reduce(lengths.detach().mean(), reduce_op="mean")
        model.path_mean.lerp_(now, objective.path_decay)
        weight = objective.path_weight * objective.path_every
        return weight * path_penalty(lengths, model.path_mean.clone()).mean(), now

    def step(numbered: tuple[int, Batch]) -> dict[str, Tensor]:
        index, batch = numbered
        random.manual_seed(seed_of(recipe.seed, index, fabric.global_rank))
        fake = generator_net(model.draw(len(batch.x), generator=random), generator=random)
        real_logits, fake_logits = critic(seen(batch.x)), critic(seen(fake.detach()))
        losses = discriminator_loss(real_logits, fake_logits, loss=objective.loss)
        norms = [update(critic, critic_adam, losses.mean(), critic_peak, index)]
        if objective.weight and index % objective.penalty_every == 0:
            penalty = zero_centred_penalty(lambda x: model.discriminator(seen(x)), batch.x).mean()
            penalty = 0.5 * objective.weight * objective.penalty_every * penalty
            norms.append(update(critic, critic_adam, penalty, critic_peak, index, own=True))
        model.discriminator.requires_grad_(False)
        fooled = generator_loss(judged(fake), loss=objective.loss).mean()
        norms.append(update(generator_net, generator_adam, fooled, generator_peak, index))
        model.discriminator.requires_grad_(True)
        if objective.path_weight and index % objective.path_every == 0:
            loss, _ = path_loss(max(1, round(objective.path_share * len(batch.x))))
            norms.append(update(generator_net, generator_adam, loss, generator_peak, index, own=True))
        ema.update(model)
        terms = {"loss": losses, "discriminator": losses, "generator": fooled, "real_logit": real_logits}
        terms |= {"fake_logit": fake_logits, "path_length": model.path_mean}
        means = {name: value.detach().mean().clone() for name, value in terms.items()}
        return means | {"gradient_norm": torch.stack(norms).amax()}

    return step
