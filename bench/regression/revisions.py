"""A repository at a revision and as it is now: copies of our implementations, or a whole tree for a user's targets."""

import contextlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..instruments.scratch import temporary_folder

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
    base_name = revision or _default_base(root, IMPLEMENTATIONS)
    with exported(root, base_name, IMPLEMENTATIONS) as base, temporary_folder() as folder:
        implementations, work = base / IMPLEMENTATIONS, folder / "work"
        shutil.copytree(root / IMPLEMENTATIONS, work, ignore=shutil.ignore_patterns("__pycache__"))
        yield Versions(implementations, work, base_name, _sources(implementations) == _sources(work))


@contextlib.contextmanager
def base_tree(root: Path, revision: str | None) -> Iterator[tuple[Path, str]]:
    """The folder of the repository's files at a revision, and the revision's name; deleted when the block ends.

    If ``revision`` is None, it is HEAD if anything in the working tree differs from it, otherwise the commit before.

    Raises:
        UserError: there is no such revision.
    """
    base_name = revision or _default_base(root)
    with exported(root, base_name) as folder:
        yield folder, base_name


@contextlib.contextmanager
def exported(root: Path, revision: str, path: str = ".") -> Iterator[Path]:
    """A folder with what the repository has under ``path`` at a revision, deleted when the block ends.

    Raises:
        UserError: there is no such revision, or it has no such path.
    """
    commit = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise UserError(f"no revision {revision!r} in this repository")
    with temporary_folder() as folder:
        archive, tree = folder / "tree.tar", folder / "tree"
        if git(root, "archive", "--format=tar", f"--output={archive}", commit.decode().strip(), path) is None:
            raise UserError(f"revision {revision} has no {path}")
        with tarfile.open(archive) as files:
            files.extractall(tree, filter="data")
        archive.unlink()
        yield tree


def top_folder(of: Path) -> Path | None:
    """The top folder of the git repository around a folder; None if there is none.

    Raises:
        UserError: git is not installed.
    """
    top = git(of, "rev-parse", "--show-toplevel")
    return None if top is None else Path(top.decode().strip())


def repository_of_implementations() -> Path:
    """The top folder of the git repository around the current folder, which has implementations of ours.

    Raises:
        UserError: git is not installed, or there is no repository here that has implementations.
    """
    root = top_folder(Path())
    if root is None or not (root / IMPLEMENTATIONS).is_dir():
        raise UserError(
            f"{Path.cwd()} is not in a git repository with {IMPLEMENTATIONS}; run this in a clone, name a stored run: "
            "--base=FOLDER, or functions of yours: --target=path/to/file.py:function"
        )
    return root


def _default_base(root: Path, path: str = ".") -> str:
    changed = git(root, "status", "--porcelain", "--", path)
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
