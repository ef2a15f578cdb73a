"""Classifiers whose last hidden layer measures generators: features(x), and logits for one attribute or several."""

from dataclasses import dataclass

from torch import Tensor, nn

from imagegen.layers import ResidualBlock, downsample


@dataclass(frozen=True)
class ClassifierConfig:
    """The sizes of a classifier. classes: how many values each attribute has; one number for a plain classifier.

    widths: channels at half the resolution, at a quarter, and so on. blocks: residual blocks at each.
    features: F, units of the layer that describes an image. dropout: share of pooled units dropped while training.
    Raises: ValueError: a size that cannot be built.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    classes: tuple[int, ...] = (10,)
    widths: tuple[int, ...] = (32, 64)
    blocks: int = 1
    features: int = 64
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name in ("image_shape", "classes", "widths"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {self.image_shape}, expected (C, H, W), each at least 1")
        if not self.classes or min(self.classes) < 2:
            raise ValueError(
                f"classes is {self.classes}, expected at least one attribute of 2 values or more"
            )
        if not self.widths or min(self.widths) < 1 or self.features < 1 or self.blocks < 0:
            raise ValueError(
                f"widths {self.widths} and features {self.features} must be at least 1, blocks {self.blocks} at least 0"
            )
        factor = 2 ** len(self.widths)
        if self.image_shape[1] % factor or self.image_shape[2] % factor:
            raise ValueError(
                f"image_shape is {self.image_shape}: H and W must be multiples of {factor} "
                f"to be halved {len(self.widths)} times"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected a share in [0, 1)")


class Classifier(nn.Module):
    """Convolutions that halve the image some times, a layer of features, and one linear head an attribute.

    There is no pooling over places and no batch statistic: the features keep where a thing is, and those of an
    image do not depend on its batch. Images enter in [-1, 1].
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        channels, height, width = config.image_shape
        stages: list[nn.Module] = []
        for n_in, n_out in zip((channels, *config.widths), config.widths):
            stages += [
                downsample(n_in, n_out),
                *[ResidualBlock(n_out) for _ in range(config.blocks)],
                nn.SiLU(),
            ]
        places = (height >> len(config.widths)) * (width >> len(config.widths))
        self.trunk = nn.Sequential(
            *stages,
            nn.Flatten(),
            nn.Dropout(config.dropout),
            nn.Linear(config.widths[-1] * places, config.features),
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(config.features, k)) for k in config.classes
        )

    def features(self, x: Tensor) -> Tensor:
        """Return what describes each image (B, C, H, W): (B, F), the values before the heads.

        Raises: ValueError: the images do not have the config's shape.
        """
        if x.shape[1:] != self.config.image_shape:
            raise ValueError(
                f"images of shape {tuple(x.shape)}, expected (B, {', '.join(map(str, self.config.image_shape))})"
            )
        return self.trunk(x)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits (B, K) of each attribute, in the order of the config's classes."""
        features = self.features(x)
        return tuple(head(features) for head in self.heads)
