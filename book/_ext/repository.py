"""Where this book's repository lives, if anyone has said so. The tree itself names no address."""

import os
import re
import subprocess
from pathlib import Path

FORGES = ("github.com", "gitlab.com", "codeberg.org")


def repository(
    root: Path, environ: dict[str, str] | None = None
) -> tuple[str, str] | None:
    """Return (address, branch), or None where neither the environment nor git knows.

    Asked in order: BOOK_REPOSITORY and BOOK_BRANCH; the variables of the forge that runs the build (GitHub and
    Forgejo, GitLab); the git remote `origin`, if it is an https address of a public forge.
    """
    env = os.environ if environ is None else environ
    branch = env.get("BOOK_BRANCH", "")
    if address := env.get("BOOK_REPOSITORY"):
        return _plain(address), branch or "main"
    if env.get("GITHUB_SERVER_URL") and env.get("GITHUB_REPOSITORY"):
        own = (
            env.get("GITHUB_REF_NAME") if env.get("GITHUB_REF_TYPE") == "branch" else ""
        )
        return _plain(
            f"{env['GITHUB_SERVER_URL']}/{env['GITHUB_REPOSITORY']}"
        ), branch or own or "main"
    if address := env.get("CI_PROJECT_URL"):
        return _plain(address), branch or env.get("CI_COMMIT_BRANCH") or env.get(
            "CI_DEFAULT_BRANCH"
        ) or "main"
    address = _plain(_git(root, "remote", "get-url", "origin"))
    if re.fullmatch(
        rf"https://({'|'.join(map(re.escape, FORGES))})/[\w.-]+/[\w./-]+", address
    ):
        head = _git(root, "rev-parse", "--abbrev-ref", "origin/HEAD").removeprefix(
            "origin/"
        )
        return address, branch or (
            head if re.fullmatch(r"[\w./-]+", head) and head != "HEAD" else "main"
        )
    return None


def source_link(root: Path, path: str, line: int) -> str | None:
    """Return the address of one line of a file in the repository, or None where the repository is unknown."""
    known = repository(root)
    return f"{known[0]}/blob/{known[1]}/{path}#L{line}" if known else None


def _plain(address: str) -> str:
    """Return an address without a user, a token, `.git` or a final slash."""
    address = re.sub(r"^(https?://)[^/@]*@", r"\1", address.strip())
    return address.rstrip("/").removesuffix(".git")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
