"""One browser and one page of explorers for all tests of this folder."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")


def _lacking(reason: object) -> None:
    """Skip, with what is missing and how to get it; on a machine of the checks that is a failure."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"under CI the browser tests must run: {reason}")
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def browser() -> Iterator:
    try:
        import playwright  # noqa: F401
    except ImportError:
        _lacking("the Python package playwright is missing: it belongs to the dependency group `test`")
    try:
        with harness.open_browser() as opened:
            yield opened
    except harness.Missing as error:
        _lacking(error)


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """open_page(url, width=..., touch=...) -> (page, watch), as harness.opened says; closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda url, **options: stack.enter_context(harness.opened(browser, url, **options))


@pytest.fixture(scope="session")
def explorers(tmp_path_factory) -> dict:
    """The page of explorers: {"folder": ..., "latent-map": LatentMap, ...}."""
    folder = (
        tmp_path_factory.mktemp("site") / "sub-path"
    )  # a project's pages are not at the root of their host
    own = tmp_path_factory.getbasetemp()
    exports = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "exports"
    exports.mkdir(exist_ok=True)  # what one worker has exported, another one copies
    (folder / "_static/models").mkdir(parents=True)
    (folder / "_static/models/by-content").symlink_to(exports)
    try:
        return harness.make_page(folder) | {"folder": folder}
    except harness.Missing as error:
        _lacking(error)


@pytest.fixture(scope="session")
def address(explorers) -> Iterator[str]:
    with harness.serve(explorers["folder"].parent) as root:
        yield f"{root}sub-path/"


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site: IMAGEGEN_SITE, or _build/html."""
    folder = Path(os.environ.get("IMAGEGEN_SITE") or harness.ROOT / "_build/html")
    if not (folder / "index.html").is_file():
        _lacking(f"there is no built site in {folder}: run `make book` first")
    return folder.resolve()


@pytest.fixture(scope="session")
def site_address(site) -> Iterator[str]:
    with harness.serve(site.parent) as root:
        yield f"{root}{site.name}/"
