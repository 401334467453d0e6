"""The implementations at a revision of the repository, and those of the working tree, as copies to be loaded."""

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
    """Folders of two copies of the implementations package, the base's name, and whether they are the same."""

    base: Path
    work: Path
    base_name: str
    identical: bool


@contextlib.contextmanager
def two_versions(root: Path, revision: str | None) -> Iterator[Versions]:
    """Copies of the implementations at ``revision`` and in the working tree, gone when the block ends.

    Without a revision the base is HEAD where the working tree differs from it, else the commit before HEAD.

    Raises:
        UserError: there is no such revision, or it has no implementations.
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
    """The top folder of the repository in which one works, which must have implementations to be compared.

    Raises:
        UserError: git is not installed, or there is no such repository here.
    """
    top = git(Path(), "rev-parse", "--show-toplevel")
    root = None if top is None else Path(top.decode().strip())
    if root is None or not (root / IMPLEMENTATIONS).is_dir():
        raise UserError(f"{Path.cwd()} is in no repository with {IMPLEMENTATIONS}: a revision is compared in a clone")
    return root


def _default_base(root: Path) -> str:
    changed = git(root, "status", "--porcelain", "--", IMPLEMENTATIONS)
    if changed is None:
        raise UserError(f"{root} is not a git repository with a commit; name a stored run as the base instead")
    return "HEAD" if changed.strip() else "HEAD~1"


def _sources(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}


def git(root: Path, *arguments: str) -> bytes | None:
    """What git prints when it is run in a folder; None where it fails.

    Raises:
        UserError: git is not installed.
    """
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not installed: the base revision cannot be read") from None
    return done.stdout if done.returncode == 0 else None
