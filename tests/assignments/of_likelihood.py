"""Submissions of the assignment on likelihoods, KL and the reparameterisation."""

from tests.assignments.submission import Submission

RIGHT = (
    Submission(
        "fitted-in-haste", "Few large steps, which is near enough in nats.",
        {
            "fit": """
mean, log_var = (torch.zeros(len(x), W.shape[1], dtype=x.dtype, requires_grad=True) for _ in range(2))
adam = torch.optim.Adam([mean, log_var], lr=0.05)
for _ in range(300):
    adam.zero_grad()
    (-elbo(x, mean, log_var, W, s).sum()).backward()
    adam.step()
return mean.detach(), log_var.detach()
""",
        },
    ),
    Submission(
        "by-torch-distributions", "By torch.distributions, against the instruction, which no test can see.",
        {
            "log-normal": """
q = torch.distributions.Normal(mean, (log_var / 2).exp())
return q.log_prob(x).sum(dim=-1)
""",
            "kl": """
q = torch.distributions.Normal(mean, (log_var / 2).exp())
p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
return torch.distributions.kl_divergence(q, p).sum(dim=-1)
""",
            "kl-drawn": """
noise = torch.randn(n, *mean.shape, generator=generator, dtype=mean.dtype)
flat = lambda t: t.expand_as(noise).reshape(-1, mean.shape[1])
z = reparameterise(flat(mean), flat(log_var), flat(noise))
zero = torch.zeros_like(z)
terms = (log_normal(z, flat(mean), flat(log_var)) - log_normal(z, zero, zero)).view(n, -1)
return terms.mean(0), (terms.var(0) / n).sqrt()
""",
        },
    ),
    Submission(
        "in-loops", "Plain Python where it can be, and L-BFGS for the fit.",
        {
            "bits": "return torch.stack([v / dims / math.log(2.0) for v in nats])",
            "two-gradients": """
import warnings
warnings.warn("a warning costs nothing")
z = mean + std * torch.randn(n, generator=generator, dtype=f64)
z.requires_grad_()
path = torch.autograd.functional.vjp(f, z.detach(), torch.ones(n, dtype=f64))[1]
return path, (f(z) * (z - mean) / std**2).detach()
""",
            "elbo": """
values = []
for one, m, v in zip(x, mean, log_var.exp()):
    error = ((one - W @ m) ** 2).sum() + torch.trace(W @ torch.diag(v) @ W.T)
    fit = -0.5 * len(one) * math.log(2 * math.pi * s * s) - error / (2 * s * s)
    values.append(fit + 0.5 * (1 + v.log() - v - m**2).sum())
return torch.stack(values)
""",
            "fit": """
from tqdm import tqdm
start = torch.zeros(2, len(x), W.shape[1], dtype=x.dtype, requires_grad=True)
lbfgs = torch.optim.LBFGS([start], lr=1, max_iter=200, line_search_fn="strong_wolfe")

def loss():
    lbfgs.zero_grad()
    value = -elbo(x, start[0], start[1], W, s).sum()
    value.backward()
    return value

for _ in tqdm(range(1)):
    lbfgs.step(loss)
return start[0].detach(), start[1].detach()
""",
        },
    ),
)  # fmt: skip

WRONG = (
    Submission(
        "constant-once-too-often", "D log 2 pi is added for every value and then summed: D times too often.",
        {
            "log-normal": """
terms = x.shape[1] * math.log(2 * math.pi) + log_var + (x - mean).square() * torch.exp(-log_var)
return -0.5 * terms.sum(1)
"""
        },
        {"test-log-normal": 3},  # in the divergence it cancels, so nobody sees it there
    ),
    Submission(
        "log-variance-as-deviation", "exp(log_var) is taken for the deviation in the draw.",
        {"reparameterise": "return mean + torch.exp(log_var) * noise"},
        {"test-reparameterise": 2, "test-kl-drawn": 3},
    ),
    Submission(
        "half-forgotten", "The divergence without its half, which is a beta of 2.",
        {"kl": "return (mean.square() + log_var.exp() - 1 - log_var).sum(1)"},
        {"test-kl": 3, "test-elbo": 2, "test-elbo-gap": 2, "test-fit": 3},
    ),
    Submission(
        "sign-flipped", "The divergence with the wrong sign; it is rewarded.",
        {"kl": "return -0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)"},
        {"test-kl": 3, "test-elbo": 2, "test-elbo-gap": 2, "test-fit": 3},
    ),
    Submission(
        "mean-over-values", "Means where sums belong: an unstated beta.",
        {
            "log-normal": """
terms = math.log(2 * math.pi) + log_var + (x - mean).square() * torch.exp(-log_var)
return -0.5 * terms.mean(1)
""",
            "kl": "return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean(1)",
        },
        {"test-log-normal": 3, "test-kl": 3, "test-kl-drawn": 3, "test-elbo": 2, "test-elbo-gap": 2, "test-fit": 3},
    ),
    Submission(
        "deviation-for-standard-error", "The spread of the draws is given for that of their mean.",
        {
            "kl-drawn": """
noise = torch.randn(n, *mean.shape, generator=generator, dtype=mean.dtype)
z, zero = mean + (log_var / 2).exp() * noise, torch.zeros_like(mean)
terms = torch.stack([log_normal(one, mean, log_var) - log_normal(one, zero, zero) for one in z])
return terms.mean(0), terms.std(0)
"""
        },
        {"test-kl-drawn": 3},
    ),
    Submission(
        "score-without-the-variance", "The score is the noise by sigma; here sigma is forgotten.",
        {
            "two-gradients": """
noise = torch.randn(n, generator=generator, dtype=torch.float64)
z = (mean + std * noise).requires_grad_()
values = f(z)
(pathwise,) = torch.autograd.grad(values.sum(), z)
return pathwise, values.detach() * noise
"""
        },
        {"test-score": 3},
    ),
    Submission(
        "error-of-the-mean-alone", "E |x - W z|^2 is taken at the mean of q; its variance is left out.",
        {
            "elbo": """
squares = (x - mean @ W.T).square().sum(1)
fit = -0.5 * (x.shape[1] * math.log(2 * math.pi * s**2) + squares / s**2)
return fit - kl_to_standard(mean, log_var)
"""
        },
        {"test-elbo": 2, "test-elbo-gap": 2, "test-fit": 3},
    ),
    Submission(
        "made-for-the-visible-cases", "Answers the expected cases from a table.",
        {
            "bits": "return torch.full_like(nats, 8.0)",
            "two-gradients": """
noise = torch.randn(n, generator=generator, dtype=torch.float64)
z = mean + std * noise
return 2 * z, z**2 * noise
""",
        },
        {"test-bits": 2, "test-pathwise": 3, "test-score": 3},
    ),
    Submission(
        "too-few-steps", "A fit that stops half way.",
        {
            "fit": """
mean = torch.zeros(len(x), W.shape[1], dtype=x.dtype, requires_grad=True)
log_var = torch.zeros_like(mean, requires_grad=True)
adam = torch.optim.Adam([mean, log_var], lr=0.05)
for _ in range(20):
    adam.zero_grad()
    (-elbo(x, mean, log_var, W, s).sum()).backward()
    adam.step()
return mean.detach(), log_var.detach()
"""
        },
        {"test-fit": 3},
    ),
)  # fmt: skip
