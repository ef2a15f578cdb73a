"""Submissions of the assignment on a VAE that collapses: its loss, the measures that show it, and the cure."""

from tests.assignments.submission import Submission

RIGHT = (
    Submission(
        "by-the-package", "Everything from the package, against the instruction, which no test can see.",
        {
            "nll": "return ob.bernoulli_nll(logits, target)",
            "floor": "return ob.bernoulli_entropy(target)",
            "blind": """
m = target.mean(dim=0).clamp(1e-6, 1 - 1e-6)
return m.log() - (1 - m).log()
""",
            "free-bits": "return ob.free_bits(kl_per_dim, free)[0]",
            "implied": """
sums = {"reconstruction": "mean" if pixel_mean else "sum", "kl": "mean" if latent_mean else "sum"}
found = ob.implied_likelihood(kind, n_pixels=pixels, n_latents=latents, kl_weight=w, **sums)
return found.beta if kind == "bernoulli" else found.equivalent_variance
""",
            "active": "return metrics.active_units(mean, threshold=threshold)",
            "information": """
q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
z = q.mean + q.stddev * torch.randn(n, *mean.shape, generator=generator, dtype=mean.dtype)
found = [q.log_prob(z.roll(k, 1)).sum(-1).roll(-k, 1) for k in range(len(mean))]
return (found[0] - torch.stack(found).logsumexp(0) + math.log(len(mean))).mean()
""",
            "loss": """
out = vae(x, generator=generator)
nll = ob.bernoulli_nll(out.params, images.to_unit(x)).mean()
kl = ob.gaussian_kl_per_dim(out.mean, out.log_var).mean(0)
return nll + beta * ob.kl_weight(step, warm_up) * torch.maximum(kl, torch.full_like(kl, free)).sum()
""",
            "tried": "return [0.8, 0.1, 0.4, 5]",
        },
    ),
    Submission(
        "in-loops", "Plain Python where it can be, and other figures for the cure.",
        {
            "nll": """
losses = -(target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits))
return torch.stack([one.sum() for one in losses])
""",
            "floor": """
cost = lambda p: 0.0 if p in (0.0, 1.0) else -p * math.log(p) - (1 - p) * math.log1p(-p)
return torch.tensor([sum(map(cost, one.flatten().tolist())) for one in target], dtype=f64)
""",
            "free-bits": """
total = 0.0
for j in range(kl_per_dim.shape[1]):
    average = kl_per_dim[:, j].mean()
    total = total + (average if average > free else torch.zeros_like(average) + free)
return total
""",
            "active": """
centred = mean - mean.mean(0)
return centred.square().mean(0) > threshold
""",
            "information": """
total, scale = 0.0, (0.5 * log_var).exp()
for i in range(len(mean)):
    z = mean[i] + scale[i] * torch.randn(n, mean.shape[1], generator=generator, dtype=mean.dtype)
    parts = [-((z - m).square() / (2 * s**2) + s.log()).sum(1) for m, s in zip(mean, scale)]
    total += (parts[i] - torch.stack(parts).logsumexp(0) + math.log(len(mean))).mean()
return total / len(mean)
""",
            "train": """
noise = torch.Generator().manual_seed(seed)
adam, step = torch.optim.AdamW(vae.parameters(), lr=0.003, weight_decay=0.0), 0
for images_of_step in batches(x, seed):
    for group in adam.param_groups:
        group["lr"] = 0.0015 * (1 + math.cos(math.pi * step / STEPS))
    adam.zero_grad(set_to_none=False)
    loss_at(
        vae, images_of_step, step=step, beta=beta, warm_up=warm_up, free=free, generator=noise
    ).backward()
    adam.step()
    step += 1
return vae.eval()
""",
            "tried": "return [1.25, 8.0, 2.0, 0.02]",
        },
    ),
)  # fmt: skip

WRONG = (
    Submission(
        "formulas-as-they-stand", "Sigmoids, ratios and densities as in the equations: infinities and NaN.",
        {
            "nll": """
p = torch.sigmoid(logits)
return -(target * p.log() + (1 - target) * (1 - p).log()).flatten(1).sum(1)
""",
            "information": """
q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
z = mean + q.stddev * torch.randn(n, *mean.shape, generator=generator, dtype=mean.dtype)
densities = q.log_prob(z.unsqueeze(2)).sum(-1).exp()
return (densities.diagonal(dim1=1, dim2=2) / densities.mean(2)).log().mean()
""",
        },
        {"test-nll": 3, "test-information": 3},
    ),
    Submission(
        "probabilities-clipped", "Finite at large logits, but of the wrong value and without a gradient.",
        {
            "nll": """
p = torch.sigmoid(logits).clamp(1e-12, 1 - 1e-12)
return -(target * p.log() + (1 - target) * (1 - p).log()).flatten(1).sum(1)
""",
            "floor": """
p = target.clamp(1e-6, 1 - 1e-6)
return -(p * p.log() + (1 - p) * (1 - p).log()).flatten(1).sum(1)
""",
        },
        {"test-nll": 3, "test-floor": 2},
    ),
    Submission(
        "gradient-in-one-branch", "The stable form is chosen by `where`; the other branch turns the gradient into NaN.",
        {"nll": """
positive = torch.log1p(torch.exp(-logits))
negative = torch.log1p(torch.exp(logits)) - logits
softplus = logits + torch.where(logits > 0, positive, negative)
return (softplus - logits * target).flatten(1).sum(1)
"""},
        {"test-nll": 3},
    ),
    Submission(
        "slope-at-zero", "max(l, 0) by relu, whose slope at a logit of 0 is 0 and not 1/2; KL without its log_var.",
        {
            "nll": """
softplus = F.relu(logits) + torch.log1p(torch.exp(-logits.abs()))
return (softplus - logits * target).flatten(1).sum(1)
""",
            "information": """
z = mean + (0.5 * log_var).exp() * torch.randn(n, *mean.shape, generator=generator, dtype=mean.dtype)
log_q = -0.5 * ((z.unsqueeze(2) - mean).square() * torch.exp(-log_var)).sum(-1)
return (log_q.diagonal(dim1=1, dim2=2) - log_q.logsumexp(2) + math.log(len(mean))).mean()
""",
        },
        {"test-nll": 3, "test-information": 3},
    ),
    Submission(
        "mean-over-pixels", "A mean over the pixels beside sums over the latents.",
        {"nll": "return F.binary_cross_entropy_with_logits(logits, target, reduction='none').flatten(1).mean(1)"},
        {"test-nll": 3},
    ),
    Submission(
        "landmarks-off", "The floor counts the white part of a pixel alone; the logits are averaged, not the images.",
        {
            "floor": "return torch.special.entr(target).flatten(1).sum(1)",
            "blind": "return torch.logit(target, eps=1e-6).mean(0)",
        },
        {"test-floor": 2, "test-blind": 2},
    ),
    Submission(
        "loss-misread", "Free bits for each image; squared errors as of variance 1, beta inverted.",
        {
            "free-bits": "return kl_per_dim.clamp_min(free).mean(0).sum()",
            "implied": """
a = 1 / pixels if pixel_mean else 1.0
b = w / latents if latent_mean else w
return a / b if kind == "bernoulli" else b / a
""",
        },
        {"test-free-bits": 3, "test-implied": 2},
    ),
    Submission(
        "one-allowance-for-all", "Free bits of the sum, so that single latents may be shut; means taken for two means.",
        {
            "free-bits": "return kl_per_dim.mean(0).sum().clamp_min(free * kl_per_dim.shape[1])",
            "implied": "return w * pixels / latents if kind == 'bernoulli' else w / 2",
        },
        {"test-free-bits": 3, "test-implied": 2},
    ),
    Submission(
        "one-draw-for-all", "The number of draws is ignored; whatever is off 0 is active.",
        {
            "active": "return mean.square().mean(0) > threshold",
            "information": """
z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
log_q = q.log_prob(z.unsqueeze(1)).sum(-1)
return (log_q.diagonal() - log_q.logsumexp(1) + math.log(len(mean))).mean()
""",
        },
        {"test-active": 2, "test-information": 3},
    ),
    Submission(
        "logarithm-before-the-mean", "The mean over images is taken of logarithms; a deviation for a variance.",
        {
            "active": "return mean.std(0) > threshold",
            "information": """
q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
z = mean + q.stddev * torch.randn(n, *mean.shape, generator=generator, dtype=mean.dtype)
others = torch.stack([q.log_prob(z[:, i : i + 1]).sum(-1).mean(-1) for i in range(len(mean))], 1)
return (q.log_prob(z).sum(-1) - others).mean()
""",
        },
        {"test-active": 2, "test-information": 3},
    ),
    Submission(
        "target-from-minus-one", "Images in [-1, 1] are the target of the likelihood.",
        {"loss": """
out = vae(x, generator=generator)
nll = F.binary_cross_entropy_with_logits(out.params, x, reduction="none").flatten(1).sum(1)
rate = ob.free_bits(ob.gaussian_kl_per_dim(out.mean, out.log_var), free)
return (nll + beta * ob.kl_weight(step, warm_up) * rate).mean()
"""},
        {"test-loss": 2, "test-gradient": 1, "test-train": 1, "test-cure": 2},
    ),
    Submission(
        "beta-forgotten", "The warm-up ends at a weight of 1, whatever beta is: nothing collapses.",
        {"loss": """
out = vae(x, generator=generator)
rate = ob.free_bits(ob.gaussian_kl_per_dim(out.mean, out.log_var), free)
return (ob.bernoulli_nll(out.params, images.to_unit(x)) + ob.kl_weight(step, warm_up) * rate).mean()
"""},
        {"test-loss": 2, "test-gradient": 1, "test-train": 1},
    ),
    Submission(
        "no-gradient-through-the-draw", "The decoder's codes have no gradient: the encoder learns the rate alone.",
        {"loss": """
out = vae(x, generator=generator)
nll = ob.bernoulli_nll(vae.decode(out.z.detach()), images.to_unit(x))
rate = ob.free_bits(ob.gaussian_kl_per_dim(out.mean, out.log_var), free)
return (nll + beta * ob.kl_weight(step, warm_up) * rate).mean()
"""},
        {"test-gradient": 1, "test-train": 1, "test-cure": 2},
    ),
    Submission(
        "network-fed-with-targets", "The network gets the images in [0, 1], as the likelihood does.",
        {"loss": """
unit = images.to_unit(x)
out = vae(unit, generator=generator)
rate = ob.free_bits(ob.gaussian_kl_per_dim(out.mean, out.log_var), free)
return (ob.bernoulli_nll(out.params, unit) + beta * ob.kl_weight(step, warm_up) * rate).mean()
"""},
        {"test-loss": 2, "test-gradient": 1, "test-train": 1, "test-cure": 2},
    ),
    Submission(
        "step-never-counted", "Every step is step 0, so that the warm-up never ends.",
        {"train": """
noise = seeded(seed)
adam = torch.optim.Adam(vae.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
for batch in batches(x, seed):
    loss = loss_at(vae, batch, step=0, beta=beta, warm_up=warm_up, free=free, generator=noise)
    adam.zero_grad()
    loss.backward()
    adam.step()
    schedule.step()
return vae
"""},
        {"test-steps": 2, "test-train": 1},
    ),
    Submission(
        "same-noise-in-each-step", "The generator is seeded anew in each step, so that all steps draw the same noise.",
        {"train": """
adam = torch.optim.Adam(vae.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
for step, batch in enumerate(batches(x, seed)):
    how = {"beta": beta, "warm_up": warm_up, "free": free, "generator": seeded(seed)}
    loss = loss_at(vae, batch, step=step, **how)
    adam.zero_grad()
    loss.backward()
    adam.step()
    schedule.step()
return vae
"""},
        {"test-steps": 2},
    ),
    Submission(
        "nothing-free", "The best is sought at the small end alone, where hardly anything is free.",
        {"tried": "return [0.05, 0.01, 0.02, 5.0]"},
        {"test-cure": 2},
    ),
)  # fmt: skip
