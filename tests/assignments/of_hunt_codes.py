"""Submissions of the bug hunt in discrete codes."""

from tests.assignments.submission import Submission

NAMES = ("commitment", "through", "quantise", "follow")
TESTS = {f"{name}-shown": 2 for name in NAMES} | {f"{name}-others": 1 for name in NAMES}
CELLS = [f"{name}-test" for name in NAMES]

RIGHT = (
    Submission(
        "by-hand", "Numbers worked out by hand, and gradients by backward.",
        {
            "commitment-test": """
z = torch.tensor([[[[1.0, 2.0]], [[0.0, -1.0]]], [[[4.0, 0.5]], [[2.0, 2.0]]]], requires_grad=True)
e = torch.tensor([[[[0.0, 2.5]], [[1.0, -1.0]]], [[[1.0, 0.5]], [[2.0, 0.0]]]], requires_grad=True)
out = f(z, e)
assert out.shape == (2,)
assert abs(out[0].item() - 2.25) < 1e-3 and abs(out[1].item() - 13) < 1e-3
out[1].backward()
assert z.grad[0].abs().max() == 0
assert abs(z.grad[1, 0, 0, 0].item() - 6) < 1e-3 and abs(z.grad[1, 1, 0, 1].item() - 4) < 1e-3
assert z.grad[1, 0, 0, 1] == 0 and (e.grad is None or e.grad.abs().max() == 0)
caught = 0
for shape in ((1, 2, 1, 2), (2, 1, 1, 2), (2, 2, 1, 1), (2, 2, 2, 2)):
    try:
        f(z, torch.zeros(shape))
    except ValueError:
        caught += 1
assert caught == 4
""",
            "through-test": """
z = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
e = torch.tensor([[4.0, -1.0], [0.0, 9.0]], requires_grad=True)
out = f(z, e)
assert (out.detach() - e.detach()).abs().max() < 1e-4
(out[0, 0] * 5 - 7 * out[1, 1] ** 2).backward()
assert (z.grad - torch.tensor([[5.0, 0.0], [0.0, -126.0]])).abs().max() < 1e-3
assert e.grad is None or e.grad.abs().max() == 0
for other in (e[:1], e[:, :1], e[0]):
    try:
        f(z, other)
    except ValueError:
        continue
    raise TypeError
""",
            "quantise-test": """
book = torch.tensor([[0.0, 1.0, 0.0], [4.0, 0.0, 0.0], [-3.0, -3.0, 2.0], [9.0, 9.0, 9.0]])
told = torch.tensor([[[0, 1, 3, 2], [2, 2, 0, 1]], [[3, 0, 1, 1], [1, 2, 3, 0]]])
z = torch.zeros(2, 3, 2, 4)
for b in range(2):
    for i in range(2):
        for j in range(4):
            z[b, :, i, j] = book[told[b, i, j]] + torch.tensor([0.3, -0.4, 0.2])
nearest, numbers = f(z, book)
assert numbers.dtype == torch.int64 and torch.equal(numbers, told)
assert nearest.shape == z.shape
assert (nearest - z + torch.tensor([0.3, -0.4, 0.2])[:, None, None]).abs().max() < 1e-4
assert f(torch.full((1, 3, 1, 1), 20.0), book)[1].item() == 3
assert f(torch.full((1, 3, 1, 1), 3.0), book)[1].item() == 1
""",
            "follow-test": """
codes, counts = torch.tensor([[0.0, 1.0], [8.0, 8.0], [-9.0, 9.0], [40.0, 0.0]]), torch.tensor([3.0, 0.0, 1.0, 0.0])
rows = torch.tensor([[1.0, 2.0], [0.0, -1.0], [1.0, 1.0], [9.0, 9.0]])
keep = codes.clone(), counts.clone()
for decay, want in ((0.75, (3.0, 0.25, 0.75, 0.0)), (0.0, (3.0, 1.0, 0.0, 0.0))):
    book, new = f(codes, counts, rows, decay=decay)
    assert torch.equal(codes, keep[0]) and torch.equal(counts, keep[1])
    assert (new - torch.tensor(want)).abs().max() < 1e-4
    share = 1 - decay
    zero = (decay * 3 * 0.0 + share * 2.0) / want[0], (decay * 3 * 1.0 + share * 2.0) / want[0]
    assert (book[0] - torch.tensor(zero)).abs().max() < 1e-3
    assert (book[1] - 9).abs().max() < 1e-3 and (book[2:] - codes[2:]).abs().max() < 1e-3
crowd = f(codes, counts, torch.tensor([[-10.0, 10.0]] * 6), decay=0.5)
assert abs(crowd[1][2].item() - 3.5) < 1e-3
assert abs(crowd[0][2, 1].item() - (0.5 * 9 + 30) / 3.5) < 1e-3
""",
            "commitment-mend": """
if list(z.shape) != list(nearest.shape):
    raise ValueError("shapes")
return torch.stack([((a - b.detach()) ** 2).sum() for a, b in zip(z, nearest)])
""",
            "through-mend": """
if z.shape != nearest.shape:
    raise ValueError("shapes")
return nearest.detach() + z - z.detach()
""",
            "quantise-mend": """
numbers = torch.zeros(len(z), *z.shape[2:], dtype=torch.int64)
for b in range(z.shape[0]):
    for i in range(z.shape[2]):
        for j in range(z.shape[3]):
            numbers[b, i, j] = (codebook - z[b, :, i, j]).square().sum(1).argmin()
return codebook[numbers].movedim(3, 1), numbers
""",
            "follow-mend": """
book, new = codebook.clone(), decay * counts
for row in rows:
    k = (codebook - row).square().sum(1).argmin()
    new[k] += 1 - decay
for row in rows:
    k = (codebook - row).square().sum(1).argmin()
    book[k] += (1 - decay) / new[k] * (row - codebook[k])
return book, new
""",
        },
    ),
    Submission(
        "by-other-truths", "Against distances of torch, autograd of the squares and running sums.",
        {
            "commitment-test": """
z, e = normal(3, 2, 2, 2, seed=5), normal(3, 2, 2, 2, seed=6)
mse = torch.nn.functional.mse_loss
for i in range(3):
    truth = mse(z[i], e[i], reduction="sum")
    assert abs(f(z[i : i + 1], e[i : i + 1])[0].item() - truth.item()) < 1e-3
x, y = z.clone().requires_grad_(), e.clone().requires_grad_()
value = f(x, y)
check(value[:2], torch.stack([mse(z[i], e[i], reduction="sum") for i in (0, 1)]), 1e-3)
slopes = torch.autograd.grad(value.sum(), [x, y], allow_unused=True)
other = z.clone().requires_grad_()
check(slopes[0], torch.autograd.grad(mse(other, e, reduction="sum"), other)[0], 1e-3)
assert slopes[1] is None or slopes[1].abs().sum() == 0
for shape in ((3, 2, 2, 1), (1, 2, 2, 2), (3, 1, 1, 1)):
    wrong = False
    try:
        f(z, torch.ones(shape))
    except ValueError:
        wrong = True
    assert wrong
""",
            "through-test": """
net = torch.nn.Linear(4, 3).double()
x, e = normal(7, 4, seed=1), normal(7, 3, seed=2).requires_grad_()
z = net(x)
out = f(z, e)
check(out, e)
((out - 1) ** 2).sum().backward()
truth = 2 * (e.detach() - 1)
check(net.bias.grad, truth.sum(0), 1e-3)
check(net.weight.grad, truth.T @ x, 1e-3)
assert e.grad is None or not e.grad.any()
for shape in ((7, 1), (1, 3), (1, 1)):
    try:
        f(z, torch.zeros(shape))
        broken = True
    except ValueError:
        broken = False
    assert not broken
""",
            "follow-test": """
for decay in (0.0, 0.6):
    book = torch.tensor([[0.0], [10.0], [30.0], [70.0]], dtype=f64)
    counts = torch.tensor([2.0, 1.0, 0.0, 0.5], dtype=f64)
    totals, sizes = counts[:, None] * book, counts.clone()
    for step in range(4):
        own = [0, 0, 1, 0, 0, 0][step:]
        rows = torch.tensor([[12.0 * k + s * 0.4 - 1.5] for s, k in enumerate(own)], dtype=f64)
        n = torch.tensor([own.count(k) for k in range(4)], dtype=f64)
        s = torch.stack([sum([r for r, k in zip(rows, own) if k == j], torch.zeros(1)) for j in range(4)])
        sizes, totals = decay * sizes + (1 - decay) * n, decay * totals + (1 - decay) * s
        before = book.clone()
        new_book, new_counts = f(book, counts, rows, decay=decay)
        check(book, before, 0)
        check(new_counts, sizes)
        truth = torch.where(sizes[:, None] > 0, totals / sizes.clamp(min=1e-9)[:, None], before)
        check(new_book, truth, 1e-3)
        book, counts, totals = truth, sizes.clone(), truth * sizes[:, None]
""",
            "through-mend": """
if z.size() != nearest.size():
    raise ValueError("sizes")

class Past(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        return b.clone()

    @staticmethod
    def backward(ctx, slope):
        return slope, None

return Past.apply(z, nearest)
""",
            "quantise-mend": """
scores = codebook.square().sum(1)[None, :, None, None] - 2 * torch.einsum("bdij,kd->bkij", z, codebook)
numbers = scores.argmin(1)
return torch.nn.functional.one_hot(numbers, len(codebook)).to(z.dtype).matmul(codebook).permute(0, 3, 1, 2), numbers
""",
            "follow-mend": """
own = torch.cdist(rows, codebook).argmin(1)
n = torch.bincount(own, minlength=len(codebook)).to(rows.dtype)
sums = torch.zeros_like(codebook).index_add_(0, own, rows)
new = counts + (1 - decay) * (n - counts)
step = (1 - decay) * (sums - n[:, None] * codebook) / new.clamp(min=1e-30)[:, None]
return codebook + step, new
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
            "commitment-test": """
z, e = normal(3, 4, 2, 2, seed=1), normal(3, 4, 2, 2, seed=2)
assert torch.equal(f(z, e), (z - e).square().flatten(1).sum(1))
""",
            "through-test": """
z, e = normal(3, 4, seed=1).requires_grad_(), normal(3, 4, seed=2)
out = f(z, e)
assert torch.equal(out, e) and out.dtype == f64
""",
            "follow-test": """
book, counts = f(torch.tensor([[0.0], [1.0]]).double(), torch.zeros(2).double(), normal(5, 1, seed=3), decay=0.9)
assert counts.dtype == f64 and abs(counts.sum().item() - 0.5) < 1e-12
""",
        },
        {f"{name}-{kind}": points for name in ("commitment", "through", "follow")
         for kind, points in (("shown", 2), ("others", 1))},
    ),
    Submission(
        "only-the-bug-shown", "Each test looks for the one mistake that it has seen.",
        {
            "commitment-test": """
z, e = torch.ones(1, 1, 1, 1, requires_grad=True), torch.zeros(1, 1, 1, 1)
assert f(z, e).requires_grad
""",
            "through-test": """
z = torch.ones(2, 3, requires_grad=True)
assert torch.autograd.grad(f(z, torch.zeros(2, 3)).sum(), z)[0].abs().max() > 0
""",
            "quantise-test": """
book = torch.tensor([[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]])
z = torch.tensor([0.0, 9.0])[None, :, None, None].expand(1, 2, 2, 2)
assert f(z, book)[1].eq(0).all()
""",
            "follow-test": """
book, _ = f(torch.tensor([[0.0], [50.0]]), torch.zeros(2), torch.ones(3, 1), decay=0.9)
assert book.isfinite().all()
""",
        },
        {f"{name}-others": 1 for name in NAMES},
    ),
    Submission(
        "shapes-alone", "Everything has the shape that it must have.",
        {
            "commitment-test": "assert f(torch.ones(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)).shape == (4,)",
            "through-test": "assert f(torch.ones(4, 3), torch.zeros(4, 3)).shape == (4, 3)",
            "quantise-test": """
nearest, indices = f(normal(2, 3, 4, 5, seed=1), normal(7, 3, seed=2))
assert nearest.shape == (2, 3, 4, 5) and indices.shape == (2, 4, 5)
""",
            "follow-test": """
book, counts = f(normal(7, 3, seed=1), torch.ones(7).double(), normal(20, 3, seed=2), decay=0.9)
assert book.shape == (7, 3) and counts.shape == (7,)
""",
        },
        TESTS,
    ),
    Submission(
        "values-alone", "No gradient is looked at, the grid is square and of one colour, all codes are in use.",
        {
            "commitment-test": """
z, e = normal(3, 4, 2, 2, seed=1), normal(3, 4, 2, 2, seed=2)
check(f(z, e), (z - e).square().sum((1, 2, 3)), 1e-3)
""",
            "through-test": "check(f(torch.ones(2, 3), torch.zeros(2, 3)), torch.zeros(2, 3))",
            "quantise-test": """
book = torch.tensor([[0.0], [1.0], [2.0]])
truth = torch.arange(9).view(1, 3, 3) % 3
check(f(truth[:, None] + 0.1, book)[1], truth)
""",
            "follow-test": """
new, c = f(torch.tensor([[0.0], [10.0]]), torch.ones(2), torch.tensor([[1.0], [11.0]]), decay=0.5)
check(c, torch.ones(2))
check(new, torch.tensor([[0.5], [10.5]]), 1e-3)
""",
        },
        TESTS,
    ),
    Submission(
        "mended-into-other-bugs", "What was shown is gone, and something else is wrong.",
        {
            "commitment-mend": """
if z.shape != nearest.shape:
    raise ValueError("shapes")
return (z - nearest).square().flatten(1).sum(1)
""",
            "through-mend": """
if z.shape != nearest.shape:
    raise ValueError("shapes")
return (z + (nearest - z)).detach() + 0 * z
""",
            "quantise-mend": """
rows = z.permute(0, 2, 3, 1).reshape(-1, codebook.shape[1])
indices = torch.cdist(rows, codebook).argmin(1).view(len(z), *z.shape[2:])
return codebook[indices].reshape(z.shape), indices
""",
            "follow-mend": """
nearest = torch.nn.functional.one_hot(torch.cdist(rows, codebook).argmin(1), len(codebook)).to(rows.dtype)
new = decay * counts + (1 - decay) * nearest.sum(0) + 1e-5
sums = decay * counts[:, None] * codebook + (1 - decay) * nearest.T @ rows
return sums / new[:, None], new
""",
        },
        {f"{name}-mended": 2 for name in NAMES},
    ),
    Submission(
        "mended-half", "Right where it is looked at, and the rest of the contract is lost.",
        {
            "commitment-mend": "return (z - nearest.detach()).square().flatten(1).sum(1)",
            "through-mend": "return z + (nearest - z).detach()",
            "quantise-mend": """
rows = z.permute(0, 2, 3, 1).reshape(-1, codebook.shape[1])
indices = (rows @ codebook.T).argmax(1).view(len(z), *z.shape[2:])
return codebook[indices].permute(0, 3, 1, 2), indices
""",
            "follow-mend": """
nearest = torch.nn.functional.one_hot(torch.cdist(rows, codebook).argmin(1), len(codebook)).to(rows.dtype)
counts.mul_(decay).add_((1 - decay) * nearest.sum(0))
step = (1 - decay) * (nearest.T @ rows - nearest.sum(0)[:, None] * codebook)
return codebook + step / counts.clamp(min=1e-9)[:, None], counts
""",
        },
        {f"{name}-mended": 2 for name in NAMES},
    ),
    Submission(
        "one-size-no-errors", "Everything but errors, other gradients, and arguments that are kept.",
        {
            "commitment-test": """
z, e = normal(3, 4, 2, 2, seed=1).requires_grad_(), normal(3, 4, 2, 2, seed=2)
check(torch.autograd.grad(f(z, e).sum(), z)[0], 2 * (z.detach() - e), 1e-3)
""",
            "through-test": """
z, e = normal(3, 4, seed=1).requires_grad_(), normal(3, 4, seed=2)
check(torch.autograd.grad(f(z, e).sum(), z)[0], torch.ones(3, 4))
""",
            "follow-test": """
codes, counts, rows = torch.tensor([[0.0], [9.0]]), torch.tensor([2.0, 0.0]), torch.tensor([[1.0], [2.0]])
book, new = f(codes, counts, rows, decay=0.9)
check(new, torch.tensor([2.0, 0.0]))
check(book, torch.tensor([[0.15], [9.0]]), 1e-3)
""",
        },
        {"commitment-others": 1, "through-others": 1, "follow-others": 1},
    ),
)  # fmt: skip
