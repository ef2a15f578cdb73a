"""Run a training step many times, average its weights, and survive being killed. Knows no model."""

import contextlib
import copy
import io
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

History = list[dict[str, float]]


class NonFiniteLoss(RuntimeError):
    """A term of the loss was NaN or infinite. Attributes: step (counted from 0), term, value."""

    def __init__(self, step: int, term: str, value: float):
        super().__init__(f"step {step}: the term {term!r} is {value}; training stopped there")
        self.step, self.term, self.value = step, term, value


class CheckpointError(RuntimeError):
    """A file could not be written whole, or a checkpoint cannot be used. The message names the file."""


def run(
    step: Callable[[Any], dict[str, Tensor]],
    batches: Iterable[Any],
    n_steps: int,
    *,
    first_step: int = 0,
    on_log: Callable[[dict[str, float]], bool | None] | None = None,
    log_every: int = 50,
    progress: bool = True,
) -> History:
    """Call `step(batch)` for the steps first_step .. n_steps - 1 and return the averaged terms.

    Args:
        step: does the whole update (forward, backward, optimiser) and returns named scalar terms.
        batches: an iterable whose first item belongs to `first_step`.
        on_log: called with each entry, once all its terms are known to be finite (so a checkpoint written
            there is sound); returning True ends the run early.
        progress: False shows no bar.
    Returns: one dict for every `log_every` steps and one for the rest: `step` (how many are done), the mean
        of each term over the window, `seconds` since the start, and `fetch_share`, the part of the window's
        time spent on getting batches.
    Raises:
        NonFiniteLoss: names the first step, and its first term, that was not finite. Terms stay on the device
            and are looked at once a window, so that a GPU never waits for the check.
        ValueError: the batches end early, or a term is not a scalar.
    """
    if log_every < 1:
        raise ValueError(f"log_every is {log_every}; expected at least 1")
    history: History = []
    window: list[Tensor] = []
    names: tuple[str, ...] = ()
    source = iter(batches)
    start = opened = time.perf_counter()
    fetching = 0.0
    with _bar(first_step, n_steps, progress) as bar:
        for index in range(first_step, n_steps):
            before = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                raise ValueError(f"the batches ended at step {index} of {n_steps}") from None
            fetching += time.perf_counter() - before
            terms = step(batch)
            names = names or tuple(terms)
            window.append(_stack(terms, names))
            bar.update()
            if (index + 1) % log_every and index + 1 < n_steps:
                continue
            values = torch.stack(window).cpu().double()  # (steps in the window, terms): the one wait
            _check_finite(values, names, index + 1 - len(window))
            now = time.perf_counter()
            entry = {"step": float(index + 1)} | dict(zip(names, values.mean(0).tolist(), strict=True))
            entry |= {"seconds": now - start, "fetch_share": fetching / max(now - opened, 1e-9)}
            history.append(entry)
            bar.set_postfix({name: f"{entry[name]:.4g}" for name in names[:3]}, refresh=False)
            window, fetching, opened = [], 0.0, now
            if on_log is not None and on_log(entry):
                break
    return history


def _bar(first_step: int, n_steps: int, progress: bool) -> tqdm:
    silent = not progress or os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    pause = 0.2 if sys.stderr.isatty() else 10.0  # a log file gets a line now and then, not five a second
    return tqdm(total=n_steps, initial=first_step, disable=silent, unit="step", mininterval=pause, leave=True)


def _stack(terms: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
    if tuple(terms) != names:
        raise ValueError(f"the step returned the terms {tuple(terms)}, earlier ones returned {names}")
    for name, value in terms.items():
        if value.ndim:
            raise ValueError(f"the term {name!r} has shape {tuple(value.shape)}; expected a scalar")
    return torch.stack([value.detach().float() for value in terms.values()])


def _check_finite(values: Tensor, names: tuple[str, ...], first: int) -> None:
    bad = (~values.isfinite()).nonzero()  # rows come in order: the first step, and in it the first term
    if len(bad):
        row, column = bad[0].tolist()
        raise NonFiniteLoss(first + row, names[column], float(values[row, column]))


class EMA:
    """An exponential moving average of a module's weights.

    The decay is min(decay, (1 + t) / (10 + t)) after t updates, so that the first, random weights are soon
    forgotten. Buffers (such as running statistics) are copied, not averaged. `.module` is the average, in
    evaluation mode, ready to use.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; expected 0 <= decay < 1")
        self.decay = decay
        self.updates = 0
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        mine, theirs = list(self.module.parameters()), [p.detach() for p in module.parameters()]
        if len(mine) != len(theirs):
            raise ValueError(f"the average has {len(mine)} parameters, the module {len(theirs)}")
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for ours, new in zip(self.module.buffers(), module.buffers(), strict=True):
            ours.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.updates = state["updates"]


def learning_rate(step: int, n_steps: int, *, peak: float, warmup: int, final: float) -> float:
    """Return the rate of a step: a line up to `peak` over `warmup` steps, then a cosine to `final * peak`.

    A warm-up longer than a tenth of the run is cut to that, so that a short run trains too.
    """
    warmup = min(warmup, n_steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(n_steps - 1 - warmup, 1)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def peak_memory(device: torch.device) -> float:
    """Return the most memory, in MiB, that this process has held at once.

    On a GPU that is what its tensors took; on a CPU all that the process had in memory, PyTorch's code included. 0
    where the system does not say (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def seed_of(*parts: int) -> int:
    """Return a 63-bit seed for whole numbers such as (seed, step, rank); near numbers give far seeds."""
    state = 0
    for part in parts:
        state = (state ^ (part & (2**64 - 1))) + 0x9E3779B97F4A7C15 & (2**64 - 1)  # splitmix64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        state = (state ^ state >> 27) * 0x94D049BB133111EB & (2**64 - 1)
        state ^= state >> 31
    return state >> 1


def write_atomic(path: Path | str, content: bytes | memoryview) -> None:
    """Write a file so that, whatever happens, its name holds the old content or all of the new.

    Raises: CheckpointError: the disk is full, or the folder cannot be written; the old file stays as it was.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        kept = "the file that was there is untouched" if path.exists() else "nothing was left there"
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}; {kept}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def save_checkpoint(path: Path | str, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, and lists and dicts of them, atomically (see `write_atomic`)."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getbuffer())


def load_checkpoint(path: Path | str, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what `save_checkpoint` wrote. Nothing in the file is run: it is read with weights_only.

    Raises: FileNotFoundError; CheckpointError: the file is not a checkpoint.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (FileNotFoundError, PermissionError, MemoryError, torch.OutOfMemoryError):  # no damage
        raise
    except Exception as error:
        raise CheckpointError(
            f"cannot read the checkpoint {path} ({type(error).__name__}): it is damaged or holds more than "
            "tensors, numbers, strings, lists and dicts; delete it to start anew"
        ) from error


@dataclass(frozen=True)
class Session:
    """One training that outlives its process: what it is, how long it goes, where and how often it is kept.

    identity: flat names and values; a checkpoint with others is refused. deadline: seconds since the epoch.
    """

    folder: Path
    identity: dict[str, Any]
    n_steps: int
    deadline: float | None = None
    save_seconds: float = 60.0
    log_every: int = 50
    progress: bool = True

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def saved(self, *, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """Return the last checkpoint, or None where there is none.

        Raises: CheckpointError: it is damaged, or of another training; the message names what differs.
        """
        if not self.path.exists():
            return None
        state = load_checkpoint(self.path, device=device)
        then, now = state["identity"], self.identity
        keys = [key for key in then | now if then.get(key) != now.get(key)]
        if keys:
            differing = "; ".join(f"{key} (checkpoint: {then.get(key)}, now: {now.get(key)})" for key in keys)
            raise CheckpointError(
                f"{self.path} belongs to another training; these differ: {differing}. Ask for the same, "
                "add --restart to throw the checkpoint away, or set IMAGEGEN_RUNS to another folder"
            )
        return state

    def run(self, fabric: Any, parts: dict[str, Any], step: Callable[[Any], dict[str, Tensor]],
            at: Callable[[int], Any], *, origin: dict[str, Any]) -> int:  # fmt: skip
        """Go on from the last checkpoint, or the start, to n_steps or the deadline; return the steps done.

        The weights at the end do not depend on where the run was cut, if `step(at(i))` is a pure function of
        i and of the parts.
        Args: fabric: a launched lightning_fabric.Fabric. parts: all that changes, each with state_dict and
            load_state_dict (models not wrapped). at: the batch of a step. origin: kept from the first start.
        """
        history: History = []
        first, seconds, cpu_seconds, memory = 0, 0.0, 0.0, 0.0
        if state := self.saved(device=fabric.device):
            for name, part in parts.items():
                part.load_state_dict(state[name])
            first, history, origin = state["step"], state["history"], state["provenance"]
            seconds, cpu_seconds, memory = state["seconds"], state["cpu_seconds"], state["memory_mib"]
            fabric.print(f"going on from step {first} of {self.n_steps} ({self.folder})")
        begun, cpu_begun, saved = time.perf_counter(), time.process_time(), time.perf_counter()
        done, parent = first, multiprocessing.parent_process()

        def on_log(entry: dict[str, float]) -> bool:
            nonlocal saved, done
            done = int(entry["step"])
            history.append(entry)
            fabric.log_dict({k: v for k, v in entry.items() if k != "step"}, step=done)
            if parent and not parent.is_alive():  # killed: whoever starts it again must not meet this process
                raise SystemExit("the process that started this training is gone")
            late = self.deadline is not None and time.time() > self.deadline
            shared = torch.tensor([float(late), time.process_time() - cpu_begun], device=fabric.device)
            stop, cpu = fabric.all_reduce(shared, reduce_op="sum").tolist()  # all processes stop at one step
            last = stop > 0 or done == self.n_steps
            if fabric.global_rank == 0 and (last or time.perf_counter() - saved >= self.save_seconds):
                spent = {"seconds": seconds + time.perf_counter() - begun, "cpu_seconds": cpu_seconds + cpu,
                         "memory_mib": max(memory, peak_memory(fabric.device))}  # fmt: skip
                state = {name: part.state_dict() for name, part in parts.items()} | spent
                state |= {"identity": self.identity, "step": done, "history": history, "provenance": origin}
                save_checkpoint(self.path, state)
                saved = time.perf_counter()
            return stop > 0

        batches = (at(index) for index in range(first, self.n_steps))
        run(step, batches, self.n_steps, first_step=first, on_log=on_log, log_every=self.log_every,
            progress=self.progress and fabric.global_rank == 0)  # fmt: skip
        fabric.barrier()
        return done
