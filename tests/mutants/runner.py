"""Plants each mutant in a copy of the package and runs the tests meant to catch it.

Importing torch takes seconds and a test milliseconds, so this process imports what the tests need from elsewhere and
forks a child for each mutant. The child finds the copy first on its path, though imagegen is installed, and says so
if it did not. A mutant counts as killed only where a test ran and failed: a mutant that cannot be planted, that
breaks an import or takes too long is an error. Nothing counts unless all the tests pass on the unchanged copy.
"""

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.mutants.mutant import Mutant, StaleMutant
from tests.mutants.registry import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "imagegen"
# A test that fails with one of these met broken code, not a wrong result.
BROKEN_CODE = {"NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError", "SyntaxError"}


@dataclass
class Job:
    """One run of pytest in a child, and what it reported."""

    name: str
    folder: Path  # the folder that holds the copy of the package
    tests: tuple[str, ...]
    seconds: float = 0.0  # of CPU time
    error: str = ""
    failed: str = ""  # the first test that ran and failed
    passed: int = 0
    durations: dict[str, float] = field(default_factory=dict)
    imported: list[str] = field(default_factory=list)  # modules of others that the tests needed


class Recorder:
    """A plugin of pytest: runs the quickest tests first, and writes down what happened."""

    def __init__(self, durations: dict[str, float]):
        self.known, self.durations = durations, {}
        self.failed, self.error, self.passed = "", "", 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.error = self.error or f"{report.nodeid} cannot be imported"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Any:
        report = yield
        name = call.excinfo.type.__name__ if call.excinfo else ""
        self.durations[item.nodeid] = self.durations.get(item.nodeid, 0.0) + report.duration
        if report.failed and (report.when != "call" or name in BROKEN_CODE):
            self.error = self.error or f"{name} in {report.when} of {item.nodeid}"
        elif report.failed:
            self.failed = self.failed or item.nodeid
        elif report.when == "call" and report.passed:
            self.passed += 1
        return report


def foreign_modules(folder: Path) -> list[str]:
    """Return the modules of imagegen that were imported from elsewhere than the folder."""
    loaded = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "imagegen"}
    return [name for name, module in loaded.items() if not Path(module.__file__ or "").is_relative_to(folder)]


def modules_of_others() -> list[str]:
    """Return the imported modules that are neither the package nor the project's: the same for every mutant."""
    found = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()]
    return [
        name for name, file in found if file and ("site-packages" in file or ROOT not in Path(file).parents)
    ]


def run_tests(job: Job, stop_at_first: bool, durations: dict[str, float]) -> dict[str, Any]:
    """Import the copy and run the job's tests in this process, which is a child; return what to report."""
    sys.path.insert(0, str(job.folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(job.folder), os.environ.get("PYTHONPATH", "")])
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    importlib.invalidate_caches()
    try:
        importlib.import_module("imagegen")
    except Exception as error:
        return {"error": f"the copy cannot be imported: {error!r}"}
    recorder = Recorder(durations)
    traceback = "--tb=line" if stop_at_first else "--tb=short"
    options = [
        "-q",
        traceback,
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-p",
        "pytest_timeout",
        "--rootdir",
        str(ROOT),
    ]
    code = pytest.main([*options, *(["-x"] if stop_at_first else []), *job.tests], plugins=[recorder])
    found = {key: getattr(recorder, key) for key in ("failed", "error", "passed", "durations")}
    found["imported"] = (
        [] if stop_at_first else [name for name in modules_of_others() if name.split(".")[0] != "imagegen"]
    )
    if foreign := foreign_modules(job.folder):
        found["error"] = f"not the copy, but the installed package was tested: {', '.join(sorted(foreign))}"
    elif not found["error"] and code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        found["error"] = f"pytest ended with {pytest.ExitCode(code).name}"
    elif not found["error"] and not found["failed"] and not found["passed"]:
        found["error"] = "no test ran"
    return found


def child(job: Job, log: Path, report: Path, stop_at_first: bool, durations: dict[str, float]) -> None:
    """Be the child: run the tests with all output in a file, write the report, and end without cleaning up."""
    try:
        os.setpgid(0, 0)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.chdir(ROOT)
        report.write_text(json.dumps(run_tests(job, stop_at_first, durations)))
    finally:
        sys.stdout.flush()
        os._exit(0)


def run_jobs(jobs: Iterable[Job], folder: Path, *, workers: int, limit: float, stop_at_first: bool,
             durations: dict[str, float], done: Callable[[Job], None]) -> None:  # fmt: skip
    """Run jobs, `workers` at once, each for at most `limit` seconds of the clock; call `done` as each ends."""
    waiting, running = iter(jobs), {}
    gc.freeze()  # what is here already need not be searched, and so copied, by each child
    try:
        while True:
            while len(running) < workers and (job := next(waiting, None)):
                if job.error:  # could not be planted
                    done(job)
                    continue
                log, report = folder / f"{job.name}.log", folder / f"{job.name}.json"
                sys.stdout.flush()
                if (process := os.fork()) == 0:
                    child(job, log, report, stop_at_first, durations)
                running[process] = (job, log, report, time.monotonic())
            if not running:
                return
            for process, (job, log, report, start) in list(running.items()):
                ended, _, usage = os.wait4(process, os.WNOHANG)
                late = time.monotonic() - start > limit
                if not ended and late:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process, signal.SIGKILL)
                    _, _, usage = os.wait4(process, 0)
                if not ended and not late:
                    continue
                del running[process]
                job.seconds = usage.ru_utime + usage.ru_stime
                if report.exists():
                    vars(job).update(json.loads(report.read_text()))
                else:
                    job.error = f"took more than {limit:g} seconds" if not ended else "the child died"
                if job.error and log.exists():
                    job.error += "".join(f"\n      {line}" for line in log.read_text().splitlines()[-12:])
                done(job)
            time.sleep(0.02)
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)


def baseline(mutants: Sequence[Mutant], folder: Path, workers: int) -> dict[str, float] | None:
    """Run the tests that the mutants name on an unchanged copy; return how long each takes, or None if one fails.

    What they import from others is then imported here too, so that no child need do it again.
    """
    target = folder / "unchanged"
    shutil.copytree(PACKAGE, target / "imagegen", ignore=shutil.ignore_patterns("__pycache__"))
    selectors = sorted({test for mutant in mutants for test in mutant.tests})
    jobs = [Job(f"unchanged-{i}", target, (selector,)) for i, selector in enumerate(selectors)]
    run_jobs(
        jobs, folder, workers=workers, limit=600, stop_at_first=False, durations={}, done=lambda job: None
    )
    for job in jobs:
        if job.failed or job.error:
            print(f"the unchanged package fails {job.tests[0]}: {job.failed or job.error}")
    if any(job.failed or job.error for job in jobs):
        print("nothing was tried: a test that fails without a bug cannot show one")
        return None
    passed, seconds = sum(job.passed for job in jobs), sum(job.seconds for job in jobs)
    print(f"unchanged package: {passed} tests pass ({seconds:.0f} s of CPU time)")
    for name in dict.fromkeys(name for job in jobs for name in job.imported):
        with contextlib.suppress(Exception):  # a module that is made and not found
            importlib.import_module(name)
    return {name: seconds for job in jobs for name, seconds in job.durations.items()}


def plant(mutant: Mutant, folder: Path) -> Job:
    """Return the job of a mutant, with its copy of the package in place; or with an error, where it is stale."""
    job = Job(mutant.name, folder / mutant.name, mutant.tests)
    unchanged = folder / "unchanged/imagegen"  # compiled by the tests of the baseline
    shutil.copytree(unchanged, job.folder / "imagegen", copy_function=os.link)  # the weights are 30 MB
    path = job.folder / f"imagegen/{mutant.file}.py"
    Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)
    try:
        text = mutant.plant(path.read_text())
        path.unlink()  # a file of its own: the link's other end stays unchanged
        path.write_text(text)
        compile(path.read_text(), path, "exec")
    except (StaleMutant, FileNotFoundError, SyntaxError) as error:
        job.error = f"stale mutant: {error}"
    return job


def run(mutants: Sequence[Mutant], *, workers: int, limit: float) -> int:
    """Try the mutants and print what became of them; return the exit code."""
    start, width = time.monotonic(), max(len(mutant.name) for mutant in mutants)
    if "imagegen" in sys.modules:
        raise RuntimeError("imagegen is imported already, so a child could not import its own copy")
    torch.set_num_threads(1)  # also the only number at which a forked torch is safe
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        folder = Path(temporary).resolve()
        durations = baseline(mutants, folder, workers)
        if durations is None:
            return 2

        def done(job: Job) -> None:
            jobs.append(job)
            shutil.rmtree(job.folder, ignore_errors=True)
            verdict = "error" if job.error else "killed" if job.failed else "SURVIVED"
            print(f"{verdict:8}  {job.name:{width}}  {job.seconds:4.1f} s  {job.failed}", flush=True)

        planted = (plant(mutant, folder) for mutant in mutants)
        run_jobs(
            planted, folder, workers=workers, limit=limit, stop_at_first=True, durations=durations, done=done
        )
    stories = {mutant.name: mutant.story for mutant in mutants}
    for job in jobs:
        if job.error:
            print(f"\nerror: {job.name}: {job.error}")
        elif not job.failed:
            print(f"\nsurvived: {job.name}, though {job.passed} tests ran ({', '.join(job.tests)})")
            print(f"      {stories[job.name]}")
    killed = sum(bool(job.failed) and not job.error for job in jobs)
    spent = f"{time.monotonic() - start:.0f} s, {sum(job.seconds for job in jobs):.0f} s of CPU time for the mutants"
    print(f"\n({spent})\nmutants: {len(jobs)}, killed: {killed}")
    return 0 if killed == len(mutants) else 1


def main(arguments: Sequence[str] | None = None, *, mutants: Sequence[Mutant] = MUTANTS) -> int:
    """Run the command line. Returns 0: all killed; 1: a survivor or an error; 2: nothing could be tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="mutants to try (all, if none is named)")
    parser.add_argument("--list", action="store_true", help="show names and stories, and try nothing")
    parser.add_argument("--workers", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--limit", type=float, default=60, help="seconds that one mutant may take (60)")
    options = parser.parse_args(arguments)
    known = {mutant.name: mutant for mutant in mutants}
    if unknown := [name for name in options.names if name not in known]:
        print(f"there is no mutant {', '.join(unknown)}; --list shows them")
        return 2
    chosen = [known[name] for name in options.names] or list(mutants)
    if options.list:
        for mutant in chosen:
            bug = f" (historic bug {mutant.bug})" if mutant.bug else ""
            print(
                f"{mutant.name}: {mutant.file}.{mutant.function}{bug}\n    {mutant.story}\n    {mutant.source}"
            )
        return 0
    return run(chosen, workers=options.workers, limit=options.limit)
