import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import psutil
import pytest
from softmax_bench.paths import PACKAGE
from softmax_bench.verification.process.isolation import MARK

TARGETS = Path(__file__).parent / "targets"
MISBEHAVING = TARGETS / "misbehaving.py"


HOBBY = TARGETS / "hobby_layers.py"
OURS = "SOFTMAX_BENCH_TEST"  # an environment variable that tells the processes of these tests from those of others


def run(*arguments: str, python: str = sys.executable, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "softmax_bench.cli", "verify", *arguments]
    environment = {**os.environ, OURS: str(os.getpid())}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=folder, env=environment
    )


def line_of(text: str, file: Path = MISBEHAVING) -> int:
    return file.read_text(encoding="utf-8").splitlines().index(text) + 1


def files_of_shown_frames(report: str) -> set[str]:
    return set(re.findall(r"^  (\S.*):\d+, in ", report, flags=re.MULTILINE))


def left_over() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            is_ours = MARK in environment and environment.get(OURS) == str(os.getpid())
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("name", "message", "culprit"),
    [
        ("raises", "ValueError: matmul", "    return probs @ grad_output @ undefined_name  # noqa: F821"),
        ("hangs", "it hangs: no answer within 1 s", "    sum(itertools.repeat(probs + grad_output))  # for ever"),
        ("sleeps_in_a_child", "it hangs: no answer within 1 s", "    time.sleep(600)"),
        ("prompts", "it asks for input", '    factor = float(input("learning rate? "))'),
        ("calls_exit", "it calls exit ('that is all')", '    sys.exit("that is all")'),
        ("ends_process", "it calls os._exit(7)", "    os._exit(7)"),
        ("crashes", "it is ended by SIGSEGV", "    ctypes.string_at(0)"),
        ("prints_without_end", "File too large", '        print("x" * 100000)'),
    ],
)
def test_what_does_not_answer_is_stopped_and_reported_with_its_line(name: str, message: str, culprit: str) -> None:
    done = run(f"{MISBEHAVING}:{name}", "--timeout", "1", "--no-cost")
    assert done.returncode == 2
    assert "could not be called" in done.stdout
    assert message in done.stdout
    assert f"{MISBEHAVING}:{line_of(culprit)}\n" in done.stdout
    assert culprit.strip() in done.stdout
    files = files_of_shown_frames(done.stdout)
    assert str(MISBEHAVING) in files
    assert not [file for file in files if file.startswith((str(PACKAGE), "<"))]
    assert not left_over()


HANGING_DEEP_DOWN = """
import threading
import time


def hangs(probs, grad_output):
    threading.Thread(target=sleeps, daemon=True).start()
    return deeper(300)


def sleeps():
    time.sleep(500)


def deeper(calls):
    if calls:
        return deeper(calls - 1)
    time.sleep(600)
"""


@pytest.mark.parametrize("name", ["worker.py", "deep.py"])
def test_the_line_is_that_of_the_thread_in_which_the_target_was_called(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(HANGING_DEEP_DOWN, encoding="utf-8")
    done = run(f"{file}:hangs", "--timeout", "1", "--no-cost")
    assert done.returncode == 2
    assert f"at         {file}:{line_of('    time.sleep(600)', file)}\n" in done.stdout
    assert files_of_shown_frames(done.stdout) == {str(file)}


SLOW = """
import time

import numpy as np


def slow(probs, grad_output):
    time.sleep(0.0 if probs.shape[1] < 100 else 600.0)  # as a loop over all pairs of features takes
    return probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True))
"""


def test_what_is_slow_at_many_features_is_right_with_that_limit(tmp_path: Path) -> None:
    file = tmp_path / "loops.py"
    file.write_text(SLOW, encoding="utf-8")
    done = run(f"{file}:slow", "--timeout", "1", "--no-cost")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[0].endswith("right, with a limit")
    assert "it is slow (16 × 130 uniform: it hangs: no answer within 1 s" in done.stdout


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment's site-packages with the package's files in it, as after the installation of a wheel."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment)
    (folder,) = environment.glob("lib/python*/site-packages")
    shutil.copytree(PACKAGE, folder / "softmax_bench")
    (folder / "dependencies.pth").write_text(f"{Path(np.__file__).parents[1]}\n", encoding="utf-8")
    return folder


@pytest.mark.slow
def test_installed_as_a_wheel_it_blames_the_users_own_lines(site_packages: Path, tmp_path: Path) -> None:
    python = str(site_packages.parents[2] / "bin" / "python")
    file = tmp_path / "worker.py"
    shutil.copy(MISBEHAVING, file)
    for name in ("raises", "hangs"):
        done = run(f"worker.py:{name}", "--timeout", "1", "--no-cost", python=python, folder=tmp_path)
        assert done.returncode == 2, done.stderr
        assert f"at         {file}:" in done.stdout
        assert files_of_shown_frames(done.stdout) == {str(file)}
    target = "softmax_bench.implementations.softmax:vectorized"
    done = run(target, "--signature", "features,axis", "--no-cost", python=python, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"at         {site_packages / 'softmax_bench' / 'implementations' / 'softmax.py'}:" in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [("allocates", "runs out of the memory"), ("forks_without_end", "starts processes without end")],
)
def test_what_takes_without_end_is_stopped(name: str, message: str) -> None:
    done = run(f"{MISBEHAVING}:{name}", "--max-bytes", str(256 << 20), "--no-cost")
    assert done.returncode == 2
    assert message in done.stdout
    assert not left_over()


@pytest.mark.parametrize(("name", "message"), [("returns_text", "returned str"), ("returns_nothing", "returned None")])
def test_a_result_that_is_no_array_is_reported(name: str, message: str) -> None:
    done = run(f"{MISBEHAVING}:{name}", "--no-cost")
    assert done.returncode == 2
    assert message in done.stdout


def test_a_right_function_may_print_and_fork() -> None:
    printing = run(f"{MISBEHAVING}:prints", "--no-cost")
    assert printing.returncode == 0
    assert "it printed probs are" in printing.stdout
    forking = run(f"{MISBEHAVING}:forks", "--no-cost")
    assert forking.returncode == 0
    assert "it forks processes" in forking.stdout
    assert not left_over()


def test_a_module_that_fails_when_imported_is_reported_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import math\n\nmath.sqrt(-1)\n", encoding="utf-8")
    done = run(f"{broken}:f")
    assert done.returncode == 2
    assert f"{broken}:3" in done.stdout
    assert "ValueError" in done.stdout
    broken.write_text("def f(:\n", encoding="utf-8")
    done = run(f"{broken}:f")
    assert done.returncode == 2
    assert f"{broken}:1" in done.stdout
    assert "SyntaxError" in done.stdout


def test_a_file_may_import_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text(
        "def dot(a, b):\n    return (a * b).sum(axis=1, keepdims=True)\n", encoding="utf-8"
    )
    target = tmp_path / "layer.py"
    target.write_text(
        "from helper import dot\n\n\ndef f(probs, grad):\n    return probs * (grad - dot(probs, grad))\n",
        encoding="utf-8",
    )
    assert run(f"{target}:f", "--no-cost").returncode == 0


def test_a_file_may_have_a_librarys_name(tmp_path: Path) -> None:
    target = tmp_path / "random.py"
    target.write_text("def f(probs, grad):\n    return probs * grad\n", encoding="utf-8")
    done = run(f"{target}:f")
    assert done.returncode == 1
    assert "outer product missing" in done.stdout


def test_the_mistake_of_a_wrong_layer_is_shown_and_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    done = run(f"{HOBBY}:ActivationSoftmaxDiagonal", "--json", str(path))
    assert done.returncode == 1
    assert "wrong: diagonal only" in done.stdout
    assert "computes   probs * (1 - probs) * grad_output" in done.stdout
    assert "should be  probs * (grad_output - sum(grad_output * probs))" in done.stdout
    assert "expected   0.2 × (1 - 0.3) = 0.14" in done.stdout
    report = json.loads(path.read_text(encoding="utf-8"))
    assert (report["status"], report["right"], report["diagnosis"]["name"]) == (1, False, "diagonal_only")
    assert report["cost"] is None


@pytest.mark.slow
def test_cost_growth_and_advice_of_a_right_function_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    done = run("softmax_bench.implementations.softmax:row_loop", "--json", str(path))
    assert done.returncode == 0
    assert "explicit_jacobian" in done.stdout
    assert "It builds arrays of shape [features, features]" in done.stdout
    assert "It loops in Python over the batch" in done.stdout
    assert re.search(r"^peak grows as batch\^-?\d\.\d\d and features\^\d\.\d\d$", done.stdout, flags=re.MULTILINE)
    cost = json.loads(path.read_text(encoding="utf-8"))["cost"]
    assert cost["growth"]["peak by features"]["exponent"] == pytest.approx(2, abs=0.3)
    assert {row["implementation"] for row in cost["rows"]} >= {"explicit_jacobian", "vectorized"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "expected module:attribute"),
        ([f"{MISBEHAVING}:rases"], "did you mean raises"),
        (["softmax_bench.implementations.softmax:vectorized", "--signature", "probs,dy"], "unknown role 'dy'"),
        (["softmax_bench.implementations.softmax:vectorized", "--signature", "probs,probs"], "given twice"),
        (
            ["softmax_bench.implementations.softmax:vectorized", "--axis", "0", "--layout", "rows"],
            "--axis and --layout",
        ),
        (["softmax_bench.implementations.softmax:vectorized", "--no-cost", "--json", "/"], "--json"),
        (
            ["softmax_bench.implementations.softmax:vectorized", "--json", "/no/such/folder/r.json"],
            "there is no folder",
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
