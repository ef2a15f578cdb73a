"""Restorers: networks that estimate an image from what a degradation left of it, and a critic that looks at patches."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from imagegen.layers import ResidualBlock, downsample, receptive_field, upsample

NETWORKS = ("denoiser", "unet")
LEAK = 0.2


@dataclass(frozen=True)
class RestorerConfig:
    """The sizes of a restorer, and of its critic.

    image_shape: (C, H, W) of what is restored. network: "denoiser" sees 5 + 4 blocks pixels a side at full resolution,
    "unet" far more, over `levels` halvings. width: channels at full resolution, doubled at each halving. blocks:
    residual blocks, at each resolution of either way through a "unet". places: a "unet" learns a map for each
    resolution on its way down, which tells one place from another: for images that are aligned, as faces and clothes
    are here, and for no others. factor: y is smaller than the image by it.
    mask: the network is shown what is known. noise: it is told the noise's deviation; without that, a network with a
    mask takes y for free of noise, and one without knows nothing of it. critic_width: channels of the patch
    discriminator's first layer, doubled at each of its `critic_layers`; 0: no critic.
    Raises: ValueError: a network that cannot be built; the message names the value.
    """

    network: str = "unet"
    image_shape: tuple[int, int, int] = (1, 28, 28)
    width: int = 32
    blocks: int = 1
    levels: int = 2
    places: bool = False
    factor: int = 1
    mask: bool = False
    noise: bool = False
    critic_width: int = 0
    critic_layers: int = 2
    sizes: ClassVar = ("width", "blocks", "levels", "factor", "critic_layers")

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))  # JSON gives a list
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network!r}, expected one of {', '.join(NETWORKS)}")
        for name in self.sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.critic_width < 0:
            raise ValueError(f"critic_width is {self.critic_width}, expected 0, for no critic, or more")
        if self.places and self.network != "unet":
            raise ValueError(f"places is True with the network {self.network!r}, expected 'unet'")
        shape = self.image_shape
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"image_shape is {shape}, expected (C, H, W), each at least 1")
        for name in ("mask", "noise"):
            if getattr(self, name) and self.factor > 1:
                raise ValueError(
                    f"factor is {self.factor} with {name}, expected 1: y has the image's size then"
                )
        steps = {
            "factor": self.factor,
            "2^levels": 2**self.levels if self.network == "unet" else 1,
            "2^critic_layers": 2**self.critic_layers if self.critic_width else 1,
        }
        for name, step in steps.items():
            if shape[1] % step or shape[2] % step:
                raise ValueError(f"image_shape is {shape}: H and W must be multiples of {name}, {step}")

    @property
    def patch(self) -> int:
        """The side of the patch that one logit of the critic hangs on: 18 pixels for two layers, 38 for three."""
        return receptive_field([(4, 2, 1)] * self.critic_layers + [(3, 1, 1)])


class Restorer(nn.Module):
    """An estimator, which restores, and the critic that it was trained against: None without critic_width."""

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        self.config = config
        self.estimator = Estimator(config)
        self.discriminator = PatchDiscriminator(config) if config.critic_width else None

    def forward(self, y: Tensor, known: Tensor | None = None, sigma: Tensor | float | None = None) -> Tensor:
        """Return the estimator's images."""
        return self.estimator(y, known, sigma)


class Estimator(nn.Module):
    """What is left of images (B, C, H / factor, W / factor) -> the images (B, C, H, W), about in [-1, 1], not clamped.

    The network predicts what is wrong with its input, the noise, and that is taken off: x = y - f(y). Where y is
    smaller, it is first enlarged by bicubic interpolation. The last layer starts at 0, so a new one returns its input
    and need not learn to copy. Trained with a squared error it estimates the mean of the images that could have given
    y. One network serves many masks and noises at once: it is shown which, as channels beside y.

    What was measured without noise is y's, bit for bit: of a pixel seen with sigma = 0 the posterior is the single
    point y. With noise it is not: y is then off by sigma, the posterior's mean by less, and copying would put the noise
    back. So known pixels are copied where sigma is 0 and estimated, as all others, where it is not.
    Source: Zhang et al. 2017, arXiv:1608.03981 (the residual; its normalisation is left out); Zhang, Zuo and Zhang
        2018, arXiv:1710.04026 (the noise level as a channel); Kim, Lee and Lee 2016, arXiv:1511.04587 (the enlarged
        input).
    """

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        self.config = config
        channels, width = config.image_shape[0], config.width
        n_in = channels + config.mask + config.noise
        if config.network == "unet":
            size = config.image_shape[1:] if config.places else None
            self.body = UNet(n_in, channels, width, config.blocks, config.levels, size)
            last = self.body.last
        else:
            last = nn.Conv2d(width, channels, 3, padding=1)
            first = nn.Conv2d(n_in, width, 3, padding=1)
            self.body = nn.Sequential(first, _blocks(width, config.blocks), nn.SiLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, y: Tensor, known: Tensor | None = None, sigma: Tensor | float | None = None) -> Tensor:
        """Return the images. What y holds behind a mask is not looked at.

        known: bool (B or 1, 1, H, W), True where y was seen; needed by a network with a mask, and by no other. sigma:
        the noise's deviation in the unit of y, one number or (B,); needed by a network that is told it.
        Raises: ValueError: y, known or sigma has another shape, or one of them is missing or not asked for. TypeError:
            known is not boolean.
        """
        config = self.config
        channels, height, width = config.image_shape
        expected = (channels, height // config.factor, width // config.factor)
        if y.shape[1:] != expected:
            raise ValueError(f"y has shape {tuple(y.shape)}, expected (B, {', '.join(map(str, expected))})")
        for name, given, asked in (("known", known, "mask"), ("sigma", sigma, "noise")):
            if (given is not None) != getattr(config, asked):
                said = "missing" if given is None else "given"
                raise ValueError(f"{name} is {said}, and {asked} is {getattr(config, asked)}")
        if known is not None:
            self._check(known, y)
            known = known.expand(len(y), -1, -1, -1)
        if sigma is not None:
            sigma = torch.as_tensor(sigma, dtype=y.dtype, device=y.device)
            if sigma.shape not in ((), (len(y),)):
                raise ValueError(f"sigma has shape {tuple(sigma.shape)}, expected () or ({len(y)},)")
            sigma = sigma.reshape(-1, 1, 1, 1).expand(len(y), 1, height, width)
        return self.estimated(y, known, sigma)

    def estimated(self, y: Tensor, known: Tensor | None, sigma: Tensor | None) -> Tensor:
        """Return the images (B, C, H, W) of inputs that fit; known and sigma are maps (B, 1, H, W), or None."""
        if self.config.factor > 1:
            y = interpolate(y, size=self.config.image_shape[1:], mode="bicubic")
        start = y if known is None else torch.where(known, y, 0.0)
        shown = [start, *(part.to(y) for part in (known, sigma) if part is not None)]
        estimate = start - self.body(torch.cat(shown, 1))
        exact = known if sigma is None else sigma == 0 if known is None else known & (sigma == 0)
        return estimate if exact is None else torch.where(exact, y, estimate)

    def _check(self, known: Tensor, y: Tensor) -> None:
        _, height, width = self.config.image_shape
        if known.dtype != torch.bool:
            raise TypeError(f"known is {known.dtype}, expected torch.bool, True where a pixel is seen")
        if known.shape[1:] != (1, height, width) or known.shape[0] not in (1, len(y)):
            raise ValueError(
                f"known has shape {tuple(known.shape)}, expected ({len(y)} or 1, 1, {height}, {width})"
            )


class RestoredPixels(nn.Module):
    """A restorer as a page runs it, on numbers alone -> pixels (B, C, H, W) in [0, 1], cut off there.

    y (B, C, h, w) in units of [-1, 1]; known (B, 1, H, W), seen where it is above 0.5; sigma (B, 1). The last two are
    there where the config asks for them.
    """

    def __init__(self, model: Restorer) -> None:
        super().__init__()
        self.model = model.estimator

    def forward(self, y: Tensor, known: Tensor | None = None, sigma: Tensor | None = None) -> Tensor:
        known = known if known is None else known > 0.5
        sigma = (
            sigma
            if sigma is None
            else sigma[:, :, None, None].expand(-1, -1, *self.model.config.image_shape[1:])
        )
        x = self.model.estimated(y, known, sigma)
        return x.add(1.0).mul(0.5).clamp(0.0, 1.0)

    def examples(self) -> dict[str, Tensor]:
        """Return inputs for `export_onnx`: a half that is hidden, without noise and with it.

        Raises: ValueError: a network that is told the noise and not the mask.
        """
        config = self.model.config
        if config.noise and not config.mask:
            raise ValueError("noise is True and mask False: such a restorer is not exported")
        channels, height, width = config.image_shape
        y = torch.linspace(-1, 1, 2 * channels * height * width // config.factor**2)
        inputs = {"y": y.reshape(2, channels, height // config.factor, width // config.factor)}
        if config.mask:
            inputs["known"] = (torch.arange(width) < width // 2).float().expand(2, 1, height, width)
        if config.noise:
            inputs["sigma"] = torch.tensor([[0.0], [0.5]])
        return inputs


class UNet(nn.Module):
    """Down by halves and up again, each resolution joined with what it held: (B, n_in, H, W) -> (B, n_out, H, W).

    H and W: multiples of 2^levels. size: (H, W) of images that are aligned: on the way down a learned map, 0 at first,
    is added at each resolution. A convolution does the same at every place; with the map it need not.
    Source: Ronneberger, Fischer and Brox 2015, arXiv:1505.04597 (without the maps).
    """

    def __init__(
        self, n_in: int, n_out: int, width: int, blocks: int, levels: int, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        steps = list(pairwise(width << level for level in range(levels + 1)))  # (fine, coarse) widths
        self.first = nn.Conv2d(n_in, width, 3, padding=1)
        self.before = nn.ModuleList(_blocks(fine, blocks) for fine, _ in steps)
        self.down = nn.ModuleList(downsample(fine, coarse) for fine, coarse in steps)
        self.middle = _blocks(steps[-1][1], blocks)
        self.up = nn.ModuleList(upsample(coarse, fine) for fine, coarse in reversed(steps))
        self.join = nn.ModuleList(nn.Conv2d(2 * fine, fine, 1) for fine, _ in reversed(steps))
        self.after = nn.ModuleList(_blocks(fine, blocks) for fine, _ in reversed(steps))
        self.last = nn.Conv2d(width, n_out, 3, padding=1)
        self.places = nn.ParameterList()
        if size is not None:
            maps = ((width << level, *(side >> level for side in size)) for level in range(levels + 1))
            self.places.extend(nn.Parameter(torch.zeros(1, *shape)) for shape in maps)

    def forward(self, x: Tensor) -> Tensor:
        x, kept, places = self.first(x), [], self.places or [0.0] * (len(self.down) + 1)
        for place, before, down in zip(places, self.before, self.down):
            x = before(x + place)
            kept.append(x)
            x = down(x)
        x = self.middle(x + places[-1])
        for up, join, after in zip(self.up, self.join, self.after):
            x = after(join(torch.cat([up(x), kept.pop()], 1)))
        return self.last(silu(x))


class PatchDiscriminator(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> one logit a patch (B, h, w), each of `config.patch` pixels a side.

    h = H / 2^critic_layers, so patches overlap. It judges texture and not the picture as a whole. Each logit has its
    loss; their mean is the image's.
    Source: Isola et al. 2017, arXiv:1611.07004, section 3.2.2.
    """

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        n_in = config.image_shape[0]
        for level in range(config.critic_layers):
            n_out = config.critic_width << level
            layers += [downsample(n_in, n_out), nn.LeakyReLU(LEAK)]
            n_in = n_out
        self.body = nn.Sequential(*layers, nn.Conv2d(n_in, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, h, w). Raises: ValueError: the images do not have the config's shape."""
        if x.shape[1:] != self.config.image_shape:
            expected = ", ".join(map(str, self.config.image_shape))
            raise ValueError(f"images of shape {tuple(x.shape)}, expected (B, {expected})")
        return self.body(x).squeeze(1)


def _blocks(width: int, n: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(n)))
