"""What every benchmark hands back: a record in the shape of book/results/*.json, and the claims it checks."""

import base64
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imagegen.pretrained import provenance


@dataclass(frozen=True)
class Claim:
    """A measured value that is to stay at or below a limit. value None: it was never reached."""

    text: str
    value: float | None
    limit: float

    @property
    def met(self) -> bool:
        return self.value is not None and self.value <= self.limit

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.text, "value": self.value, "limit": self.limit, "met": self.met}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Claim":
        return cls(fields["text"], fields["value"], fields["limit"])

    def __str__(self) -> str:
        value = "never" if self.value is None else f"{self.value:.3g}"
        return f"{'met' if self.met else 'MISSED'}: {self.text}: {value} (limit {self.limit:g})"


def make(name: str, *, seconds: float, metrics: dict[str, dict], seed: int | None = None,
         device: torch.device | str = "cpu") -> dict[str, Any]:  # fmt: skip
    """Return a record: name, kind "benchmark", where it was measured, and metrics {name: value, unit, detail, n}."""
    origin = provenance(device)
    return {
        "name": name, "kind": "benchmark", "recipe": None, "seed": seed, **origin,
        "seconds": round(seconds, 1), "metrics": metrics,
    }  # fmt: skip


def packed(levels: Tensor) -> str:
    """Return uint8 values of any shape as base64, for a file that a page reads."""
    return base64.b64encode(levels.contiguous().numpy().tobytes()).decode()
