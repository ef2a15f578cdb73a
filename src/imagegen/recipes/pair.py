"""The game of three players: a generator, a restorer, and the critic that judges both."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen.data import Batch
from imagegen.objectives import discriminator_loss, generator_loss, pixel_loss, zero_centred_penalty
from imagegen.pair import Pair
from imagegen.recipes.adversarial import descend
from imagegen.recipes.recipe import Step
from imagegen.recipes.restoration import RestorationObjective
from imagegen.training import EMA, seed_of


@dataclass(frozen=True)
class PairObjective(RestorationObjective):
    """What the restorer minimises, with the images that the generator draws as further ones to restore.

    For the restorer: pixel * distance to the clean image + imagined * distance to the generator's image, for what is
    left of each, + adversarial * the critic's verdict. The generator minimises that verdict on its own images alone.
    degradation, loss, weight, penalty_every and critic_lr are as in `RestorationObjective`; there is no judge and no
    start.
    Raises: ValueError: a name or number that no training can use.
    """

    adversarial: float = 0.01
    imagined: float = 1.0
    network: ClassVar = Pair

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature or self.start:
            raise ValueError(f"feature is {self.feature} and start {self.start!r}: a pair has neither")
        if not self.imagined >= 0:
            raise ValueError(f"imagined is {self.imagined}, expected at least 0")
        if not self.adversarial > 0:
            raise ValueError(f"adversarial is {self.adversarial}, expected more than 0: the restorer plays")

    @property
    def reported(self) -> tuple[str, ...]:
        return ("pixel", "imagined", "discriminator", "generator", "verdict")

    def players(self, model: Pair) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Return the generator, the critic and the restorer."""
        return model.gan.generator, model.gan.discriminator, model.estimator


def pair_step(recipe: Any, n_steps: int, model: Pair, players: tuple[nn.Module, nn.Module, nn.Module],
              optimisers: tuple[torch.optim.Optimizer, ...], ema: EMA, fabric: Any) -> Step:  # fmt: skip
    """Return the step of a game of three: (index, batch) -> scalar terms, after an update of each: D, R, then G.

    What each sees. G: z ~ N(0, I); of the images nothing, of the restorer nothing. R: y = A x + n of images x of this
    batch, and of images G(z), each with its mask and noise level. D: x as real, G(z) and R(y) as made, half the weight
    each; never y, never which of the two made an image.
    What reaches each. G: the gradient of D's verdict on G(z); none from R, as G(z) is cut off before it is damaged: a
    generator must not be moved to draw what is easily restored. R: the distances, and D's verdict on R(y) for real x.
    D: its own loss, and R1 on real images.
    Args: as `alternating_step`, with three players: generator, critic, restorer.
    """
    objective, config = recipe.objective, recipe.model.restorer
    (generator_net, critic, restorer), (adam, critic_adam, restorer_adam) = players, optimisers
    random = torch.Generator(fabric.device)
    update = descend(recipe, n_steps, fabric)

    def verdict(x: Tensor) -> Tensor:
        with fabric.autocast():
            logits = model.gan.discriminator(x).float()
        return generator_loss(logits, loss=objective.loss)

    def step(numbered: tuple[int, Batch]) -> dict[str, Tensor]:
        index, batch = numbered
        random.manual_seed(seed_of(recipe.seed, index, fabric.global_rank))
        x = batch.x
        drawn = generator_net(model.gan.draw(len(x), generator=random))
        imagined = drawn.detach().clamp(-1, 1)
        seen, seen_of_drawn = (objective.observe(config, clean, generator=random) for clean in (x, imagined))
        restored, again = restorer(*seen), restorer(*seen_of_drawn)
        real, by_g, by_r = critic(torch.cat([x, drawn.detach(), restored.detach()])).chunk(3)
        losses = torch.stack(
            [discriminator_loss(real, fake, loss=objective.loss) for fake in (by_g, by_r)]
        ).mean(0)
        total = losses.mean()
        if objective.weight and index % objective.penalty_every == 0:  # in full precision, by the bare critic
            penalty = zero_centred_penalty(model.gan.discriminator, x).mean()
            total = total + 0.5 * objective.weight * objective.penalty_every * penalty
        norms = [update(critic, critic_adam, total, recipe.lr * objective.critic_lr, index)]
        model.gan.discriminator.requires_grad_(False)
        terms = {"pixel": pixel_loss(restored, x, loss=objective.pixel_loss), "verdict": verdict(restored)}
        terms["imagined"] = pixel_loss(again, imagined, loss=objective.pixel_loss)
        loss = objective.pixel * terms["pixel"] + objective.imagined * terms["imagined"]
        terms["loss"] = loss + objective.adversarial * terms["verdict"]
        norms.append(update(restorer, restorer_adam, terms["loss"].mean(), recipe.lr, index))
        terms["generator"] = verdict(drawn)
        norms.append(update(generator_net, adam, terms["generator"].mean(), recipe.lr, index))
        model.gan.discriminator.requires_grad_(True)
        ema.update(model)
        terms |= {"discriminator": losses, "real_logit": real, "drawn_logit": by_g, "restored_logit": by_r}
        means = {name: value.detach().mean() for name, value in terms.items()}
        return means | {"gradient_norm": torch.stack(norms).max()}

    return step
