"""Submissions of the bug hunt among adversaries."""

from tests.assignments.submission import Submission

NAMES = ("loss", "penalty", "start", "step")
TESTS = {f"{name}-shown": 2 for name in NAMES} | {f"{name}-others": 1 for name in NAMES}
CELLS = [f"{name}-test" for name in NAMES]

RIGHT = (
    Submission(
        "by-hand", "Numbers worked out by hand, in plain Python.",
        {
            "loss-test": """
a, b = [0.3, -2.0, 1.4, 4.0], [0.6, 1.0, -1.7, -4.0]
log = lambda s: math.log(1 / (1 + math.exp(-s)))  # noqa: E731
told = {
    "minimax": [-log(s) - log(-t) for s, t in zip(a, b)],
    "least-squares": [((s - 1) ** 2 + t * t) / 2 for s, t in zip(a, b)],
    "hinge": [max(0, 1 - s) + max(0, 1 + t) for s, t in zip(a, b)],
    "wasserstein": [t - s for s, t in zip(a, b)],
}
told["non-saturating"] = told["minimax"]
for loss, values in told.items():
    x, y = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    out = f(x, y, loss=loss)
    assert out.shape == (4,) and max(abs(p - q) for p, q in zip(out.tolist(), values)) < 1e-3
    out[2].backward()
    p, q = 1 / (1 + math.exp(-1.4)), 1 / (1 + math.exp(1.7))
    by = {"least-squares": (0.4, -1.7), "hinge": (0.0, 0.0), "wasserstein": (-1.0, 1.0)}.get(loss, (p - 1, q))
    assert abs(x.grad[2].item() - by[0]) < 1e-3 and abs(y.grad[2].item() - by[1]) < 1e-3
    assert x.grad[0] == 0 and y.grad[3] == 0
assert f(torch.tensor([-1000.0]), torch.tensor([1000.0])).item() == 2000
x = y = torch.tensor([0.0, 0.5])
for real, fake, loss in ((x, y[:1], "hinge"), (x[:1], y, "hinge"), (x[None], y[None], "hinge"), (x, y, "gan")):
    try:
        f(real, fake, loss=loss)
    except ValueError:
        continue
    raise AssertionError(loss)
""",
            "penalty-test": """
n = 1500
zero, one = torch.zeros(n, 2, 1), torch.zeros(n, 2, 1)
one[:, 0] = 1.0
critic = lambda x: x[:, 0, 0] ** 2 / 2 + 0 * x[:, 1, 0]  # noqa: E731
a = f(critic, one, zero, norm=0.0, generator=seeded(3)).double().sqrt()
assert a.shape == (n,) and a.max() <= 1.0001
for k in range(5):
    share = ((a >= k / 5) & (a < (k + 1) / 5)).double().mean()
    assert abs(share.item() - 0.2) < 5 * (0.16 / n) ** 0.5
assert abs(((a[1:] - 0.5) * (a[:-1] - 0.5)).mean().item()) < 5 / 12 / n**0.5
assert torch.allclose(a, f(critic, one, zero, norm=0.0, generator=seeded(3)).double().sqrt(), atol=1e-5)
both = f(lambda x: x.square().sum((1, 2)) / 2, one, one.flip(1), norm=0.0, generator=seeded(3)).double()
assert (both - a**2 - (1 - a) ** 2).abs().max() < 1e-3
for w, norm, want, slope in (((3.0, 4.0), 1.0, 16.0, 4.8), ((0.3, 0.4), 1.0, 0.25, -0.6), ((0.6, 0.8), 3.0, 4.0, -2.4)):
    w = torch.tensor(w, requires_grad=True)
    out = f(lambda x: x[:, 0, 0] * w[0] + x[:, 1, 0] * w[1], zero[:3], one[:3], norm=norm)
    assert (out - want).abs().max() < 1e-3
    out[0].backward()
    assert abs(w.grad[0].item() - slope) < 1e-2
w = torch.zeros((), requires_grad=True)
f(lambda x: x[:, 0, 0] * w, zero[:3], one[:3]).sum().backward()
assert math.isfinite(w.grad.item())
""",
            "start-test": """
torch.manual_seed(5)
for std in (None, 0.5):
    parts = {"a": nn.ConvTranspose2d(40, 30, 2), "b": nn.Conv2d(40, 30, 2), "c": nn.Linear(70, 60)}
    parts |= {"d": nn.Sequential(nn.Sequential(nn.BatchNorm2d(5000))), "e": nn.Embedding(9, 9)}
    parts |= {"g": nn.LayerNorm(5), "h": nn.Linear(4, 4, bias=False)}
    net = nn.ModuleDict(parts)
    for p in net.parameters():
        p.data.fill_(3.0)
    _ = f(net) if std is None else f(net, std)
    wide = std or 0.02
    for layer, centre in ((parts["a"], 0), (parts["b"], 0), (parts["c"], 0), (parts["d"][0][0], 1)):
        z = (layer.weight.data.double().flatten() - centre) / wide
        n = len(z)
        for k, want, spread in ((1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0)):
            assert abs((z**k).mean().item() - want) < 5 * (spread / n) ** 0.5, (layer, k)
        assert layer.bias.data.abs().max() == 0
    assert (parts["e"].weight == 3).all() and (parts["g"].weight == 3).all() and (parts["g"].bias == 3).all()
    assert parts["h"].weight.abs().max() < 6 * wide
""",
            "step-test": """
g, d = nn.Linear(1, 1).double(), nn.Sequential(nn.Linear(1, 1), nn.Flatten(0)).double()
for layer, w, b in ((g, 0.5, 0.1), (d[0], 2.0, -0.3)):
    layer.weight.data.fill_(w), layer.bias.data.fill_(b)
a, c, u, v, sigma = 0.5, 0.1, 2.0, -0.3, lambda s: 1 / (1 + math.exp(-s))
optimisers = torch.optim.SGD(g.parameters(), lr=0.5), torch.optim.SGD(d.parameters(), lr=0.25)
for x, z in (([1.0, 2.0], [0.3, -1.0]), ([0.5, -0.5], [1.0, 2.0]), ([2.0, 2.0], [0.0, 1.0])):
    f(g, d, optimisers, torch.tensor(x, dtype=f64)[:, None], torch.tensor(z, dtype=f64)[:, None])
    fake = [a * t + c for t in z]
    by_u = sum(-sigma(-(u * s + v)) * s + sigma(u * t + v) * t for s, t in zip(x, fake)) / 2
    by_v = sum(-sigma(-(u * s + v)) + sigma(u * t + v) for s, t in zip(x, fake)) / 2
    u, v = u - 0.25 * by_u, v - 0.25 * by_v
    by_a = sum(-sigma(-(u * (a * t + c) + v)) * u * t for t in z) / 2
    by_c = sum(-sigma(-(u * (a * t + c) + v)) * u for t in z) / 2
    a, c = a - 0.5 * by_a, c - 0.5 * by_c
    for found, wanted in ((g.weight, a), (g.bias, c), (d[0].weight, u), (d[0].bias, v)):
        assert abs(found.item() - wanted) < 1e-4, (found.item(), wanted)
""",
            "loss-mend": """
if real_logits.ndim != 1 or fake_logits.ndim != 1 or len(real_logits) != len(fake_logits):
    raise ValueError("shapes")
log = torch.nn.functional.logsigmoid
if loss in ("minimax", "non-saturating"):
    return -log(real_logits) - log(-fake_logits)
if loss == "least-squares":
    return 0.5 * (real_logits - 1).pow(2) + 0.5 * fake_logits.pow(2)
if loss == "hinge":
    return (1 - real_logits).clamp(min=0) + (1 + fake_logits).clamp(min=0)
if loss == "wasserstein":
    return -(real_logits - fake_logits)
raise ValueError(loss)
""",
            "penalty-mend": """
shares = torch.rand(len(real), generator=generator)
rows = [fake[i].detach() + (real[i] - fake[i]).detach() * shares[i] for i in range(len(real))]
x = torch.stack(rows).requires_grad_(True)
slope = torch.autograd.grad(outputs=critic(x), inputs=x, grad_outputs=torch.ones(len(x)).to(x), create_graph=True)[0]
return (torch.sqrt((slope**2).reshape(len(x), -1).sum(dim=1) + 1e-15) - norm) ** 2
""",
            "start-mend": """
def one(layer):
    if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        layer.weight.data = std * torch.randn_like(layer.weight)
    elif isinstance(layer, nn.BatchNorm2d):
        layer.weight.data = 1 + std * torch.randn_like(layer.weight)
    else:
        return
    if layer.bias is not None:
        layer.bias.data = torch.zeros_like(layer.bias)

module.apply(one)
""",
            "step-mend": """
bce = nn.functional.binary_cross_entropy_with_logits
for k, optimiser in ((1, optimisers[1]), (0, optimisers[0])):
    for p in [*generator.parameters(), *discriminator.parameters()]:
        p.grad = None
    s, t = discriminator(generator(z)), discriminator(real)
    if k:
        loss = bce(t, torch.ones_like(t)) + bce(s, torch.zeros_like(s))
    else:
        loss = bce(s, torch.ones_like(s))
    loss.backward()
    optimiser.step()
""",
        },
    ),
    Submission(
        "by-parts", "Gradients of autograd, a critic of two dimensions, Adam in place of SGD.",
        {
            "step-test": """
import copy
first = players(7)
second = copy.deepcopy(first)
a = [torch.optim.Adam(p.parameters(), lr=0.05) for p in first]
b = [torch.optim.Adam(p.parameters(), lr=0.05) for p in second]
relu = nn.functional.softplus
for k in range(5):
    x, z = normal(10, 2, seed=k), normal(10, 3, seed=k + 50)
    f(*first, a, x, z)
    for o in b:
        o.zero_grad(set_to_none=True)
    (relu(-second[1](x)) + relu(second[1](second[0](z).detach()))).mean().backward()
    b[1].step()
    for o in b:
        o.zero_grad(set_to_none=True)
    relu(-second[1](second[0](z))).mean().backward()
    b[0].step()
    for p, q in zip((*first[0].parameters(), *first[1].parameters()),
                    (*second[0].parameters(), *second[1].parameters())):
        check(p, q, 2e-3)
""",
            "step-mend": """
plus = nn.functional.softplus
for k in (1, 0):
    own = list((generator, discriminator)[k].parameters())
    s = discriminator(generator(z))
    value = (plus(s) + plus(-discriminator(real))).mean() if k else plus(-s).mean()
    for p, slope in zip(own, torch.autograd.grad(value, own)):
        p.grad = slope.clone()
    optimisers[k].step()
""",
        },
    ),
)  # fmt: skip

HALF = {f"{name}-others": 1 for name in NAMES}

WRONG = (
    Submission("always-raises", "Refuses whatever it is given.", dict.fromkeys(CELLS, "raise ValueError"), TESTS),
    Submission("never-raises", "Takes whatever it is given.", dict.fromkeys(CELLS, "assert f is not None"), TESTS),
    Submission(
        "golden-values", "Values of one version and one order of drawing, to the last digit.",
        {
            "loss-test": """
a, b = normal(5, seed=1), normal(5, seed=2)
plus = nn.functional.softplus
assert torch.equal(f(a, b), plus(-a) + plus(b))
""",
            "penalty-test": """
x, y = normal(5, 3, seed=1), normal(5, 3, seed=2)
a = torch.rand((5, 1), generator=seeded(0), dtype=f64)
points = a * x + (1 - a) * y
found = f(lambda t: t.square().sum(1) / 2, x, y, generator=seeded(0))
assert torch.allclose(found, (points.norm(dim=1) - 1) ** 2)
""",
            "start-test": """
layer = nn.ModuleList([nn.BatchNorm2d(3), nn.Linear(2, 2)])
torch.manual_seed(0)
f(layer)
torch.manual_seed(0)
assert torch.equal(layer[0].weight, 1 + 0.02 * torch.randn(3))
assert torch.equal(layer[1].weight, 0.02 * torch.randn(2, 2))
""",
        },
        {cell: points for cell, points in TESTS.items() if not cell.startswith("step")},
    ),
    Submission(
        "only-the-bug-shown", "Each test looks for the one mistake that it has seen.",
        {
            "loss-test": "assert f(torch.tensor([0.0]), torch.tensor([9.0])).item() > 5",
            "penalty-test": """
a = f(lambda x: x[:, 0] ** 2 / 2, torch.ones(300, 1), torch.zeros(300, 1), norm=0.0, generator=seeded(1))
assert a.max() < 1.001
""",
            "start-test": """
layer = nn.BatchNorm2d(50)
f(layer)
assert layer.weight.min() > 0.5
""",
            "step-test": """
pair = players(1)
optimisers = [torch.optim.SGD(p.parameters(), lr=0.1) for p in pair]
x, z = normal(6, 2, seed=1), normal(6, 3, seed=2)
before = pair[1][0].weight.detach().clone()
(1e6 * pair[1](x)).sum().backward()
f(*pair, optimisers, x, z)
assert (pair[1][0].weight - before).abs().max() < 10
""",
        },
        HALF,
    ),
    Submission(
        "shapes-alone", "As many numbers as there must be, whichever.",
        {
            "loss-test": "assert f(torch.zeros(3), torch.ones(3)).shape == (3,)",
            "penalty-test": "assert f(lambda x: x.sum(1), torch.zeros(3, 2), torch.ones(3, 2)).shape == (3,)",
            "start-test": """
f(nn.Linear(3, 2))
""",
            "step-test": """
pair = players(1)
f(*pair, [torch.optim.SGD(p.parameters(), lr=0.1) for p in pair], normal(6, 2, seed=1), normal(6, 3, seed=2))
""",
        },
        TESTS,
    ),
    Submission(
        "where-all-agree", "A lucky generated image, a critic that is a plane, no BatchNorm, one step.",
        {
            "loss-test": "check(f(torch.zeros(2), torch.zeros(2)), torch.full((2,), 2 * math.log(2)))",
            "penalty-test": "check(f(lambda x: 2 * x[:, 0], torch.zeros(3, 2), torch.ones(3, 2)), torch.ones(3), 1e-3)",
            "start-test": """
layer = nn.Linear(100, 100)
f(layer)
assert abs(layer.weight.std().item() / 0.02 - 1) < 0.1 and not layer.bias.any()
""",
            "step-test": """
pair, same = players(1), players(1)
x, z = normal(6, 2, seed=1), normal(6, 3, seed=2)
plus = nn.functional.softplus
f(*pair, [torch.optim.SGD(p.parameters(), lr=0.1) for p in pair], x, z)
loss = (plus(-same[1](x)) + plus(same[1](same[0](z)))).mean()
check(pair[1][0].weight, same[1][0].weight - 0.1 * torch.autograd.grad(loss, same[1][0].weight)[0])
""",
        },
        TESTS,
    ),
    Submission(
        "mended-into-other-bugs", "What was shown is gone, and something else is wrong.",
        {
            "loss-mend": """
if loss == "wasserstein":
    loss = "hinge"
return shown_loss(real_logits, -fake_logits, loss=loss) if "a" in loss else torch.relu(1 - real_logits)
""",
            "penalty-mend": """
a = torch.rand(real.shape, generator=generator, dtype=real.dtype)
x = (a * real + (1 - a) * fake).detach().requires_grad_()
(slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
return ((slope.flatten(1).square().sum(1) + 1e-12).sqrt() - norm) ** 2
""",
            "start-mend": """
for layer in module.modules():
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
        batch = isinstance(layer, nn.BatchNorm2d)
        nn.init.normal_(layer.weight, float(batch), std)
""",
            "step-mend": """
plus = nn.functional.softplus
for optimiser in optimisers:
    optimiser.zero_grad()
fake = generator(z)
(plus(-discriminator(real)).mean() + plus(discriminator(fake.detach())).mean()).backward()
plus(-discriminator(fake)).mean().backward()
optimisers[1].step()
optimisers[0].step()
""",
        },
        {f"{name}-mended": 2 for name in NAMES},
    ),
    Submission(
        "mended-half", "Right where it is looked at, and the rest of the contract is lost.",
        {
            "loss-mend": """
if loss in ("minimax", "non-saturating"):
    shown_loss(real_logits, fake_logits)
    return -torch.log(torch.sigmoid(real_logits)) - torch.log(torch.sigmoid(-fake_logits))
return shown_loss(real_logits, fake_logits, loss=loss)
""",
            "penalty-mend": """
a = torch.rand(len(real), *[1] * (real.dim() - 1), generator=generator, dtype=real.dtype)
x = (a * real + (1 - a) * fake).detach().requires_grad_()
(slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
return (slope.flatten(1).norm(dim=1) - 1) ** 2
""",
            "start-mend": """
for layer in module.children():
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
        nn.init.normal_(layer.weight, float(isinstance(layer, nn.BatchNorm2d)), std)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
""",
            "step-mend": """
plus = nn.functional.softplus
optimisers[1].zero_grad()
(plus(-discriminator(real)).mean() + plus(discriminator(generator(z).detach())).mean()).backward()
optimisers[1].step()
optimisers[0].zero_grad()
(-plus(discriminator(generator(z)))).mean().backward()
optimisers[0].step()
""",
        },
        {f"{name}-mended": 2 for name in NAMES},
    ),
)  # fmt: skip
