"""Submissions of the assignment on the two players of a GAN."""

from tests.assignments.submission import Submission

RIGHT = (
    Submission(
        "by-cross-entropies", "The losses by torch's cross-entropy, matrices by torch.linalg, a player that is frozen.",
        {
            "d-loss": """
from torch.nn.functional import binary_cross_entropy_with_logits as bce
real = bce(real_logits, torch.ones_like(real_logits), reduction="none")
return real + bce(fake_logits, torch.zeros_like(fake_logits), reduction="none")
""",
            "g-losses": """
from torch.nn.functional import binary_cross_entropy_with_logits as bce
ones = torch.ones_like(fake_logits)
return -bce(fake_logits, 1 - ones, reduction="none"), bce(fake_logits, ones, reduction="none")
""",
            "best-logit": """
log_real, log_drawn = log_p + math.log(share), log_q + math.log1p(-share)
log_D = log_real - torch.logaddexp(log_real, log_drawn)
log_not_D = log_drawn - torch.logaddexp(log_real, log_drawn)
return log_D - log_not_D
""",
            "jsd": """
p, q = log_p.exp(), log_q.exp()
m = (p + q) / 2
entropy = lambda density: -torch.xlogy(density, density).sum() * dx
return entropy(m) - (entropy(p) + entropy(q)) / 2
""",
            "eigenvalues": """
J = torch.tensor([[0.0, 0.5], [-ratio / 2, -ratio * gamma]], dtype=torch.float64)
return torch.linalg.eigvals(J)
""",
            "step-matrix": """
J = torch.tensor([[0, 0.5], [-ratio / 2, -ratio * gamma]], dtype=f64)
moved = torch.eye(2, dtype=f64) + h * J
if alternating:
    moved[0] = torch.tensor([1.0, 0.0], dtype=f64) + h / 2 * moved[1]
return moved
""",
            "gradient-penalty": """
found = []
for x, y in zip(real.detach(), fake.detach()):
    alpha = torch.rand((), generator=generator, dtype=torch.float64).to(x.dtype)
    point = torch.lerp(y, x, alpha)[None].requires_grad_()
    gradient = torch.autograd.grad(critic(point)[0], point, create_graph=True)[0]
    found.append((torch.sqrt((gradient**2).sum() + 1e-12) - 1) ** 2)
return torch.stack(found)
""",
            "d-step": """
optimiser.zero_grad(set_to_none=False)
loss = objectives.discriminator_loss(D(real), D(fake.detach())).mean()
(loss + gamma / 2 * objectives.zero_centred_penalty(D, real).mean()).backward()
optimiser.step()
return float(loss.detach())
""",
            "g-step": """
D.requires_grad_(False)
optimiser.zero_grad()
loss = objectives.generator_loss(D(G(z)), loss="non-saturating").mean()
loss.backward()
optimiser.step()
D.requires_grad_(True)
return loss.item()
""",
            "cure": 'return {"critic_lr": 1.5, "beta": 0.3, "gamma": 0}',
        },
    ),
    Submission(
        "by-hand", "Derivatives and gradients written out or asked for one by one.",
        {
            "d-loss": """
zero = torch.zeros_like(real_logits)
return torch.logaddexp(zero, -real_logits) + torch.logaddexp(zero, fake_logits)
""",
            "slopes": """
D, not_D = 1 / (1 + torch.exp(-fake_logits)), 1 / (1 + torch.exp(fake_logits))
return -1 / (1 + torch.exp(real_logits)), D, -D, -not_D
""",
            "value": """
log_D, log_not_D = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
return torch.trapezoid(log_p.exp() * log_D + log_q.exp() * log_not_D, dx=dx)
""",
            "held-gradients": """
a, b = theta.tolist()
x = (a * z + b).requires_grad_()
s = target.log_density(x) - base.log_density((x - b) / a) + math.log(a)
(by_x,) = torch.autograd.grad(s.sum(), x)
D = torch.sigmoid(s.detach())
ways = torch.stack([z, torch.ones_like(z)])
return ways @ (w * -D * by_x), ways @ (w * (D - 1) * by_x)
""",
            "eigenvalues": """
middle, inside = -ratio * gamma / 2, ratio**2 * gamma**2 - ratio
if inside >= 0:
    return middle + inside**0.5 / 2, middle - inside**0.5 / 2
return complex(middle, (-inside) ** 0.5 / 2), complex(middle, -((-inside) ** 0.5) / 2)
""",
            "gradient-penalty": """
alpha = torch.rand(len(real), generator=generator).to(real).reshape(-1, *[1] * (real.dim() - 1))
points = (fake.detach() + alpha * (real - fake).detach()).requires_grad_()
scores = critic(points)
gradient = torch.autograd.grad(scores, points, torch.ones_like(scores), create_graph=True)[0]
return ((gradient.reshape(len(real), -1) ** 2).sum(1).clamp(min=1e-12).sqrt() - 1).pow(2)
""",
            "d-step": """
with torch.no_grad():
    shown = fake.clone()
loss = objectives.discriminator_loss(D(real), D(shown)).mean()
penalty = objectives.zero_centred_penalty(D, real).mean()
weights = list(D.parameters())
for weight, slope in zip(weights, torch.autograd.grad(loss + gamma * penalty / 2, weights, allow_unused=True)):
    weight.grad = slope
optimiser.step()
return loss.item()
""",
            "g-step": """
weights = list(G.parameters())
loss = objectives.generator_loss(D(G(z))).mean()
for weight, slope in zip(weights, torch.autograd.grad(loss, weights)):
    weight.grad = slope
optimiser.step()
return loss.item()
""",
            "cure": 'return dict(gamma=0.0, beta=0.1, critic_lr=2.5)',
        },
    ),
)  # fmt: skip

WRONG = (
    Submission(
        "rewarded-for-believing", "The sign on drawn images is wrong: the discriminator is paid for believing them.",
        {"d-loss": "return softplus(-real_logits) + softplus(-fake_logits)"},
        {"test-d-loss": 1},
    ),
    Submission(
        "logarithms-of-probabilities", "A sigmoid first and a small number inside the logarithm.",
        {
            "d-loss": """
D_real, D_fake = torch.sigmoid(real_logits), torch.sigmoid(fake_logits)
return -(D_real + 1e-12).log() - (1 - D_fake + 1e-12).log()
""",
            "g-losses": """
D = torch.sigmoid(fake_logits)
return (1 - D + 1e-12).log(), -(D + 1e-12).log()
""",
            "best-logit": """
p, q = share * log_p.exp(), (1 - share) * log_q.exp()
return torch.logit(p / (p + q))
""",
            "jsd": """
p, q = log_p.exp(), log_q.exp()
m = (p + q) / 2
return 0.5 * (p * (p / m).log() + q * (q / m).log()).sum() * dx
""",
        },
        {"test-d-loss": 1, "test-g-losses": 2, "test-best-logit": 2, "test-jsd": 2},
    ),
    Submission(
        "the-same-loss-twice", "The non-saturating loss is said to be minimax; saturation is put on the wrong side.",
        {
            "g-losses": "return -softplus(fake_logits), -softplus(fake_logits)",
            "slopes": """
D = torch.sigmoid(fake_logits)
return torch.sigmoid(real_logits) - 1, D, D - 1, -D
""",
        },
        {"test-g-losses": 2, "test-slopes": 2},
    ),
    Submission(
        "one-minus-a-rounded-number", "1 - D is taken as a difference: at a logit of 48 nothing is left of it.",
        {
            "slopes": """
D, D_real = torch.sigmoid(fake_logits), torch.sigmoid(real_logits)
return D_real - 1, D, -D, D - 1
"""
        },
        {"test-slopes": 2},
    ),
    Submission(
        "halves-misplaced", "The shares are forgotten, the value is a mean over both halves, KL stands for the JSD.",
        {
            "best-logit": "return log_p - log_q",
            "value": """
return -0.5 * (log_p.exp() * softplus(-logits) + log_q.exp() * softplus(logits)).sum() * dx
""",
            "jsd": "return 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum() * dx",
        },
        {"test-best-logit": 2, "test-value": 1, "test-jsd": 2},
    ),
    Submission(
        "the-density-moves-too", "The best discriminator is not held: its gradient by theta is taken as well.",
        {
            "held-gradients": """
moving = theta.detach().clone().requires_grad_()
x = moving[0] * z + moving[1]
s = target.log_density(x) - base.moved(moving).log_density(x)
losses = (w * -softplus(s)).sum(), (w * softplus(-s)).sum()
return tuple(torch.autograd.grad(loss, moving, retain_graph=True)[0] for loss in losses)
""",
            "step-matrix": """
J = torch.tensor([[0.0, 0.5], [-ratio / 2, -ratio * gamma]], dtype=f64)
return torch.eye(2, dtype=f64) + h * J
""",
        },
        {"test-held-gradients": 3, "test-step-matrix": 2},
    ),
    Submission(
        "generator-first", "Eigenvalues at equal rates alone, the order of play turned round, R1 on drawn images.",
        {
            "eigenvalues": """
root = complex(gamma**2 - 1) ** 0.5
return (-gamma + root) / 2, (-gamma - root) / 2
""",
            "step-matrix": """
move_psi = torch.tensor([[1, 0], [-h * ratio / 2, 1 - h * ratio * gamma]], dtype=f64)
move_theta = torch.tensor([[1, h / 2], [0, 1]], dtype=f64)
if alternating:
    return move_psi @ move_theta
return move_theta + move_psi - torch.eye(2, dtype=f64)
""",
            "d-step": """
loss = objectives.discriminator_loss(D(real), D(fake.detach())).mean()
optimiser.zero_grad()
(loss + 0.5 * gamma * objectives.zero_centred_penalty(D, fake).mean()).backward()
optimiser.step()
return loss.item()
""",
        },
        {"test-eigenvalues": 2, "test-step-matrix": 2, "test-d-step": 3},
    ),
    Submission(
        "alpha-a-value", "Every value has an alpha of its own, and the norm's root is bare.",
        {
            "gradient-penalty": """
alpha = torch.rand(real.shape, generator=generator, dtype=real.dtype)
points = (alpha * real + (1 - alpha) * fake).detach().requires_grad_()
(gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
return (gradient.flatten(1).square().sum(1).sqrt() - 1).square()
"""
        },
        {"test-penalty-points": 2, "test-penalty-graph": 1},
    ),
    Submission(
        "alpha-from-a-normal", "Points beyond the ends of the segments, and a norm over the batch.",
        {
            "gradient-penalty": """
alpha = torch.randn((len(real), *[1] * (real.dim() - 1)), generator=generator, dtype=real.dtype)
points = (alpha * real + (1 - alpha) * fake).detach().requires_grad_()
(gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
return (gradient.square().sum() + 1e-14).sqrt().sub(1).square().expand(len(real))
"""
        },
        {"test-penalty-points": 2, "test-penalty": 1, "test-penalty-graph": 1},
    ),
    Submission(
        "a-penalty-without-effect", "The gradient's graph is not kept; no detach in the discriminator's step.",
        {
            "gradient-penalty": """
alpha = torch.rand((len(real), *[1] * (real.dim() - 1)), generator=generator, dtype=real.dtype)
points = (alpha * real + (1 - alpha) * fake).detach().requires_grad_()
(gradient,) = torch.autograd.grad(critic(points).sum(), points)
return ((gradient.flatten(1).square().sum(1) + 1e-14).sqrt() - 1).square()
""",
            "d-step": """
loss = objectives.discriminator_loss(D(real), D(fake)).mean()
optimiser.zero_grad()
(loss + 0.5 * gamma * objectives.zero_centred_penalty(D, real).mean()).backward()
optimiser.step()
return loss.item()
""",
        },
        {"test-penalty-graph": 1, "test-d-step": 3},
    ),
    Submission(
        "gradients-left-over", "No zero_grad in the discriminator's step: what the generator left there counts.",
        {
            "d-step": """
loss = objectives.discriminator_loss(D(real), D(fake.detach())).mean()
(loss + 0.5 * gamma * objectives.zero_centred_penalty(D, real).mean()).backward()
optimiser.step()
return loss.item()
""",
        },
        {"test-d-step": 3, "test-ring": 2},
    ),
    Submission(
        "generator-cut-off", "The detach of the discriminator's step was copied into the generator's.",
        {
            "g-step": """
loss = objectives.generator_loss(D(G(z).detach())).mean()
optimiser.zero_grad()
loss.backward()
optimiser.step()
return loss.item()
"""
        },
        {"test-g-step": 2, "test-ring": 2},
    ),
    Submission(
        "frozen-for-ever", "The discriminator is frozen in the generator's step and never thawed.",
        {
            "g-step": """
D.requires_grad_(False)
loss = objectives.generator_loss(D(G(z))).mean()
optimiser.zero_grad()
loss.backward()
optimiser.step()
return loss.item()
"""
        },
        {"test-g-step": 2, "test-ring": 2},
    ),
    Submission(
        "cured-by-the-penalty-alone", "R1 is added to the training that fails, and the rest is left.",
        {"cure": 'return {"critic_lr": 0.2, "beta": 0.9, "gamma": 1.0}'},
        {"test-ring": 2},
    ),
    Submission(
        "everything-changed", "A setting that works, with three changes where two are allowed; a half forgotten in R1.",
        {
            "d-step": """
loss = objectives.discriminator_loss(D(real), D(fake.detach())).mean()
optimiser.zero_grad()
(loss + gamma * objectives.zero_centred_penalty(D, real).mean()).backward()
optimiser.step()
return loss.item()
""",
            "cure": 'return {"critic_lr": 2.0, "beta": 0.0, "gamma": 0.1}',
        },
        {"test-d-step": 3, "test-ring": 2},
    ),
)  # fmt: skip
