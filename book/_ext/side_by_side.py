"""Sphinx extension: the notebooks that the build has to run, run side by side.

A build alone runs each notebook where it reads its page, one after another. Here they run before the pages are read,
as many at a time as WORKERS says (2), and enter the cache in which the reading of a page looks for them.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import single_nb_execution
from sphinx.errors import ExtensionError
from sphinx.util import logging

log = logging.getLogger(__name__)


def missing(cache: JupyterCacheAbstract, paths: Iterable[Path]) -> dict:
    """Return the notebooks that the cache does not hold, by path, the largest first: no long one starts last."""
    notebooks = {}
    for path in sorted(paths, key=lambda path: -path.stat().st_size):
        notebook = nbformat.read(path, as_version=4)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            notebooks[path] = notebook
    return notebooks


def fill(
    cache: JupyterCacheAbstract, paths: Iterable[Path], *, workers: int, **settings
):
    """Run the notebooks that the cache does not hold, each in its own kernel and folder, and put them there.

    Those that end well are in the cache also where another one fails.

    Args: settings: timeout, of a cell, in seconds; allow_errors.
    Raises: ExtensionError: a cell raised or ran out of time, or a kernel died; it names each and its error.
    """
    failed = []
    pool = ThreadPoolExecutor(workers)  # a thread waits for its kernel, a process
    try:
        runs = {
            pool.submit(single_nb_execution, nb, str(path.parent), **settings): path
            for path, nb in missing(cache, paths).items()
        }
        if runs:
            log.info("%d notebooks to run, %d at a time", len(runs), workers)
        for run in as_completed(runs):
            path = runs[run]
            try:
                result = run.result()
                error = result.err
            except Exception as died:  # of the kernel, not of a cell
                error = died
            if error:
                failed.append(f"{path}: {type(error).__name__}\n{error}")
                continue
            log.info("%s: ran in %.0f seconds", path, result.time)
            data = {"execution_seconds": result.time}
            cache.cache_notebook_bundle(
                CacheBundleIn(result.nb, str(path), data=data),
                check_validity=False,
                overwrite=True,
            )
    finally:
        pool.shutdown(cancel_futures=True)  # after an interruption no other one starts
    if failed:
        raise ExtensionError("notebooks failed:\n\n" + "\n\n".join(sorted(failed)))


def run_notebooks(app, env, docnames):
    settings = env.mystnb_config
    if settings.execution_mode != "cache":
        return
    cache = Path(settings.execution_cache_path)
    cache.mkdir(parents=True, exist_ok=True)
    paths = [Path(env.doc2path(name)) for name in docnames]
    fill(
        get_cache(str(cache)),
        [path for path in paths if path.suffix == ".ipynb"],
        workers=int(os.environ.get("WORKERS", "2")),
        timeout=settings.execution_timeout,
        allow_errors=settings.execution_allow_errors,
    )


def setup(app):
    app.connect("env-before-read-docs", run_notebooks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
