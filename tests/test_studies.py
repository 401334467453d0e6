"""The commands of the studies: each is small here and really made, and the stored ones are drawn again as they are."""

import shutil
from pathlib import Path

import pytest
from softmax_bench.fleet.scale import load_scale

from tests.conftest import ROOT, SoftmaxBench

# Each study's command, its folder, and the exit status of drawing what is stored.
STUDIES = (
    (("accuracy",), "accuracy"),
    (("fleet", "scale"), "fleet-scale"),
    (("gate-quality",), "gate-quality"),
    (("repeatability", "--rules"), "repeatability"),
    (("tolerances",), "tolerances"),
    (("train",), "training"),
)


def drawn(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "name"), STUDIES, ids=[name for _, name in STUDIES])
def test_a_stored_study_is_drawn_again_without_being_made(
    command: tuple[str, ...], name: str, softmax_bench: SoftmaxBench, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "results" / name, tmp_path / "results" / name)
    before = {path: path.read_bytes() for path in (tmp_path / "results" / name).iterdir()}
    done = softmax_bench(*command, "--draw-only", "--results=results")
    assert done.returncode == 0, done.stderr
    assert drawn(tmp_path / "plots" / name) == drawn(ROOT / "plots" / name)
    assert {path: path.read_bytes() for path in (tmp_path / "results" / name).iterdir()} == before


@pytest.mark.slow
def test_a_small_simulation_is_stored_told_and_drawn(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    done = softmax_bench("fleet", "scale", "--workers=2", "--cases=400", "--results=results")
    assert done.returncode == 0, done.stderr
    assert "2 workers, 400 cases: " in done.stdout
    runs, samples = load_scale(tmp_path / "results" / "fleet-scale")
    assert (runs[-1].workers, runs[-1].cases) == (2, 400)
    assert samples
    assert drawn(tmp_path / "plots" / "fleet-scale") == {"scale.png", "scale.svg"}


@pytest.mark.slow
def test_a_short_training_is_reported_and_drawn(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    done = softmax_bench("train", "--epochs=1", "--results=results")
    assert done.returncode in (0, 1), (
        done.stderr
    )  # after one epoch the right ones may differ by more than they end with
    assert "vectorized" in done.stdout
    assert drawn(tmp_path / "plots" / "training") == drawn(ROOT / "plots" / "training")


@pytest.mark.parametrize(("option", "value"), [("--workers", "0"), ("--cases", "0")])
def test_a_simulation_of_nothing_is_refused(option: str, value: str, softmax_bench: SoftmaxBench) -> None:
    done = softmax_bench("fleet", "scale", option, value)
    assert done.returncode == 2
    assert "--workers and --cases: must be at least 1" in done.stderr
