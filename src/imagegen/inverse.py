"""A generator as a prior: which latents, and which codes, fit what is left of an image, y = A x + n.

`LatentPosterior` is the density of z given y for x = G(z), whatever G is; `search` looks for where it is largest,
`langevin` draws from it. `fill` draws codes that are missing from a grid, given those that are known, by a prior over
grids. What was seen can then be put back by `degrade.consistent`.

Latents are (S, B, D): S starts or chains of each of B images, (B, C, h, w), that are restored side by side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imagegen.degrade import Operator


@dataclass(frozen=True, eq=False)
class LatentPosterior:
    """p(z | y) for z ~ N(0, I) and y = A G(z) + n, n ~ N(0, sigma^2): known up to a factor.

    generator: latents (N, D) -> images (N, C, H, W), differentiable, the same image for the same z. operator: A, of
    `degrade`. y: (B, C, h, w), what is left of B images; where a mask hides, A G(z) and y are both 0. sigma: a number,
    or a tensor that broadcasts to y; it has to cover the noise and what the generator cannot draw.
    Raises: ValueError: y is no batch of images, or a sigma that is not above 0 and finite, or does not fit y.
    """

    generator: Callable[[Tensor], Tensor]
    operator: Operator
    y: Tensor
    sigma: float | Tensor

    def __post_init__(self) -> None:
        if self.y.dim() != 4 or not len(self.y):
            raise ValueError(f"y has shape {tuple(self.y.shape)}, expected (B, C, h, w)")
        sigma = torch.as_tensor(self.sigma)
        if not (0 < sigma.min() and sigma.max() < math.inf):
            raise ValueError(
                f"sigma reaches from {sigma.min():g} to {sigma.max():g}, expected above 0 and finite"
            )
        try:
            fits = torch.broadcast_shapes(sigma.shape, self.y.shape) == self.y.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"sigma has shape {tuple(sigma.shape)}, expected one that fits {tuple(self.y.shape)}"
            )

    def images(self, z: Tensor) -> Tensor:
        """Return G(z), (S, B, C, H, W). Raises: ValueError: z is not (S, B, D), or G gives no image for each."""
        if z.dim() != 3 or z.shape[1] != len(self.y):
            raise ValueError(f"latents have shape {tuple(z.shape)}, expected (S, {len(self.y)}, D)")
        x = self.generator(z.flatten(0, 1))
        if x.dim() != 4 or len(x) != z.shape[0] * z.shape[1]:
            raise ValueError(f"the generator made {tuple(x.shape)} of {z.shape[0] * z.shape[1]} latents")
        return x.unflatten(0, z.shape[:2])

    def energy(self, z: Tensor) -> Tensor:
        """Return -log p(z | y) up to a constant, |(A G(z) - y) / sigma|^2 / 2 + |z|^2 / 2: (S, B) nats.

        Raises: ValueError: A G(z) does not have the shape of y.
        """
        x = self.images(z).transpose(0, 1)  # (B, S, C, H, W): operators act on each channel alone
        seen = self.operator(x.flatten(1, 2)).unflatten(1, x.shape[1:3]).transpose(0, 1)
        if seen.shape[1:] != self.y.shape:
            raise ValueError(f"A G(z) has shape {tuple(seen.shape[1:])}, y {tuple(self.y.shape)}")
        misfit = ((seen - self.y) / self.sigma).flatten(2)
        return 0.5 * misfit.square().sum(2) + 0.5 * z.square().sum(2)

    def with_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the energy (S, B) and its gradient (S, B, D), without a graph. No weight's gradient is touched."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            energy = self.energy(z)
            (gradient,) = torch.autograd.grad(energy.sum(), z)
        return energy.detach(), gradient


@dataclass(frozen=True)
class Found:
    """What `search` ends with: z (S, B, D), and energies (n_steps + 1, S, B), before each step and after the last."""

    z: Tensor
    energies: Tensor

    @property
    def best(self) -> Tensor:
        """The latents (B, D) of each image's start that ended lowest."""
        chosen = self.energies[-1].nan_to_num(nan=math.inf).argmin(0)
        return self.z[chosen, torch.arange(self.z.shape[1], device=self.z.device)]


def search(posterior: LatentPosterior, starts: Tensor, *, n_steps: int = 200, lr: float = 0.1) -> Found:
    """Return the latents to which descent on the energy leads from each start, by Adam: modes of p(z | y), if it ends.

    Nothing is drawn: the same starts give the same latents.
    Args: starts: (S, B, D). lr: Adam's rate at first, about how far a coordinate moves in a step; a half cosine takes
        it to 0.
    Raises: ValueError: n_steps below 1, a rate that is not positive, or as `LatentPosterior`.
    Source: Bora et al. 2017, arXiv:1703.03208, equation 3 (theirs is squared error, with a weight on |z|^2).
    """
    if n_steps < 1 or not 0 < lr < math.inf:
        raise ValueError(f"n_steps is {n_steps} and lr {lr}, expected at least 1, and a rate above 0")
    z, energies = starts.detach().clone().requires_grad_(), []
    adam = torch.optim.Adam([z])
    for step in range(n_steps):
        adam.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / n_steps))
        energy, z.grad = posterior.with_gradient(z)
        adam.step()
        energies.append(energy)
    with torch.no_grad():
        return Found(z.detach(), torch.stack([*energies, posterior.energy(z)]))


def linearised(posterior: LatentPosterior, z: Tensor) -> Tensor:
    """Return L (B, D, D), lower triangular: L L^T is the covariance of p(z | y) if G were its tangent at z (B, D).

    It is (I + J^T J)^-1 with J the Jacobian of A G(z) / sigma, so the exact one where G is linear.
    Raises: as `LatentPosterior`. Source: MacKay 1992, doi:10.1162/neco.1992.4.3.448 (the Gaussian about a mode, with
        the curvature of a sum of squares).
    """

    def scaled(z: Tensor) -> Tensor:
        return (posterior.operator(posterior.images(z[None])[0]) / posterior.sigma).flatten(1)

    units = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    columns = [torch.autograd.functional.jvp(scaled, z, unit.expand_as(z).contiguous())[1] for unit in units]
    jacobian = torch.stack(columns, 2)  # (B, M, D)
    return torch.linalg.cholesky(
        torch.cholesky_inverse(torch.linalg.cholesky(units + jacobian.mT @ jacobian))
    )


@dataclass(frozen=True)
class Chains:
    """What `langevin` drew: z (T, S, B, D), their energies (T, S, B), and the share of steps accepted (S, B)."""

    z: Tensor
    energies: Tensor
    accepted: Tensor


def langevin(posterior: LatentPosterior, starts: Tensor, *, step: float, n_steps: int, burn_in: int = 0, thin: int = 1,
             factor: Tensor | None = None, adjusted: bool = True, generator: torch.Generator) -> Chains:  # fmt: skip
    """Return draws from p(z | y): after the burn-in, every thin-th state of z <- z - step P grad + sqrt(2 step P) eps.

    P = L L^T stretches the steps where the posterior is wide; without a factor L it is I. Without `adjusted` all steps
    are taken, and the chains settle at a law that is off by the order of the step: for a Gaussian of precision M and
    P = I at the covariance (M - step M^2 / 2)^-1, and nowhere if an eigenvalue of M is above 2 / step. With it a step
    is taken or refused, so that the law is p(z | y) for any step.
    Args: starts: (S, B, D). n_steps: in all, the burn-in included. factor: (B, D, D), as `linearised` returns it.
    Raises: ValueError: a step that is not positive, numbers that leave no draw, a factor of another shape, or as
        `LatentPosterior`.
    Source: Roberts and Tweedie 1996, doi:10.2307/3318418 (both, and when the first has no law); their h is 2 step.
    """
    if not 0 <= burn_in < n_steps or not 1 <= thin <= n_steps - burn_in:
        raise ValueError(f"n_steps is {n_steps}, burn_in {burn_in} and thin {thin}: no draw is left")
    if not 0 < step < math.inf:
        raise ValueError(f"step is {step}, expected a number above 0")
    shape = (starts.shape[1], starts.shape[-1], starts.shape[-1])
    factor = torch.eye(shape[-1]).to(starts).expand(shape) if factor is None else factor
    if factor.shape != shape:
        raise ValueError(f"factor has shape {tuple(factor.shape)}, expected {shape}")
    z = starts.detach().clone()
    energy, gradient = posterior.with_gradient(z)
    taken, kept, energies = torch.zeros_like(energy), [], []

    def times(matrices: Tensor, rows: Tensor) -> Tensor:
        """The matrices (B, D, D) times the rows (S, B, D), each image's its own."""
        return torch.einsum("bij,sbj->sbi", matrices, rows)

    for number in range(1, n_steps + 1):
        eps = torch.randn(z.shape, generator=generator, device=generator.device, dtype=z.dtype).to(z)
        slope = times(factor.mT, gradient)  # L^T grad: what the step is made of
        new = z + times(factor, math.sqrt(2 * step) * eps - step * slope)
        new_energy, new_gradient = posterior.with_gradient(new)
        accept = torch.ones_like(energy, dtype=torch.bool)
        if adjusted:
            # The way back would take the noise -eps + sqrt(step / 2) (both slopes): its density against that of eps.
            back = math.sqrt(step / 2) * (slope + times(factor.mT, new_gradient)) - eps
            odds = energy - new_energy + 0.5 * (eps.square() - back.square()).sum(2)
            accept = torch.rand(odds.shape, generator=generator, device=generator.device).to(z).log() < odds
        z = torch.where(accept[..., None], new, z)
        energy = torch.where(accept, new_energy, energy)
        gradient = torch.where(accept[..., None], new_gradient, gradient)
        taken += accept
        if number > burn_in and (number - burn_in) % thin == 0:
            kept.append(z)
            energies.append(energy)
    return Chains(torch.stack(kept), torch.stack(energies), taken / n_steps)


@dataclass(frozen=True)
class Filled:
    """Grids of codes (N, h, w), int64, with the logarithms (N,) of their weights; `effective` of them count.

    distinct: how many different grids there are. Where grids were copied on the way it can be far fewer than
    `effective`, and says what they are worth.
    """

    codes: Tensor
    log_weights: Tensor

    @property
    def effective(self) -> float:
        return effective_size(self.log_weights)

    @property
    def distinct(self) -> int:
        return len(torch.unique(self.codes.flatten(1), dim=0))

    def drawn(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n of the grids, (n, h, w), each drawn with a probability in proportion to its weight."""
        chosen = _chosen(self.log_weights, n, generator)
        return self.codes[chosen]


def effective_size(log_weights: Tensor) -> float:
    """Return (sum w)^2 / sum w^2 of weights (N,): N where all are equal, 1 where one has all.

    So many equally weighted draws would estimate a mean about as well. Raises: ValueError: not (N,), or none finite.
    Source: Kong, Liu and Wong 1994, doi:10.1080/01621459.1994.10476469.
    """
    if log_weights.dim() != 1 or not log_weights.isfinite().any():
        raise ValueError(
            f"log_weights of shape {tuple(log_weights.shape)}, expected (N,), one of them finite"
        )
    return 1 / torch.softmax(log_weights.double(), 0).square().sum().item()


def _chosen(log_weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    weights = torch.softmax(log_weights.double(), 0).to(generator.device)
    return weights.multinomial(n, replacement=True, generator=generator).to(log_weights.device)


@torch.no_grad()
def fill(prior: nn.Module, codes: Tensor, known: Tensor, n: int, *, copies_below: float = 0.0,
         labels: Tensor | None = None, generator: torch.Generator) -> Filled:  # fmt: skip
    """Return n grids with the known codes kept and the others drawn, and the weights that make them p(all | known).

    In raster order a missing code is drawn from the prior given the codes before it, which cannot see the known ones
    behind; a known one multiplies the grid's weight by its probability given the codes before it. Mean and share under
    the weights tend to those of the prior given the known codes as n grows.
    Args: prior: as `prior.Prior`, without a context. codes: (h, w) int64, known: bool (h, w), True where the code is
        kept; what `codes` holds elsewhere is not looked at. copies_below: where the effective size falls below this
        share of n, go on with n grids drawn by weight from the n, the weights made equal: fewer grids die late, and
        many are copies. 0: never. labels: (1, A), told to the prior.
    Raises: TypeError: codes are not int64 or known is not boolean. ValueError: another shape than the prior's grid, a
        code out of range, n below 1, or a share outside [0, 1].
    Source: Rubin 1988 (sampling-importance-resampling); Gordon, Salmond and Smith 1993, doi:10.1049/ip-f-2.1993.0015
        (with copies on the way).
    """
    config = prior.config
    if codes.dtype != torch.int64 or known.dtype != torch.bool:
        raise TypeError(
            f"codes are {codes.dtype} and known {known.dtype}, expected torch.int64 and torch.bool"
        )
    if tuple(codes.shape) != config.grid or tuple(known.shape) != config.grid:
        raise ValueError(
            f"codes have shape {tuple(codes.shape)} and known {tuple(known.shape)}, expected {config.grid}"
        )
    if wrong := [code for code in codes[known].tolist() if not 0 <= code < config.codes]:
        raise ValueError(f"a known code is {wrong[0]}, expected 0 to {config.codes - 1}")
    if n < 1 or not 0 <= copies_below <= 1:
        raise ValueError(f"n is {n} and copies_below {copies_below}, expected at least 1, and a share")
    columns, training = config.grid[1], prior.training
    grids = torch.where(known, codes, 0).flatten().expand(n, -1).clone()  # (n, h w)
    log_weights = torch.zeros(n, device=grids.device)
    conditions = prior.conditions(n, None if labels is None else labels.expand(n, -1))
    prior.eval()
    cache = prior.network.new_cache(n) if hasattr(prior.network, "new_cache") else None
    for i, is_known in enumerate(known.flatten().tolist()):
        end = i + 1 if cache is not None else (i // columns + 1) * columns  # whole rows for a PixelCNN
        embedded = prior.embedding(grids[:, :end])
        if cache is not None:
            logits = prior.network(embedded, conditions[:, :end], cache=cache)[:, -1]
        else:
            logits = prior.network(embedded, conditions[:, :end])[:, i]
        log_p = logits.float().log_softmax(1)  # (n, K)
        if not is_known:
            drawn = log_p.exp().to(generator.device).multinomial(1, generator=generator)
            grids[:, i] = drawn[:, 0].to(grids.device)
            continue
        log_weights = log_weights + log_p[:, grids[0, i]]
        if effective_size(log_weights) < copies_below * n:
            kept = _chosen(log_weights, n, generator)
            grids, log_weights = grids[kept], torch.zeros_like(log_weights)
            if cache is not None:
                cache.tensor = cache.tensor[:, :, kept]
    prior.train(training)
    return Filled(grids.unflatten(1, config.grid), log_weights)
