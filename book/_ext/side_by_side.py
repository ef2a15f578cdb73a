"""Sphinx extension: the notebooks that the build has to run, run side by side.

Alone, a build runs each notebook where it reads its page, one after another. Here they run before the pages are read, as
many at a time as WORKERS says (2), and enter the cache in which the reading of a page looks for them.
"""

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.cache.main import JupyterCacheBase
from jupyter_cache.executors.utils import single_nb_execution
from sphinx.errors import ExtensionError
from sphinx.util import logging

log = logging.getLogger(__name__)


def missing(cache: JupyterCacheBase, paths: Iterable[Path]) -> dict[Path, nbformat.NotebookNode]:
    """Return the notebooks that the cache does not hold, the largest first: a long one must not be the last to start."""
    notebooks = {}
    for path in sorted(paths, key=lambda path: -path.stat().st_size):
        notebook = nbformat.read(path, as_version=4)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            notebooks[path] = notebook
    return notebooks


def fill(cache: JupyterCacheBase, paths: Iterable[Path], *, workers: int, **settings) -> None:
    """Run the notebooks that the cache does not hold, each in its own kernel and folder, and put them there.

    Those that end well are in the cache, also where another one fails.

    Args: settings: timeout in seconds, allow_errors.
    Raises: ExtensionError: cells raised or ran out of time; it holds the path and the traceback of each such notebook.
    """
    failed = []
    pool = ThreadPoolExecutor(workers)  # each thread waits for its kernel, which is a process
    try:
        runs: dict[Future, Path] = {
            pool.submit(single_nb_execution, notebook, cwd=str(path.parent), **settings): path
            for path, notebook in missing(cache, paths).items()
        }
        for run in as_completed(runs):
            path, result = runs[run], run.result()
            if result.err:
                log.info("%s failed after %.0f seconds", path, result.time)
                failed.append(f"{path}:\n{result.exc_string}")
            else:
                log.info("%s ran in %.0f seconds", path, result.time)
                bundle = CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    finally:
        pool.shutdown(cancel_futures=True)  # after an interruption no other notebook starts
    if failed:
        raise ExtensionError("these notebooks do not run:\n\n" + "\n\n".join(sorted(failed)))


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
