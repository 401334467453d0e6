"""The check of users' own functions in their repository: each target at a base revision and in the working tree."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..operations.cases import Case
from .duel import Duel
from .gate import Check, Finding, Progress, Rule, judge_duels
from .revisions import base_tree, top_folder
from .targets import Asked, Verifying, duels_between, target_controls, verdict_on, verified


def check_targets(asked: Asked, verifying: Verifying, revision: str | None, progress: Progress) -> Check:
    """The check of the targets in the working tree against those at a revision; None: see ``revisions.base_tree``.

    Raises:
        UserError: there is no repository here, no such revision or target, or a target cannot be imported.
    """
    root = top_folder(Path())
    if root is None:
        raise UserError(f"{Path.cwd()} is not in a git repository; a target is compared with its own earlier revision")
    cases = asked.cases()
    places = [_place_in(root, target) for target in asked.targets]
    rule = Rule(margin=asked.fail_above, memory_margin=asked.fail_memory_above or 0.0)
    with base_tree(root, revision) as (tree, base_name):
        present = [target for target in places if (tree / target.rpartition(":")[0]).is_file()]
        findings = [Finding(target, "added", note="not in the base") for target in places if target not in present]
        if not present:
            raise UserError(f"{places[0]}: not in the base, revision {base_name}: there is nothing to compare it with")
        found, duels = _judged(present, root, tree, base_name, verifying, cases, progress)
        check = judge_duels(duels, target_controls(), rule, base_name, progress) if duels else Check(base_name, [])
    return Check(base_name, [*findings, *found, *check.findings], check.inconclusive)


def _judged(
    targets: Sequence[str],
    root: Path,
    tree: Path,
    base_name: str,
    verifying: Verifying,
    cases: Sequence[Case],
    progress: Progress,
) -> tuple[list[Finding], list[Duel]]:
    """A finding for each target that is or was wrong, and the duels of the others."""
    findings, duels = [], []
    for target in targets:
        progress(f"verifying {target} at {base_name}")
        base = verified(str(tree / target), verifying, f"{target} at revision {base_name}", tree)
        if base.report is not None and base.report.failure is not None:
            raise UserError(f"{target} at revision {base_name} {base.wrong}")
        progress(f"verifying {target} in the working tree")
        work = verified(str(root / target), verifying, target, root)
        finding = verdict_on(base, work, target)
        if finding is not None:
            findings.append(finding)
        else:
            duels += duels_between(base, work, target, cases)
    return findings, duels


def _place_in(root: Path, target: str) -> str:
    """A target by its path in the repository, as in ``mylib/nn.py:softmax_backward``.

    Raises:
        UserError: it is not named by a file, or the file is not in the repository.
    """
    place, _, name = target.rpartition(":")
    if not place.endswith(".py") or not name:
        raise UserError(f"--target {target}: give a file of the repository, as in path/to/file.py:function")
    path = Path(place).resolve()
    if not path.is_file():
        raise UserError(f"--target {target}: {place}: no such file")
    if not path.is_relative_to(root.resolve()):
        raise UserError(f"--target {target}: not in the repository {root}")
    return f"{path.relative_to(root.resolve()).as_posix()}:{name}"
