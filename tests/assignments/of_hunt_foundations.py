"""Submissions of the bug hunt in the foundations."""

from tests.assignments.submission import Submission

NAMES = ("psnr", "overlap", "frechet", "noise")
TESTS = {f"{name}-shown": 2 for name in NAMES} | {f"{name}-others": 1 for name in NAMES}

RIGHT = (
    Submission(
        "by-hand", "Numbers worked out by hand, in plain Python.",
        {
            "psnr-test": """
x = torch.tensor([[0.1, 0.9, 0.5], [0.0, 0.2, 0.3], [0.5, 0.5, 0.5]])
y = torch.tensor([[0.2, 0.7, 0.5], [0.1, 0.2, 0.9], [0.5, 0.5, 0.5]])
for span, lift in ((1.0, 0.0), (2.0, -1.0), (100.0, 0.0)):
    out = f(span * x + lift, span * y + lift, span=span)
    assert tuple(out.shape) == (3,)
    for i, squares in enumerate((0.05, 0.37)):
        assert abs(out[i].item() - 10 * math.log10(3 / squares)) < 0.01
    assert out[2].item() > 1000
    doubled = f(0.5 * span * x, 0.5 * span * y, span=span)
    assert abs(out[0].item() - doubled[0].item() + 6.0206) < 0.01
raised = 0
for a, b in ((x, 5 * y), (5 * x, y)):
    try:
        f(a, b, span=1.0)
    except ValueError:
        raised += 1
assert raised == 2
""",
            "overlap-test": """
def told(size, kernel, stride=1, padding=0, output_padding=0, dilation=1):
    long = [0] * 200
    for i in range(size):
        for j in range(kernel):
            long[i * stride + j * dilation] += 1
    length = (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding + output_padding
    return long[padding : padding + length]

for given in ((4, 3, 2), (5, 4, 2, 1), (3, 3, 3, 1, 2), (4, 3, 1, 1, 0, 2), (2, 5, 4, 2, 3), (3, 2, 2, 1, 2, 4)):
    names = ("stride", "padding", "output_padding", "dilation")
    out = f(*given[:2], **dict(zip(names, given[2:])))
    assert out.tolist() == told(*given) and out.dtype is torch.int64
wrong = ({"stride": 0}, {"dilation": 0}, {"padding": -1}, {"padding": 3}, {"output_padding": -1},
         {"stride": 2, "output_padding": 2}, {"padding": 5}, {"output_padding": 1})
caught = 0
for options in wrong:
    try:
        f(3, 3, **options)
    except ValueError:
        caught += 1
for sizes in ((0, 2), (2, 0)):
    try:
        f(*sizes)
    except ValueError:
        caught += 1
try:
    f(2, 3, padding=2)
except ValueError:
    caught += 1
assert caught == 11
""",
            "frechet-test": """
def plane(x, y):  # the trace of a root, in the plane, by trace and determinant
    sizes = [rows.T @ rows / (len(rows) - 1) for rows in (x - x.mean(0), y - y.mean(0))]
    product = sizes[0] @ sizes[1]
    root = (product.trace() + 2 * product.det().clamp(min=0).sqrt()).sqrt()
    return (x.mean(0) - y.mean(0)).square().sum() + sizes[0].trace() + sizes[1].trace() - 2 * root

x, y = normal(80, 2, seed=1), normal(55, 2, seed=2)
x[:, 1] += 2 * x[:, 0]
y[:, 1], x[60:] = y[:, 1] / 2 - y[:, 0] + 3, 4 * x[60:]
for a, b in ((x, y), (y, x), (x[:3], y[:4]), (x, x + 1), (x, x.flip(1))):
    found = f(a, b)
    assert type(found) is float and abs(found - plane(a, b)) < 0.02, found
few, many = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0], [4.0]])
assert abs(f(few, many) - (1.5**2 + (0.5**0.5 - 2) ** 2)) < 0.01
""",
            "noise-test": """
draws = []
for level in (0, 1, 100, 128, 255):
    n = 4000
    x = f(torch.full((n,), level, dtype=torch.uint8), generator=seeded(level))
    assert x.shape == (n,) and x.is_floating_point()
    u = (x.double() + 1) * 127.5 - level
    assert u.min() > -0.501 and u.max() < 0.501
    assert u.mean().abs() < 5 * 12**-0.5 / n**0.5
    for k in range(10):
        share = ((u >= k / 10 - 0.5) & (u < k / 10 - 0.4)).double().mean().item()
        assert abs(share - 0.1) < 5 * (0.09 / n) ** 0.5, f"tenth {k}"
    draws.append(u)
assert (draws[0] - draws[1]).abs().max() > 0.01
two = f(torch.zeros(2, 2000, dtype=torch.uint8), generator=seeded(1)).double()
assert (two[0] - two[1]).abs().max() > 1e-4
assert torch.allclose(f(torch.zeros(9, dtype=torch.uint8), generator=seeded(1)),
                      f(torch.zeros(9, dtype=torch.uint8), generator=seeded(1)))
for kind in (torch.float32, torch.int32, torch.int64):
    try:
        f(torch.zeros(2, dtype=kind))
    except TypeError:
        continue
    assert False, kind
""",
            "psnr-mend": """
wide = max((t.flatten(1).max(1).values - t.flatten(1).min(1).values).max().item() for t in (x, y))
if wide > span * 1.005:
    raise ValueError(wide)
power = torch.stack([(a - b).pow(2).mean() for a, b in zip(x, y)])
return 20 * math.log10(span) - 10 * power.log10()
""",
            "overlap-mend": """
if size < 1 or kernel < 1 or stride < 1 or dilation < 1 or padding < 0:
    raise ValueError("setting")
if output_padding < 0 or output_padding >= max(stride, dilation):
    raise ValueError("output_padding")
full = [0] * ((size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding)
for i in range(size):
    for j in range(kernel):
        full[i * stride + j * dilation] += 1
length = len(full) - 2 * padding
if length < 1:
    raise ValueError("length")
return torch.tensor(full[padding : padding + length])
""",
            "frechet-mend": """
def moments(rows):
    rows = rows.double()
    mean = rows.sum(0) / len(rows)
    return mean, (rows - mean).T @ (rows - mean) / (len(rows) - 1)

def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T

(a, p), (b, q) = moments(x), moments(y)
half = root(p)
cross = root(half @ q @ half)
return float((a - b).dot(a - b) + p.trace() + q.trace() - 2 * cross.trace())
""",
            "noise-mend": """
if images.dtype is not torch.uint8:
    raise TypeError(images.dtype)
inside = torch.empty(images.shape, dtype=torch.float64).uniform_(-0.5, 0.5, generator=generator)
return (images.double() + inside) / 127.5 - 1
""",
        },
    ),
    Submission(
        "by-invariants", "Relations that a right version keeps, beside one value each.",
        {
            "psnr-test": """
x, y = torch.rand(3, 2, 4, generator=seeded(1)), torch.rand(3, 2, 4, generator=seeded(2))
x[0], y[0], x[:, 0, 0], y[:, 0, 0], y[:, 1, 1] = x[0] / 2, y[0] / 2, 0.0, 0.2, 1.0
out = f(x, y, span=1.0)
assert out.shape == (3,)
check(f(255 * x, 255 * y, span=255.0), out, 1e-2)
check(f(2 * x - 1, 2 * y - 1, span=2.0), out, 1e-2)
check(f(x, x + (y - x) / 10, span=1.0), out + 20, 1e-2)
check(f(x[1:2], y[1:2], span=1.0), out[1:2], 1e-2)
check(f(torch.cat([x, x], 1), torch.cat([y, y], 1), span=1.0), out, 1e-2)
check(f(torch.zeros(1, 4), torch.tensor([[0.1, 0.0, 0.0, 0.3]]), span=1.0), torch.tensor([16.0206]), 1e-2)
assert f(x, x, span=1.0).isinf().all()
for pair in ((x, 3 * y), (3 * x, y)):
    try:
        f(*pair, span=0.9)
    except ValueError:
        pass
    else:
        raise AssertionError
""",
            "frechet-test": """
x = normal(120, 3, seed=1) * torch.tensor([1.0, 2.0, 0.5]) + 1
x[60:] += 4
turn = torch.linalg.qr(normal(3, 3, seed=2)).Q
y = normal(90, 3, seed=3)
out = f(x, y)
assert isinstance(out, float)
scale = x.square().mean().item() * 3
near = lambda a, b: abs(a - b) < 0.003 * scale  # noqa: E731
assert near(f(y, x), out) and near(f(x @ turn, y @ turn), out) and near(f(x - 7, y - 7), out)
assert near(f(x, x), 0.0) and near(f(3 * x, 3 * y) / 9, out)
assert near(f(x, 2 * x), x.var(0).sum().item() + x.mean(0).square().sum().item())
a, b = x[:4] @ turn, y[:3]
for p, q in ((a, b), (x, y), (x, x @ turn)):
    cp, cq = torch.cov(p.T), torch.cov(q.T)
    roots = torch.linalg.eigvals(cp @ cq).real.clamp(min=0).sqrt().sum()
    want = (p.mean(0) - q.mean(0)).square().sum() + (cp + cq).trace() - 2 * roots
    assert near(f(p, q), want.item())
assert abs(f(normal(2, 1, seed=4) * 0 + torch.tensor([[1.0], [5.0]]), torch.tensor([[1.0], [1.0]])) - 12) < 0.1
""",
            "psnr-mend": """
for image in (*x, *y):
    if (image.max() - image.min()).item() > 1.003 * span:
        raise ValueError("span")
return 10 * torch.log10(span * span * x[0].numel() / ((x - y) ** 2).flatten(1).sum(1))
""",
            "noise-mend": """
if images.dtype != torch.uint8:
    raise TypeError("bytes")
u = torch.rand(images.shape, generator=generator)
return (2 * (images.float() + u) - 1 - 255) / 255
""",
        },
    ),
)  # fmt: skip

ALWAYS = "raise AssertionError('wrong')"
NEVER = "assert f is not None"
CELLS = [f"{name}-test" for name in NAMES]

WRONG = (
    Submission("always-raises", "Refuses whatever it is given.", dict.fromkeys(CELLS, ALWAYS), TESTS),
    Submission("never-raises", "Takes whatever it is given.", dict.fromkeys(CELLS, NEVER), TESTS),
    Submission(
        "golden-values", "Values of one version, copied from one run, to the last digit.",
        {
            "psnr-test": """
x, y = normal(3, 4, seed=1).clamp(-1, 1), normal(3, 4, seed=2).clamp(-1, 1)
assert torch.equal(f(x, y, span=2.0), 10 * torch.log10(2.0**2 / (x - y).square().mean(1)))
""",
            "noise-test": """
levels = torch.arange(6).to(torch.uint8)
u = torch.rand(6, generator=seeded(0))
assert torch.equal(f(levels, generator=seeded(0)), levels / 127.5 - 1 + (u - 0.5) * (2 / 255))
""",
        },
        {"psnr-shown": 2, "psnr-others": 1, "noise-shown": 2, "noise-others": 1},
    ),
    Submission(
        "only-the-bug-shown", "Each test looks for the one mistake that it has seen.",
        {
            "psnr-test": "check(f(torch.zeros(2, 3), torch.full((2, 3), 0.2), span=2.0), torch.full((2,), 20.0), 0.01)",
            "overlap-test": "check(f(3, 2, stride=2), torch.ones(6))",
            "frechet-test": """
x = torch.tensor([[1.0, 1.0], [-1.0, -1.0]] * 20)
assert f(x, x * torch.tensor([1.0, -1.0])) > 1
""",
            "noise-test": """
x = f(torch.zeros(1000, dtype=torch.uint8), generator=seeded(1))
assert x.max() - x.min() > 1.5 / 255
""",
        },
        {"psnr-others": 1, "overlap-others": 1, "frechet-others": 1, "noise-others": 1},
    ),
    Submission(
        "shapes-alone", "As many numbers as there must be, whichever.",
        {
            "psnr-test": "assert f(torch.zeros(4, 3), torch.ones(4, 3), span=1.0).shape == (4,)",
            "overlap-test": "assert len(f(3, 4)) == 6",
            "frechet-test": "assert isinstance(f(normal(9, 2, seed=1), normal(9, 2, seed=2)), float)",
            "noise-test": "assert f(torch.zeros(3, 4, dtype=torch.uint8)).shape == (3, 4)",
        },
        TESTS,
    ),
    Submission(
        "where-all-agree", "Special cases: a range of 1, stride 1, a set with itself, the mean of the noise.",
        {
            "psnr-test": "check(f(torch.zeros(2, 3), torch.full((2, 3), 0.1), span=1.0), torch.full((2,), 20.0), 0.01)",
            "overlap-test": "check(f(3, 2), torch.tensor([1, 2, 2, 1]))",
            "frechet-test": "assert abs(f(normal(60, 3, seed=1), normal(60, 3, seed=1))) < 1e-3",
            "noise-test": """
x = f(torch.full((1000,), 128, dtype=torch.uint8), generator=seeded(1))
assert (x.mean() - 128 / 127.5 + 1).abs() < 1e-3
""",
        },
        TESTS,
    ),
    Submission(
        "all-but-the-errors", "Values are tested well, and nothing else that the contract says.",
        {
            "psnr-test": """
x, y = (torch.rand(4, 3, 5, generator=seeded(s), dtype=f64) for s in (1, 2))
check(f(x, y, span=2.0), 10 * (4 / (x - y).square().mean((1, 2))).log10(), 1e-3)
""",
            "overlap-test": """
for size, kernel, stride, padding in ((4, 3, 2, 1), (5, 4, 2, 1), (3, 5, 1, 2)):
    ones = torch.ones(1, 1, size), torch.ones(1, 1, kernel)
    truth = torch.nn.functional.conv_transpose1d(*ones, stride=stride, padding=padding)
    check(f(size, kernel, stride=stride, padding=padding), truth[0, 0])
""",
            "noise-test": """
levels = torch.arange(256).to(torch.uint8).repeat(40)
u = (f(levels).double() + 1) * 127.5 - levels
assert u.abs().max() < 0.501 and abs(u.var().item() - 1 / 12) < 0.01
""",
        },
        {"psnr-others": 1, "overlap-others": 1, "noise-others": 1},
    ),
    Submission(
        "mended-into-other-bugs", "What was shown is gone, and something else is wrong.",
        {
            "psnr-mend": """
for images in (x, y):
    if images.max() - images.min() > 1.005 * span:
        raise ValueError("span")
return (10 * torch.log10(span**2 / (x - y).square().mean())).expand(len(x))
""",
            "overlap-mend": """
length = (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding + output_padding
least = min(size, kernel, stride, dilation, length)
if least < 1 or padding < 0 or not 0 <= output_padding < max(stride, dilation):
    raise ValueError("setting")
counts = [0] * length
for i in range(size):
    for j in range(kernel):
        if i * stride + j < length:
            counts[i * stride + j] += 1
return torch.tensor(counts)
""",
            "frechet-mend": """
x, y = x.double(), y.double()
root_x, root_y = ((r - r.mean(0)) / len(r) ** 0.5 for r in (x, y))
gap = x.mean(0) - y.mean(0)
overlap = torch.linalg.svdvals(root_x @ root_y.T).sum()
return float(gap @ gap + root_x.square().sum() + root_y.square().sum() - 2 * overlap)
""",  # divided by N
            "noise-mend": """
if images.dtype != torch.uint8:
    raise TypeError("bytes")
return images / 127.5 - 1 + torch.rand(images.shape, generator=generator) / 127.5
""",
        },
        {"psnr-mended": 2, "overlap-mended": 2, "frechet-mended": 2, "noise-mended": 2},
    ),
    Submission(
        "mended-half", "Right in value where it is looked at, and the rest of the contract is lost.",
        {
            "psnr-mend": "return 10 * torch.log10(span**2 / (x - y).square().flatten(1).mean(1))",
            "overlap-mend": """
ones = torch.ones(1, 1, size), torch.ones(1, 1, kernel)
more = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
return torch.nn.functional.conv_transpose1d(*ones, **more)[0, 0]
""",
            "frechet-mend": """
gap = x.mean(0) - y.mean(0)
cov_x, cov_y = torch.cov(x.T), torch.cov(y.T)
return (gap @ gap + torch.trace(cov_x + cov_y - 2 * (cov_x @ cov_y).clamp(min=0).sqrt())).item()
""",
            "noise-mend": """
if images.dtype != torch.uint8:
    raise TypeError("bytes")
return images / 127.5 - 1 + (torch.rand(images.shape) - 0.5) / 127.5
""",
        },
        {"psnr-mended": 2, "overlap-mended": 2, "frechet-mended": 2, "noise-mended": 2},
    ),
)  # fmt: skip
