"""One browser and one page of explorers for all tests of this folder."""

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
    """open_page(url, width=..., touch=...) -> (page, watch): other hosts are cut off, drawings recorded."""
    contexts = []

    def opened(url: str, *, width: int = 1280, height: int = 900, touch: bool = False, dark: bool = False):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            has_touch=touch,
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        watch = harness.Watch(page)
        page.goto(url, wait_until="load")
        harness.wait_ready(page)
        page.evaluate(harness.LISTEN)
        return page, watch

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def explorers(tmp_path_factory) -> dict:
    """The page of explorers: {"folder": ..., "latent-map": LatentMap, ...}."""
    folder = (
        tmp_path_factory.mktemp("site") / "sub-path"
    )  # a project's pages are not at the root of their host
    folder.mkdir()
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
