"""The suite in somebody else's repository: a package with a helper module, made here, and two revisions of it."""

import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from softmax_bench.configuration import configuration
from softmax_bench.errors import UserError
from softmax_bench.loading import import_folders, load

from tests.conftest import TIMED, SoftmaxBench, error_of

NN = """
from .helper import dot


def softmax_backward(grad_output, probs):
    return probs * (grad_output - dot(grad_output, probs))
"""
HELPER = "def dot(left, right):\n    return (left * right).sum(axis=1, keepdims=True)\n"
SLOW = "import time\n" + HELPER.replace("    return", "    time.sleep(0.002)\n    return")
LARGE = "import numpy as np\n" + HELPER.replace("    return", "    np.ones((64, *left.shape))\n    return")
LARGE_BATCHES_NEED_MEMORY = HELPER.replace("    return", "    np.ones(1 << 26 if len(left) > 200 else 1)\n    return")
WRONG_NN = NN.replace("probs * (grad_output - dot(grad_output, probs))", "probs * (1 - probs) * grad_output")
TARGET = "mylib/nn.py:softmax_backward"
PATIENCE_S = 600.0  # a whole check times in many processes, and other tests may keep the processors busy
QUICK = ("--batch=32", "--features=128")


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def write(root: Path, **sources: str) -> None:
    package = root / "mylib"
    package.mkdir(parents=True, exist_ok=True)
    for name, text in {"__init__": "", **sources}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")


@pytest.fixture
def own_repository(tmp_path: Path) -> Path:
    """A git repository with a package, committed twice without a change in between, in the folder of the commands."""
    write(tmp_path, nn=NN, helper=HELPER)
    (tmp_path / ".gitignore").write_text("__pycache__\n", encoding="utf-8")
    git(tmp_path, "init", "-q")
    for message in ("first", "second"):
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", message)
    return tmp_path


@pytest.fixture(autouse=True)
def _keep_sigterm() -> Iterator[None]:
    """Leave this process's SIGTERM as it was: commands that are called here set it."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def verdicts(content: str) -> set[str]:
    return {finding["verdict"] for finding in json.loads(content)["findings"]}


@pytest.mark.slow
def test_identical_revisions_raise_no_alarm(
    own_repository: Path,
    softmax_bench: SoftmaxBench,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    done = softmax_bench(
        "gate", f"--target={TARGET}", *QUICK, "--json=out.json", "--junit=out.xml", timeout_s=PATIENCE_S
    )
    assert done.returncode in (0, 2), done.stdout + done.stderr  # 2: the machine was too noisy
    assert "unchanged" in done.stdout
    content = (own_repository / "out.json").read_text(encoding="utf-8")
    assert json.loads(content)["base"] == "HEAD~1"
    assert verdicts(content) == {"unchanged"}
    assert ET.parse(own_repository / "out.xml").getroot().attrib["failures"] == "0"
    assert [path for path in temporary.iterdir() if path.suffix != ".lock"] == []  # the machine's lock stays


@pytest.mark.slow
@pytest.mark.parametrize(("helper", "found"), [(SLOW, "slower"), (LARGE, "larger")])
def test_a_change_in_a_helper_module_is_found(
    own_repository: Path, softmax_bench: SoftmaxBench, helper: str, found: str
) -> None:
    write(own_repository, helper=helper)
    done = softmax_bench("gate", f"--target={TARGET}", *QUICK, "--json=out.json", timeout_s=PATIENCE_S)
    content = (own_repository / "out.json").read_text(encoding="utf-8")
    assert found in verdicts(content), done.stdout + done.stderr
    assert json.loads(content)["base"] == "HEAD"
    if found == "larger" or not json.loads(content)["inconclusive"]:  # a machine that is too noisy judges no time
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1].startswith("Regression against HEAD: ")


@pytest.mark.slow
def test_a_wrong_gradient_is_named_and_not_timed(own_repository: Path, softmax_bench: SoftmaxBench) -> None:
    write(own_repository, nn=WRONG_NN)
    git(own_repository, "commit", "-qam", "wrong")
    (own_repository / "pyproject.toml").write_text(f'[tool.softmax-bench]\ntargets = ["{TARGET}"]\n', encoding="utf-8")
    done = softmax_bench("gate", "--base=HEAD~1")
    assert done.returncode == 1, done.stderr
    assert "wrong: diagonal only" in " ".join(done.stdout.split())
    assert softmax_bench("gate", "--base=HEAD", f"--target={TARGET}").returncode == 1  # wrong before and now


@pytest.mark.slow
def test_the_limits_of_the_table_hold_while_a_target_is_timed(
    own_repository: Path, softmax_bench: SoftmaxBench
) -> None:
    write(own_repository, helper="import numpy as np\n" + LARGE_BATCHES_NEED_MEMORY)
    table = f'[tool.softmax-bench]\ntargets = ["{TARGET}"]\nmax-bytes = 100000000\n'
    (own_repository / "pyproject.toml").write_text(table, encoding="utf-8")
    done = softmax_bench("gate", "--batch=256", "--features=16", timeout_s=PATIENCE_S)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "MemoryError" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_compare_gives_each_side_its_own_modules(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    for side, helper in (("old", HELPER), ("new", SLOW)):
        write(tmp_path / side, nn=NN, helper=helper)
    nn = "mylib/nn.py:softmax_backward"
    sizes = ("--batch=8", "--features=64", "--features=128")
    sides = f"old/{nn}", f"new/{nn}"
    done = softmax_bench("compare", *sides, *sizes, "--fail-above=10%", "--json=out.json", timeout_s=PATIENCE_S)
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert done.returncode == (2 if content["inconclusive"] else 1), done.stdout + done.stderr
    findings = content["findings"]
    assert [finding["verdict"] for finding in findings] == ["slower", "slower"]
    assert all(finding["work_s"] > 0.002 > finding["base_s"] for finding in findings)
    assert "at 8 × 64 float64 normal: " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("On ")


@pytest.mark.slow
def test_a_wrong_b_is_never_a_success(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    write(tmp_path, nn=NN, helper=HELPER, wrong=WRONG_NN)
    done = softmax_bench("compare", TARGET, "mylib/wrong.py:softmax_backward")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wrong, diagonal only" in done.stdout


@pytest.mark.slow
def test_a_b_that_is_wrong_at_the_shape_that_is_timed_is_found(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    lazy = HELPER.replace("    return", "    if len(left) > 200:\n        return 0.0\n    return")
    write(tmp_path, nn=NN, helper=lazy)
    done = softmax_bench("compare", "vectorized", TARGET, "--batch=256", "--features=16")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wrong, it returns a wrong result: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gate", "--target=mylib/none.py:f"), "mylib/none.py: no such file"),
        (("gate", "--target=mylib.nn:softmax_backward"), "give a file of the repository, as in path/to/file.py:"),
        (("gate", f"--target={TARGET}", "--base=nosuch"), "no revision 'nosuch' in this repository"),
        (("gate", "--target=mylib/new.py:f"), "mylib/new.py:f: not in the base, revision HEAD"),
        (
            ("gate", "--target=mylib/broken.py:f"),
            "does not import: ModuleNotFoundError: No module named 'nosuch_module' (mylib/broken.py:1)",
        ),
        (("gate", "--target=mylib/nn.py:none"), "has no 'none'; it has dot, softmax_backward"),
        (("gate", f"--target={TARGET}", "--dtype=float16"), "--dtype float16: unknown"),
        (("gate", f"--target={TARGET}", "--fail-above=much"), "--fail-above much: give a share such as 3% or 0.03"),
        (("gate", "--fail-above=3%"), "are for a --target"),
        (("verify",), "give a TARGET, such as path/to/file.py:function"),
    ],
)
def test_bad_input_is_one_line(
    own_repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(own_repository)
    write(own_repository, broken="import nosuch_module\n\n\ndef f(p, g):\n    return p\n")
    git(own_repository, "add", "-A")
    git(own_repository, "commit", "-qm", "broken")
    write(own_repository, new=NN)
    assert said in error_of(*arguments, capsys=capsys)


def test_outside_a_repository_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, nn=NN, helper=HELPER)
    monkeypatch.chdir(tmp_path)
    assert "is not in a git repository; a target is compared" in error_of("gate", f"--target={TARGET}", capsys=capsys)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("target = []", "unknown key `target`; known keys: targets, shapes"),
        ("shapes = [[3]]", "Expected `array` of length 2, got 1 - at `shapes[0]`"),
        ("strict = 'yes'", "Expected `bool | null`, got `str` - at `strict`"),
        ("targets = [", "not TOML"),
        ('margin = "much"', "pyproject.toml: margin much: give a share such as 3% or 0.03"),
    ],
)
def test_a_bad_table_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: str, said: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.softmax-bench]\n{table}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert said in error_of("gate", capsys=capsys)


def test_the_nearest_table_counts_and_other_files_are_passed_over(tmp_path: Path) -> None:
    inner = tmp_path / "packages" / "mine"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.softmax-bench]\ntargets = ["a.py:f"]\n', encoding="utf-8")
    (inner / "pyproject.toml").write_text("[project]\nname = 'mine'\n", encoding="utf-8")
    stated, folder = configuration(inner)
    assert stated.targets == ("a.py:f",)
    assert folder == tmp_path
    assert configuration(Path("/"))[0].targets == ()


@pytest.mark.slow
def test_verify_takes_targets_and_options_from_the_table_and_the_command_line_wins(
    own_repository: Path, softmax_bench: SoftmaxBench
) -> None:
    targets = f'["{TARGET}", "mylib/wrong.py:softmax_backward"]'
    (own_repository / "pyproject.toml").write_text(
        f"[tool.softmax-bench]\ntargets = {targets}\ncost = false\n", encoding="utf-8"
    )
    write(own_repository, wrong=WRONG_NN)
    done = softmax_bench("verify", "--json=out.json")
    assert done.returncode == 1
    reports = json.loads((own_repository / "out.json").read_text(encoding="utf-8"))
    assert [report["right"] for report in reports] == [True, False]
    assert all(report["cost"] is None for report in reports)
    assert softmax_bench("verify", TARGET, "--layout=columns").returncode == 1


def test_a_target_imports_the_modules_of_its_own_project_first(tmp_path: Path) -> None:
    (tmp_path / "src" / "mylib").mkdir(parents=True)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "src" / "mylib" / "__init__.py").touch()
    packaged, loose = "src/mylib/nn.py:f", "benchmarks/nn.py:f"
    assert import_folders(str(tmp_path / packaged)) == [tmp_path / "src", tmp_path]
    assert import_folders(str(tmp_path / loose)) == [tmp_path / "benchmarks", tmp_path, tmp_path / "src"]
    assert import_folders(str(tmp_path / loose), tmp_path / "src")[1] == tmp_path / "src"


def test_a_package_keeps_its_name_though_its_folder_lies_in_a_project(tmp_path: Path) -> None:
    package = tmp_path / "src" / "mylib"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (package / "nn.py").write_text("from .layer import Layer\n", encoding="utf-8")
    assert import_folders(f"{package / 'nn.py'}:f")[0] == tmp_path / "src"
    (package / "__init__.py").touch()
    assert import_folders(f"{package / 'nn.py'}:f")[0] == tmp_path / "src"


IMPORTING_LAYER = """
{import_line}
from mylib.shapes import KEPT


def backward(probs, grad_output):
    return (grad_output - (grad_output * probs).sum(1, keepdims=KEPT)) * probs
"""


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("import_line", ["from .layer import Layer", "from layers.layer import Layer"])
def test_a_folder_without_init_is_a_package_if_its_files_import_so(
    tmp_path: Path, softmax_bench: SoftmaxBench, import_line: str, marked: bool
) -> None:
    layers = tmp_path / "layers"
    (tmp_path / "mylib").mkdir()
    layers.mkdir()
    (layers / "layer.py").write_text("from mylib.shapes import KEPT\n\n\nclass Layer:\n    kept = KEPT\n")
    (layers / "nn.py").write_text(IMPORTING_LAYER.format(import_line=import_line), encoding="utf-8")
    (tmp_path / "mylib" / "shapes.py").write_text("KEPT = True\n", encoding="utf-8")
    if marked:
        (tmp_path / ".git").mkdir()
    done = softmax_bench("verify", "--no-cost", "layers/nn.py:backward")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "right" in done.stdout


def test_a_file_in_whose_place_python_loads_another_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "json"  # Python's own module json is imported already
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "decoder.py").write_text("def f(p, g):\n    return p\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"decoder\.py: Python imports .*json/decoder\.py as json\.decoder, not this"):
        load(f"{package / 'decoder.py'}:f")


def test_the_fixture_of_the_pytest_plugin_fails_with_the_mistake_s_name(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sys\n\n\n"
        "def test_the_suite_is_not_imported():\n"
        "    assert not any(name.startswith('softmax_bench.verification') for name in sys.modules)\n\n\n"
        "def test_right(assert_vjp):\n"
        "    assert_vjp(lambda probs, grad_output:\n"
        "               probs * (grad_output - (grad_output * probs).sum(1, keepdims=True)))\n\n\n"
        "def test_wrong(assert_vjp):\n"
        "    assert_vjp(lambda probs, grad_output: probs * (1 - probs) * grad_output)\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]  # installed, the plugin is found
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "2 passed" in done.stdout
    assert "1 failed" in done.stdout
    assert "diagonal only" in done.stdout


@pytest.mark.slow
def test_a_sweep_in_a_foreign_folder_imports_and_stores_there(
    own_repository: Path, softmax_bench: SoftmaxBench
) -> None:
    chosen = (f"--implementation={TARGET}", "--implementation=vectorized", "--batch=4", "--features=16")
    done = softmax_bench("run", "--grid=quick", *chosen, "--run-id=mine", "--minutes=0.5", *TIMED[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    table = (own_repository / "results" / "mine" / "cases.csv").read_text(encoding="utf-8")
    assert "nn.py:softmax_backward" in table
    assert (own_repository / "plots" / "mine").is_dir()
