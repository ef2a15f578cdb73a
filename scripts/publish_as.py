"""Make this copy of the book one's own: title, author and address, in every file that carries them.

    python scripts/publish_as.py --title TITLE --author AUTHOR --url https://FORGE/OWNER/REPOSITORY

The title and author go into _config.yml, CITATION.cff, README.md and the landing page, the address into CITATION.cff
and the first cell of every notebook. The site takes its address from the forge that builds it, or from git. At the foot
of each page stands what this book is adapted from, as its licence asks, and CITATION.cff refers to it. All files are
prepared in a copy and checked there; then all are replaced, or none. `git diff` shows what has changed.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

import notebook_form

ROOT = Path(__file__).resolve().parents[1]
ORIGIN = {"title": "Generating Images", "author": "the contributors to Generating Images"}
FILES = ("_config.yml", "CITATION.cff", "README.md", "book/index.md")
LONGEST = 100  # characters


def quoted(text: str) -> str:
    """Return text as a scalar of YAML."""
    return json.dumps(text, ensure_ascii=False)


def checked(title: str, author: str, url: str) -> None:
    """Raises: ValueError: a text is empty, long, or more than one line, or the address is that of no repository."""
    for what, text in (("title", title), ("author", author)):
        if not text.strip() or len(text) > LONGEST or not text.isprintable() or set(text) & set("<>{}`\\"):
            raise ValueError(
                f"the {what} is {text!r}, expected one line of plain text, {LONGEST} characters at most"
            )
    if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[\w.-]+){2,}", url) or url.endswith((".git", "/")):
        raise ValueError(f"the address is {url!r}, expected https://FORGE/OWNER/REPOSITORY")


def once(pattern: str, new: str, text: str, path: str) -> str:
    """Return text with the one place that the pattern finds replaced. Raises: ValueError: there is not exactly one."""
    changed, count = re.subn(pattern, lambda _: new, text, flags=re.M)
    if count != 1:
        raise ValueError(f"{path} has {count} places like {pattern!r}, expected one")
    return changed


def config(text: str, title: str, author: str) -> str:
    """Return _config.yml with the title, the author and, at the foot of each page, the origin."""
    text = once(r"^title: .*$", f"title: {quoted(title)}", text, "_config.yml")
    text = once(r"^author: .*$", f"author: {quoted(author)}", text, "_config.yml")
    foot = f"Adapted from “{ORIGIN['title']}” by {ORIGIN['author']}, CC BY 4.0, with changes."
    text = re.sub(r"^  extra_footer: .*\n", "", text, flags=re.M)
    return once(r"^html:$", f"html:\n  extra_footer: {quoted(f'<p>{foot}</p>')}", text, "_config.yml")


def citation(text: str, title: str, author: str, origin_url: str) -> str:
    """Return CITATION.cff with the title and the author, and with the origin among the references."""
    text = once(r"^title: .*$", f"title: {quoted(title)}", text, "CITATION.cff")
    text = once(r"^authors:\n(?:  .*\n)+", f"authors:\n  - name: {quoted(author)}\n", text, "CITATION.cff")
    if not any(entry["title"] == ORIGIN["title"] for entry in yaml.safe_load(text)["references"]):
        entry = [f"  - type: book\n    title: {quoted(ORIGIN['title'])}\n    authors:\n"]
        entry += [f"      - name: {quoted(ORIGIN['author'])}\n", "    license: CC-BY-4.0\n"]
        entry += [f"    url: {quoted(origin_url)}\n"] if origin_url else []
        text = once(r"^references:\n", "references:\n" + "".join(entry), text, "CITATION.cff")
    return text


def prepare(root: Path, title: str, author: str, url: str) -> None:
    """Change the files under root. Raises: ValueError, OSError, yaml.YAMLError: one is not as expected."""
    before = notebook_form.address(root)
    headings = r"\A((?:---\n(?:.*\n)*?---\n)?\s*)# .*$"  # the first, behind what stands between two ---
    for name in FILES:
        path = root / name
        text = path.read_text("utf-8")
        if name == "_config.yml":
            text = config(text, title, author)
        elif name == "CITATION.cff":
            text = citation(text, title, author, before if before != url else "")
        elif found := re.match(headings, text, flags=re.M):
            text = f"{found[1]}# {title}{text[found.end() :]}"
        else:
            raise ValueError(f"{name} does not begin with a heading")
        path.write_text(text, "utf-8")
    notebook_form.write_address(url, root)
    made = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    cited = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    said = made["title"], made["author"], cited["title"], cited["authors"], cited["repository-code"]
    if said != (title, author, title, [{"name": author}], url):
        raise ValueError(f"the files say {said}: nothing was changed")


def publish_as(title: str, author: str, url: str, *, root: Path = ROOT) -> list[Path]:
    """Write title, author and address wherever the book carries them; return the files that have changed.

    Raises: ValueError: the input is no good, or a file is not as expected; OSError: a file cannot be written. In both
        cases every file is as it was.
    """
    checked(title, author, url)
    names = [*FILES, *(str(path.relative_to(root)) for path in notebook_form.notebooks(root))]
    before = {name: (root / name).read_bytes() for name in names}
    with tempfile.TemporaryDirectory(dir=root, prefix=".publish-as-") as folder:
        copy = Path(folder)
        for name in names:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
        try:
            prepare(copy, title, author, url)
        except yaml.YAMLError as error:
            raise ValueError(f"not YAML any more: {error}") from error
        changed = [name for name in names if (copy / name).read_bytes() != before[name]]
        done = []
        try:
            for name in changed:
                done.append(name)
                os.replace(copy / name, root / name)
        except BaseException:
            for name in done:
                (root / name).write_bytes(before[name])
            raise
    return [root / name for name in changed]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("title", "author", "url"):
        parser.add_argument(f"--{name}", required=True)
    try:
        given = parser.parse_args(arguments)
        changed = publish_as(given.title.strip(), given.author.strip(), given.url.strip())
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(*(f"changed: {path.relative_to(ROOT)}" for path in changed), sep="\n")
    print("Now commit, push, and let the forge publish its pages from the workflow `publish`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
