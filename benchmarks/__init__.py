"""Measurements of this book against the figures to beat: `make bench`, or `python -m benchmarks` from the root.

A new benchmark is a module with `measure(*, quick, say) -> record` (see `benchmarks.record`) and a line here.
"""

# name on the command line: the module that measures, imported only when it is run
BENCHMARKS = {
    "vae": "benchmarks.vae",
    "quantiser": "benchmarks.vq",
    "codebook": "benchmarks.codebook",
    "sampling": "benchmarks.prior",
    "hierarchy": "benchmarks.hierarchy",
    "ring": "benchmarks.ring",
    "gan": "benchmarks.gan",
    "gan-curves": "benchmarks.curves",
    "gan-features": "benchmarks.probe",
    "widget": "benchmarks.widget",
    "stability": "benchmarks.stability",
    "stylegan": "benchmarks.stylegan",
    "ablation": "benchmarks.ablation",
    "families": "benchmarks.families",
    "w-space": "benchmarks.w_space",
    "ladder": "benchmarks.ladder",
    "baselines": "benchmarks.baselines",
    "perception": "benchmarks.perception",
    "robustness": "benchmarks.robustness",
    "priors": "benchmarks.priors",
    "grading": "benchmarks.grading",
}
# run only where named, and the minutes that they take
ON_REQUEST = {
    "codebook": 40, "hierarchy": 12, "ring": 5, "stability": 11, "gan": 21,
    "gan-curves": 5, "gan-features": 4, "ablation": 35, "families": 20,
    "w-space": 8, "ladder": 8, "baselines": 3,
    "perception": 45, "robustness": 4, "priors": 8,
}  # fmt: skip


class Unavailable(RuntimeError):
    """A benchmark cannot run on this machine; the message says what is missing."""
