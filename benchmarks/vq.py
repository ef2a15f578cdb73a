"""Our quantiser and a widely used one, layer alone: time and memory of a forward and backward pass with its update.

The other is VectorQuantize of https://github.com/lucidrains/vector-quantize-pytorch (MIT), from PyPI, with all of its
defaults, handed sequences (B, h w, D), which it takes without a copy; ours gets feature maps (B, D, h, w). Both have
one thread, 32 bits, the same vectors and the same gradient at their output, and both compute a commitment loss.

Time is the process's CPU time, the two in turn, and the median. Memory is the high-water mark of the resident set over
three steps, less what was resident before them, in a fresh process for each side: it counts what the allocator keeps
and what the matrix product packs for itself, which a profiler of tensors does not see. Before the first look the code
is loaded by a step on one vector, and freed memory is handed back to the system.
"""

import ctypes
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import Unavailable
from benchmarks.clock import in_turn
from benchmarks.record import Claim, make
from imagegen.objectives import commitment_loss
from imagegen.vq import Quantiser

ROOT = Path(__file__).resolve().parents[1]
STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Case:
    """A batch of `batch` grids of side x side vectors, and a codebook. time, memory: the largest ratios claimed."""

    batch: int
    side: int
    codes: int
    dim: int
    repetitions: int
    time: float
    memory: float

    def __str__(self) -> str:
        return f"B {self.batch} of {self.side}x{self.side}, K {self.codes}, D {self.dim}"


CASES = {
    "small": Case(128, 8, 512, 64, repetitions=41, time=0.4, memory=0.25),
    "large": Case(64, 32, 1024, 64, repetitions=7, time=0.25, memory=0.15),
}
QUICK = {"small": Case(4, 4, 16, 8, repetitions=3, time=0.4, memory=0.25)}


def ours(z: Tensor, gradient: Tensor, codes: int) -> Callable[[], None]:
    """Return one step of our quantiser on z (B, D, h, w)."""
    layer, z = Quantiser(codes, z.shape[1]), z.detach().requires_grad_()

    def step() -> None:
        z.grad = None
        found = layer(z)
        loss = commitment_loss(z, found.nearest).mean()
        torch.autograd.backward((found.quantised, loss), (gradient, None))

    return step


def peer(z: Tensor, gradient: Tensor, codes: int, **options) -> Callable[[], None]:
    """Return one step of the other on z (B, h w, D). Raises: Unavailable: it is not installed."""
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError as error:
        raise Unavailable(f"{error}: `make env` installs vector-quantize-pytorch") from error
    layer, z = VectorQuantize(dim=z.shape[2], codebook_size=codes, **options), z.detach().requires_grad_()

    def step() -> None:
        z.grad = None
        quantised, _, loss = layer(z)
        torch.autograd.backward((quantised, loss.sum()), (gradient, None))

    return step


def prepared(side: str, case: Case, **options) -> Callable[[], None]:
    """Return one step of a side, "ours" or "peer", with its inputs made and its layer built."""
    torch.manual_seed(0)
    z, gradient = torch.randn(2, case.batch, case.dim, case.side, case.side)
    if side == "ours":
        return ours(z, gradient, case.codes)
    return peer(*(a.flatten(2).mT.contiguous() for a in (z, gradient)), case.codes, **options)


# ---- memory ------------------------------------------------------------------------------------------------------


def resident(field: str) -> float:
    """Return a field of the process's status, VmRSS or VmHWM, in MiB."""
    return int(re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)[1]) / 1024


def extra_memory(step: Callable[[], None]) -> float:
    """Return by how many MiB three steps raise the high-water mark of this process above what is resident now.

    ru_maxrss would not do: a process inherits it from the one that started it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)  # of glibc
    trim(0)
    REFS.write_text("5")  # the mark falls to what is resident
    before = resident("VmRSS")
    for _ in range(3):
        step()
    return resident("VmHWM") - before


def memory(side: str, case: Case) -> float:
    """Return the extra memory of a side in MiB, from a process of its own. Raises: Unavailable: this is no Linux."""
    if not (STATUS.exists() and REFS.exists()):
        raise Unavailable("the high-water mark of memory is read from /proc, which only Linux has")
    code = (
        "import torch; torch.set_num_threads(1); from dataclasses import replace; from benchmarks import vq; "
        f"case = vq.{case!r}; vq.prepared({side!r}, replace(case, batch=1, side=1))(); "
        f"print(vq.extra_memory(vq.prepared({side!r}, case)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the memory of {side} could not be measured:\n{done.stderr}")
    return float(done.stdout.split()[-1])


# ---- both --------------------------------------------------------------------------------------------------------


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    Raises: Unavailable: the other quantiser is not installed, or the system does not tell how much memory was used.
    """
    began = time.time()
    cases = QUICK if quick else CASES
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    metrics: dict[str, dict] = {}
    claims: list[Claim] = []
    try:
        for name, case in cases.items():
            steps = {side: prepared(side, case) for side in ("ours", "peer")}
            steps["plain"] = prepared("peer", case, rotation_trick=False)
            spent = in_turn(steps, case.repetitions)
            del steps
            kept = {side: memory(side, case) for side in ("ours", "peer")}
            found, said = compared(name, case, spent, kept)
            metrics |= found
            claims += said
            say(f"  {case}: ours {spent['ours']:.1f} ms, {kept['ours']:.0f} MiB; "
                f"the other {spent['peer']:.1f} ms, {kept['peer']:.0f} MiB")  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    record = make("bench-quantiser", seconds=time.time() - began, seed=0, metrics=metrics)
    return record | {
        "setting": {name: asdict(case) for name, case in cases.items()},
        "claims": [claim.as_dict() for claim in claims],
    }


def compared(name: str, case: Case, spent: dict[str, float], kept: dict[str, float]
             ) -> tuple[dict[str, dict], list[Claim]]:  # fmt: skip
    """Return the metrics and the claims of a case from the ms and the MiB of each side."""
    ratios = {
        "time": (spent["ours"] / spent["peer"], "of the other's CPU time", case.time),
        "memory": (kept["ours"] / kept["peer"], "of the other's extra memory", case.memory),
    }
    said = f"forward, backward and update, {case}"
    sides = {"ours": "ours", "peer": "vector-quantize-pytorch, defaults"}
    found = {}
    for side, words in sides.items():
        found[f"{name}_{side}_ms"] = {
            "value": spent[side],
            "unit": "ms",
            "detail": f"{words}; {said}; CPU time",
        }
    found[f"{name}_peer_plain_ms"] = {
        "value": spent["plain"], "unit": "ms",
        "detail": f"vector-quantize-pytorch, rotation_trick=False; {said}; CPU time",
    }  # fmt: skip
    for side, words in sides.items():
        found[f"{name}_{side}_mib"] = {
            "value": kept[side], "unit": "MiB", "detail": f"{words}; {said}; high-water mark above rest",
        }  # fmt: skip
    claims = []
    for kind, (value, unit, limit) in ratios.items():
        found[f"{name}_{kind}_ratio"] = {"value": value, "unit": unit, "detail": said}
        claims.append(Claim(f"the quantiser's {kind}, as a share of the other's, {case}", value, limit))
    return found, claims
