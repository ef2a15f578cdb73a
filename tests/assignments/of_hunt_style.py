"""Submissions of the bug hunt in style."""

from tests.assignments.submission import Submission

NAMES = ("conv", "length", "psi", "lazy")
TESTS = {f"{name}-shown": 2 for name in NAMES} | {f"{name}-others": 1 for name in NAMES}
CELLS = [f"{name}-test" for name in NAMES]

RIGHT = (
    Submission(
        "by-hand", "Numbers worked out by hand, in loops, and slopes by differences.",
        {
            "conv-test": """
x, weight, style = normal(2, 3, 4, 5, seed=1), normal(4, 3, 3, 3, seed=2), normal(2, 3, seed=3) + 1
padded = nn.functional.pad(x, (1, 1, 1, 1))

def told(style, demodulate):
    out = torch.zeros(2, 4, 4, 5, dtype=f64)
    for b in range(2):
        for o in range(4):
            kernel = weight[o] * style[b][:, None, None]
            size = (kernel.square().sum() + 1e-8).sqrt() if demodulate else 1.0
            for i in range(4):
                for j in range(5):
                    out[b, o, i, j] = (padded[b, :, i : i + 3, j : j + 3] * kernel).sum() / size
    return out

for demodulate in (True, False):
    assert (f(x, weight, style, demodulate=demodulate) - told(style, demodulate)).abs().max() < 1e-3
assert (f(x, weight, style) - told(style, True)).abs().max() < 1e-3
parts = [t.clone().requires_grad_() for t in (x, weight, style)]
f(*parts).square().sum().backward()
assert parts[0].grad.abs().max() > 0.1 and parts[1].grad.abs().max() > 0.01
for b, i in ((0, 0), (1, 2)):
    step = torch.zeros(2, 3, dtype=f64)
    step[b, i] = 1e-4
    slope = (told(style + step, True).square().sum() - told(style - step, True).square().sum()) / 2e-4
    assert abs(slope.item() - parts[2].grad[b, i].item()) < 1e-2
dead = torch.zeros(1, 3, requires_grad=True)
out = f(x[:1].float(), weight.float(), dead)
out.sum().backward()
assert out.abs().max() < 1e-3 and dead.grad.isfinite().all()
""",
            "length-test": """
z = torch.tensor([[3.0, 4.0, 0.0], [-1.0, 2.0, 2.0]], requires_grad=True)
out, root = f(z), 3**0.5
want = [[0.6 * root, 0.8 * root, 0.0], [-root / 3, 2 * root / 3, 2 * root / 3]]
assert (out - torch.tensor(want)).abs().max() < 1e-3
out[0, 0].backward()
assert abs(z.grad[0, 0].item() - root * (1 / 5 - 9 / 125)) < 1e-3
assert abs(z.grad[0, 1].item() + root * 12 / 125) < 1e-3 and not z.grad[1].any()
long = f(torch.ones(1, 100) * 7)
assert (long - 1).abs().max() < 1e-3
nothing = torch.zeros(1, 2, requires_grad=True)
f(nothing).sum().backward()
assert f(nothing).isfinite().all() and nothing.grad.isfinite().all()
""",
            "psi-test": """
z, mean = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], requires_grad=True), torch.tensor([10.0, -2.0])
for psi in (1.0, 0.25, 0.5, 0.0):
    for layers in (1, 3):
        out = f(lambda t: t**2 + 1, z, mean, layers=layers, truncation=psi)
        assert out.shape == (2, layers, 2)
        for layer in range(layers):
            for i, w in enumerate(((2.0, 5.0), (10.0, 1.25))):
                for j, c in enumerate((10.0, -2.0)):
                    assert abs(out[i, layer, j].item() - (c + psi * (w[j] - c))) < 1e-3
assert mean.tolist() == [10.0, -2.0]
f(lambda t: t**2, z, mean, layers=2, truncation=0.5)[0, 1, 0].backward()
assert abs(z.grad[0, 0].item() - 1) < 1e-3 and z.grad.abs().sum() < 1.01
assert abs(f(lambda t: t, z, mean, layers=2)[1, 1, 0].item() + 3) < 1e-3
""",
            "lazy-test": """
u = torch.tensor(1.5, requires_grad=True)
s = lambda x: u * x[:, 0] ** 2 / 2 + 0 * x[:, 1]  # noqa: E731
real = torch.tensor([[2.0, 1.0], [-1.0, 0.0]])
for every, step, weight in ((1, 0, 2.0), (4, 0, 2.0), (4, 4, 1.0), (4, 1, 1.0), (4, 3, 1.0), (5, 14, 1.0), (2, 6, 3.0)):
    fake = torch.tensor([[0.5, 0.0], [3.0, 1.0]], requires_grad=True)
    out = f(s, real, fake, weight=weight, every=every, step=step)
    assert out.shape == (2,)
    slope = 0.0
    for i, (x, g) in enumerate(((2.0, 0.5), (-1.0, 3.0))):
        a, b = 1.5 * x * x / 2, 1.5 * g * g / 2
        k = every if step % every == 0 else 0
        want = math.log(1 + math.exp(-a)) + math.log(1 + math.exp(b)) + k * weight / 2 * (1.5 * x) ** 2
        assert abs(out[i].item() - want) < 1e-2, (out[i].item(), want)
        slope += -x * x / 2 / (1 + math.exp(a)) + g * g / 2 / (1 + math.exp(-b)) + k * weight * 1.5 * x * x
    found = torch.autograd.grad(out.sum(), (u, fake), allow_unused=True)
    assert abs(found[0].item() - slope) < 1e-2 and (found[1] is None or not found[1].any())
""",
            "conv-mend": """
out = []
for one, factors in zip(x, style):
    kernel = weight * factors.view(1, -1, 1, 1)
    if demodulate:
        kernel = torch.stack([k / (k.square().sum() + 1e-8).sqrt() for k in kernel])
    out.append(nn.functional.conv2d(one[None], kernel, padding=weight.shape[2] // 2))
return torch.cat(out)
""",
            "length-mend": """
length = (z * z).sum(dim=1).add(1e-9).sqrt()
return z.shape[1] ** 0.5 * z / length[:, None]
""",
            "psi-mend": """
w = mapping(z)
return torch.stack([truncation * w + (1 - truncation) * mean for _ in range(layers)], dim=1)
""",
            "lazy-mend": """
log, fake = nn.functional.logsigmoid, fake.detach()
x = real.clone().detach().requires_grad_(True)
score = discriminator(x)
loss = -log(score) - log(-discriminator(fake))
if step % every != 0:
    return loss
slope = torch.autograd.grad(score, x, torch.ones_like(score), create_graph=True)[0]
return loss + 0.5 * weight * every * (slope**2).reshape(len(x), -1).sum(1)
""",
        },
    ),
    Submission(
        "by-invariants", "Statistics, symmetries and orthogonality beside one value each.",
        {
            "length-test": """
z = (2 * normal(6, 9, seed=5)).requires_grad_()
out = f(z)
check(out.square().sum(1), torch.full((6,), 9.0), 1e-2)
check(f(5 * z), out, 1e-3)
check(f(-z), -out, 1e-3)
check(f(z[2:3]), out[2:3], 1e-3)
check(nn.functional.cosine_similarity(out.double(), z.double()), torch.ones(6), 1e-3)
slope = torch.autograd.grad((out * normal(6, 9, seed=6)).sum(), z)[0]
check((slope * z).sum(1), torch.zeros(6), 1e-3)
assert slope.abs().max() > 0.01
for n in (1, 3):
    zero = torch.zeros(2, n, requires_grad=True)
    out = f(zero)
    assert not (out.isnan().any() or torch.autograd.grad(out.sum(), zero)[0].isnan().any())
""",
            "psi-test": """
net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)).double()
z, mean = normal(4, 3, seed=1).requires_grad_(), normal(3, seed=2)
w, kept = net(z), mean.clone()
whole = f(net, z, mean, layers=5, truncation=1.0)
none = f(net, z, mean, layers=5, truncation=0.0)
check(whole, torch.stack([w] * 5, 1))
check(none, mean.expand(4, 5, 3))
for psi in (0.1, 0.5, 0.9):
    out = f(net, z, mean, layers=5, truncation=psi)
    check(out, psi * whole + (1 - psi) * none)
    slopes = [torch.autograd.grad(t.sum(), z, retain_graph=True)[0] for t in (out, psi * whole)]
    check(*slopes, 1e-3)
    assert slopes[0].abs().max() > 1e-3
check(mean, kept, 0)
check(f(net, z, mean, layers=2), torch.stack([w] * 2, 1))
""",
            "length-mend": "return torch.nn.functional.normalize(z, dim=1, eps=1e-3) * math.sqrt(z.shape[1])",
            "psi-mend": "return torch.lerp(mean.expand_as(z), mapping(z), truncation)[:, None].repeat(1, layers, 1)",
            "conv-mend": """
k = weight.shape[-1]
out = nn.functional.conv2d(x * style[:, :, None, None], weight, padding=k // 2)
if not demodulate:
    return out
sizes = style.square() @ weight.square().sum((2, 3)).T
return out * (sizes + 1e-8).rsqrt()[:, :, None, None]
""",
        },
    ),
)  # fmt: skip

WRONG = (
    Submission("always-raises", "Refuses whatever it is given.", dict.fromkeys(CELLS, "raise ValueError"), TESTS),
    Submission("never-raises", "Takes whatever it is given.", dict.fromkeys(CELLS, "assert f is not None"), TESTS),
    Submission(
        "golden-values", "Values of one version to the last digit, and its own precision.",
        {
            "conv-test": """
x, weight, style = normal(2, 3, 4, 5, seed=1), normal(4, 3, 3, 3, seed=2), normal(2, 3, seed=3)
v = weight * style[:, None, :, None, None]
v = v * torch.rsqrt(v.square().sum((2, 3, 4), keepdim=True) + 1e-8)
want = torch.stack([nn.functional.conv2d(a, b, padding=1) for a, b in zip(x, v)])
assert (f(x, weight, style) - want).abs().max() < 1e-10
""",
            "length-test": """
z = normal(4, 6, seed=1)
assert torch.equal(f(z), z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
""",
            "psi-test": """
z, mean = normal(4, 3, seed=1), normal(3, seed=2)
assert f(torch.tanh, z, mean, layers=2, truncation=0.3).is_contiguous() is False
assert torch.equal(f(torch.tanh, z, mean, layers=2, truncation=0.3)[:, 0], mean + 0.3 * (torch.tanh(z) - mean))
""",
        },
        {cell: points for cell, points in TESTS.items() if not cell.startswith("lazy")},
    ),
    Submission(
        "only-the-bug-shown", "Each test looks for the one mistake that it has seen.",
        {
            "conv-test": """
weight = torch.tensor([1.0, 5.0])[:, None, None, None]
check(f(torch.ones(1, 1, 2, 2), weight, torch.ones(1, 1)), torch.ones(1, 2, 2, 2), 1e-3)
""",
            "length-test": "check(f(2 * torch.ones(1, 9)).norm(dim=1), torch.tensor([3.0]), 1e-2)",
            "psi-test": """
z = normal(4, 3, seed=1)
out = f(lambda t: t / t.norm(dim=1, keepdim=True), z, torch.ones(3).double(), layers=2, truncation=0.5)
assert out.norm(dim=2).sub(1).abs().max() > 0.05
""",
            "lazy-test": """
s = lambda x: 5 * x[:, 0]  # noqa: E731
x = torch.zeros(1, 1)
assert f(s, x, x, weight=1.0, every=16, step=0).item() > 100
""",
        },
        {f"{name}-others": 1 for name in NAMES},
    ),
    Submission(
        "shapes-alone", "As many numbers as there must be, whichever.",
        {
            "conv-test": """
out = f(normal(2, 3, 4, 5, seed=1), normal(4, 3, 3, 3, seed=2), normal(2, 3, seed=3))
assert out.shape == (2, 4, 4, 5)
""",
            "length-test": "assert f(torch.ones(3, 4)).shape == (3, 4)",
            "psi-test": "assert f(torch.tanh, torch.ones(3, 4), torch.ones(4), layers=5).shape == (3, 5, 4)",
            "lazy-test": """
s = lambda x: x.sum(1)  # noqa: E731
assert f(s, torch.ones(3, 2), torch.ones(3, 2), weight=1.0, every=4, step=0).shape == (3,)
""",
        },
        TESTS,
    ),
    Submission(
        "where-all-agree", "A style of ones without demodulation, zeros, psi 1, every step.",
        {
            "conv-test": """
x, weight = normal(2, 3, 4, 5, seed=1), normal(4, 3, 3, 3, seed=2)
check(f(x, weight, torch.ones(2, 3).double(), demodulate=False), nn.functional.conv2d(x, weight, padding=1), 1e-3)
""",
            "length-test": "check(f(torch.zeros(2, 3)), torch.zeros(2, 3))",
            "psi-test": """
z = normal(2, 3, seed=1)
check(f(torch.tanh, z, torch.zeros(3).double(), layers=2)[:, 1], torch.tanh(z))
""",
            "lazy-test": """
s = lambda x: x[:, 0]  # noqa: E731
x = torch.zeros(2, 1)
check(f(s, x, x, weight=1.0, every=1, step=0), torch.full((2,), 2 * math.log(2) + 0.5), 1e-3)
""",
        },
        TESTS,
    ),
    Submission(
        "no-gradients", "Values are tested well, and nothing else that the contract says.",
        {
            "conv-test": """
x, weight, style = normal(2, 3, 4, 5, seed=1), normal(4, 3, 3, 3, seed=2), normal(2, 3, seed=3)
v = weight * style[:, None, :, None, None]
v = v * torch.rsqrt(v.square().sum((2, 3, 4), keepdim=True) + 1e-8)
check(f(x, weight, style), torch.stack([nn.functional.conv2d(a, b, padding=1) for a, b in zip(x, v)]), 1e-3)
""",
            "length-test": """
z = normal(4, 6, seed=1)
check(f(z), z / z.square().mean(1, keepdim=True).sqrt(), 1e-3)
""",
            "lazy-test": """
s = lambda x: 2 * x[:, 0]  # noqa: E731
x = torch.zeros(2, 1)
for step in range(4):
    want = 2 * math.log(2) + (6.0 if step in (0, 3) else 0.0)
    check(f(s, x, x, weight=1.0, every=3, step=step), torch.full((2,), want), 1e-2)
""",
        },
        {"conv-others": 1, "length-others": 1, "lazy-others": 1},
    ),
    Submission(
        "mended-into-other-bugs", "What was shown is gone, and something else is wrong.",
        {
            "conv-mend": """
v = weight * style[:, None, :, None, None]
if demodulate:
    v = v / (v.square().sum((2, 3, 4), keepdim=True) + 1e-8)
return torch.stack([nn.functional.conv2d(a, b, padding=weight.shape[-1] // 2) for a, b in zip(x, v)])
""",
            "length-mend": "return z * torch.rsqrt(z.square().mean(0, keepdim=True) + 1e-8)",
            "psi-mend": "return (truncation * mapping(z))[:, None].expand(-1, layers, -1)",
            "lazy-mend": """
plus, fake = nn.functional.softplus, fake.detach()
loss = plus(-discriminator(real)) + plus(discriminator(fake))
x = real.detach().requires_grad_()
(slope,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
return loss + every * weight / 2 * slope.flatten(1).square().sum(1)
""",
        },
        {f"{name}-mended": 2 for name in NAMES},
    ),
    Submission(
        "mended-half", "Right where it is looked at, and the rest of the contract is lost.",
        {
            "conv-mend": """
v = weight * style[:1, None, :, None, None]
v = v * torch.rsqrt(v.square().sum((2, 3, 4), keepdim=True) + 1e-8) if demodulate else v
return torch.stack([nn.functional.conv2d(a, v[0], padding=weight.shape[-1] // 2) for a in x])
""",
            "length-mend": "return z * (z.shape[1] ** 0.5 / z.norm(dim=1, keepdim=True)).detach()",
            "psi-mend": """
w = mapping(z).detach()
return (mean + truncation * (w - mean))[:, None].expand(-1, layers, -1)
""",
            "lazy-mend": """
plus = nn.functional.softplus
loss = plus(-discriminator(real)) + plus(discriminator(fake.detach()))
if step % every:
    return loss
x = real.detach().requires_grad_()
(slope,) = torch.autograd.grad(discriminator(x).sum(), x)
return loss + every * weight / 2 * slope.flatten(1).square().sum(1)
""",
        },
        {f"{name}-mended": 2 for name in NAMES},
    ),
)  # fmt: skip
