"""What a GAN's training minimises, and its alternating step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from imagegen.data import Batch
from imagegen.gan import GAN, clip_weights
from imagegen.objectives import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    instance_noise,
    zero_centred_penalty,
)
from imagegen.recipes.recipe import Step
from imagegen.recipes.terms import Objective
from imagegen.training import EMA, learning_rate, seed_of

PENALTIES = ("none", "r1", "r2", "gradient")


@dataclass(frozen=True)
class AdversarialObjective(Objective):
    """The two players' losses, and what holds the discriminator back.

    penalty: "r1" or "r2", weighed with weight / 2, or "gradient" (to norm 1), with weight. penalty_every: the penalty
    is added on every k-th step, k times as large. critic_steps: the generator moves on every k-th step. critic_lr: the
    discriminator's learning rate as a multiple of the recipe's. noise: standard deviation of the instance noise at the
    first step, in the unit of the images; it falls to 0 half-way through. bound: weights of the critic are clipped to
    it; 0 clips none.
    Raises: ValueError: a name or number that no training can use.
    Source: Heusel et al. 2017, arXiv:1706.08500 (two rates); Karras et al. 2020, arXiv:1912.04958 (lazy
        regularisation).
    """

    loss: str = "non-saturating"
    penalty: str = "none"
    weight: float = 0.0
    penalty_every: int = 1
    critic_steps: int = 1
    critic_lr: float = 1.0
    noise: float = 0.0
    bound: float = 0.0
    network: ClassVar = GAN
    reported: ClassVar = ("discriminator", "generator", "real_logit", "fake_logit")

    def __post_init__(self) -> None:
        for name, known in (("loss", LOSSES), ("penalty", PENALTIES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name in ("weight", "noise", "bound"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")
        for name in ("penalty_every", "critic_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not self.critic_lr > 0:
            raise ValueError(f"critic_lr is {self.critic_lr}, expected more than 0")
        if (self.penalty == "none") != (self.weight == 0):
            raise ValueError(
                f"penalty is {self.penalty!r} and its weight {self.weight}: name both or neither"
            )

    def players(self, model: nn.Module) -> tuple[nn.Module, nn.Module]:
        """Return the generator and the discriminator."""
        return model.generator, model.discriminator

    def noise_at(self, step: int, n_steps: int) -> float:
        """Return the standard deviation of the instance noise of a step."""
        return self.noise * max(0.0, 1 - 2 * step / n_steps)

    def critic_terms(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, *,
                     step: int = 0, bare: Callable[[Tensor], Tensor] | None = None,
                     generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        """Return the discriminator's terms, each (B,): loss is what it minimises, discriminator + penalty.

        real, fake: (B, ...); no gradient flows into them. The value of "generator" is the other player's loss on these
        images, to be looked at; it has no graph. bare: the same discriminator without what fabric has put around it,
        by which the penalty is taken: fabric lets no gradient but its own backward's through, and half precision
        would be too coarse for a gradient's gradient.
        """
        fake = fake.detach()
        inner = discriminator if bare is None else bare
        real_logits, fake_logits = discriminator(real), discriminator(fake)
        terms = {
            "discriminator": discriminator_loss(real_logits, fake_logits, loss=self.loss),
            "generator": generator_loss(fake_logits.detach(), loss=self.loss),
            "real_logit": real_logits,
            "fake_logit": fake_logits,
        }
        if self.penalty == "none" or step % self.penalty_every:
            return {"loss": terms["discriminator"]} | terms
        if self.penalty == "gradient":
            penalty = self.weight * gradient_penalty(inner, real, fake, generator=generator)
        else:
            at = real if self.penalty == "r1" else fake
            penalty = 0.5 * self.weight * zero_centred_penalty(inner, at)
        return {"loss": terms["discriminator"] + self.penalty_every * penalty} | terms

    def generator_terms(self, discriminator: Callable[[Tensor], Tensor], fake: Tensor) -> dict[str, Tensor]:
        """Return the generator's loss (B,) on images fake (B, ...), with the graph back to the generator."""
        return {"loss": generator_loss(discriminator(fake), loss=self.loss)}


def optimisers(recipe: Any, model: nn.Module) -> tuple[torch.optim.Optimizer, ...]:
    """Return AdamW for each of the objective's players, the critic the second; without a weight decay it is Adam."""
    rates = recipe.lr, recipe.lr * recipe.objective.critic_lr, recipe.lr
    options = {"betas": recipe.betas, "weight_decay": recipe.weight_decay, "fused": True}
    players = recipe.objective.players(model)
    return tuple(torch.optim.AdamW(p.parameters(), lr=lr, **options) for p, lr in zip(players, rates))


def descend(recipe: Any, n_steps: int, fabric: Any) -> Callable[..., Tensor]:
    """Return an update: (player, adam, loss, peak, index) -> the norm of the gradient before it was clipped.

    peak: the learning rate at its highest; the schedule is the recipe's. index: of the step. own: the loss was taken
    through the bare network, so that the gradients of the processes are averaged here and not by the set-up form.
    """

    def update(player: nn.Module, adam: torch.optim.Optimizer, loss: Tensor, peak: float, index: int, *,
               own: bool = False) -> Tensor:  # fmt: skip
        adam.zero_grad(set_to_none=True)
        fabric.backward(loss)
        if own and fabric.world_size > 1:
            for parameter in player.parameters():
                if parameter.grad is not None:
                    parameter.grad.copy_(fabric.all_reduce(parameter.grad, reduce_op="mean"))
        norm = fabric.clip_gradients(player, adam, max_norm=recipe.clip, error_if_nonfinite=False)
        for group in adam.param_groups:
            group["lr"] = learning_rate(
                index, n_steps, peak=peak, warmup=recipe.lr_warmup, final=recipe.lr_final
            )
        adam.step()
        return norm

    return update


def alternating_step(recipe: Any, n_steps: int, model: GAN, players: tuple[nn.Module, nn.Module],
                     optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer], ema: EMA,
                     fabric: Any) -> Step:  # fmt: skip
    """Return a GAN's step: (index, batch) -> scalar terms, after an update of the discriminator, then of the generator.

    Among the terms is gradient_norm, the larger of both players' norms before they are clipped: where a loss or a
    gradient is not finite, it is not.
    Args: model: the bare networks, of which `ema` is the average. players: generator and discriminator as fabric has
        set them up. Gradients are averaged over the processes where a player's own loss is taken through its set-up
        form; the generator's loss goes through the bare discriminator, whose weights stand still.
    Raises: ValueError: a penalty on a discriminator with BatchNorm, or clipping one that is normalised spectrally.
    Source: Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1.
    """
    objective, kind = recipe.objective, recipe.model.normalise_critic
    if objective.penalty != "none" and kind == "batch":
        raise ValueError(
            f"penalty is {objective.penalty!r}, on the gradient of each image, and BatchNorm mixes images"
        )
    if objective.bound and kind == "spectral":
        raise ValueError(f"bound is {objective.bound} and normalise_critic {kind!r}: clip or normalise")
    (generator_net, critic), (generator_adam, critic_adam) = players, optimisers
    random = torch.Generator(fabric.device)
    for part in critic.modules():
        if isinstance(part, DistributedDataParallel):
            # It sees two batches before one backward. Buffers sent round before each would overwrite, on a GPU, the
            # statistics that BatchNorm's backward of the first still needs (pytorch/pytorch issue 175024).
            part.broadcast_buffers = False

    def judged(x: Tensor) -> Tensor:
        with fabric.autocast():
            return model.discriminator(x).float()

    update = descend(recipe, n_steps, fabric)

    def step(numbered: tuple[int, Batch]) -> dict[str, Tensor]:
        index, batch = numbered
        random.manual_seed(seed_of(recipe.seed, index, fabric.global_rank))
        std = objective.noise_at(index, n_steps)
        moves = (index + 1) % objective.critic_steps == 0  # the generator, on this step
        z = model.draw(len(batch.x), generator=random)
        with torch.set_grad_enabled(moves):
            fake = generator_net(z)
        shown = instance_noise(fake, std, generator=random)
        real = instance_noise(batch.x, std, generator=random)
        terms = objective.critic_terms(
            critic, real, shown, step=index, bare=model.discriminator, generator=random
        )
        means = {name: value.mean() for name, value in terms.items()}
        norm = update(critic, critic_adam, means["loss"], recipe.lr * objective.critic_lr, index)
        if objective.bound:
            clip_weights(model.discriminator, objective.bound)
        if moves:
            model.discriminator.requires_grad_(False)
            loss = objective.generator_terms(judged, shown)["loss"].mean()
            norm = norm.maximum(update(generator_net, generator_adam, loss, recipe.lr, index))
            model.discriminator.requires_grad_(True)
        ema.update(model)
        return {name: value.detach() for name, value in means.items()} | {"gradient_norm": norm}

    return step
