import json
import math
from pathlib import Path

import pytest
from softmax_bench.errors import NothingToDrawError, UserError
from softmax_bench.implementations import registered
from softmax_bench.mistakes import MISTAKES
from softmax_bench.storage.descriptions import FILE
from softmax_bench.storage.tables import Table
from softmax_bench.training import charts, study
from softmax_bench.training.command import to_table
from softmax_bench.training.digits import load
from softmax_bench.training.gradients import MISTAKEN, QUESTIONS_PAIR, RIGHT
from softmax_bench.training.networks import LAST, MIDDLE, NETWORKS, Network
from softmax_bench.training.outcomes import AS_WELL, DIVERGES, NOT, RAISES, WORSE, by_outcome, judge, sentences, spread
from softmax_bench.training.study import Epoch, Plan, make_study

from tests.conftest import SoftmaxBench

SMALL = Plan(epochs=2, train_images=128, test_images=50)
SOFTMAX = {
    spec.name
    for spec in registered().values()
    if spec.operation == "softmax" and spec.library == "numpy" and not spec.runs_threads
}
MISTAKES_OF_SOFTMAX = {name for operation, name in MISTAKES if operation == "softmax"}


def silent(_: str) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study over every gradient, on few images and for two epochs."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("results") / "training"
    make_study(folder, SMALL, silent)
    return folder


def test_every_right_gradient_and_every_mistake_has_its_rows(small: Path) -> None:
    stored, rows = study.load_study(small)
    assert stored.plan["seed"] == SMALL.seed
    assert {"cpu", "cores"} <= set(stored.machine)
    assert {"numpy", "scikit-learn"} <= set(stored.versions)
    found = {(row.network, row.kind, row.operation, row.gradient) for row in rows}
    for network in ("last", "middle"):
        assert {(network, RIGHT, "softmax", name) for name in SOFTMAX} <= found
        assert {(network, MISTAKEN, "softmax", name) for name in MISTAKES_OF_SOFTMAX} <= found
    assert {("last", MISTAKEN, operation, name) for operation, name in MISTAKES} <= found
    assert ("last", RIGHT, "softmax_cross_entropy", "one_node") in found
    assert ("last", MISTAKEN, "cross_entropy+softmax", "+".join(QUESTIONS_PAIR)) in found


def test_right_gradients_train_to_the_same_loss_and_improve(small: Path) -> None:
    for results in judge(study.load_study(small)[1]).values():
        assert spread(results) < 1e-9
        for result in results:
            if result.is_right:
                assert [row.epoch for row in result.epochs] == [0, 1, 2]
                assert result.last.loss < result.epochs[0].loss
                assert 0 < result.softmax_share < 1


def test_what_is_missing_in_a_row_has_its_reason(small: Path) -> None:
    rows = study.load_study(small)[1]
    for row in rows:
        missing = any(map(math.isnan, (row.loss, row.test_accuracy, row.epoch_s, row.softmax_backward_s)))
        assert missing == bool(row.reason)
        assert not (missing and row.epoch > 0 and row.outcome == study.TRAINED)
    (raised,) = (
        row for row in rows if row.network == "middle" and row.gradient == "jacobian_unmultiplied" and row.epoch == 1
    )
    assert raised.outcome == study.RAISED
    assert "(32, 64, 64), the input (32, 64)" in raised.reason
    diverged = {row.gradient for row in rows if row.outcome == study.DIVERGED}
    assert "jacobian_of_logits" in diverged


def test_an_interrupted_study_leaves_the_stored_table_whole(small: Path) -> None:
    before = {path.name: path.read_bytes() for path in small.iterdir()}

    def interrupt(under_way: str) -> None:
        if "epoch 1" in under_way:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_study(small, SMALL, interrupt)
    assert {path.name: path.read_bytes() for path in small.iterdir()} == before


def test_two_studies_do_not_write_one_table(small: Path) -> None:
    with Table(small / f".{study.TABLE}.partial", Epoch), pytest.raises(UserError, match="another process is writing"):
        make_study(small, SMALL, silent)
    (small / f".{study.TABLE}.partial").unlink()


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_the_charts_name_the_right_ones_once_and_every_wrong_one(small: Path, network: Network) -> None:
    stored, rows = study.load_study(small)
    results = judge(rows)[network.name]
    right = f"the {sum(result.is_right for result in results)} right ones, which coincide"
    keys = charts.NAMED[network.name]
    named = {result.title for result in results if (result.last.operation, result.last.gradient) in keys}
    assert len(named) == len(keys)
    for panel in charts.curves(stored, network, results).axes:
        assert sorted(text.get_text() for text in panel.texts) == sorted([right, *named])
    (panel,) = charts.accuracies(stored, network, results).axes
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names == [right, *(result.title for result in by_outcome(results) if not result.is_right)]


def test_the_table_and_the_sentences_report_every_gradient(small: Path) -> None:
    judged = judge(study.load_study(small)[1])
    for network, results in judged.items():
        assert to_table(network, results).row_count == len(results)
        report = " ".join(sentences(network, results))
        assert f"{sum(result.is_right for result in results)} right gradients" in report
        assert "with explicit_jacobian and" in report
    assert "The question's SoftmaxLoss is one_node, and right." in " ".join(sentences("last", judged["last"]))


def row_of(kind: str, gradient: str, accuracy: float, outcome: str = study.TRAINED) -> Epoch:
    loss = math.nan if outcome != study.TRAINED else 1.0
    return Epoch("last", kind, "softmax", gradient, 1, loss, accuracy, 1.0, 0.5, outcome)


def test_outcomes_follow_their_criteria() -> None:
    rows = [
        row_of(RIGHT, "vectorized", 0.97),
        row_of(MISTAKEN, "a", 0.951),
        row_of(MISTAKEN, "b", 0.949),
        row_of(MISTAKEN, "c", 0.5),
        row_of(MISTAKEN, "d", math.nan, study.DIVERGED),
        row_of(MISTAKEN, "e", math.nan, study.RAISED),
    ]
    results = judge(rows)["last"]
    assert [result.outcome for result in results[1:]] == [AS_WELL, WORSE, NOT, DIVERGES, RAISES]
    assert "Of the 5 wrong ones 1 learn as well, 1 learn worse" in " ".join(sentences("last", results))


def test_right_gradients_that_do_not_agree_are_seen() -> None:
    trained, diverged = row_of(RIGHT, "vectorized", 0.97), row_of(RIGHT, "row_loop", math.nan, study.DIVERGED)
    assert spread(judge([trained])["last"]) == 0
    assert spread(judge([trained, diverged])["last"]) == math.inf


def test_without_scikit_learn_one_line_says_what_to_do(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('absent')\n")
    done = softmax_bench("train", "--results", str(tmp_path / "results"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "make train" in done.stderr
    assert "EXTRAS=train" in done.stderr
    assert not (tmp_path / "results").exists()


def test_without_a_stored_study_one_line_says_what_to_do(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    done = softmax_bench("train", "--draw-only", "--results", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "run.json: cannot be read (No such file or directory); make train" in done.stderr


def test_a_damaged_study_is_reported(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"seed": 1}))
    with pytest.raises(UserError, match="run.json: not a study .*make train"):
        study.load_study(tmp_path)


def test_a_chart_of_nothing_is_refused(small: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes((small / FILE).read_bytes())
    Table(tmp_path / study.TABLE, Epoch).close()
    with pytest.raises(NothingToDrawError, match="make train"):
        list(charts.draw_study(tmp_path, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("network", [LAST, MIDDLE], ids=lambda network: network.name)
def test_right_gradients_reach_95_percent_and_one_loss(network: Network) -> None:
    pytest.importorskip("sklearn")
    plan = Plan()
    digits = load(plan.train_images, plan.test_images, plan.seed)
    right = (gradient for gradient in network.gradients() if gradient.kind == RIGHT)
    results = judge(row for gradient in right for row in study.train(network, gradient, digits, plan))[network.name]
    assert min(result.last.test_accuracy for result in results) > 0.95
    assert spread(results) < 1e-6
