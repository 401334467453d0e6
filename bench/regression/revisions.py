"""Copies of the implementations at a revision of the repository, and of those in the working tree."""

import contextlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError

IMPLEMENTATIONS = "bench/implementations"


@dataclass(frozen=True)
class Versions:
    """The folders of two copies of the implementations package, and whether their sources are identical."""

    base: Path
    work: Path
    base_name: str
    identical: bool


@contextlib.contextmanager
def two_versions(root: Path, revision: str | None) -> Iterator[Versions]:
    """Copies of the implementations at ``revision`` and in the working tree, deleted when the block ends.

    If ``revision`` is None, the base is HEAD if the working tree differs from it, otherwise the commit before HEAD.

    Raises:
        UserError: there is no such revision, it has no implementations, or ``root`` is not a git repository.
    """
    base_name = revision or _default_base(root)
    commit = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base_name}^{{commit}}")
    if commit is None:
        raise UserError(f"no revision {base_name!r} in this repository")
    archive = git(root, "archive", "--format=tar", commit.decode().strip(), IMPLEMENTATIONS)
    if archive is None:
        raise UserError(f"revision {base_name} has no {IMPLEMENTATIONS}")
    with tempfile.TemporaryDirectory(prefix="softmax-bench-") as folder:
        base, work = Path(folder, "base"), Path(folder, "work")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(base, filter="data")
        shutil.copytree(root / IMPLEMENTATIONS, work, ignore=shutil.ignore_patterns("__pycache__"))
        exported = base / IMPLEMENTATIONS
        yield Versions(exported, work, base_name, _sources(exported) == _sources(work))


def repository() -> Path:
    """The top folder of the git repository around the current folder.

    Raises:
        UserError: git is not installed, or there is no repository here that has implementations.
    """
    top = git(Path(), "rev-parse", "--show-toplevel")
    root = None if top is None else Path(top.decode().strip())
    if root is None or not (root / IMPLEMENTATIONS).is_dir():
        raise UserError(
            f"{Path.cwd()} is not in a git repository with {IMPLEMENTATIONS}; "
            "run this in a clone, or name a stored run: --base=FOLDER"
        )
    return root


def _default_base(root: Path) -> str:
    changed = git(root, "status", "--porcelain", "--", IMPLEMENTATIONS)
    if changed is None:
        raise UserError(f"{root} is not a git repository; name a stored run as the base instead")
    return "HEAD" if changed.strip() else "HEAD~1"


def _sources(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}


def git(root: Path, *arguments: str) -> bytes | None:
    """What git prints when it runs in the folder ``root``; None if it fails.

    Raises:
        UserError: git is not installed.
    """
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not installed, and only git can read the base revision") from None
    return done.stdout if done.returncode == 0 else None
