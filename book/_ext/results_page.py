"""Sphinx extension: the measured figures, from book/results/*.json to the page. No figure is typed by hand.

`{results} model` and `{results} benchmark` draw every file of that kind; `{results} likelihood`, `samples`, `features`
and `decoder` set models side by side. The role {result}`NAME:METRIC` puts one figure with its unit into a sentence, and
{result}`NAME:METRIC:FIELD` another of its numbers (std, stderr, floor, n). `imagegen evaluate` writes the files.
"""

import hashlib
import json
import math
from collections.abc import Collection
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.errors import ExtensionError

from results_views import VIEWS, metric_name

# ---- reading and wording ---------------------------------------------------------------------------------------


def load(folder: Path, kind: str | None = None) -> list[dict]:
    """Return the results in a folder, sorted by name.

    Raises: ValueError: a file is not JSON, lacks a field, or holds a value that is not a finite number.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text("utf-8"))
            if result["kind"] not in ("model", "benchmark"):
                raise ValueError(f"kind is {result['kind']!r}, not model or benchmark")
            for metric, entry in result["metrics"].items():
                if not isinstance(entry["value"], int | float) or not math.isfinite(
                    entry["value"]
                ):
                    raise ValueError(
                        f"{metric} is {entry['value']!r}, not a finite number"
                    )
            if kind in (None, result["kind"]):
                found.append({**result, "name": str(result["name"])})
        except KeyError as missing:
            raise ValueError(f"{path.name} lacks the field {missing}") from missing
        except (ValueError, TypeError, AttributeError) as wrong:
            raise ValueError(f"{path.name}: {wrong}") from wrong
    return sorted(found, key=lambda result: result["name"])


def number(value: float) -> str:
    """Return a measured value with four significant digits; whole numbers stay whole.

    >>> [number(v) for v in (234.912, 0.0031415, 32, 32.0, 10000, 123456.7, 0.0, -1.5)]
    ['234.9', '0.003142', '32', '32', '10,000', '123,457', '0', '−1.5']
    """
    if float(value).is_integer() or abs(value) >= 1000:
        text = f"{value:,.0f}"
    else:
        decimals = max(0, 3 - math.floor(math.log10(abs(value))))
        text = f"{value:.{decimals}f}" if decimals <= 8 else f"{value:.3e}"
        if decimals <= 8 and abs(value) < 100:
            text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Return a wall time in the two units that matter.

    >>> [duration(s) for s in (0.4, 59.6, 75, 3600, 7325)]
    ['0.4 s', '1 min', '1 min 15 s', '1 h', '2 h 2 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(
        f"{count} {unit}" for count, unit in parts[first : first + 2] if count
    )


def figure(entry: dict | str | None, unit: bool = True) -> str:
    """Return a measured value with its standard deviation or error, whichever is larger, and its unit.

    No digit stands beyond those of the spread, and a line may break before the ± but not behind it.
    Words stay as they are; a dash stands where there is nothing.
    """
    if entry is None or isinstance(entry, str):
        return "–" if entry is None else entry
    text = number(entry["value"])
    spreads = [entry[key] for key in ("std", "stderr") if key in entry]
    if spreads:
        spread = rounded(max(spreads))
        digits = len(spread.partition(".")[2])
        if "e" not in text + spread and len(text.partition(".")[2]) > digits:
            text = f"{entry['value']:.{digits}f}".replace("-", "−")
        text += f" ±\N{NO-BREAK SPACE}{spread}"
    return f"{text} {entry.get('unit', '')}".strip() if unit else text


def rounded(spread: float) -> str:
    """Return a standard deviation or error with two significant digits."""
    if spread == 0 or not 1e-6 <= spread < 100:
        return number(float(f"{spread:.2g}"))
    decimals = max(0, 1 - math.floor(math.log10(spread)))
    return f"{spread:.{decimals}f}"


def protocol(entry: dict) -> str:
    counted = "moves" if entry.get("unit") == "ms" else "images"
    size = f"{entry['n']:,} {counted}" if isinstance(entry.get("n"), int) else ""
    return ", ".join(part for part in (entry.get("detail", ""), size) if part)


def provenance(result: dict) -> str:
    """Return where a result comes from, in one line."""
    parts = [
        f"recipe {result['recipe']}" if result.get("recipe") else "",
        f"seed {result['seed']}" if result.get("seed") is not None else "",
        f"commit {str(result['commit'])[:10]}" if result.get("commit") else "",
        "with uncommitted changes" if result.get("dirty") else "",
        str(result.get("device") or ""),
        f"torch {result['torch']}" if result.get("torch") else "",
        duration(result["seconds"]) if result.get("seconds") else "",
        str(result.get("date") or "")[:10],
    ]
    return " · ".join(part for part in parts if part)


# ---- drawing ---------------------------------------------------------------------------------------------------


def table(
    head: list[str], rows: list[list[str]], numeric: Collection[int]
) -> nodes.Node:
    """Return a table; the cells of the columns `numeric` are set right."""

    def row(cells: list[str]) -> nodes.row:
        made = nodes.row()
        for column, text in enumerate(cells):
            paragraph = nodes.paragraph("", text)
            made += nodes.entry(
                "", paragraph, classes=["text-right"] if column in numeric else []
            )
        return made

    group = nodes.tgroup("", cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", row(head))
    group += nodes.tbody("", *[row(cells) for cells in rows])
    return nodes.table("", group, classes=["results"])


def _folder(env) -> Path:
    return Path(env.srcdir) / "book/results"


def _state(env) -> str:
    files = sorted(_folder(env).glob("*.json"))
    return hashlib.sha256(
        b"".join(path.name.encode() + path.read_bytes() for path in files)
    ).hexdigest()


def _note(env) -> None:
    """Remember that the page being read depends on the results, also on those yet to come."""
    if not hasattr(env, "results_pages"):
        env.results_pages = {}
    env.results_pages[env.docname] = _state(env)


def _load(env, kind: str | None = None) -> list[dict]:
    try:
        return load(_folder(env), kind)
    except ValueError as wrong:
        raise ExtensionError(f"book/results: {wrong}") from wrong


class ResultsDirective(Directive):
    required_arguments = 1

    def run(self):
        kind = self.arguments[0]
        if kind not in ("model", "benchmark", *VIEWS):
            known = ", ".join(("model", "benchmark", *VIEWS))
            raise self.error(f"results: one of {known}, not {kind!r}")
        env = self.state.document.settings.env
        _note(env)
        results = _load(env, "benchmark" if kind == "benchmark" else "model")
        made = self.side_by_side(kind, results) if kind in VIEWS else self.each(results)
        if not made:
            command = "make bench" if kind == "benchmark" else "imagegen evaluate --all"
            what = kind if kind not in VIEWS else f"model ({kind})"
            text = f"No {what} has been measured in this checkout yet: {command} writes the figures."
            return [nodes.note("", nodes.paragraph("", text))]
        return made

    def side_by_side(self, view: str, results: list[dict]) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        for head, rows, beneath in VIEWS[view](results):
            first = next(i for i, name in enumerate(head) if name not in ("", "Told"))
            cells = [[figure(cell, unit=False) for cell in row] for row in rows]
            made.append(table(head, cells, numeric=range(first, len(head))))
            if beneath:
                made.append(nodes.paragraph("", beneath, classes=["provenance"]))
        return made

    def each(self, results: list[dict]) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        for result in results:
            rows = [
                [metric_name(metric), figure(entry), protocol(entry)]
                for metric, entry in result["metrics"].items()
            ]
            section = nodes.section("", nodes.title("", result["name"]))
            section["ids"] = [nodes.make_id(f"result-{result['name']}")]
            section["names"] = []
            section += table(["Measure", "Value", "Protocol"], rows, numeric=[1])
            section += nodes.paragraph("", provenance(result), classes=["provenance"])
            made.append(section)
        return made


def quoted(results: list[dict], text: str) -> str:
    """Return the figure that NAME:METRIC names, with its unit, or the number that NAME:METRIC:FIELD names.

    Raises: ValueError: there is none.
    """
    source, _, rest = text.partition(":")
    metric, _, field = rest.partition(":")
    for result in results:
        if result["name"] == source and metric in result["metrics"]:
            entry = result["metrics"][metric]
            if not field:
                return f"{number(entry['value'])} {entry.get('unit', '')}".strip()
            if isinstance(value := entry.get(field), int | float):
                return rounded(value) if field in ("std", "stderr") else number(value)
    raise ValueError(f"book/results holds no {rest!r} of {source!r}")


def result_role(name, rawtext, text, lineno, inliner, options=None, content=None):
    env = inliner.document.settings.env
    _note(env)
    try:
        shown = quoted(_load(env), text)
    except ValueError as missing:
        message = inliner.reporter.error(str(missing), line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    return [nodes.inline(rawtext, shown, classes=["figure-from-results"])], []


def outdated(app, env, added, changed, removed):
    now = _state(env)
    return [
        page
        for page, state in getattr(env, "results_pages", {}).items()
        if state != now
    ]


def forget(app, env, docname):
    getattr(env, "results_pages", {}).pop(docname, None)


def setup(app):
    app.add_directive("results", ResultsDirective)
    app.add_role("result", result_role)
    app.connect("env-get-outdated", outdated)
    app.connect("env-purge-doc", forget)
    return {
        "version": "1",
        "env_version": 1,
        "parallel_read_safe": False,
        "parallel_write_safe": True,
    }
