"""Submissions of the assignment on the quantiser and its gradients."""

from tests.assignments.submission import Submission

AVERAGED = """
z = z.detach()
n = torch.bincount(indices, minlength=len(counts)).to(z.dtype)
counts = decay * counts + (1 - decay) * n
sums = decay * sums + (1 - decay) * torch.zeros_like(sums).index_add_(0, indices, z)
"""
RESTARTED = """
fair = len(z) / len(codebook)
dead, fresh = counts < {threshold}, z.detach()[{rows}]
return torch.where(dead[:, None], fresh, codebook.detach()), counts.masked_fill(dead, fair)
"""
BY_HAND = """
e = codebook[indices]
error = x - {at} @ V.T
by_codebook = torch.zeros_like(codebook)
{gather}
return -error.T @ {at}, -error @ V + 2 * beta * (z - e), by_codebook
"""
ADDED = "by_codebook.index_add_(0, indices, 2 * (e - z))"
TRAINED = """
net.{mode}()
adam, losses = torch.optim.Adam(net.parameters(), lr=0.01), []
for x in batches:
    shown, z, e, _ = net(x)
    loss = (x - shown).square().sum((1, 2, 3)) / 0.02
    loss = (loss + {weight} * objectives.commitment_loss(z, e)).mean()
    adam.zero_grad(), loss.backward(), adam.step()
    losses.append(loss.item())
return losses
"""
LONG_RUN = """
K = len(Q)  # half of the time nothing is sent: the same shares, and the powers settle
shares = torch.linalg.matrix_power(0.5 * (Q + torch.eye(K, dtype=Q.dtype)), 2**14)[0]
"""

RIGHT = (
    Submission(
        "in-other-words", "One-hot matrices, loops and eigenvectors.",
        {
            "nearest": """
rows = z.detach().flatten(2).mT  # (B, h w, D)
squares = rows.square().sum(2)[..., None] - 2 * rows @ codebook.detach().T + codebook.detach().square().sum(1)
return squares.clamp_min(0).min(dim=2).indices.unflatten(1, z.shape[2:])
""",
            "lookup": "return (torch.eye(len(codebook), dtype=codebook.dtype)[indices] @ codebook).movedim(3, 1)",
            "penalty": """
by_codebook = torch.stack([((a.detach() - b) ** 2).sum() for a, b in zip(z, nearest_map)])
by_output = torch.stack([((a - b.detach()) ** 2).sum() for a, b in zip(z, nearest_map)])
return by_codebook + beta * by_output
""",
            "straight-through": "return nearest_map.detach() + z - z.detach()",
            "by-hand": """
V, z = V.clone().requires_grad_(), z.clone().requires_grad_()
book = codebook.clone().requires_grad_()
e = book[indices]
loss = 0.5 * (x - (z + (e - z).detach()) @ V.T).square().sum()
loss = loss + penalty(z[..., None, None], e[..., None, None], beta).sum()
loss.backward()
return V.grad, z.grad, book.grad
""",
            "ema-update": """
one_hot = torch.nn.functional.one_hot(indices, len(counts)).to(sums.dtype)
with torch.no_grad():
    c = counts.lerp(one_hot.sum(0), 1 - decay)
    m = sums.lerp(one_hot.T @ z, 1 - decay)
    smooth = (c + eps) * c.sum() / (c + eps).sum()
    return c, m, m / smooth.unsqueeze(1)
""",
            "restart-dead": """
codebook, counts = codebook.detach().clone(), counts.clone()
dead = (counts < least * len(z) / len(codebook)).nonzero()[:, 0]
rows = torch.multinomial(torch.ones(len(z)), max(1, len(dead)), generator=generator)[: len(dead)]
codebook[dead] = z.detach()[rows]
counts[dead] = len(z) / len(codebook)
return codebook, counts
""",
            "perplexities": """
def one(codes):
    shares = [(codes == k).double().mean() for k in range(n_codes)]
    return math.prod(float(q) ** -float(q) for q in shares if q > 0)

return one(torch.cat([b.flatten() for b in batches])), [one(b) for b in batches]
""",
            "lloyd": """
for _ in range(n_steps):
    mine = torch.eye(len(centres), dtype=points.dtype)[torch.cdist(points, centres).argmin(1)]
    n = mine.sum(0)[:, None]
    centres = torch.where(n > 0, mine.T @ points / n.clamp_min(1), centres)
return centres
""",
            "train": """
opt = torch.optim.Adam(net.train().parameters(), lr=1e-2)

def step(x):
    opt.zero_grad()
    shown, z, e, _ = net(x)
    squares = 50 * (shown - x).square().sum() + beta * (z - e.detach()).square().sum()
    loss = squares / len(x)
    loss.backward()
    opt.step()
    return float(loss)

return [step(x) for x in batches]
""",
            "measure": """
rest = copy.deepcopy(net).eval().requires_grad_(False)
found = [rest(x) for x in pictures.split(size)]
shown, codes = torch.cat([f[0] for f in found]), torch.cat([f[3] for f in found])
counts = metrics.code_counts(codes, len(rest.quantiser.codebook))
return ((shown - pictures) ** 2).mean().item(), metrics.codes_used(counts), metrics.perplexity(counts)
""",
            "code-lengths": """
values, vectors = torch.linalg.eig(Q.T)
shares = vectors[:, (values - 1).abs().argmin()].real
shares = shares / shares.sum()

def bits(q):
    return -sum(v * math.log2(v) for v in q.tolist() if v > 1e-12)

return math.log2(len(Q)), bits(shares), sum(w * bits(row) for w, row in zip(shares.tolist(), Q))
""",
        },
    ),
    Submission(
        "by-the-package", "By the package, against the instruction, which no test can see.",
        {
            "nearest": """
from imagegen.vq import nearest_code
return nearest_code(z.movedim(1, -1).flatten(0, -2), codebook).view(len(z), *z.shape[2:])
""",
            "lookup": "return torch.nn.functional.embedding(indices, codebook).movedim(-1, 1)",
            "penalty": """
from imagegen import objectives
return objectives.codebook_loss(z, nearest_map) + beta * objectives.commitment_loss(z, nearest_map)
""",
            "straight-through": """
from imagegen import vq
return vq.straight_through(z, nearest_map)
""",
            "restart-dead": """
fair = len(z) / len(codebook)
fresh, order = [], torch.randperm(len(z), generator=generator).tolist()
for e, count in zip(codebook.detach(), counts):
    fresh.append(z[order.pop()].detach() if count < least * fair else e)
return torch.stack(fresh), torch.where(counts < least * fair, fair, counts)
""",
            "lloyd": """
import warnings
from scipy.cluster.vq import kmeans2
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return torch.from_numpy(kmeans2(points.numpy(), centres.numpy(), iter=n_steps, minit="matrix")[0])
""",
            "code-lengths": LONG_RUN
            + """
bits = lambda q: -torch.xlogy(q, q).sum(-1) / math.log(2)
return math.log(K, 2), bits(shares).item(), (shares * bits(Q)).sum().item()
""",
        },
    ),
)  # fmt: skip

WRONG = (
    Submission(
        "largest-product", "The largest product is taken for the least distance; pulls with a mean for a sum.",
        {
            "nearest": "return (z.movedim(1, 3) @ codebook.T).argmax(3)",
            "penalty": """
codebook_loss = (z.detach() - nearest_map).square().mean((1, 2, 3))
return codebook_loss + beta * (z - nearest_map.detach()).square().mean((1, 2, 3))
""",
        },
        {"test-nearest": 2, "test-layout": 2, "test-penalty": 1, "test-penalty-gradients": 2},
    ),
    Submission(
        "vectors-cut-across-the-channels", "Reshaped without moving the channels, both ways.",
        {
            "nearest": """
scores = 0.5 * codebook.square().sum(1) - z.reshape(-1, z.shape[1]) @ codebook.T
return scores.argmin(1).view(len(z), *z.shape[2:])
""",
            "lookup": "return codebook[indices].reshape(len(indices), -1, *indices.shape[1:])",
        },
        {"test-layout": 2, "test-lookup": 1},
    ),
    Submission(
        "ties-to-the-last", "Of equally near codes the last is kept; the patch has no detach.",
        {
            "nearest": """
far = torch.stack([(z - e[:, None, None]).square().sum(1) for e in codebook.flip(0)])
return len(codebook) - 1 - far.argmin(0)
""",
            "straight-through": "return z + (nearest_map - z)",
        },
        {"test-nearest": 2, "test-straight-through": 2},
    ),
    Submission(
        "beta-on-the-codebook-loss", "Beta on the wrong term; a code's gradients are written, not added.",
        {
            "penalty": """
codebook_loss = (z.detach() - nearest_map).square().sum((1, 2, 3))
return beta * codebook_loss + (z - nearest_map.detach()).square().sum((1, 2, 3))
""",
            "by-hand": BY_HAND.format(at="e", gather="by_codebook[indices] = 2 * (e - z)"),
        },
        {"test-penalty-gradients": 2, "test-by-hand-codebook": 1},
    ),
    Submission(
        "detached-on-both-sides", "The codebook loss trains nothing; the decoder is followed at z and not at the code.",
        {
            "penalty": """
codebook_loss = (z.detach() - nearest_map.detach()).square().sum((1, 2, 3))
return codebook_loss + beta * (z - nearest_map.detach()).square().sum((1, 2, 3))
""",
            "by-hand": BY_HAND.format(at="z", gather=ADDED),
        },
        {"test-penalty-gradients": 2, "test-by-hand": 2},
    ),
    Submission(
        "losses-after-the-patch", "The patched tensor in the penalty; the distortion moves the codebook.",
        {
            "penalty": """
patched = z + (nearest_map - z).detach()
codebook_loss = (z.detach() - patched).square().sum((1, 2, 3))
return codebook_loss + beta * (z - patched.detach()).square().sum((1, 2, 3))
""",
            "by-hand": BY_HAND.format(at="e", gather=ADDED.replace("(e - z)", "(e - z) - error @ V")),
        },
        {"test-penalty-gradients": 2, "test-by-hand-codebook": 1},
    ),
    Submission(
        "counts-never-averaged", "Sums are averaged over batches and counts are not; restarts draw one output twice.",
        {
            "ema-update": """
z = z.detach()
n = torch.bincount(indices, minlength=len(counts)).to(z.dtype)
sums = decay * sums + (1 - decay) * torch.zeros_like(sums).index_add_(0, indices, z)
smooth = (n + eps) / (n + eps).sum() * n.sum()
return n, sums, sums / smooth[:, None]
""",
            "restart-dead": RESTARTED.format(
                threshold="least * fair", rows="torch.randint(len(z), (len(codebook),), generator=generator)"
            ),
        },
        {"test-averages": 1, "test-ema-codebook": 2, "test-restart": 2},
    ),
    Submission(
        "smoothed-by-a-small-number", "A small number below the line; dead below a number of uses.",
        {
            "ema-update": AVERAGED + "return counts, sums, sums / (counts + eps)[:, None]",
            "restart-dead": RESTARTED.format(
                threshold="least", rows="torch.randperm(len(z), generator=generator)[: len(codebook)]"
            ),
        },
        {"test-ema-codebook": 2, "test-restart": 2},
    ),
    Submission(
        "smoothed-counts-kept", "The smoothed counts are kept and smoothed again; restarts take the first outputs.",
        {
            "ema-update": AVERAGED
            + """
counts = (counts + eps) / (counts + eps).sum() * counts.sum()
return counts, sums, sums / counts[:, None]
""",
            "restart-dead": RESTARTED.format(threshold="least * fair", rows=": len(codebook)"),
        },
        {"test-averages": 1, "test-restart": 2},
    ),
    Submission(
        "a-batch-for-the-data-set", "The perplexity of batches is averaged; an empty centre is a mean of nothing.",
        {
            "perplexities": """
def perplexity(batch):
    shares = torch.bincount(batch.flatten(), minlength=n_codes).double() / batch.numel()
    return torch.special.entr(shares).sum().exp().item()

parts = [perplexity(batch) for batch in batches]
return sum(parts) / len(parts), parts
""",
            "lloyd": """
for _ in range(n_steps):
    mine = nearest_code(points, centres)
    centres = torch.stack([points[mine == k].mean(0) for k in range(len(centres))])
return centres
""",
            "measure": """
rest, found = copy.deepcopy(net).eval(), []
for x in pictures.split(size):
    shown, _, _, indices = rest(x)
    counts = metrics.code_counts(indices, len(rest.quantiser.codebook))
    found.append(((x - shown).square().mean().item(), metrics.codes_used(counts), metrics.perplexity(counts)))
return tuple(sum(values) / len(found) for values in zip(*found))
""",
        },
        {"test-perplexities": 2, "test-lloyd": 2, "test-measure": 2},
    ),
    Submission(
        "always-in-evaluation", "The codebook rests in training; the source's rows weigh the same.",
        {
            "train": TRAINED.format(mode="eval", weight="beta"),
            "code-lengths": LONG_RUN
            + """
bits = lambda q: torch.special.entr(q).sum(-1) / math.log(2)
return math.log2(K), bits(shares).item(), bits(Q).mean().item()
""",
        },
        {"test-train": 2, "test-collapse": 1, "test-rate": 1},
    ),
    Submission(
        "no-leash", "The commitment is forgotten; the measuring moves the codebook; nats are given for bits.",
        {
            "train": TRAINED.format(mode="train", weight="0.0"),
            "measure": """
with torch.no_grad():
    shown, _, _, indices = net(pictures)
counts = metrics.code_counts(indices, len(net.quantiser.codebook))
return (pictures - shown).square().mean().item(), metrics.codes_used(counts), metrics.perplexity(counts)
""",
            "code-lengths": LONG_RUN
            + """
return math.log(K), torch.special.entr(shares).sum().item(), (shares @ torch.special.entr(Q).sum(1)).item()
""",
        },
        {"test-train": 2, "test-measure": 2, "test-shares": 1, "test-rate": 1},
    ),
    Submission(
        "made-for-the-visible-cases", "Right where the expected cases look: codes that are alike, two codes in all.",
        {
            "perplexities": """
used = [len(batch.unique()) for batch in batches]  # as if all of them were equally frequent
total = sum(batch.numel() for batch in batches)
shares = [batch.numel() / total for batch in batches]  # and no two batches had one in common
return math.exp(sum(q * math.log(n / q) for q, n in zip(shares, used))), [float(n) for n in used]
""",
            "code-lengths": """
K = len(Q)
shares = Q.sum(0) / K  # one step of the source, from all codes alike
shares = shares if K > 2 else torch.tensor([Q[1, 0], Q[0, 1]], dtype=Q.dtype) / (Q[1, 0] + Q[0, 1])
bits = lambda q: torch.special.entr(q).sum(-1) / math.log(2)
return math.log2(K), bits(shares).item(), (shares @ bits(Q)).item()
""",
        },
        {"test-perplexities": 2, "test-shares": 1, "test-rate": 1},
    ),
)  # fmt: skip
