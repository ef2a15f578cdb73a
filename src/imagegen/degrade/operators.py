"""Linear forward operators A of y = A x + n, each with its adjoint, and the split into range and null space.

All act on each channel alone: images (B, C, H, W) of floats in, (B, C, h, w) of the same dtype and device out, with the
graph between them. They are linear, so no range is asked for: residuals and noise pass too. `adjoint` is A^T, with
<A x, y> = <x, A^T y>; it, and not the pseudo-inverse, is what the gradient of |A x - y|^2 / 2 holds: A^T (A x - y).
`pinv` is A^+, where it has a closed form; A A^+ A = A.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

BOUNDARIES = {"reflect": "reflect", "replicate": "replicate", "circular": "circular", "zeros": "constant"}
KERNELS = ("average", "bicubic")
TRUNCATE = 4.0  # a Gaussian kernel reaches so many deviations, as SciPy's does


@dataclass(frozen=True)
class Identity:
    """A x = x: what noise alone degrades. It is its own adjoint and its own pseudo-inverse."""

    def __call__(self, x: Tensor) -> Tensor:
        check_images(x)
        return x

    adjoint = pinv = __call__


@dataclass(frozen=True, eq=False)
class Blur:
    """The convolution of each channel: y[i, j] = sum of kernel[m, n] x[i - m, j - n], m and n from the kernel's middle.

    The size stays. kernel: (k, l) floats, both odd; it need not be symmetric. boundary: what lies outside the image.
    "reflect": its mirror image, the edge not repeated; "replicate": the nearest pixel; "circular": the other end;
    "zeros": 0, which is grey in [-1, 1]. The kernel reaches over fewer pixels than the image has.
    Raises: ValueError: an even or an empty kernel, one that is not finite, another boundary; on use: images too small.
        TypeError: a kernel that is not floating point.
    """

    kernel: Tensor
    boundary: str = "reflect"

    def __post_init__(self) -> None:
        if self.kernel.dim() != 2 or not all(size % 2 for size in self.kernel.shape):
            raise ValueError(f"kernel has shape {tuple(self.kernel.shape)}, expected (k, l), both odd")
        if not self.kernel.is_floating_point():
            raise TypeError(f"kernel is {self.kernel.dtype}, expected floating point values")
        if not self.kernel.isfinite().all():
            raise ValueError("kernel holds a value that is not finite")
        if self.boundary not in BOUNDARIES:
            raise ValueError(f"boundary is {self.boundary!r}, expected one of {', '.join(BOUNDARIES)}")

    def _reach(self, x: Tensor) -> tuple[int, int]:
        """Return by how many pixels the kernel leaves an image, up or down and to either side."""
        check_images(x)
        down, across = (size // 2 for size in self.kernel.shape)
        if down >= x.shape[2] or across >= x.shape[3]:
            raise ValueError(
                f"a kernel of {tuple(self.kernel.shape)} reaches over {(down, across)} pixels, expected fewer than "
                f"the image has: {tuple(x.shape[2:])}"
            )
        return down, across

    def _weight(self, x: Tensor) -> Tensor:
        """Return the kernel, flipped for a layer that correlates, once for each channel of x: (C, 1, k, l)."""
        return self.kernel.to(x).flip((0, 1)).expand(x.shape[1], 1, -1, -1)

    def __call__(self, x: Tensor) -> Tensor:
        down, across = self._reach(x)
        padded = pad(x, (across, across, down, down), mode=BOUNDARIES[self.boundary])
        return conv2d(padded, self._weight(x), groups=x.shape[1])

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y (B, C, H, W): the transposed convolution, whose margin is added back to where it came from."""
        (down, across), mode = self._reach(y), BOUNDARIES[self.boundary]
        padded = conv_transpose2d(y, self._weight(y), groups=y.shape[1])
        # Each row of a padded unit matrix says where one pixel was copied to: (H, H + 2 down) and (W, W + 2 across).
        eye = [torch.eye(size, dtype=y.dtype, device=y.device)[None] for size in y.shape[2:]]
        rows, columns = pad(eye[0], (down, down), mode=mode), pad(eye[1], (across, across), mode=mode)
        return rows @ padded @ columns.mT


def gaussian_kernel(sigma: float, *, radius: int | None = None) -> Tensor:
    """Return a Gaussian kernel (2 radius + 1, 2 radius + 1), float64, of sum 1; sigma is its deviation in pixels.

    radius: 4 sigma, rounded, unless given; what lies beyond is cut off.
    Raises: ValueError: sigma is not positive and finite, or the radius is negative.
    """
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma is {sigma}, expected a positive number of pixels")
    radius = int(TRUNCATE * sigma + 0.5) if radius is None else radius
    if radius < 0:
        raise ValueError(f"radius is {radius}, expected at least 0")
    places = torch.arange(-radius, radius + 1, dtype=torch.float64)
    axis = torch.exp(-0.5 * (places / sigma) ** 2)
    axis = axis / axis.sum()
    return torch.outer(axis, axis)


@dataclass(frozen=True, eq=False)
class Mask:
    """A x = x where it is known, 0 (grey in [-1, 1]) elsewhere: its own adjoint and its own pseudo-inverse.

    known: bool (B, 1, H, W), or (1, 1, H, W) for all images; True is a pixel that is seen. It follows x's device.
    Raises: TypeError: known is not boolean. ValueError: another shape; on use: it does not fit the images.
    """

    known: Tensor

    def __post_init__(self) -> None:
        if self.known.dtype != torch.bool:
            raise TypeError(f"known is {self.known.dtype}, expected torch.bool, True where a pixel is seen")
        if self.known.dim() != 4 or self.known.shape[1] != 1:
            raise ValueError(f"known has shape {tuple(self.known.shape)}, expected (B or 1, 1, H, W)")

    def __call__(self, x: Tensor) -> Tensor:
        check_images(x)
        if self.known.shape[2:] != x.shape[2:] or self.known.shape[0] not in (1, x.shape[0]):
            raise ValueError(
                f"known has shape {tuple(self.known.shape)}, and images of shape {tuple(x.shape)} need "
                f"({x.shape[0]} or 1, 1, {x.shape[2]}, {x.shape[3]})"
            )
        return torch.where(self.known.to(x.device), x, 0.0)

    adjoint = pinv = __call__


@dataclass(frozen=True)
class Downsample:
    """A low-pass and every s-th pixel: (B, C, s h, s w) -> (B, C, h, w), s = factor, by R of each axis: R_h x R_w^T.

    kernel: "average" takes the mean of each s x s block; "bicubic" Keys' cubic with a = -1/2, stretched by s, cut off
    at the edge and divided by its sum there: that of Pillow, and of `interpolate` with antialias=True. A cubic
    overshoots: values may leave [-1, 1].
    Raises: ValueError: factor is below 1 or another kernel; on use: H or W is no multiple of factor.
    Source: Keys 1981, doi:10.1109/TASSP.1981.1163711 (the cubic).
    """

    factor: int
    kernel: str = "average"

    def __post_init__(self) -> None:
        if self.factor < 1 or self.factor != int(self.factor):
            raise ValueError(f"factor is {self.factor}, expected a whole number, at least 1")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel is {self.kernel!r}, expected one of {', '.join(KERNELS)}")

    def _axis(self, size: int, like: Tensor) -> Tensor:
        """Return R (size / s, size): how much each of `size` pixels gives to each result."""
        if size % self.factor:
            raise ValueError(f"a side is {size} pixels, expected a multiple of the factor {self.factor}")
        places = (torch.arange(size, dtype=torch.float64) + 0.5) / self.factor - 0.5
        t = (places - torch.arange(size // self.factor)[:, None]).abs()  # distances in units of results
        if self.kernel == "average":
            weights = (t < 0.5).double()
        else:
            near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
            weights = torch.where(t < 1, near, torch.where(t < 2, far, 0.0))
        return (weights / weights.sum(1, keepdim=True)).to(like)

    def __call__(self, x: Tensor) -> Tensor:
        check_images(x)
        return self._axis(x.shape[2], x) @ x @ self._axis(x.shape[3], x).mT

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y (B, C, s h, s w). For "average": each value, divided by s^2, at each pixel of its block."""
        check_images(y)
        rows, columns = (self._axis(size * self.factor, y) for size in y.shape[2:])
        return rows.mT @ y @ columns

    def pinv(self, y: Tensor) -> Tensor:
        """Return A^+ y (B, C, s h, s w), of the images that give y the one of least norm; A A^+ y = y.

        For "average": each value at each pixel of its block, which is s^2 times the adjoint.
        """
        check_images(y)
        rows, columns = (self._axis(size * self.factor, y.double()) for size in y.shape[2:])
        return torch.linalg.pinv(rows).to(y) @ y @ torch.linalg.pinv(columns).to(y).mT


@dataclass(frozen=True)
class Composed:
    """Several operators, one after the other: A x = A_n ... A_1 x. None of them: the identity.

    The reversed pseudo-inverses are in general no pseudo-inverse of the whole, so there is none.
    """

    operators: tuple["Operator", ...]

    def __call__(self, x: Tensor) -> Tensor:
        check_images(x)
        for operator in self.operators:
            x = operator(x)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A_1^T ... A_n^T y."""
        check_images(y)
        for operator in reversed(self.operators):
            y = operator.adjoint(y)
        return y


Operator = Identity | Blur | Mask | Downsample | Composed


def consistent(x: Tensor, y: Tensor, operator: Operator) -> Tensor:
    """Return the image nearest to x that the operator turns into y: A^+ y + (x - A^+ A x), range plus null space.

    What was measured is taken from y, what the operator cannot see from x. Behind a mask the known pixels are y's, bit
    for bit. Where no image gives y, A of the result is the nearest to y that there is.
    Args: x: (B, C, H, W). y: (B, C, h, w), of A x's shape.
    Raises: TypeError: the operator has no pseudo-inverse in closed form. ValueError: y is not of A x's shape.
    Source: Wang, Yu and Zhang 2023, arXiv:2212.00490 (the range-null space decomposition).
    """
    if not hasattr(operator, "pinv"):
        raise TypeError(f"{type(operator).__name__} has no pseudo-inverse in closed form: no exact split")
    seen = operator(x)
    if seen.shape != y.shape:
        raise ValueError(f"y has shape {tuple(y.shape)}, expected that of A x: {tuple(seen.shape)}")
    return operator.pinv(y) + (x - operator.pinv(seen))


def check_images(x: Tensor) -> None:
    """Raise unless x is a batch of images: ValueError where it is not (B, C, H, W), TypeError if not floats."""
    if x.dim() != 4:
        raise ValueError(f"images have shape {tuple(x.shape)}, expected (B, C, H, W)")
    if not x.is_floating_point():
        raise TypeError(f"images are {x.dtype}, expected floating point values")
