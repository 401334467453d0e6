import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from softmax_bench.errors import UserError
from softmax_bench.implementations import FloatArray
from softmax_bench.mistakes import MISTAKES
from softmax_bench.tolerances import study
from softmax_bench.tolerances.chart import CHARTED, passing
from softmax_bench.tolerances.command import to_table, tolerances
from softmax_bench.tolerances.draws import (
    DTYPES,
    INPUTS,
    OPERATIONS,
    Attempt,
    Function,
    counted_mistakes,
    make_draw,
    right_forms,
    round_to,
    tail_missing,
    zeros,
)
from softmax_bench.tolerances.findings import passes_from
from softmax_bench.tolerances.rules import ASSERT_CLOSE, GRADCHECK, NUMPY_CLOSE, OURS, RULES, Rule
from softmax_bench.tolerances.study import Outcome, load_study, outcomes

from .conftest import ROOT

SEED = 7
BY_NAME = {rule.name: rule for rule in RULES}
VECTORIZED = right_forms("softmax", "float64", 10)["vectorized"]


def accepts(rule: Rule, result: FloatArray, dtype: str = "float32", features: int = 64, kind: str = "normal") -> bool:
    return rule.accepts(Attempt(lambda _: result, make_draw("softmax", dtype, features, kind, SEED)))


def expected_of(dtype: str = "float32", features: int = 64, kind: str = "normal") -> FloatArray:
    return make_draw("softmax", dtype, features, kind, SEED).expected


def test_bfloat16_is_rounded_as_its_library_rounds_it() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.random.default_rng(SEED).integers(0, 1 << 32, size=200_000, dtype=np.uint32)
    ties = (np.arange(1 << 16, dtype=np.uint32) << 16) | 0x8000
    edges = np.array([0.0, -0.0, 1e-45, 3.4e38], np.float32)
    for values in (bits.view(np.float32), ties.view(np.float32), edges):
        numbers = values[np.isfinite(values)]
        np.testing.assert_array_equal(
            round_to(numbers, "bfloat16"), numbers.astype(ml_dtypes.bfloat16).astype(np.float32)
        )


def test_the_usual_rules_are_the_libraries_own() -> None:
    expected = expected_of()
    rng = np.random.default_rng(SEED)
    for size in (1e-9, 1e-7, 3e-7, 1e-6, 1e-5, 1e-4):
        got = expected + size * rng.uniform(-1, 1, expected.shape)
        assert accepts(BY_NAME[NUMPY_CLOSE], got) == np.allclose(got, expected)
        try:
            np.testing.assert_allclose(got, expected)
        except AssertionError:
            assert not accepts(BY_NAME["numpy assert_allclose"], got)
        else:
            assert accepts(BY_NAME["numpy assert_allclose"], got)


@pytest.mark.parametrize("dtype", DTYPES)
def test_assert_close_is_pytorchs_own(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    expected = expected_of(dtype)
    right = torch.from_numpy(expected).to(getattr(torch, dtype))
    verdicts = []
    for factor in (1.0, 1 + 1e-8, 1 + 1e-5, 1 + 1e-2, 1.5):
        # Both round once, so that both see the same numbers.
        got = round_to((expected * factor).astype("float64" if dtype == "float64" else "float32"), dtype)
        try:
            torch.testing.assert_close(torch.from_numpy(got).to(right.dtype), right)
            theirs = True
        except AssertionError:
            theirs = False
        verdicts.append(theirs)
        assert accepts(BY_NAME[ASSERT_CLOSE], got, dtype) == theirs
    assert set(verdicts) == {True, False}


@pytest.mark.parametrize("name", ["vectorized", "diagonal_only", "single_precision", "zeros"])
def test_gradcheck_says_what_pytorchs_own_says(name: str) -> None:
    torch = pytest.importorskip("torch")
    known = {**right_forms("softmax", "float64", 10), **counted_mistakes("softmax", "float64", 10), "zeros": zeros}
    function = known[name]

    class Softmax(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: object, logits: object) -> object:
            probs = torch.softmax(logits, dim=1)
            ctx.save_for_backward(probs)  # type: ignore[attr-defined]
            return probs

        @staticmethod
        def backward(ctx: object, grad_output: object) -> object:
            (probs,) = ctx.saved_tensors  # type: ignore[attr-defined]
            inputs = {"probs": probs.detach().numpy(), "grad_output": grad_output.numpy()}  # type: ignore[attr-defined]
            return torch.from_numpy(function(inputs))

    draw = make_draw("softmax", "float64", 10, "normal", SEED)
    logits = torch.from_numpy(draw.inputs["logits"]).requires_grad_()
    theirs = torch.autograd.gradcheck(Softmax.apply, logits, raise_exception=False)
    assert BY_NAME[GRADCHECK].accepts(Attempt(function, draw)) == theirs


def test_a_rule_sees_what_its_formula_sees() -> None:
    expected = expected_of()
    assert accepts(BY_NAME["xformers"], -expected)  # the norm alone
    assert not accepts(BY_NAME["xformers"], 1.001 * expected)
    cosine, similarity = BY_NAME["FlashInfer"], BY_NAME["DeepGEMM"]
    halves = expected_of("bfloat16")
    assert accepts(cosine, 100 * halves, "bfloat16")
    assert not accepts(cosine, -halves, "bfloat16")
    assert not accepts(similarity, 1.1 * halves, "bfloat16")
    assert accepts(BY_NAME["cs231n 1e-4"], expected * (1 + 1e-4))
    assert not accepts(BY_NAME["cs231n 1e-4"], expected * (1 + 3e-4))


def test_only_a_rule_that_broadcasts_takes_another_shape() -> None:
    shape = expected_of(kind="averaged").shape
    assert accepts(BY_NAME["absolute 1e-2"], np.zeros(shape[1]), kind="averaged")
    assert not accepts(BY_NAME["absolute 1e-2"], np.zeros(shape[::-1]), kind="averaged")
    assert accepts(BY_NAME["KernelBench"], np.zeros(shape), kind="averaged")
    assert not accepts(BY_NAME["KernelBench"], np.zeros(shape[1]), kind="averaged")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_counted_is_wrong_and_the_right_forms_are_right(dtype: str, operation: str) -> None:
    draw = make_draw(operation, dtype, 16, "normal", SEED)
    counted = counted_mistakes(operation, dtype, 16)
    assert not [name for name, function in counted.items() if BY_NAME[OURS].accepts(Attempt(function, draw))]
    for function in right_forms(operation, dtype, 16).values():
        assert BY_NAME[OURS].accepts(Attempt(function, draw))


@pytest.mark.parametrize("dtype", ["float64", "float32"])  # of 16 bits, rounded logits have other probabilities
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_mistake_that_is_not_counted_returns_what_is_right(dtype: str, operation: str) -> None:
    draw = make_draw(operation, dtype, 16, "normal", SEED)
    counted = counted_mistakes(operation, dtype, 16)
    left_out = [mistake for (of, name), mistake in MISTAKES.items() if of == operation and name not in counted]
    for mistake in left_out:
        got = mistake.function(*(draw.inputs[name].copy() for name in mistake.arguments))
        np.testing.assert_allclose(got, draw.right.expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dropped_element_is_seen_in_ulp_of_the_terms_and_not_by_a_cosine(dtype: str) -> None:
    draw = make_draw("softmax", dtype, 4096, "flat", SEED)
    attempt = Attempt(tail_missing(VECTORIZED), draw)
    assert not BY_NAME[OURS].accepts(attempt)
    if dtype in BY_NAME["FlashInfer"].checks:
        assert BY_NAME["FlashInfer"].accepts(attempt)


def test_zeros_pass_where_every_larger_size_lets_them(tmp_path: Path) -> None:
    rows = [row(features, passes) for features, passes in ((10, 1), (16, 0), (32, 1), (64, 1))]
    study.store(rows, tmp_path)
    _, frame = load_study(tmp_path)
    assert passes_from(frame, "zeros_pass") == 32
    assert passes_from(frame[frame["features"] == 16], "zeros_pass") is None
    assert math.isnan(frame["tail_passes"].iloc[0])


def row(features: int, zeros_pass: int) -> Outcome:
    return Outcome(NUMPY_CLOSE, "float32", "softmax", "normal", features, 41, 3, zeros_pass, math.nan, 7, 0, "a b c")


def test_the_command_measures_stores_reports_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dtypes = [dtype for dtype, _ in CHARTED.values()]
    monkeypatch.setattr(study, "DTYPES", dtypes)
    monkeypatch.setattr(study, "FEATURES", (10, 64))
    monkeypatch.setattr(study, "DRAWS", 1)
    tolerances.main([f"--results={tmp_path / 'results'}"], standalone_mode=False)
    said = " ".join(capsys.readouterr().out.split())
    stored, rows = load_study(tmp_path / "results" / "tolerances")
    assert stored.draws == 1
    assert set(stored.sources) == set(BY_NAME)
    assert set(rows["rule"]) == {rule.name for rule in RULES if set(dtypes) & set(rule.checks)}
    assert set(rows["inputs"]) == set(INPUTS)
    assert f"{OURS.capitalize()}: 0 of " in said
    assert to_table(rows).row_count == len(rows[["rule", "dtype"]].drop_duplicates())
    drawn = {path.name for path in (tmp_path / "plots" / "tolerances").iterdir()}
    assert drawn == {f"{name}.{ending}" for name in CHARTED for ending in ("png", "svg")}


def test_a_condition_in_which_a_probability_is_zero_has_no_rows_of_cross_entropy() -> None:
    assert not list(outcomes("float16", 1 << 17, "cross_entropy", "normal"))


def test_the_kept_study_is_whole_and_is_drawn() -> None:
    _, rows = load_study(ROOT / "results" / "tolerances")
    assert set(rows["rule"]) == set(BY_NAME)
    assert set(rows["features"]) == set(study.FEATURES)
    ours = rows[rows["rule"] == OURS]
    assert set(ours["dtype"]) == set(DTYPES)
    assert ours[["passing", "zeros_pass", "tail_passes", "right_rejected"]].max().max() == 0
    for name, (dtype, rules) in CHARTED.items():
        assert len(rules) <= 8
        figure = passing(rows, dtype, rules, "a caption")
        assert len(figure.axes) == 3
        named = {text.get_text() for text in figure.axes[0].texts}
        assert len(named) == len(rules)
        assert (ROOT / "plots" / "tolerances" / f"{name}.png").exists()


def test_a_missing_study_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"outcomes\.csv: cannot be read"):
        load_study(tmp_path)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_lines_on_the_page_find_every_mistake_and_pass_what_is_right(dtype: str, kind: str) -> None:
    page = (ROOT / "docs" / "tolerances.md").read_text(encoding="utf-8")
    names: dict[str, Callable[..., None]] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], {"np": np}, names)
    draw = make_draw("softmax", dtype, 512, kind, SEED)

    def check(function: Function) -> None:
        names["assert_right"](
            Attempt(function, draw).got.astype(dtype), draw.inputs["probs"], draw.inputs["grad_output"]
        )

    for function in right_forms("softmax", dtype, 512).values():
        check(function)
    for function in (zeros, tail_missing(VECTORIZED), *counted_mistakes("softmax", dtype, 512).values()):
        with pytest.raises(AssertionError):
            check(function)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_backward_that_rounds_every_step_is_rejected(dtype: str) -> None:
    def stepwise(inputs: Mapping[str, Any]) -> FloatArray:
        probs, grad_output = inputs["probs"], inputs["grad_output"]
        dot = round_to(round_to(grad_output * probs, dtype).sum(axis=1, keepdims=True), dtype)
        return round_to(round_to(grad_output - dot, dtype) * probs, dtype)

    assert not BY_NAME[OURS].accepts(Attempt(stepwise, make_draw("softmax", dtype, 512, "normal", SEED)))
