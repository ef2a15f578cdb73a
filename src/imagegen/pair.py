"""A generator and a restorer that one critic judges: three players of one game."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imagegen.gan import GAN, GANConfig
from imagegen.restore import Estimator, RestorerConfig


@dataclass(frozen=True)
class PairConfig:
    """gan: the sizes of the generator and of the critic. restorer: of the restorer, which brings no critic of its own.

    Raises: ValueError: they make images of different shapes, or the restorer would bring a critic.
    """

    gan: GANConfig = GANConfig()
    restorer: RestorerConfig = RestorerConfig(mask=True, noise=True)

    def __post_init__(self) -> None:
        for name, kind in (("gan", GANConfig), ("restorer", RestorerConfig)):
            if isinstance(getattr(self, name), dict):  # as JSON gives it
                object.__setattr__(self, name, kind(**getattr(self, name)))
        if self.gan.image_shape != self.restorer.image_shape:
            raise ValueError(
                f"the generator makes {self.gan.image_shape} and the restorer {self.restorer.image_shape}, "
                f"expected one shape"
            )
        if self.restorer.critic_width:
            raise ValueError(
                f"critic_width is {self.restorer.critic_width}, expected 0: the pair has one critic"
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) of what is drawn and restored."""
        return self.gan.image_shape


class Pair(nn.Module):
    """G draws images from noise, R restores what is left of images, and D judges both, not told whose they are."""

    def __init__(self, config: PairConfig) -> None:
        super().__init__()
        self.config = config
        self.gan = GAN(config.gan)
        self.estimator = Estimator(config.restorer)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n drawn images (n, C, H, W) in [-1, 1]."""
        return self.gan.sample(n, generator=generator)

    def forward(self, y: Tensor, known: Tensor | None = None, sigma: Tensor | float | None = None) -> Tensor:
        """Return restored images, as `Estimator` does."""
        return self.estimator(y, known, sigma)
