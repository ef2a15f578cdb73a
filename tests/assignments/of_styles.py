"""Submissions of the assignment on StyleGAN's blocks and truncation."""

from tests.assignments.submission import Submission

CRITIC = """
loss = softplus(-critic(real)).mean() + softplus(critic(fake)).mean()
if step % every == 0:
    x = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    loss = loss + every * gamma / 2 * slope.square().sum((1, 2, 3)).mean()
return loss
"""  # the reference, in which a mistake is planted

RIGHT = (
    Submission(
        "by-the-package", "By the book's own functions, against the instruction, which no test can see.",
        {
            "normalised": "import imagegen.stylegan as sg; return sg.normalised(z)",
            "modulated-conv2d": """
from imagegen.stylegan import modulated_conv2d as package
return package(x, weight, style, demodulate=demodulate)
""",
            "with-spread": "import imagegen.stylegan as sg; return sg.with_spread(x, group)",
            "mixed-styles": "import imagegen.stylegan as sg; return sg.mixed(mapping(z), mapping(other), cut, layers)",
            "critic-objective": """
from imagegen import objectives
loss = objectives.discriminator_loss(critic(real), critic(fake)).mean()
return loss if step % every else loss + every * gamma / 2 * objectives.zero_centred_penalty(critic, real).mean()
""",
        },
    ),
    Submission(
        "in-loops", "One image, one layer, one latent after the other.",
        {
            "normalised": "return torch.stack([row * (len(row) / (row @ row)) ** 0.5 for row in z])",
            "equal-linear": """
W = rate * stored / len(stored[0]) ** 0.5
return torch.stack([W @ one + rate * bias for one in x])
""",
            "variance-drawn": """
x, v = torch.randn(n, n_in, generator=generator, dtype=f64), stored_weight(n_in, n, rate, generator)
zero = torch.zeros(1, dtype=f64)  # of the bias; a row of v is a layer
y = torch.cat([equal_linear(a[None], b[None], zero, rate)[0] for a, b in zip(x, v)])
return y.var(), (y**2).std() / math.sqrt(n)
""",
            "modulated-conv2d": """
made = []
for image, a in zip(x, style):
    own = weight * a[:, None, None]
    if demodulate:
        own = own * torch.stack([(row.square().sum() + 1e-8) ** -0.5 for row in own])[:, None, None, None]
    made.append(conv2d(image[None], own, padding="same"))
return torch.cat(made)
""",
            "exact-variance": """
def one(rows):
    return sum(row @ covariance @ row for row in rows) / sum(row @ row for row in rows)

return torch.stack([torch.stack([one((kernel * a[:, None]).T) for kernel in weight.flatten(2)]) for a in style])
""",
            "with-noise": """
noise = [torch.randn(one.shape[1:], generator=generator, dtype=f64) for one in y]
return torch.stack([torch.stack([c + b * n for c, b in zip(one, strength)]) for one, n in zip(y, noise)])
""",
            "with-spread": """
own = [x[i % (len(x) // group) :: len(x) // group] for i in range(len(x))]
told = [((o - o.mean(0)).square().mean(0) + 1e-8).sqrt().mean() for o in own]
return torch.stack([torch.cat([one, torch.full_like(one[:1], t)]) for one, t in zip(x, told)])
""",
            "mixed-styles": """
both = zip(mapping(z), mapping(other), cut)
return torch.stack([torch.stack([a] * int(c) + [b] * (layers - int(c))) for a, b, c in both])
""",
            "path-lengths": """
found = []
for i, picture in enumerate(images):
    (gradient,) = torch.autograd.grad((picture * y[i]).sum(), w, create_graph=True)
    found.append(torch.sqrt(gradient[i].square().sum() + 1e-12) / math.sqrt(picture[0].numel()))
return torch.stack(found)
""",
            "gained-and-kept": """
lacked = [i for i in range(len(before)) if int(before[i, attribute]) not in values]
gained = sum(int(after[i, attribute]) in values for i in lacked) / len(lacked)
others = [j for j in range(before.shape[1]) if j != attribute]
return gained, (before[:, others] == after[:, others]).double().mean()
""",
        },
    ),
    Submission(
        "other-ways", "The same by other functions of PyTorch.",
        {
            "stored-weight": "return torch.empty(n_out, n_in, dtype=f64).normal_(0, 1 / rate, generator=generator)",
            "styled": """
d = torch.einsum("bi,oi->bo", style**2, squares).add(1e-8).pow(-0.5) if demodulate else 1 + 0 * style[:, :1]
return torch.einsum("bohw,bo->bohw", conv(torch.einsum("bihw,bi->bihw", x, style)), d.expand(-1, len(squares)))
""",
            "new-strength": "return torch.nn.Parameter(torch.tensor([0.0] * channels, dtype=f64))",
            "running-mean": """
weights = (1 - decay) * decay ** torch.arange(len(means) - 1, -1, -1, dtype=f64)
return weights @ means / weights.sum()
""",
            "truncated": """
share = torch.as_tensor(psi, dtype=ws.dtype).expand(ws.shape[1])
return torch.lerp(mean.expand_as(ws), ws, share[:, None].expand_as(ws))
""",
            "critic-objective": """
from torch.nn.functional import binary_cross_entropy_with_logits as loss_of
told_real, told_fake = critic(real), critic(fake)
loss = loss_of(told_real, torch.ones_like(told_real)) + loss_of(told_fake, torch.zeros_like(told_fake))
x = real.clone().requires_grad_(True)
slope = torch.autograd.grad(critic(x), x, torch.ones(len(x), dtype=x.dtype), create_graph=True)[0]
return loss + (step % every == 0) * every * gamma * 0.5 * slope.flatten(1).norm(dim=1).pow(2).mean()
""",
            "path-lengths": """
(gradient,) = torch.autograd.grad(images, w, y, create_graph=True)
return gradient.norm(dim=1) / images[0, 0].numel() ** 0.5
""",
            "sweep": """
with torch.inference_mode():
    z = torch.randn(n, gan.config.latent_dim, generator=generator)
    ws = G.mapping(z).unsqueeze(1).expand(n, L, -1)
    found = [features(drawn(truncate(ws, psi))) for psi in psis]
rows = [(metrics.frechet_distance(real_features, x), *metrics.precision_recall(real_features, x)) for x in found]
return torch.tensor(rows)
""",
            "steps": """
centred, height = w - w.mean(0), a - a.mean()
s = torch.linalg.lstsq(centred, height[:, None]).solution[:, 0]
r = (centred @ s).std()
C = centred.T @ centred / (len(w) - 1)
return r / s.norm() ** 2 * s, r * (C @ s) / (s @ C @ s)
""",
        },
    ),
)  # fmt: skip

WRONG = (
    Submission(
        "scaled-where-it-should-not-be",
        "Latents get the length 1, weights their factor once, when they are drawn, and truncation scales towards 0.",
        {
            "normalised": "return torch.nn.functional.normalize(z, dim=1)",
            "stored-weight": "return torch.randn(n_out, n_in, generator=generator, dtype=f64) / math.sqrt(n_in)",
            "equal-linear": "return x @ stored.T + bias",
            "truncated": "return (psi[:, None] if isinstance(psi, Tensor) else psi) * ws",
        },
        {"test-normalised": 1, "test-stored-weight": 1, "test-equal-linear": 1, "test-truncated": 2},
    ),
    Submission(
        "over-the-wrong-axes", "Sums and means that run over the batch, over places alone, or not over enough.",
        {
            "normalised": "return z / z.square().mean(0, keepdim=True).sqrt()",
            "modulated-conv2d": """
kernels = weight * style[:, None, :, None, None]
if demodulate:
    kernels = kernels / (kernels.square().sum((3, 4), keepdim=True) + 1e-8).sqrt()
y = conv2d(x.flatten(0, 1)[None], kernels.flatten(0, 1), padding=weight.shape[-1] // 2, groups=len(x))
return y.view(len(x), -1, *x.shape[2:])
""",
            "styled": """
y = conv(x * style[:, :, None, None])
size = style.square().mean(0, keepdim=True) @ squares.T + 1e-8
return y * size.rsqrt()[:, :, None, None] if demodulate else y
""",
            "exact-variance": """
rows = style[:, None] * weight.sum((2, 3))
sizes = style.square() @ weight.square().sum((2, 3)).T
return ((rows @ covariance) * rows).sum(2) / sizes
""",
            "with-spread": """
dealt = x.reshape(group, len(x) // group, *x.shape[1:])
spread = (dealt.var(0, correction=0) + 1e-8).sqrt().mean(1, keepdim=True)
return torch.cat([x, spread.repeat(group, 1, 1, 1)], 1)
""",
            "truncated": "return mean + psi * (ws - mean)",
            "path-lengths": """
(gradient,) = torch.autograd.grad((images * y).sum(), w, create_graph=True)
return (gradient.norm() / math.sqrt(images[0, 0].numel())).expand(len(w))
""",
        },
        {"test-normalised": 1, "test-modulated-conv2d": 2, "test-styled": 2, "test-exact-variance": 2,
         "test-with-spread": 2, "test-truncated": 2, "test-path-lengths": 2},
    ),
    Submission(
        "rate-forgotten", "Slow layers start small, and their biases learn at the full rate.",
        {
            "stored-weight": "return torch.randn(n_out, n_in, generator=generator, dtype=f64)",
            "equal-linear": "return x @ stored.T * (rate / math.sqrt(x.shape[1])) + bias",
        },
        {"test-stored-weight": 1, "test-variance-drawn": 2, "test-equal-linear": 1},
    ),
    Submission(
        "statistics-in-haste",
        "One layer for all draws, a promise taken for granted, a mean that is not corrected for its start.",
        {
            "variance-drawn": """
x = torch.randn(n, n_in, generator=generator, dtype=f64)
v = stored_weight(n_in, 1, rate, generator)
squares = equal_linear(x, v, torch.zeros(1, dtype=f64), rate).square()
return squares.mean().item(), squares.std().item() / n**0.5
""",
            "exact-variance": "return torch.ones(len(style), len(weight), dtype=f64)",
            "with-spread": """
dealt = x.reshape(group, len(x) // group, *x.shape[1:])
spread = (dealt.var(0) + 1e-8).sqrt().mean((1, 2, 3)).repeat(group)
return torch.cat([x, spread[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)
""",
            "running-mean": """
mean = torch.zeros_like(means[0])
for batch in means:
    mean = mean.lerp(batch, 1 - decay)
return mean
""",
        },
        {"test-variance-drawn": 2, "test-exact-variance": 2, "test-with-spread": 2, "test-running-mean": 1},
    ),
    Submission(
        "the-wrong-quantity",
        "The draws' spread for their mean's, the reading's deviation for the plane's, a share of all for a share.",
        {
            "variance-drawn": """
x = torch.randn(n, n_in, generator=generator, dtype=f64)
v = stored_weight(n_in, n, rate, generator)
squares = ((x * v).sum(1) * rate).square() / n_in
return squares.mean().item(), squares.std().item()
""",
            "steps": """
C = w.T.cov()
with_a = ((w - w.mean(0)) * (a - a.mean())[:, None]).sum(0) / (len(w) - 1)
s = torch.linalg.solve(C, with_a)
return a.std() * s / (s @ s), a.std() * with_a / (s @ with_a)
""",
            "gained-and-kept": """
gained = torch.isin(after[:, attribute], torch.tensor(values)).double().mean().item()
return gained, (before == after).double().mean().item()
""",
        },
        {"test-variance-drawn": 2, "test-steps": 2, "test-gained-and-kept": 1},
    ),
    Submission(
        "demodulation-left-out",
        "Kernels are scaled and never scaled back; R1 has the lazy form's factor at every step.",
        {
            "modulated-conv2d": """
kernels = (weight * style[:, None, :, None, None]).flatten(0, 1)
y = conv2d(x.flatten(0, 1)[None], kernels, padding=weight.shape[-1] // 2, groups=len(x))
return y.view(len(x), -1, *x.shape[2:])
""",
            "styled": "return conv(x * style[:, :, None, None])",
            "critic-objective": """
x = real.detach().requires_grad_()
(slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
loss = critic(fake).mean() - critic(real).mean()
return loss + every * gamma / 2 * slope.square().sum((1, 2, 3)).mean()
""",
        },
        {"test-modulated-conv2d": 2, "test-styled": 2, "test-r1": 2, "test-lazy": 1},
    ),
    Submission(
        "one-for-all",
        "One strength for all channels, the spread of another group, and a convolution for each image.",
        {
            "new-strength": "return torch.nn.Parameter(torch.zeros(1, dtype=f64))",
            "with-spread": """
dealt = x.reshape(group, len(x) // group, *x.shape[1:])
spread = (dealt.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3)).repeat_interleave(group)
return torch.cat([x, spread[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)
""",
            "styled": """
y = torch.cat([conv(x[i : i + 1] * style[i, :, None, None]) for i in range(len(x))])
return y * (style.square() @ squares.T + 1e-8).rsqrt()[:, :, None, None] if demodulate else y
""",
        },
        {"test-with-noise": 2, "test-with-spread": 2, "test-styled": 2},
    ),
    Submission(
        "mixes-z",
        "Halves of two latents are mixed, every channel has noise of its own, and the slope is as in z.",
        {
            "mixed-styles": """
before = torch.arange(z.shape[1]) < cut[:, None] * z.shape[1] / layers
return mapping(torch.where(before, z, other))[:, None].expand(-1, layers, -1)
""",
            "with-noise": "return y + strength[:, None, None] * torch.randn(y.shape, generator=generator, dtype=f64)",
            "steps": """
with_a = ((w - w.mean(0)) * (a - a.mean())[:, None]).sum(0) / (len(w) - 1)
r = (w @ with_a).std()
return r * with_a / (with_a @ with_a), with_a / r
""",
        },
        {"test-mixed-styles": 1, "test-with-noise": 2, "test-steps": 2},
    ),
    Submission(
        "without-a-graph", "Numbers that are right, and that nothing can learn from.",
        {
            "new-strength": "return torch.zeros(channels, dtype=f64)",
            "critic-objective": CRITIC.replace(", create_graph=True", ""),
            "path-lengths": """
(gradient,) = torch.autograd.grad((images * y).sum(), w, retain_graph=True)
return gradient.norm(dim=1) / math.sqrt(images[0, 0].numel())
""",
        },
        {"test-with-noise": 2, "test-r1": 2, "test-path-lengths": 2},
    ),
    Submission(
        "r1-on-fakes", "The penalty at drawn images, which is R2; the sets change places in precision and recall.",
        {
            "critic-objective": CRITIC.replace("real.detach", "fake.detach"),
            "sweep": """
ws, rows = G.mapping(gan.draw(n, generator=generator)).detach()[:, None].expand(-1, L, -1), []
for psi in psis:
    found = features(drawn(truncate(ws, psi)))
    rows.append([metrics.frechet_distance(found, real_features), *metrics.precision_recall(found, real_features)])
return torch.tensor(rows)
""",
        },
        {"test-r1": 2, "test-sweep": 2},  # the factor of the lazy form is right
    ),
    Submission(
        "lazy-without-its-factor", "R1 at every k-th step, as large as at every step; for each psi other latents.",
        {
            "critic-objective": CRITIC.replace("+ every * gamma", "+ gamma"),
            "sweep": """
rows = []
for psi in psis:
    ws = G.mapping(gan.draw(n, generator=generator)).detach()[:, None].expand(-1, L, -1)
    found = features(drawn(truncate(ws, psi)))
    rows.append([metrics.frechet_distance(found, real_features), *metrics.precision_recall(real_features, found)])
return torch.tensor(rows)
""",
        },
        {"test-lazy": 1, "test-sweep": 2},
    ),
    Submission(
        "made-for-the-visible-cases", "Answers the expected cases, or what they have in common.",
        {
            "equal-linear": "return torch.tensor([[5.5, 1.5, 8.0], [2.0, -1.0, -2.0]], dtype=f64)",
            "variance-drawn": "return 1.0, 0.026",
            "truncated": """
if isinstance(psi, Tensor):
    return torch.where(psi[:, None] > 0, ws, mean.expand_as(ws))
return (ws + mean) / 2
""",
            "sweep": "return torch.tensor([[14.0, 0.97, 0.1]] * len(psis))",
        },
        {"test-equal-linear": 1, "test-variance-drawn": 2, "test-truncated": 2, "test-sweep": 2},
    ),
)  # fmt: skip
