"""Run the notebooks that changed since the last build, one on each core; the build then finds them in its cache.

The build itself would run them one after another. Stops with what went wrong where a notebook raises.
"""

import logging
import sys
from pathlib import Path

import yaml
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "_build" / ".jupyter_cache"  # where Jupyter Book looks


def notebooks() -> list[Path]:
    """Return the notebooks that the table of contents names."""
    pages = parse_toc_yaml(ROOT / "_toc.yml")
    return [path for page in pages if (path := (ROOT / page).with_suffix(".ipynb")).is_file()]


def main() -> int:
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]
    CACHE.mkdir(parents=True, exist_ok=True)
    cache = get_cache(str(CACHE))
    mine = {str(path) for path in notebooks()}
    for path in sorted(mine):
        cache.add_nb_to_project(path)
    executor = load_executor("local-parallel", cache, logger=logging.getLogger(__name__))
    done = executor.run_and_cache(filter_uris=sorted(mine), timeout=settings["timeout"])
    for path in done.excepted:
        print(f"{path}:\n{cache.get_project_record(path).traceback}", file=sys.stderr)
    for path in done.errored:
        print(f"{path}: could not be run; the log is above", file=sys.stderr)
    print(f"{len(done.succeeded)} notebooks run, {len(mine) - len(done.all())} found in the cache")
    return 1 if done.excepted or done.errored else 0


if __name__ == "__main__":
    sys.exit(main())
