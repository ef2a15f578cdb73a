"""What the browser tests and the latency benchmark share: a browser, a server, and a page of explorers.

The page needs no built book: it is laid out as the site is (`_static/explorer.js`, `_static/models`,
`_static/vendor/ort`), with the shipped weights where they are there, else with a small seeded VAE.
"""

import base64
import contextlib
import gzip
import json
import math
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import torch

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "node_modules/onnxruntime-web/dist"
AXE = ROOT / "node_modules/axe-core/axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
NO_BROWSER = (
    "no Chromium or Chrome was found: on Debian and Ubuntu `apt-get install chromium`, elsewhere install "
    "Chrome; or name one in CHROME"
)
NO_NPM = "node_modules is not filled: run `npm ci`"
CLASSES = ("circle", "square", "bar", "cross")
ATTRIBUTES = {
    "hair": ("bald", "bobBangs", "curlyBun", "mohawk"),
    "hair_colour": ("none", "dark", "red"),
    "eyes": ("glasses", "open"),
    "background": ("white", "sky", "mint", "sand", "ink"),
}
LABELS = {"kind": ("boot", "bag", "coat", "dress"), "sleeve_length": ("none", "short", "long")}
TAGS = (
    "latent-map", "image-explorer", "attribute-explorer", "code-explorer", "prior-explorer", "generator-explorer",
    "ring-explorer", "truncation-explorer", "style-mixer", "style-sliders", "restoration-explorer",
)  # fmt: skip
FACES = torch.tensor([[1, 2, 0, 4], [0, 0, 1, 1], [3, 1, 1, 0], [2, 2, 0, 2], [1, 1, 1, 3]])


class Missing(RuntimeError):
    """Something that these tests need is not on this machine; the message says how to get it."""


def find_browser() -> str:
    """Return the path of the Chromium or Chrome that is there; CHROME, where set, names it.

    Raises: Missing: there is none.
    """
    if named := os.environ.get("CHROME"):
        if not shutil.which(named):
            raise Missing(f"CHROME is {named!r}, which cannot be run")
        return named
    found = [path for name in NAMES if (path := shutil.which(name))] + [
        p for p in PLACES if Path(p).is_file()
    ]
    if not found:
        raise Missing(NO_BROWSER)
    return found[0]


@contextlib.contextmanager
def open_browser() -> Iterator:
    """Start the browser that is there, never a downloaded one."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    with sync_playwright() as playwright:
        arguments = ["--disable-background-networking", "--disable-component-update"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            arguments.append("--no-sandbox")  # Chromium's sandbox refuses to run as root, as in a container
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".js": "text/javascript",
    }

    def log_message(self, *args) -> None: ...

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a page that is closed drops its connections
            super().handle()


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yields its address, with a slash at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=os.fspath(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class Watch:
    """What a page did: requests to other hosts (each was cut off), errors on its console, failed requests."""

    def __init__(self, page) -> None:
        self.external: list[str] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.route("**/*", self._route)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))

    def _console(self, message) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _route(self, route) -> None:
        url = urlsplit(route.request.url)
        if url.scheme in ("http", "https") and url.hostname not in ("127.0.0.1", "localhost"):
            self.external.append(route.request.url)
            route.abort()
        else:
            self.requests.append(url.path)
            route.continue_()


@contextlib.contextmanager
def opened(
    browser, url: str, *, width: int = 1280, height: int = 900, touch: bool = False, dark: bool = False
) -> Iterator[tuple]:
    """Open a page as for the first time; yields (page, watch): other hosts are cut off, drawings recorded."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        has_touch=touch,
        color_scheme="dark" if dark else "light",
    )
    try:
        page = context.new_page()
        page.set_default_navigation_timeout(120_000)  # formulas are set first: long, on a busy machine
        watch = Watch(page)
        page.goto(url, wait_until="load")
        wait_ready(page)
        page.evaluate(LISTEN)
        yield page, watch
    finally:
        context.close()


# ---- the page of explorers -------------------------------------------------------------------------------


def _tiny(latent_dim: int) -> torch.nn.Module:
    """A seeded VAE whose weights are scaled up, so that its images differ from one another and from grey."""
    from imagegen.vae import VAE, VAEConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(latent_dim)
        model = VAE(VAEConfig(latent_dim=latent_dim, network="mlp", hidden=48)).eval()
        with torch.no_grad():
            for layer in (*model.encoder, *model.decoder):
                if isinstance(layer, torch.nn.Linear):
                    layer.weight.mul_(3)
    return model


def models() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return a model with a 2-D latent and one with more: the shipped ones, or else small seeded ones."""
    from imagegen import pretrained

    there = pretrained.names()
    return tuple(
        pretrained.load(name) if name in there else _tiny(size)
        for name, size in (("vae-fashion-2d", 2), ("vae-fashion", 12))
    )


def attribute_decoder() -> torch.nn.Module:
    """A small seeded attribute decoder whose images differ from one another, with as many values as ATTRIBUTES."""
    from imagegen.decoder import AttributeDecoder, AttributeDecoderConfig

    sizes = tuple(len(values) for values in ATTRIBUTES.values())
    config = AttributeDecoderConfig((3, 32, 32), sizes, widths=(8, 8), hidden=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = AttributeDecoder(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.mul_(3)
    return model


def tokeniser() -> torch.nn.Module:
    """A small seeded VQ-VAE, of images wider than high, each of whose codes draws something else."""
    from imagegen.vq import VQVAE, VQVAEConfig

    config = VQVAEConfig((3, 24, 32), codes=30, code_dim=8, widths=(16, 16), blocks=1, hidden=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = VQVAE(config)
        with torch.no_grad():
            model.encoder[-1].weight.mul_(30)
            for weight in model.decoder.parameters():
                if weight.dim() > 1:
                    weight.mul_(2.2)
        model(2 * torch.rand(4, 3, 24, 32) - 1)  # puts the codes where the encoder's outputs are
    return model.eval()


def prior() -> torch.nn.Module:
    """A small seeded prior over the codes of `tokeniser()` that is sure of some codes and unsure of others."""
    from imagegen.prior import Prior, PriorConfig

    sizes = tuple(len(values) for values in LABELS.values())
    config = PriorConfig(codes=30, grid=(6, 8), attributes=sizes, width=32, depth=2, heads=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        model = Prior(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.mul_(4)
    return model


def gan() -> torch.nn.Module:
    """A small seeded GAN, whose batch statistics are those of its own images and whose images differ."""
    from imagegen.gan import GAN, GANConfig

    config = GANConfig("dcgan", (3, 16, 16), latent_dim=6, width=8, critic_width=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        model = GAN(config)
        with torch.no_grad():
            for layer in model.generator.modules():
                if isinstance(layer, torch.nn.Linear | torch.nn.ConvTranspose2d):
                    layer.weight.mul_(6)
            for _ in range(50):
                model.sample(64)  # in training mode: moves the running statistics
    return model.eval()


def directions() -> dict[str, torch.Tensor]:
    """Return two directions in the latent space of `gan()`, of other lengths than 1."""
    return {
        "red hair": torch.tensor([2.0, 0, 0, 0, 0, 0]),
        "glasses": torch.tensor([0, 0.3, -0.4, 0, 0, 0]),
    }


def styler() -> torch.nn.Module:
    """A small seeded style-based GAN whose noise counts, whose images differ, and whose mean of w is that of its w."""
    from imagegen.stylegan import StyleGAN, StyleGANConfig

    config = StyleGANConfig(
        (3, 16, 16), latent_dim=10, width=6, max_width=12, critic_width=4, mapping_depth=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = StyleGAN(config).eval()
        with torch.no_grad():
            for name, weight in model.generator.named_parameters():
                if name.endswith("strength"):
                    weight.copy_(0.2 * torch.rand_like(weight))
                elif name.endswith("style.weight"):
                    weight.mul_(2)
            model.generator.w_mean.copy_(model.generator.mapping(model.draw(500)).mean(0))
    return model


def edits() -> dict:
    """Return two directions in the w of `styler()`, and the layers of the second: arguments of StyleSliders."""
    vectors = torch.randn(2, 10, generator=torch.Generator().manual_seed(12)) * 0.4
    return {"directions": {"red hair": vectors[0], "glasses": vectors[1]}, "layers": {"glasses": range(2, 4)}}


def restorers(shape: tuple[int, int, int] = (3, 16, 16)) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Two small seeded restorers, told the mask and the noise, who restore each in a way of its own."""
    from imagegen.restore import Restorer, RestorerConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        pair = [
            Restorer(
                RestorerConfig(
                    image_shape=shape, width=4, levels=1, mask=True, noise=True, critic_width=critic
                )
            )
            for critic in (0, 4)
        ]
        with torch.no_grad():
            for model in pair:
                last = model.estimator.body.last  # a new one starts at 0
                last.weight.normal_(std=0.3)
    return tuple(model.eval() for model in pair)


RING = {"n": 24, "side": 8, "extent": 3.0}


def recording() -> dict:
    """A made-up recording of three trainings: the points leave the centre, the field turns from left to right."""
    n, side = RING["n"], RING["side"]
    coded = lambda c: ((c + 3) / 6 * 255).round().clamp(0, 255).to(torch.uint8)  # noqa: E731
    text = lambda x: base64.b64encode(x.contiguous().numpy().tobytes()).decode()  # noqa: E731
    angle = 2 * math.pi * torch.arange(n) / n
    ring = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    runs = []
    for i, (loss, setting, label, frames) in enumerate(
        (
            ("minimax", "none", "Minimax", 5),
            ("minimax", "r1", "Minimax, momentum, R1", 5),
            ("wasserstein", "clip", "Wasserstein, clipped", 4),
        )
    ):
        share = torch.linspace(0.4, 1, frames)[:, None, None]
        turned = torch.stack([ring[:, 1], -ring[:, 0]], dim=1) if i == 1 else ring
        across = torch.linspace(0, 255, side).repeat(frames, side, 1)
        field = across.mT if i == 2 else across  # of the last: from top to bottom
        field = field * share if i == 1 else field
        run = {
            "loss": loss, "setting": setting, "label": label, "steps": [100 * 2**k for k in range(frames)],
            "points": text(coded(turned * share)), "field": text(field.round().to(torch.uint8)),
            "modes": [0, 2, 8, 6, 6][:frames], "high_quality": [k / frames for k in range(frames)],
        }  # fmt: skip
        runs.append(run | ({"field_kind": "score"} if i == 2 else {}))
    return RING | {"real": text(coded(1.1 * ring)), "runs": runs}


def coloured(n: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return n seeded uint8 images (n, C, H, W) of bars in colours, or in greys; H and W are multiples of 4."""
    generator = torch.Generator().manual_seed(7)
    channels, height, width = shape
    coarse = torch.randint(0, 256, (n, channels, height // 4, width // 4), generator=generator)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).to(torch.uint8)


def paintings(n: int = 5) -> torch.Tensor:
    """Return n seeded uint8 images (n, 3, 24, 32) of coloured bars."""
    return coloured(n, (3, 24, 32))


def drawings(n: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n seeded uint8 images (n, 1, 28, 28) of simple shapes, and their classes."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    shapes, labels = [], torch.arange(n) % len(CLASSES)
    for k in labels.tolist():
        (cy, cx), r = torch.rand(2, generator=generator) * 8 + 10, torch.rand((), generator=generator) * 4 + 5
        dy, dx = (y - cy).abs(), (x - cx).abs()
        inside = (
            torch.hypot(dy, dx) < r,
            torch.maximum(dy, dx) < r,
            (dx < 3) & (dy < r + 3),
            (torch.minimum(dy, dx) < 2.5) & (torch.maximum(dy, dx) < r + 2),
        )
        shapes.append(inside[k] * (150 + 30 * k))
    return torch.stack(shapes)[:, None].to(torch.uint8), labels


def make_page(
    folder: Path,
    *,
    decoder: torch.nn.Module | None = None,
    codes: tuple[torch.nn.Module, torch.nn.Module] | None = None,
    painter: torch.nn.Module | None = None,
    styled: torch.nn.Module | None = None,
    pair: tuple[torch.nn.Module, torch.nn.Module] | None = None,
) -> dict:
    """Write the page of all explorers, those of a style-based generator and of restorers, and one of a missing model.

    Returns: the explorers by tag.

    Args: decoder: the attribute decoder to show, instead of a small one; its attributes get plain names.
        codes: the VQ-VAE and the prior to show, instead of small ones.
        painter: the GAN to show, instead of a small one, with one direction.
        styled: the style-based GAN to show, instead of a small one, with one direction.
        pair: the restorers to show, instead of small ones.
    Raises: Missing: npm's packages are not there.
    """
    from imagegen.widgets import (
        AttributeExplorer,
        CodeExplorer,
        GeneratorExplorer,
        ImageExplorer,
        LatentMap,
        PriorExplorer,
        RestorationExplorer,
        RingExplorer,
        StyleMixer,
        StyleSliders,
        TruncationExplorer,
    )

    if not RUNTIME.is_dir():
        raise Missing(NO_NPM)
    small, large = models()
    images, labels = drawings()
    points = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
    explorers = {
        "latent-map": LatentMap(small, points=points, labels=torch.arange(300) % 4, classes=CLASSES),
        "image-explorer": ImageExplorer(large, images, labels=labels, classes=CLASSES),
        "attribute-explorer": AttributeExplorer(attribute_decoder(), ATTRIBUTES, labels=FACES),
        "code-explorer": CodeExplorer(tokeniser(), paintings(), names=[f"painting {c}" for c in "abcde"]),
        "prior-explorer": PriorExplorer(prior(), tokeniser(), attributes=LABELS),
        "generator-explorer": GeneratorExplorer(gan(), directions(), seeds=(3, 8), subject="face"),
        "ring-explorer": RingExplorer(recording()),
    }
    if decoder is not None:
        names = {
            f"attribute {a}": [str(k) for k in range(n)] for a, n in enumerate(decoder.config.attributes)
        }
        explorers["attribute-explorer"] = AttributeExplorer(decoder, names)
    if codes is not None:
        shape = codes[0].config.image_shape
        noise = torch.randint(0, 256, (4, *shape), generator=torch.Generator().manual_seed(8)).to(torch.uint8)
        explorers["code-explorer"] = CodeExplorer(codes[0], noise)
        explorers["prior-explorer"] = PriorExplorer(codes[1], codes[0])
    if painter is not None:
        along = torch.eye(painter.config.latent_dim)[0]
        explorers["generator-explorer"] = GeneratorExplorer(painter, {"first": along})
    some = styled or styler()
    along = {"directions": {"first": 0.2 * torch.eye(some.config.latent_dim)[0]}} if styled else edits()
    styles = {
        "truncation-explorer": TruncationExplorer(some, seed=3),
        "style-mixer": StyleMixer(some, seeds=(3, 8)),
        "style-sliders": StyleSliders(some, **along, seed=3),
    }
    pair = pair or restorers()
    restoration = RestorationExplorer(*pair, coloured(4, pair[0].config.image_shape), names="abcd")
    static = folder / "_static"
    runtime = static / "vendor/ort"
    runtime.mkdir(parents=True)
    shutil.copy(ROOT / "src/imagegen/explorer.js", static)
    for file in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs"):
        shutil.copy(RUNTIME / file, runtime)
    wasm = (RUNTIME / "ort-wasm-simd-threaded.wasm").read_bytes()
    (runtime / "ort-wasm-simd-threaded.wasm.gz").write_bytes(gzip.compress(wasm, 1))
    every = explorers | styles | {"restoration-explorer": restoration}
    for explorer in every.values():
        explorer.write_site_files(static / "models")
    bodies = [explorer._repr_mimebundle_()[0]["text/html"] for explorer in every.values()]
    sections = [f"<section>{body}</section>" for body in bodies]
    _write(folder / "index.html", "".join(sections))
    _write(folder / "styles.html", "".join(sections[len(explorers) : -1]))
    _write(folder / "restoration.html", sections[-1])
    _write(folder / "missing.html", bodies[0].replace(explorers["latent-map"].file_name, "gone-0000000000"))
    networkless = dict(explorers["latent-map"].meta, files={"decoder": "gone-0000000000.onnx"})
    (static / "models/no-network.json").write_text(json.dumps(networkless))
    _write(folder / "no-network.html", bodies[0].replace(explorers["latent-map"].file_name, "no-network"))
    return every


def _write(path: Path, body: str) -> None:
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Explorers</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        "<style>body { font-family: sans-serif; max-width: 720px; margin: 0 auto; padding: 0 12px }"
        "html[data-theme=dark] { color-scheme: dark; background: #14181e; color: #ced6dd;"
        "--pst-color-text-base: #ced6dd; --pst-color-background: #14181e; --pst-color-primary: #3fb1c5 }"
        "</style>"
        '<script type="module" src="_static/explorer.js"></script></head>'
        f"<body><main><h1>Explorers</h1>{body}</main></body></html>",
        encoding="utf-8",
    )


# ---- driving an explorer ---------------------------------------------------------------------------------

# Every drawing of an explorer is told by an event; these scripts keep them in window.drawn, newest last.
LISTEN = """() => {
  window.drawn = [];
  document.addEventListener('imagegen-drawn', e => {
    const plain = Object.entries(e.detail).map(([k, v]) => [k, v?.buffer ? Array.from(v) : v]);
    window.drawn.push({ tag: e.target.localName, ...Object.fromEntries(plain) });
  });
}"""


# Mounts an explorer as anywidget does, as #kernel, with a comm made of window.toPython(message, bytes).
KERNEL = """async ([meta, picture]) => {
  const { default: widget } = await import(new URL('_static/explorer.js', location.href).href);
  const listeners = [], el = document.body.appendChild(document.createElement('div'));
  el.id = 'kernel';
  const model = {
    get: key => ({ meta, picture })[key],
    on: (_, f) => listeners.push(f), off: () => listeners.splice(0),
    send: async (message, _, buffers) => {
      if (window.spoil) message = { ...message, op: 'dream' };
      const bytes = Array.from(new Uint8Array(buffers[0]));
      const { content, buffers: back } = await window.toPython(message, bytes);
      const views = back.map(b => new DataView(Uint8Array.from([0, ...b]).buffer, 1));
      listeners.forEach(f => f(content, views)); // at an odd offset, as some hosts deliver them
    },
  };
  window.close_widget = widget.render({ model, el });
}"""


def mount_kernel(page, explorer, monkeypatch) -> None:
    """Mount an explorer in the page as #kernel; its messages go to the Python widget and back."""
    replies = []
    monkeypatch.setattr(
        type(explorer), "send", lambda self, content, buffers=None: replies.append((content, buffers))
    )

    def answer(message: dict, values: list[int]) -> dict:
        explorer._answer(explorer, message, [memoryview(bytes(values))])
        content, buffers = replies.pop()
        return {"content": content, "buffers": [list(b) for b in buffers or []]}

    page.expose_function("toPython", answer)
    page.evaluate(KERNEL, [explorer.meta, explorer.picture])


def wait_ready(page, timeout: float = 30_000) -> None:
    """Wait until every explorer of the page is there to be used, or has said why it is not."""
    page.wait_for_function(
        "tags => [...document.querySelectorAll(tags)].every(e => e.shadowRoot)",
        arg=", ".join(TAGS),
        timeout=timeout,
    )


def wait_drawn(page, more_than: int, timeout: float = 30_000) -> dict:
    """Wait until more drawings than that have been made, and the explorers rest; return the newest."""
    page.wait_for_function(
        "n => window.drawn.length > n && !document.querySelector('[drawing]')", arg=more_than, timeout=timeout
    )
    return page.evaluate("window.drawn.at(-1)")


def count_drawn(page) -> int:
    return page.evaluate("window.drawn.length")


def axe(page) -> list[str]:
    """Return the serious and critical violations that axe-core finds on the page, shadow roots included.

    Raises: Missing: npm's packages are not there.
    """
    if not AXE.is_file():
        raise Missing(NO_NPM)
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [
        f"{v['id']} ({v['impact']}): {node['target']} {node['html'][:120]} {node['failureSummary'][:200]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]
