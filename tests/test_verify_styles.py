import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from softmax_bench.loading import load
from softmax_bench.verification.calling.convention import Options
from softmax_bench.verification.judging import confirmation
from softmax_bench.verification.judging.search import says_batch
from softmax_bench.verification.process.subject import Local
from softmax_bench.verification.verdict import Report, Status, examine

torch = pytest.importorskip("torch")

FILE = Path(__file__).parent / "targets" / "styles.py"
STYLES: tuple[tuple[str, str, str, str], ...] = load(f"{FILE}:STYLES")[0]


def report_on(name: str) -> Report:
    return examine(Local.load(f"{FILE}:{name}"), name, Options())


def everything(report: Report) -> Iterator[str]:
    yield from (report.called_as, report.thing, f"right only {report.right_only}")
    yield from (*report.limits, *report.problems, *report.notes)


@pytest.mark.parametrize(("name", "words", "mistake", "said"), STYLES, ids=[style[0] for style in STYLES])
def test_each_style_is_called_without_flags_and_judged(name: str, words: str, mistake: str, said: str) -> None:
    report = report_on(name)
    assert report.words == words, report
    assert (report.diagnosis.name if report.diagnosis else "") == mistake
    assert said in "\n".join(everything(report))


@pytest.mark.parametrize("name", ["SoftmaxOperation", "softmax_of_variable"])
def test_a_framework_of_variables_is_called_through_its_own_graph(name: str) -> None:
    file = Path(__file__).parent / "targets" / "variables.py"
    report = examine(Local.load(f"{file}:{name}"), name, Options())
    assert report.words == "right", report
    assert "as its gradient" in report.called_as


@pytest.mark.parametrize(
    ("name", "words", "mistake"),
    [
        ("ConnectedSoftmax", "right", ""),
        ("ConnectedDiagonal", "wrong", "diagonal_only"),
        ("ConnectedLoss", "right, with a limit", ""),
        ("OutputsSoftmax", "right", ""),
    ],
)
def test_nodes_are_computed_and_get_a_consumer_that_has_their_gradient(name: str, words: str, mistake: str) -> None:
    file = Path(__file__).parent / "targets" / "connected_nodes.py"
    report = examine(Local.load(f"{file}:{name}"), name, Options())
    assert report.words == words, report
    assert (report.diagnosis.name if report.diagnosis else "") == mistake
    assert "node(" in report.called_as


def test_a_pass_through_a_graph_begins_with_gradients_of_zero() -> None:
    file = Path(__file__).parent / "targets" / "adding_nodes.py"
    report = examine(Local.load(f"{file}:AddingSoftmax"), "AddingSoftmax", Options())
    assert report.words == "right, with a limit", report
    assert "AddingSoftmax(logits): node(logits).backward()" in report.called_as


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "softmax_bench.cli", "verify", "--no-cost", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def write(path: Path, code: str) -> str:
    path.write_text(f"import numpy as np\n\n\n{code}", encoding="utf-8")
    return str(path)


OVERFLOWING = """
def backward(logits, grad):
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p * (grad - (grad * p).sum(axis=1, keepdims=True))
"""


def test_a_limit_comes_first_and_fails_only_if_strict(tmp_path: Path) -> None:
    target = f"{write(tmp_path / 'homework.py', OVERFLOWING)}:backward"
    done = run(target)
    assert done.returncode == 0
    first, second = done.stdout.splitlines()[:2]
    assert first.endswith("right, with a limit: exponential overflows")
    assert second.startswith("limit      it is right for moderate logits only")
    assert run(target, "--strict").returncode == Status.WRONG


VECTORS = """
class Softmax:
    def forward(self, x):
        e = np.exp(x - x.max())
        self.p = e / e.sum()
        return self.p

    def backward(self, grad):
        jacobian = np.diag(self.p) - np.outer(self.p, self.p)
        return jacobian.dot(grad)


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
"""


def test_what_it_is_is_said_first_and_the_exception_of_a_batch_is_shown(tmp_path: Path) -> None:
    file = write(tmp_path / "layers.py", VECTORS)
    vectors = run(f"{file}:Softmax")
    assert vectors.returncode == 0
    assert "right, with a limit" in vectors.stdout
    assert "one vector [features] at a time; a batch" in " ".join(vectors.stdout.split())
    forward = run(f"{file}:softmax")
    assert forward.returncode == Status.NOT_CALLED
    assert forward.stdout.splitlines() == [
        f"{file}:softmax  not a backward of softmax",
        "it is      the forward of softmax, without a backward",
    ]


def test_a_method_is_called_as_the_signature_says(tmp_path: Path) -> None:
    code = "class Net:\n    def back(self, a, b):\n        return b * (a - (a * b).sum(axis=1, keepdims=True))\n"
    target = f"{write(tmp_path / 'net.py', code)}:Net.back"
    assert run(target).returncode == 0
    swapped = run(target, "--signature", "probs,grad_output")
    assert swapped.returncode == 1
    assert "arguments swapped" in swapped.stdout


@pytest.mark.parametrize(
    ("source", "is_for_batches"),
    [
        ("def f(p, g):\n    return p.sum(axis=1)", True),
        ("def f(p, g):\n    return p.sum(1)", True),
        ("    def f(self, g):\n        return g / self.batch_size", True),
        ("def f(p, g):\n    '''Not for a batch.'''\n    return np.dot(p, g)  # no axis=1", False),
        ("def f(p, g):\n    return p.sum(axis=0)", False),
        ("", False),
    ],
)
def test_code_of_batches_is_told_by_what_it_does_and_not_by_its_comments(source: str, is_for_batches: bool) -> None:
    assert says_batch(source) is is_for_batches


JAX = """
import functools
import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def softmax(x, axis=-1):
    return jax.nn.softmax(x, axis)


softmax.defvjp(
    lambda x, axis: (softmax(x, axis),) * 2,
    lambda axis, p, g: (p * (g - (g * p).sum(axis, keepdims=True)),),
)


@jax.custom_vjp
def loss(logits, targets, weights, z_loss_scale):
    losses = -(targets * jax.nn.log_softmax(logits)).sum(-1)
    return losses * weights, losses


loss.defvjp(
    lambda logits, targets, weights, scale: (loss(logits, targets, weights, scale), (logits, targets)),
    lambda kept, g: ((jax.nn.softmax(kept[0]) - kept[1]) * g[0][:, None], None, None, None),
)


@jax.custom_vjp
def diagonal(x):
    return jax.nn.softmax(x)


diagonal.defvjp(lambda x: (jax.nn.softmax(x),) * 2, lambda p, g: (p * (1 - p) * g,))


def calls(x, temperature=1.0):
    return diagonal(x / temperature)
"""


WRONG_DIAGONAL = "wrong: diagonal only"


@pytest.mark.slow
def test_jax_functions_with_a_derivative_of_their_own_are_called(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    file = write(tmp_path / "ours.py", JAX)
    for name, words in {
        "softmax": "right",
        "loss": "right",
        "diagonal": WRONG_DIAGONAL,
        "calls": WRONG_DIAGONAL,
    }.items():
        done = run(f"{file}:{name}")
        assert done.stdout.splitlines()[0] == f"{file}:{name}  {words}", done.stdout + done.stderr
        assert "jax.vjp of function" in done.stdout


NUMBA = """
from numba import njit


@njit
def softmax_backward(dout, out, dinp, N, C):
    for row in range(N):
        dot = 0.0
        for column in range(C):
            dot += out[row, column] * dout[row, column]
        for column in range(C):
            dinp[row, column] = out[row, column] * (dout[row, column] - dot)
"""


@pytest.mark.slow
def test_a_compiled_function_that_writes_its_result_is_called(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    done = run(f"{write(tmp_path / 'kernels.py', NUMBA)}:softmax_backward")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "softmax_backward(grad_output, probs, destination, batch, features)" in " ".join(done.stdout.split())


def test_what_is_tried_with_equal_weights_says_so_and_fails_if_strict(tmp_path: Path) -> None:
    code = (
        "def loss_grad(logits, labels, class_weights):\n"
        "    p = np.exp(logits - logits.max(1, keepdims=True))\n    p /= p.sum(1, keepdims=True)\n"
        "    p[np.arange(len(p)), labels] -= 1.0\n    return class_weights[labels][:, None] * p / len(p)\n"
    )
    target = f"{write(tmp_path / 'weighted.py', code)}:loss_grad"
    assert "equal weights of all classes only" in " ".join(run(target).stdout.split())
    assert run(target, "--strict").returncode == Status.WRONG


def test_no_size_is_drawn_at_which_a_model_s_inputs_have_the_shape_of_its_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its inputs are [2, 5], and their gradient, which it returns, has the shape of that of the weights at 5 features.
    monkeypatch.setattr(confirmation, "SIZES", (((2, 2), (5, 6)), *confirmation.SIZES[1:]))
    for _ in range(3):
        assert report_on("LinearNamedSoftmax").words == "right"
