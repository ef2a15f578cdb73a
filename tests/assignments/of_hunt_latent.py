"""Submissions of the bug hunt in the latent chapters."""

from tests.assignments.submission import Submission

TESTS = {
    f"{name}-{kind}": points
    for name in ("kl", "nll", "draw", "bound")
    for kind, points in (("shown", 2), ("others", 1))
}

RIGHT = (
    Submission(
        "by-hand", "Numbers worked out by hand, in plain Python, and no torch.distributions.",
        {
            "kl-test": """
m = [[0.5, -1.0, 2.0], [1.5, 0.0, -0.3]]
v = [[0.2, 1.0, -2.0], [0.0, -1.0, 3.0]]
mean, log_var = torch.tensor(m, requires_grad=True), torch.tensor(v, requires_grad=True)
out = f(mean, log_var)
assert tuple(out.shape) == (2,)
for i in range(2):
    kl = sum((a * a + math.exp(b) - 1 - b) / 2 for a, b in zip(m[i], v[i]))
    assert abs(out[i].item() - kl) < 1e-3, (out[i], kl)
out[1].backward()
for k in range(3):
    assert mean.grad[0, k] == 0 and abs(mean.grad[1, k].item() - m[1][k]) < 1e-3
    assert abs(log_var.grad[1, k].item() - (math.exp(v[1][k]) - 1) / 2) < 1e-3
four = f(torch.full((1, 2, 2, 2), 3.0), torch.zeros(1, 2, 2, 2))
assert abs(four.item() - 36) < 1e-2
try:
    f(torch.zeros(3, 2), torch.zeros(3, 1))
except ValueError:
    return
raise RuntimeError("it let two shapes through")
""",
            "nll-test": """
a = torch.tensor([[0.3, -2.0, 4.0, 0.0], [1.0, 1.5, -0.5, -3.0]]).reshape(2, 2, 2)
t = torch.tensor([[0.2, 0.0, 1.0, 0.7], [0.4, 0.9, 0.5, 0.1]]).reshape(2, 2, 2)
a.requires_grad_()
out = f(a, t)
assert out.shape == (2,)
for i in range(2):
    want = 0.0
    for l, y in zip(a[i].flatten().tolist(), t[i].flatten().tolist()):
        p = 1 / (1 + math.exp(-l))
        want -= y * math.log(p) + (1 - y) * math.log(1 - p)
    assert abs(want - out[i].item()) < 1e-3
assert abs(f(torch.full((1, 1), 1000.0), torch.zeros(1, 1)).item() - 1000) < 1
assert abs(f(torch.full((1, 1), -1000.0), torch.ones(1, 1)).item() - 1000) < 1
for y in (-0.01, 1.01, -5.0, 7.0):
    raised = False
    try:
        f(torch.zeros(1, 2), torch.tensor([[0.5, y]]))
    except ValueError:
        raised = True
    assert raised
""",
            "draw-test": """
n = 4000
for level, log_var in ((1.0, 1.0), (-2.0, -4.0)):
    v = torch.full((n, 2), log_var, requires_grad=True)
    m = torch.full((n, 2), level, requires_grad=True)
    z = f(m, v, generator=seeded(3))
    e = ((z.detach() - level) / math.exp(log_var / 2)).double()
    for k in range(1, 5):
        want = (0.0, 1.0, 0.0, 3.0)[k - 1]
        spread = (1.0, 2.0, 15.0, 96.0)[k - 1]
        assert ((e**k).mean(0) - want).abs().max() < 5 * (spread / n) ** 0.5, f"moment {k}"
    assert (e[:, 0] * e[:, 1]).mean().abs() < 5 / n**0.5
    assert (e[1:] - e[:-1]).abs().max() > 0.5
    (z * torch.tensor([1.0, 0.0])).sum().backward()
    assert (m.grad[:, 0] == 1).all() and (m.grad[:, 1] == 0).all()
    half = (z.detach() - level)[:, 0] / 2
    assert (v.grad[:, 0] - half).abs().max() < 1e-3
    same = f(m, v, generator=seeded(3))
    assert torch.allclose(same, z)
    assert not torch.allclose(f(m, v, generator=seeded(4)), z)
""",
            "bound-test": """
w = [[0.2, 3.0], [1.0, 0.5], [0.05, 7.0]]
logs = torch.tensor(w).log().requires_grad_()
out = f(logs)
assert out.shape == (2,)
for b in range(2):
    total = sum(row[b] for row in w)
    assert abs(out[b].item() - math.log(total / 3)) < 1e-3
    slope = torch.autograd.grad(out[b], logs, retain_graph=True)[0]
    for k in range(3):
        assert abs(slope[k, b].item() - w[k][b] / total) < 1e-3
        assert slope[k, 1 - b] == 0
down = f(torch.tensor(w).log() - 2000)
assert abs(down[0].item() + 2000 - math.log(1.25 / 3)) < 0.05
""",
            "kl-mend": """
if tuple(mean.shape) != tuple(log_var.shape):
    raise ValueError("shapes")
q = torch.distributions.Normal(mean, torch.exp(log_var / 2))
p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
kl = torch.distributions.kl_divergence(q, p)
while kl.dim() > 1:
    kl = kl.sum(-1)
return kl
""",
            "nll-mend": """
for y in target.flatten().tolist():
    if not 0 <= y <= 1:
        raise ValueError(y)
bce = torch.nn.functional.binary_cross_entropy_with_logits
return torch.stack([bce(a, t, reduction="sum") for a, t in zip(logits, target)])
""",
            "draw-mend": """
sigma = torch.sqrt(torch.exp(log_var))
rows = [torch.empty_like(m).normal_(generator=generator) for m in mean.detach()]
return torch.stack(rows) * sigma + mean
""",
            "bound-mend": """
top = log_weights.max(dim=0, keepdim=True).values.detach()
return torch.log(torch.exp(log_weights - top).mean(dim=0)) + top[0]
""",
        },
    ),
    Submission(
        "by-other-truths", "Monte Carlo, autograd and invariants where a formula would do.",
        {
            "kl-test": """
mean, log_var = normal(3, 4, seed=8), 0.5 * normal(3, 4, seed=9)
rows = torch.randn(20000, 3, 4, generator=seeded(10), dtype=f64)
z = mean + (log_var / 2).exp() * rows
logs = 0.5 * (z**2 - rows**2 - log_var).sum(2)
value, error = logs.mean(0), logs.std(0) / 20000**0.5
assert error.max() < 0.05
found = f(mean, log_var)
assert found.shape == (3,) and ((found - value).abs() < 5 * error).all()
check(f(mean[1:2], log_var[1:2]), found[1:2])
check(f(mean.view(3, 2, 2), log_var.view(3, 2, 2)), found)
check(f(torch.cat([mean, mean], 1), torch.cat([log_var, log_var], 1)), 2 * found)
check(f(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2))
steps = []
for which in range(2):
    inputs = [mean.float().requires_grad_(), log_var.float().requires_grad_()]
    (slope,) = torch.autograd.grad(f(*inputs).sum(), inputs[which])
    truth = (mean, (log_var.exp() - 1) / 2)[which]
    assert (slope - truth).abs().max() < 1e-3
for other in (log_var[:, :1], log_var[:1], log_var.T[:3]):
    try:
        f(mean, other)
    except ValueError:
        steps.append(other)
assert len(steps) == 3
""",
            "draw-test": """
n = 6000
mean, log_var = 3 * normal(1, 4, seed=1), normal(1, 4, seed=2)
m = mean.expand(n, 4).clone().requires_grad_()
v = log_var.expand(n, 4).clone().requires_grad_()
z = f(m, v, generator=seeded(11))
normal_law = torch.distributions.Normal(mean, (log_var / 2).exp())
u = normal_law.cdf(z.detach().double())  # evenly in (0, 1) if the law is right
ranks = (torch.arange(n, dtype=f64) + 0.5)[:, None] / n
assert (u.sort(0).values - ranks).abs().max() < 2.6 / n**0.5, "Kolmogorov and Smirnov"
assert (torch.corrcoef(u.T) - torch.eye(4)).abs().max() < 5 / n**0.5
assert torch.corrcoef(torch.stack([u[1:, 0], u[:-1, 0]]))[0, 1].abs() < 5 / n**0.5
weights = normal(n, 4, seed=3)
slopes = torch.autograd.grad((z * weights).sum(), (m, v))
check(slopes[0], weights, 1e-3)
check(slopes[1], weights * (z.detach() - mean) / 2, 1e-2)
check(f(m, v, generator=seeded(11)), z)
assert (f(m, v, generator=seeded(12)) != z).any()
""",
            "bound-test": """
log_w = normal(6, 2, seed=4)
x = log_w.clone().requires_grad_()
out = f(x)
check(out, torch.logsumexp(log_w, 0) - math.log(6))
check(torch.autograd.grad(out.sum(), x)[0], torch.softmax(log_w, 0), 1e-3)
check(f(log_w.flip(0)), out)
check(f(torch.cat([log_w, log_w])), out)
check(f(log_w - 800), out - 800, 1e-2)
check(f(log_w[:, 1:]), out[1:])
check(f(log_w[:1]), log_w[0])
""",
            "kl-mend": """
if mean.size() != log_var.size():
    raise ValueError(mean.size(), log_var.size())
a, b = mean.reshape(len(mean), -1), log_var.reshape(len(mean), -1)
return (a.pow(2) + b.exp() - b).sum(-1) / 2 - a.shape[1] / 2
""",
            "nll-mend": """
if not ((target >= 0) & (target <= 1)).all():
    raise ValueError("range")
a = logits.flatten(1)
return (a.relu() - a * target.flatten(1) + torch.log1p(torch.exp(-a.abs()))).sum(1)
""",
            "draw-mend": """
noise = torch.randn(mean.T.shape, generator=generator, dtype=mean.dtype).T
return torch.addcmul(mean, (0.5 * log_var).exp(), noise)
""",
            "bound-mend": """
total = log_weights[0]
for row in log_weights[1:]:
    total = torch.logaddexp(total, row)
return total - math.log(log_weights.shape[0])
""",
        },
    ),
)  # fmt: skip

ALWAYS = "raise AssertionError('wrong')"
NEVER = "assert f is not None"

WRONG = (
    Submission(
        "always-raises", "Refuses whatever it is given.",
        dict.fromkeys(("kl-test", "nll-test", "draw-test", "bound-test"), ALWAYS), TESTS,
    ),
    Submission(
        "never-raises", "Takes whatever it is given.",
        dict.fromkeys(("kl-test", "nll-test", "draw-test", "bound-test"), NEVER), TESTS,
    ),
    Submission(
        "golden-values", "Values of one version, copied from one run: no other right version gives them.",
        {
            "draw-test": """
mean, log_var = torch.ones(2, 3), torch.full((2, 3), -1.0)
z = f(mean, log_var, generator=seeded(0))
noise = torch.randn(2, 3, generator=seeded(0))
assert torch.equal(z, mean + torch.exp(0.5 * log_var) * noise)
""",
            "kl-test": """
mean, log_var = normal(4, 6, seed=1), normal(4, 6, seed=2)
found = f(mean, log_var)
expected = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)
assert found.dtype == f64 and (found - expected).abs().max() < 1e-12
""",
        },
        {"draw-shown": 2, "draw-others": 1, "kl-shown": 2, "kl-others": 1},
    ),
    Submission(
        "only-the-bug-shown", "Each test looks for the one mistake that it has seen.",
        {
            "kl-test": "check(f(torch.full((2, 3), 2.0), torch.zeros(2, 3)), torch.tensor([6.0, 6.0]))",
            "nll-test": "assert f(torch.zeros(2, 3), torch.ones(2, 3)).min() > 0",
            "draw-test": """
z = f(torch.zeros(5000, 2), torch.full((5000, 2), 2.0), generator=seeded(1))
assert abs(z.std().item() - math.e) < 0.3
""",
            "bound-test": """
log_w = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
check(f(log_w), torch.full((2,), math.log((1 + math.exp(5)) / 2)))
""",
        },
        {"kl-others": 1, "nll-others": 1, "draw-others": 1, "bound-others": 1},
    ),
    Submission(
        "shapes-alone", "One number an image, whichever.",
        {
            "kl-test": "assert f(torch.ones(4, 3), torch.zeros(4, 3)).shape == (4,)",
            "nll-test": "assert f(torch.zeros(4, 3), torch.ones(4, 3)).shape == (4,)",
            "draw-test": "assert f(torch.ones(4, 3), torch.zeros(4, 3)).shape == (4, 3)",
            "bound-test": "assert f(torch.zeros(5, 2)).shape == (2,)",
        },
        TESTS,
    ),
    Submission(
        "at-the-prior", "Cases so special that most bugs agree on them: zeros, a variance of 1, equal weights.",
        {
            "kl-test": "check(f(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2))",
            "nll-test": "check(f(torch.zeros(2, 1), torch.ones(2, 1)), torch.full((2,), math.log(2)))",
            "draw-test": """
z = f(torch.zeros(5000, 2), torch.zeros(5000, 2), generator=seeded(1))
assert abs(z.std().item() - 1) < 0.1
""",
            "bound-test": "check(f(torch.full((4, 2), -3.0)), torch.full((2,), -3.0))",
        },
        {cell: TESTS[cell] for cell in TESTS if cell != "nll-shown"},
    ),
    Submission(
        "no-gradients-no-errors", "Values are tested well, and nothing else that the contract says.",
        {
            "kl-test": """
mean, log_var = normal(4, 3, seed=1), normal(4, 3, seed=2)
check(f(mean, log_var), 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1))
""",
            "nll-test": """
a, t = normal(4, 3, seed=1), torch.rand(4, 3, generator=seeded(2), dtype=f64)
p = torch.sigmoid(a)
check(f(a, t), -(t * p.log() + (1 - t) * (1 - p).log()).sum(1))
""",
            "bound-test": """
log_w = normal(4, 3, seed=1)
check(f(log_w), log_w.exp().mean(0).log())
""",
        },
        {"kl-others": 1, "nll-others": 1, "bound-others": 1},
    ),
    Submission(
        "mended-into-other-bugs", "What was shown is gone, and something else is wrong.",
        {
            "kl-mend": """
if mean.shape != log_var.shape:
    raise ValueError("shapes")
return -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1)
""",  # one axis alone: a latent of several keeps its others
            "nll-mend": """
if target.min() < 0 or target.max() > 1:
    raise ValueError("range")
p = torch.sigmoid(logits)
return -(target * p.log() + (1 - target) * (1 - p).log()).flatten(1).sum(1)
""",
            "draw-mend": """
eps = torch.randn(mean.shape[1:], generator=generator, dtype=mean.dtype)
return mean + torch.exp(log_var / 2) * eps
""",
            "bound-mend": "return log_weights.mean(0)",
        },
        {"kl-mended": 2, "nll-mended": 2, "draw-mended": 2, "bound-mended": 2},
    ),
    Submission(
        "mended-half", "Right in value where it is looked at, and the rest of the contract is lost.",
        {
            "kl-mend": "return 0.5 * (mean**2 + log_var.exp() - 1 - log_var).flatten(1).sum(1)",
            "nll-mend": """
bce = torch.nn.functional.binary_cross_entropy_with_logits
return bce(logits, target, reduction="none").flatten(1).sum(1)
""",
            "draw-mend": """
eps = torch.randn(mean.shape, dtype=mean.dtype)
return mean + torch.exp(log_var / 2) * eps
""",
            "bound-mend": "return log_weights.exp().mean(0).log()",
        },
        {"kl-mended": 2, "nll-mended": 2, "draw-mended": 2, "bound-mended": 2},
    ),
)  # fmt: skip
