"""Submissions of the assignment on restoring images."""

from tests.assignments.submission import Submission

RIGHT = (
    Submission(
        "by-frequencies-and-roots", "Blurs are products of frequencies, Gaussians are roots of covariances.",
        {
            "blur": """
small = torch.zeros(x.shape[2:], dtype=x.dtype)
small[: kernel.shape[0], : kernel.shape[1]] = kernel
small = small.roll((-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1))
return torch.fft.ifft2(torch.fft.fft2(x) * torch.fft.fft2(small)).real
""",
            "blur-adjoint": """
return torch.autograd.functional.vjp(lambda t: blur(t, kernel), torch.zeros_like(y), y)[1]
""",
            "shrink-adjoint": "return torch.kron(y, torch.full((1, 1, s, s), 1 / s**2, dtype=y.dtype))",
            "shrink-pinv": "return nn.functional.interpolate(y, scale_factor=s, mode='nearest')",
            "observe": """
y = x.clone()
for image in y:
    image += 2 * level / 255 * torch.randn(image.shape, generator=generator, dtype=x.dtype)
return y.masked_fill(~known, 0)
""",
            "psnr": """
inside = torch.minimum(torch.maximum(answer, torch.tensor(-1.0)), torch.tensor(1.0))
return torch.stack([-20 * torch.log10((a - b).square().mean().sqrt() / 2) for a, b in zip(x, inside)])
""",
            "posterior": """
lam, axes = torch.linalg.eigh(cov)
W = axes * lam.clamp(min=0).sqrt()
H = A @ W
spread = torch.linalg.inv(torch.eye(len(mu), dtype=y.dtype) + H.T @ H / sigma**2)
return mu + (y - A @ mu) @ H @ spread @ W.T / sigma**2, W @ spread @ W.T
""",
            "linear-error": """
K = A @ cov @ A.T + sigma**2 * torch.eye(len(A), dtype=A.dtype)
return (cov.trace() - 2 * (G @ A @ cov).trace() + (G @ K @ G.T).trace()).item()
""",
            "draw": """
U, S, _ = torch.linalg.svd(cov)
return mean + torch.randn(mean.shape, generator=generator, dtype=f64) @ (U * S.sqrt()).T
""",
            "project": "return answers + torch.linalg.lstsq(A, (y - answers @ A.T).T, driver='gelsd').solution.T",
            "answers": """
median = torch.zeros(len(weights), world.shape[1], dtype=world.dtype)
for b, w in enumerate(weights):
    for p in range(world.shape[1]):
        costs = [(w * (world[:, p] - v).abs()).sum().item() for v in world[:, p]]
        median[b, p] = world[costs.index(min(costs)), p]
return torch.einsum('bn,np->bp', weights, world), median, world[weights.max(1).indices]
""",
            "restore": """
inputs = torch.stack([y.masked_fill(~known, 0)[:, 0], known[:, 0].to(y.dtype)], 1)
return inputs[:, :1] - net(inputs)
""",
            "fit-linear": """
a, b = x - x.mean(0), y - y.mean(0)
G = torch.linalg.solve(b.T @ b, b.T @ a).T
return G, x.mean(0) - G @ y.mean(0)
""",
            "train": """
losses = []
adam = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=1e-3)
fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 300)
for _ in range(300):
    x = images[torch.randperm(len(images), generator=generator)[:64]]
    loss = nn.functional.mse_loss(restore(net, *damaged(x, generator)), x)
    adam.zero_grad(), loss.backward(), adam.step(), fall.step()
    losses.append(float(loss.detach()))
return losses
""",
        },
    ),
    Submission(
        "by-the-package", "What the package has is called, against the instruction, which no test can see.",
        {
            "blur": """
from imagegen.degrade import Blur
return Blur(kernel, "circular")(x)
""",
            "blur-adjoint": """
from imagegen.degrade import Blur
return Blur(kernel, "circular").adjoint(y)
""",
            "shrink-adjoint": """
from imagegen.degrade import Downsample
return Downsample(s).adjoint(y)
""",
            "shrink-pinv": """
from imagegen.degrade import Downsample
return Downsample(s).pinv(y)
""",
            "observe": """
from imagegen.degrade import Mask, add_gaussian
return Mask(known)(add_gaussian(x, level / 127.5, generator=generator))
""",
            "psnr": """
from imagegen import metrics
return metrics.psnr(x, answer.clamp(-1, 1), span=2)
""",
            "posterior": """
K = A @ cov @ A.T + sigma**2 * torch.eye(A.shape[0], dtype=f64)
back = cov @ A.T @ torch.linalg.inv(K)
return torch.stack([mu + back @ (one - A @ mu) for one in y]), cov - back @ K @ back.T
""",
            "draw": """
root = torch.linalg.cholesky(cov + 1e-8 * torch.eye(len(cov), dtype=cov.dtype))
return mean + torch.randn(mean.shape, generator=generator, dtype=mean.dtype) @ root.T
""",
            "denoised": """
return y + sigma**2 * torch.func.vmap(torch.func.grad(lambda one: log_density(one[None])[0]))(y)
""",
            "known-share": """
axes = torch.linalg.svd(A, full_matrices=False)
seen = axes.Vh[axes.S > 1e-10 * axes.S.max()] @ v
return (seen @ seen / (v @ v)).item()
""",
            "weights": """
logits = -torch.cdist(y, seen).square() / sigma**2 / 2
return (logits - logits.logsumexp(1, keepdim=True)).exp()
""",
            "train": """
losses, order = [], torch.randperm(len(images), generator=generator)
adam = torch.optim.Adam(net.parameters(), 2e-3, betas=(0.9, 0.99))
for step in range(450):
    if step == 350:
        adam.param_groups[0]["lr"] = 5e-4
    x = images[order[(step * 40 + torch.arange(40)) % len(order)]]
    y, known = damaged(x, generator)
    loss = (restore(net, y, known) - x).square().flatten(1).mean(1).mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
    losses.append(loss.item())
return losses
""",
        },
    ),
)  # fmt: skip

WRONG = (
    Submission(
        "a-layer-that-correlates", "A layer does not turn the kernel; repetition is no adjoint; noise is not free.",
        {
            "blur": """
k, l = kernel.shape
wide = nn.functional.pad(x, (l // 2, l // 2, k // 2, k // 2), mode="circular")
return nn.functional.conv2d(wide, kernel.expand(x.shape[1], 1, k, l), groups=x.shape[1])
""",
            "blur-adjoint": """
return sum(kernel[m, n] * y.roll((kernel.shape[0] // 2 - m, kernel.shape[1] // 2 - n), (2, 3))
           for m in range(kernel.shape[0]) for n in range(kernel.shape[1]))
""",
            "shrink-adjoint": "return y.repeat_interleave(s, 2).repeat_interleave(s, 3)",
            "linear-error": "return ((torch.eye(len(cov)) - G @ A) @ cov @ (torch.eye(len(cov)) - G @ A).T).trace()",
        },
        {"test-blur": 1, "test-shrink-adjoint": 1, "test-error": 2},
    ),
    Submission(
        "its-own-adjoint", "The same kernel again, right for those that are symmetric; and an adjoint for an inverse.",
        {
            "blur-adjoint": "return blur(y, kernel)",
            "shrink-pinv": "return y.repeat_interleave(s, 2).repeat_interleave(s, 3) / s**2",
            "project": "return answers + (y - answers @ A.T) @ A  # one step against the gradient",
            "known-share": "return (A @ v).square().sum() / v.square().sum()",
        },
        {"test-blur-adjoint": 2, "test-shrink-pinv": 1, "test-project": 2, "test-known": 1},
    ),
    Submission(
        "noise-cut-off", "The noisy image is clamped, as some libraries do; the peak is taken for 1.",
        {
            "observe": """
noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
return torch.where(known, (x + 2 * level / 255 * noise).clamp(-1, 1), 0.0)
""",
            "psnr": "return 10 * torch.log10(1 / (answer.clamp(-1, 1) - x).square().flatten(1).mean(1))",
        },
        {"test-noise": 1, "test-psnr": 1},
    ),
    Submission(
        "sigma-of-another-range", "The level is taken in units of [0, 1]: half of the noise, and 6 dB for nothing.",
        {
            "observe": """
noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
return torch.where(known, x + level / 255 * noise, 0.0)
""",
            "psnr": "return 10 * torch.log10(4 / (answer - x).square().flatten(1).mean(1))",
        },
        {"test-noise": 1, "test-psnr": 1},
    ),
    Submission(
        "a-hole-that-is-not-empty", "Noise is added after the mask; draws of a root that is none; spread for error.",
        {
            "observe": """
noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
return torch.where(known, x, 0.0) + 2 * level / 255 * noise
""",
            "draw": """
noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
return mean + noise @ cov
""",
            "measured-error": """
squares = (x - answers).square().sum(1)
return squares.mean(), squares.std()
""",
        },
        {"test-hole": 1, "test-draw": 2, "test-bar": 1},
    ),
    Submission(
        "deviation-for-variance", "Sigma stands where its square belongs, in the posterior and in Tweedie's formula.",
        {
            "posterior": """
K = A @ cov @ A.T + sigma * torch.eye(len(A), dtype=A.dtype)
gain = torch.linalg.solve(K, A @ cov).T
return mu + (y - A @ mu) @ gain.T, cov - gain @ A @ cov
""",
            "denoised": """
y = y.detach().clone().requires_grad_()
return (y + sigma * torch.autograd.grad(log_density(y).sum(), y)[0]).detach()
""",
            "weights": "return torch.softmax(-(y[:, None] - seen).square().sum(2) / (2 * sigma), 1)",
        },
        {"test-posterior-mean": 2, "test-posterior-cov": 1, "test-tweedie": 2, "test-weights": 1},
    ),
    Submission(
        "the-prior-once-more", "The prior's covariance for the posterior's; and weights whose exponentials are all 0.",
        {
            "posterior": """
K = A @ cov @ A.T + sigma**2 * torch.eye(len(A), dtype=A.dtype)
return mu + (y - A @ mu) @ torch.linalg.solve(K, A @ cov), cov
""",
            "weights": """
odds = torch.exp(-(y[:, None] - seen).square().sum(2) / (2 * sigma**2))
return odds / odds.sum(1, keepdim=True)
""",
            "fit-linear": "return torch.linalg.lstsq(y, x).solution.T, torch.zeros(x.shape[1], dtype=x.dtype)",
        },
        {"test-posterior-cov": 1, "test-weights": 1, "test-matrix": 1},
    ),
    Submission(
        "one-noise-for-all", "One draw serves the whole batch; the median forgets the weights; the mean does, too.",
        {
            "draw": """
variances, axes = torch.linalg.eigh(cov)
noise = torch.randn(mean.shape[1], generator=generator, dtype=mean.dtype)
return mean + (noise * variances.clamp(min=0).sqrt()) @ axes.T
""",
            "answers": """
middle = world.median(0).values.expand(len(weights), -1)
return world.mean(0).expand(len(weights), -1), middle, world[weights.argmax(1)]
""",
        },
        {"test-draw": 2, "test-mean-mode": 1, "test-median": 1},
    ),
    Submission(
        "the-mask-the-other-way", "True is taken for a hole where the mask is shown. The network learns it like that.",
        {"restore": """
y = torch.where(known, y, 0.0)
return y - net(torch.cat([y, (~known).to(y)], 1))
"""},
        {"test-restore": 2},
    ),
    Submission(
        "what-lies-behind", "What y holds in the hole is not put to 0; the target of the training is the noisy image.",
        {
            "restore": "return y - net(torch.cat([y, known.to(y)], 1))",
            "train": """
adam = torch.optim.Adam(net.parameters(), 3e-3)
for step in range(100):
    x = images[torch.randint(len(images), (32,), generator=generator)]
    y, known = damaged(x, generator)
    loss = (restore(net, y, known) - y).square().mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
return [0.0]
""",
        },
        {"test-restore": 2, "test-train": 3},
    ),
    Submission(
        "one-batch-for-ever", "Images and damage are drawn once: the network learns them by heart.",
        {"train": """
losses, adam = [], torch.optim.Adam(net.parameters(), 3e-3)
x = images[torch.randint(len(images), (32,), generator=generator)]
y, known = damaged(x, generator)
for _ in range(300):
    loss = (restore(net, y, known) - x).square().mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
    losses.append(loss.item())
return losses
"""},
        {"test-train": 3},
    ),
    Submission(
        "gradients-that-pile-up", "The gradients of all steps before are never cleared; and few of the steps are left.",
        {"train": """
losses, adam = [], torch.optim.SGD(net.parameters(), 1e-3)
for _ in range(60):
    x = images[torch.randint(len(images), (32,), generator=generator)]
    y, known = damaged(x, generator)
    loss = (restore(net, y, known) - x).square().mean()
    loss.backward()
    adam.step()
    losses.append(loss.item())
return losses
"""},
        {"test-train": 3},
    ),
)  # fmt: skip
