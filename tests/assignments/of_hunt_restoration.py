"""Submissions of the bug hunt in restoration."""

from tests.assignments.submission import Submission

NAMES = ("noise", "holes", "restored", "adjoint")
TESTS = {f"{name}-shown": 2 for name in NAMES} | {f"{name}-others": 1 for name in NAMES}
CELLS = [f"{name}-test" for name in NAMES]

RIGHT = (
    Submission(
        "by-hand", "Loops, histograms and matrices written out.",
        {
            "noise-test": """
state = torch.get_rng_state()
for level in (-4.0, -1.0, 0.3, 1.0):
    x = torch.full((8, 2, 12, 12), level, requires_grad=True)
    y = f(x, 0.4, generator=seeded(int(10 * level) + 50))
    n = (y.detach() - level) / 0.4
    size = n.numel()
    for k, want, spread in ((1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0)):
        assert abs((n.double() ** k).mean().item() - want) < 5 * (spread / size) ** 0.5, (level, k)
    rows = n.reshape(16, 144).double()
    assert (torch.corrcoef(rows) - torch.eye(16)).abs().max() < 6 / 144**0.5
    assert (torch.corrcoef(rows[:, :-1].flatten()[None].repeat(2, 1))[0, 0] - 1).abs() < 1e-6
    near = (n[..., 1:] * n[..., :-1]).mean(), (n[..., 1:, :] * n[..., :-1, :]).mean()
    assert max(v.abs().item() for v in near) < 5 / size**0.5
    (3 * y).sum().backward()
    assert (x.grad == 3).all()
a, b, c = (f(torch.zeros(1, 1, 2, 2), 1.0, generator=seeded(s)) for s in (4, 4, 5))
assert torch.allclose(a, b, atol=1e-6) and not torch.allclose(a, c)
assert torch.equal(state, torch.get_rng_state())
assert f(torch.ones(1, 1, 2, 2), 0.0, generator=seeded(1)).eq(1).all()
""",
            "holes-test": """
x = torch.full((30, 2, 16, 16), 0.9, dtype=f64)
x[15:] = -0.9
y, known = f(x, share=0.25, sigma=0.4, generator=seeded(9))
assert known.shape == (30, 1, 16, 16) and known.dtype is torch.bool
seen = known[:, 0]
n = seen.numel()
assert abs(seen.double().mean().item() - 0.75) < 5 * (0.1875 / n) ** 0.5
pair = lambda a, b: abs((a & b).double().mean().item() - 0.5625) < 5 * (0.25 / a.numel()) ** 0.5  # noqa: E731
assert pair(seen[1:], seen[:-1]) and pair(seen[:, 1:], seen[:, :-1]) and pair(seen[..., 1:], seen[..., :-1])
for colour in range(2):
    assert (y[:, colour][~seen] == 0).all()
    for half, level in ((slice(0, 15), 0.9), (slice(15, 30), -0.9)):
        noise = ((y[half, colour][seen[half]] - level) / 0.4).double()
        m = len(noise)
        assert abs(noise.mean().item()) < 5 / m**0.5 and abs(noise.var().item() - 1) < 5 * (2 / m) ** 0.5
both = torch.where(known, y - x, 0.0).double()
assert abs((both[:, 0] * both[:, 1]).mean().item()) < 5 * 0.16 / n**0.5
assert abs((both[1:] * both[:-1]).mean().item()) < 5 * 0.16 / n**0.5
z, again = f(x, share=0.25, sigma=0.4, generator=seeded(9))
assert torch.allclose(z, y, atol=1e-6) and torch.equal(again, known)
""",
            "restored-test": """
y = torch.tensor([[2.0, -3.0, 1.0, 0.5], [0.2, 4.0, -1.0, 6.0]]).view(2, 1, 2, 2).requires_grad_()
known = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]]).bool().view(2, 1, 2, 2)
sigma = torch.tensor([[0.0, 0.3, 0.0, 0.2], [0.1, 0.0, 0.0, 0.5]]).view(2, 1, 2, 2)
u = torch.tensor([0.5, 10.0, 100.0], requires_grad=True)
out = f(lambda x: (x * u.to(x).view(1, 3, 1, 1)).sum(1, keepdim=True), y, known, sigma)
assert out.shape == (2, 1, 2, 2)
wanted = []
for v, k, s in zip(y.flatten().tolist(), known.flatten().tolist(), sigma.flatten().tolist()):
    start = v if k else 0.0
    wanted.append(v if k and s == 0 else start - (0.5 * start + 10 * k + 100 * s))
assert max(abs(a - b) for a, b in zip(out.flatten().tolist(), wanted)) < 1e-3
out.sum().backward()
assert abs(u.grad[1].item() + 2) < 1e-3 and abs(u.grad[2].item() + 1.1) < 1e-3
assert y.grad.flatten()[3] == 0 and abs(y.grad.flatten()[1].item() - 0.5) < 1e-3
""",
            "adjoint-test": """
for boundary in ("zeros", "reflect"):
    for k, l, H, W, C in ((3, 3, 4, 3, 2), (1, 3, 2, 4, 1), (5, 3, 4, 3, 2)):
        kernel, A = normal(k, l, seed=1), torch.zeros(H * W, H * W, dtype=f64)
        for i in range(H):
            for j in range(W):
                for m in range(k):
                    for n in range(l):
                        a, b = i - m + k // 2, j - n + l // 2
                        if boundary == "reflect":
                            a, b = abs(a), abs(b)
                            a, b = (a if a < H else 2 * H - 2 - a), (b if b < W else 2 * W - 2 - b)
                        if 0 <= a < H and 0 <= b < W:
                            A[i * W + j, a * W + b] += kernel[m, n]
        y = normal(3, C, H, W, seed=2)
        found = f(y, kernel, boundary=boundary)
        assert found.shape == y.shape
        assert (found.flatten(2) - y.flatten(2) @ A).abs().max() < 1e-3
""",
            "noise-mend": """
n = torch.zeros_like(x.detach()).normal_(generator=generator)
return torch.add(x, n, alpha=sigma)
""",
            "holes-mend": """
draws = torch.rand(x.shape[0], x.shape[2], x.shape[3], generator=generator)
known = (draws > share).unsqueeze(1)
y = torch.empty_like(x)
for i in range(len(x)):
    y[i] = (x[i] + sigma * torch.empty_like(x[i]).normal_(generator=generator)) * known[i]
return y, known
""",
            "restored-mend": """
start = y.masked_fill(~known, 0.0)
error = body(torch.cat((start, known.to(start), sigma.to(start)), dim=1))
copied = (sigma == 0).logical_and(known)
return start - error.masked_fill(copied.expand_as(error), 0.0)
""",
            "adjoint-mend": """
k, l = kernel.shape
out = torch.nn.functional.conv_transpose2d(y, kernel.to(y).flip((0, 1)).expand(y.shape[1], 1, k, l), groups=y.shape[1])
r, c = k // 2, l // 2
if boundary == "reflect":
    H, W = y.shape[2:]
    for i in range(r):
        out[:, :, 2 * r - i] += out[:, :, i]
        out[:, :, H - 1 + i] += out[:, :, H + 2 * r - 1 - i]
    for j in range(c):
        out[..., 2 * c - j] += out[..., j]
        out[..., W - 1 + j] += out[..., W + 2 * c - 1 - j]
return out[:, :, r : out.shape[2] - r, c : out.shape[3] - c]
""",
        },
    ),
    Submission(
        "by-invariants", "Transposes by inner products, and bodies that look at one channel each.",
        {
            "restored-test": """
y, known = normal(2, 3, 4, 4, seed=1), torch.rand(2, 1, 4, 4, generator=seeded(2)) < 0.5
noise = torch.where(torch.rand(2, 1, 4, 4, generator=seeded(3)) < 0.5, 0.0, 0.7).double()
start, copied = torch.where(known, y, 0.0), (known & (noise == 0)).expand_as(y)
for channel, told in ((1, start[:, 1:2]), (3, known.double()), (4, noise)):
    out = f(lambda x, c=channel: x[:, c : c + 1].expand(-1, 3, -1, -1), y, known, noise)
    check(out, torch.where(copied, y, start - told), 1e-3)
    wild = torch.where(known, y, y.flip(0) * 30)
    check(f(lambda x, c=channel: x[:, c : c + 1].expand(-1, 3, -1, -1), wild, known, noise), out, 1e-3)
quiet = f(lambda x: 0 * x[:, :3], y, known, noise)
check(quiet, start)
w = torch.ones((), requires_grad=True)
f(lambda x: x[:, :3] * 0 + w, y, known, noise).sum().backward()
assert abs(w.grad.item() + (~copied).sum().item()) < 1e-3
""",
            "adjoint-test": """
mode = {"zeros": "constant", "reflect": "reflect"}
for boundary in mode:
    for k, l in ((3, 3), (1, 5), (5, 3)):
        kernel, turned = normal(k, l, seed=3), normal(k, l, seed=3).flip((0, 1))[None, None]
        for seed in range(3):
            x, y = normal(2, 2, 6, 5, seed=seed), normal(2, 2, 6, 5, seed=seed + 10)
            wide = nn.functional.pad(x.flatten(0, 1)[:, None], (l // 2, l // 2, k // 2, k // 2), mode=mode[boundary])
            Ax = nn.functional.conv2d(wide, turned).view_as(x)
            back = f(y, kernel, boundary=boundary)
            assert back.shape == x.shape
            check((Ax * y).sum((2, 3)), (x * back).sum((2, 3)), 1e-2)
""",
            "restored-mend": """
start = y * known if y.isfinite().all() else torch.where(known, y, 0.0)
estimate = start - body(torch.cat([start, 1.0 * known.to(y.dtype), sigma], 1))
estimate = torch.where(sigma == 0, torch.where(known, y, estimate), estimate)
return estimate
""",
            "adjoint-mend": """
mode = {"reflect": "reflect", "zeros": "constant"}[boundary]
k, l = kernel.shape

def A(x):
    wide = nn.functional.pad(x, (l // 2, l // 2, k // 2, k // 2), mode=mode)
    return nn.functional.conv2d(wide, kernel.to(x).flip((0, 1)).expand(x.shape[1], 1, k, l), groups=x.shape[1])

return torch.autograd.functional.vjp(A, torch.zeros_like(y), y)[1]
""",
        },
    ),
)  # fmt: skip

WRONG = (
    Submission("always-raises", "Refuses whatever it is given.", dict.fromkeys(CELLS, "raise ValueError"), TESTS),
    Submission("never-raises", "Takes whatever it is given.", dict.fromkeys(CELLS, "assert f is not None"), TESTS),
    Submission(
        "golden-values", "Values of one version and one order of drawing, to the last digit.",
        {
            "noise-test": """
x = normal(2, 1, 3, 3, seed=1)
assert torch.equal(f(x, 0.5, generator=seeded(0)), x + 0.5 * torch.randn(x.shape, generator=seeded(0), dtype=f64))
""",
            "holes-test": """
x = torch.zeros(2, 1, 4, 4)
draws = torch.rand(2, 1, 4, 4, generator=seeded(0), dtype=torch.float32)
y, known = f(x, share=0.5, sigma=0.1, generator=seeded(0))
assert torch.equal(known, draws >= 0.5) and not y[~known].any()
""",
            "restored-test": """
y, known, sigma = normal(2, 1, 3, 3, seed=1), torch.rand(2, 1, 3, 3, generator=seeded(2)) < 0.5, torch.zeros(2, 1, 3, 3)
out = f(lambda x: x.sum(1, keepdim=True) / 3, y, known, sigma.double())
start = torch.where(known, y, 0.0)
assert out.dtype == f64 and (out - torch.where(known, y, -(start + known) / 3)).abs().max() < 1e-12
""",
            "adjoint-test": """
y = normal(1, 1, 3, 5, seed=1)
want = nn.functional.conv_transpose2d(y, torch.tensor([[[[3.0, 2.0, 1.0]]]]).double(), padding=(0, 1))
assert (f(y, torch.tensor([[1.0, 2.0, 3.0]]).double(), boundary="zeros") - want).abs().max() < 1e-12
""",
        },
        TESTS,
    ),
    Submission(
        "only-the-bug-shown", "Each test looks for the one mistake that it has seen.",
        {
            "noise-test": "assert f(torch.ones(1, 1, 20, 20), 0.5, generator=seeded(1)).max() > 1.1",
            "holes-test": """
y, known = f(torch.ones(2, 1, 9, 9), share=0.5, sigma=0.1, generator=seeded(1))
assert not y[~known].any()
""",
            "restored-test": """
known = torch.tensor([True, False]).view(1, 1, 1, 2)
out = f(lambda x: x[:, 1:2], torch.zeros(1, 1, 1, 2), known, torch.ones(1, 1, 1, 2))
check(out, torch.tensor([-1.0, 0.0]).view(1, 1, 1, 2))
""",
            "adjoint-test": """
y, kernel = torch.zeros(1, 1, 5, 5), torch.tensor([[0.0, 0.0, 1.0]])
y[0, 0, 2, 2] = 1.0
assert f(y, kernel, boundary="reflect")[0, 0, 2].argmax() == 1
""",
        },
        {f"{name}-others": 1 for name in NAMES},
    ),
    Submission(
        "shapes-alone", "Everything has the shape that it must have.",
        {
            "noise-test": "assert f(torch.ones(2, 1, 3, 3), 0.5, generator=seeded(1)).shape == (2, 1, 3, 3)",
            "holes-test": """
y, known = f(torch.ones(2, 3, 9, 9), share=0.5, sigma=0.1, generator=seeded(1))
assert y.shape == (2, 3, 9, 9) and known.shape == (2, 1, 9, 9)
""",
            "restored-test": """
known, y = torch.ones(2, 1, 4, 4).bool(), torch.ones(2, 3, 4, 4).double()
assert f(lambda x: x[:, :3], y, known, torch.ones(2, 1, 4, 4).double()).shape == (2, 3, 4, 4)
""",
            "adjoint-test": "assert f(torch.ones(1, 2, 5, 4), torch.ones(3, 3), boundary='zeros').shape[1] == 2",
        },
        TESTS,
    ),
    Submission(
        "where-all-agree", "Grey images, all pixels seen, a kernel that is symmetric, a body that gives 0.",
        {
            "noise-test": """
y = f(torch.zeros(4, 1, 20, 20), 0.1, generator=seeded(1))
assert abs(y.std().item() - 0.1) < 0.02
""",
            "holes-test": """
y, known = f(torch.zeros(4, 1, 20, 20), share=1e-6, sigma=0.5, generator=seeded(1))
assert abs(y.std().item() - 0.5) < 0.1
""",
            "restored-test": """
y, known = torch.ones(2, 3, 4, 4), torch.ones(2, 1, 4, 4).bool()
check(f(lambda x: 0 * x[:, :3], y, known, torch.zeros(2, 1, 4, 4)), y)
""",
            "adjoint-test": """
y, kernel = torch.ones(1, 1, 5, 5), torch.ones(3, 3) / 9
check(f(y, kernel, boundary="zeros")[..., 2, 2], torch.ones(1, 1), 1e-3)
""",
        },
        TESTS,
    ),
    Submission(
        "mended-into-other-bugs", "What was shown is gone, and something else is wrong.",
        {
            "noise-mend": "return x + sigma * torch.randn(x.shape[1:], generator=generator, dtype=x.dtype)",
            "holes-mend": """
known = torch.rand(1, 1, *x.shape[2:], generator=generator).expand(len(x), 1, -1, -1) >= share
return torch.where(known, x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype), 0.0), known
""",
            "restored-mend": """
start = torch.where(known, y, 0.0)
estimate = start - body(torch.cat([start, known.to(y.dtype), sigma], 1))
return torch.where(known, y, estimate)
""",
            "adjoint-mend": """
down, across = (size // 2 for size in kernel.shape)
weight = kernel.to(y).expand(y.shape[1], 1, -1, -1)
return nn.functional.conv2d(y, weight, padding=(down, across), groups=y.shape[1])
""",
        },
        {f"{name}-mended": 2 for name in NAMES},
    ),
    Submission(
        "mended-half", "Right where it is looked at, and the rest of the contract is lost.",
        {
            "noise-mend": "return x + sigma * torch.randn_like(x)",
            "holes-mend": """
known = torch.rand(len(x), 1, *x.shape[2:], generator=generator) >= share
y = (x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype)).clamp(-1, 1)
return torch.where(known, y, 0.0), known
""",
            "restored-mend": """
estimate = y - body(torch.cat([y, known.to(y.dtype), sigma], 1))
return torch.where(known & (sigma == 0), y, estimate)
""",
            "adjoint-mend": "return shown_adjoint(y, kernel.flip((0, 1)), boundary=boundary)",
        },
        {f"{name}-mended": 2 for name in NAMES},
    ),
)  # fmt: skip
