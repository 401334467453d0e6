import ast
import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from softmax_bench import implementations
from softmax_bench.implementations import Implementation, implementation, is_installed, registered
from softmax_bench.implementations.softmax import softmax, softmax_unshifted
from softmax_bench.instruments.memory import read_peak
from softmax_bench.operations import operations
from softmax_bench.operations.cases import DISTRIBUTIONS, DTYPES, Case

NUMPY_IMPLEMENTATIONS = [
    spec for spec in registered().values() if spec.function.__module__.endswith((".softmax", ".cross_entropy"))
]
MOST_TESTED_BYTES = 200 << 20
SHAPES = [(1, 1), (1, 10), (3, 3), (5, 2), (2, 700), (32, 512)]


@pytest.mark.parametrize("spec", NUMPY_IMPLEMENTATIONS, ids=lambda spec: f"{spec.operation}-{spec.name}")
@pytest.mark.parametrize(("dtype", "logits"), list(itertools.product(DTYPES, DISTRIBUTIONS)))
def test_every_implementation_is_right_and_leaves_its_inputs_alone(
    spec: Implementation, dtype: str, logits: str
) -> None:
    operation = operations()[spec.operation]
    for batch, features in SHAPES:
        case = Case(spec.operation, spec.name, batch, features, dtype, logits)
        inputs = operation.make_inputs(case, 7)
        if spec.divides_by_probs and (inputs.probs == 0).any():
            continue
        before = copy.deepcopy(inputs)
        result = spec.bind(inputs)()
        verdict = operation.judge(result, operation.make_reference(inputs, 7))
        assert verdict.right, f"{case}: {verdict.reason}"
        for name in spec.arguments:
            np.testing.assert_array_equal(getattr(before, name), getattr(inputs, name))
        assert (result is getattr(inputs, "out", None)) == spec.writes_out


FEW_SHAPES = [(1, 512), (64, 8192)]
WORKSPACE_CASES = [
    Case(spec.operation, spec.name, batch, features, dtype, "normal")
    for spec in NUMPY_IMPLEMENTATIONS
    for batch, features in [(1, 512), (8, 1024), (32, 512), (256, 128), (512, 64), (64, 8192)]
    for dtype in DTYPES
    if spec.workspace(batch, features, 8) < MOST_TESTED_BYTES
]


def is_slow(case: Case) -> bool:
    """A reading takes a quarter of a second, so most of them run in continuous integration only."""
    return case.dtype == "float32" or (case.operation != "softmax" and (case.batch, case.features) not in FEW_SHAPES)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] if is_slow(case) else [], id=str(case)) for case in WORKSPACE_CASES],
)
def test_stated_workspace_is_what_memray_reads(case: Case) -> None:
    call = case.spec.bind(operations()[case.operation].make_inputs(case, 7))
    call()
    predicted = case.spec.workspace(case.batch, case.features, case.itemsize)
    assert abs(read_peak(call).peak_bytes - predicted) <= max(0.02 * predicted, 128 << 10)


def test_softmax_of_large_logits_is_finite_and_the_articles_overflows() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0]])
    np.testing.assert_allclose(softmax(logits), [[0.7310585786, 0.2689414214, 0.0]], rtol=1e-9)
    with pytest.warns(RuntimeWarning, match="overflow|invalid"):
        assert np.isnan(softmax_unshifted(logits)[0, 0])


def test_both_forwards_agree_on_the_articles_logits() -> None:
    logits = np.random.default_rng(42).random((32, 512))
    np.testing.assert_allclose(softmax(logits), softmax_unshifted(logits), rtol=1e-14)


@pytest.mark.parametrize("fact", ["workspace", "traffic", "source"])
def test_an_implementation_that_does_not_state_its_cost_and_source_is_refused(fact: str) -> None:
    facts: dict[str, Any] = {"workspace": "B*N*s", "traffic": "3*B*N*s", "source": "a test"}
    del facts[fact]
    with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{fact}'"):
        implementation("softmax", **facts)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("B*M*s", r"formula 'B\*M\*s' has an unknown name, M; known are B, N, s, U, min, max"),
        ("B*N*", r"formula 'B\*N\*' is not an expression \(invalid syntax\)"),
        ("", "formula '' is not an expression"),
    ],
)
def test_a_formula_that_cannot_be_evaluated_is_refused(formula: str, said: str) -> None:
    register = implementation("softmax", workspace="B*N*s", traffic=formula, source="a test")

    def unregistered(probs: object, grad_output: object) -> object:
        """It must not come into the registry."""

    with pytest.raises(ValueError, match=said):
        register(unregistered)
    assert ("softmax", "unregistered") not in registered()


def test_a_name_is_given_once() -> None:
    function = registered()["softmax", "vectorized"].function
    with pytest.raises(ValueError, match="softmax has an implementation named vectorized already"):
        implementation("softmax", workspace="B*N*s", traffic="3*B*N*s", source="a test")(function)


def test_a_library_is_installed_or_not() -> None:
    assert is_installed("numpy")
    assert not is_installed("nosuchlibrary")


def test_implementations_import_nothing_of_the_suite() -> None:
    for path in Path(implementations.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{path.name} imports from above its package"
                assert not (node.module or "").startswith(("bench", "softmax_bench")), path.name
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith(("bench", "softmax_bench")) for alias in node.names), path.name
