from collections.abc import Callable

import numpy as np
import pytest
from softmax_bench.implementations import FloatArray
from softmax_bench.mistakes import MISTAKES
from softmax_bench.training.graph import (
    AddBias,
    Constant,
    CrossEntropy,
    MatMul,
    Node,
    NotFiniteError,
    Parameter,
    Product,
    SoftMax,
    SoftmaxCrossEntropy,
    Tanh,
)

RNG = np.random.default_rng(0)
BATCH, PIXELS, WIDTH, CLASSES = 5, 4, 6, 3
IMAGES = RNG.normal(size=(BATCH, PIXELS))
LABELS = RNG.integers(CLASSES, size=BATCH)
ONE_HOT = np.eye(CLASSES)[LABELS]
LOGITS = RNG.normal(size=(BATCH, CLASSES))


def parameters() -> list[Parameter]:
    """Weights and biases of two layers, and the weights of a gate between them."""
    rng = np.random.default_rng(1)
    shapes = ((PIXELS, WIDTH), (WIDTH,), (WIDTH, WIDTH), (WIDTH, CLASSES), (CLASSES,))
    return [Parameter(rng.normal(size=shape)) for shape in shapes]


def logits_of(leaves: list[Parameter]) -> Node:
    """A network with softmax in the middle. It uses its hidden features twice."""
    weight, bias, gate, head, head_bias = leaves
    hidden = Tanh(AddBias(MatMul(Constant(IMAGES), weight), bias))
    return AddBias(MatMul(Product(hidden, SoftMax(MatMul(hidden, gate)), factor=WIDTH), head), head_bias)


def separate(logits: Node) -> Node:
    return CrossEntropy(SoftMax(logits), LABELS)


def single(logits: Node) -> Node:
    return SoftmaxCrossEntropy(logits, LABELS)


@pytest.mark.parametrize("loss_of", [separate, single])
def test_gradients_are_pytorchs(loss_of: Callable[[Node], Node]) -> None:
    torch = pytest.importorskip("torch")
    leaves = parameters()
    loss = loss_of(logits_of(leaves))
    loss.backward()

    tensors = [torch.tensor(leaf.data, requires_grad=True) for leaf in leaves]
    weight, bias, gate, head, head_bias = tensors
    hidden = torch.tanh(torch.tensor(IMAGES) @ weight + bias)
    logits = (hidden * torch.softmax(hidden @ gate, dim=1) * WIDTH) @ head + head_bias
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS))
    expected.backward()

    np.testing.assert_allclose(loss.data, expected.item(), rtol=1e-13)
    for leaf, tensor in zip(leaves, tensors, strict=True):
        np.testing.assert_allclose(leaf.grad, tensor.grad.numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("loss_of", [separate, single])
def test_gradients_are_central_differences(loss_of: Callable[[Node], Node]) -> None:
    leaves = parameters()
    loss_of(logits_of(leaves)).backward()
    for leaf in leaves:
        for place in np.ndindex(leaf.data.shape):
            kept, sides = leaf.data[place], []
            for step in (1e-5, -1e-5):
                leaf.data[place] = kept + step
                sides.append(float(loss_of(logits_of(leaves)).data))
            leaf.data[place] = kept
            assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(float(leaf.grad[place]), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "targets", [LABELS, LABELS.astype(np.uint8), ONE_HOT, ONE_HOT.astype(bool), ONE_HOT * 0.9 + 0.1 / 3]
)
def test_softmax_and_cross_entropy_as_two_nodes_agree_with_one_node(targets: FloatArray) -> None:
    logits_of_two, logits_of_one = Parameter(LOGITS), Parameter(LOGITS)
    two_nodes = CrossEntropy(SoftMax(logits_of_two), targets)
    one_node = SoftmaxCrossEntropy(logits_of_one, targets)
    two_nodes.backward()
    one_node.backward()
    np.testing.assert_allclose(two_nodes.data, one_node.data, rtol=1e-14)
    np.testing.assert_allclose(logits_of_two.grad, logits_of_one.grad, rtol=1e-12, atol=1e-16)


def test_the_one_node_stays_exact_if_a_probability_is_0() -> None:
    logits = Parameter([[0.0, 2000.0], [0.0, -np.inf]])
    loss = SoftmaxCrossEntropy(logits, [0, 0])
    loss.backward()
    assert float(loss.data) == 1000.0
    np.testing.assert_array_equal(logits.grad, [[-0.5, 0.5], [0.0, 0.0]])


def test_gradients_add_up_over_several_uses_and_over_calls() -> None:
    value = Parameter([[3.0]])
    square = Product(value, value)
    fourth = Product(square, square)
    fourth.backward()
    assert value.grad == 4 * 3.0**3
    fourth.backward()
    assert value.grad == 2 * 4 * 3.0**3


def test_a_parameter_is_a_copy_and_integers_become_floats() -> None:
    given = np.array([[1, 2]])
    weight = Parameter(given)
    weight.data += 0.5
    assert given.tolist() == [[1, 2]]
    assert weight.data.tolist() == [[1.5, 2.5]]


def test_a_graph_may_be_deeper_than_pythons_recursion_limit() -> None:
    value: Node = Parameter([[1.0]])
    leaf = value
    for _ in range(5000):
        value = Product(value, Constant([[1.0]]))
    value.backward()
    assert leaf.grad == 1.0


def test_a_users_own_node_takes_part() -> None:
    class Negative(Node):
        def __init__(self, value: Node) -> None:
            super().__init__(-value.data, value)

        def grad_inputs(self) -> tuple[FloatArray, ...]:
            return (-self.grad,)

    logits = Parameter(LOGITS)
    SoftmaxCrossEntropy(Negative(Negative(logits)), LABELS).backward()
    expected = Parameter(LOGITS)
    SoftmaxCrossEntropy(expected, LABELS).backward()
    np.testing.assert_array_equal(logits.grad, expected.grad)


def node(*shape: int) -> Constant:
    return Constant(np.ones(shape))


def with_value(value: float) -> Constant:
    logits = LOGITS.copy()
    logits[3, 1] = value
    return Constant(logits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MatMul(node(5, 4), node(5, 4)),
            "MatMul: (5, 4) times (5, 4): the shapes must be [B, K] and [K, N]",
        ),
        (lambda: MatMul(node(4), node(4, 4)), "MatMul: (4,) times (4, 4): the shapes must be [B, K] and [K, N]"),
        (lambda: AddBias(node(5, 4), node(5)), "AddBias: rows (5, 4) and bias (5,): the shapes must be [B, N] and [N]"),
        (lambda: Product(node(5, 4), node(1, 4)), "Product: (5, 4) times (1, 4): both must have the same shape"),
        (lambda: SoftMax(node(4)), "SoftMax: logits are (4,); they must be [batch, features], and neither may be 0"),
        (
            lambda: SoftMax(node(0, 4)),
            "SoftMax: logits are (0, 4); they must be [batch, features], and neither may be 0",
        ),
        (lambda: SoftMax(with_value(np.nan)), "SoftMax: logits[3, 1] is nan; the largest of each row must be finite"),
        (
            lambda: SoftmaxCrossEntropy(with_value(np.inf), LABELS),
            "SoftmaxCrossEntropy: logits[3, 1] is inf; the largest of each row must be finite",
        ),
        (
            lambda: SoftmaxCrossEntropy(node(5, 3), [0, 1, 2, 3, 0]),
            "labels: 3 in row 3, and there are features 0 to 2",
        ),
        (lambda: CrossEntropy(node(2, 3), [0, -1]), "labels: -1 in row 1, and there are features 0 to 2"),
        (
            lambda: CrossEntropy(node(5, 3), ONE_HOT[:4]),
            "targets of shape (4, 3) for (5, 3): both must be [batch, features]",
        ),
        (
            lambda: CrossEntropy(node(5, 3), LABELS.astype(float)),
            "labels are float64, and must be integers",
        ),
        (
            lambda: CrossEntropy(node(2, 2), [[0.0, 1.0], [0.5, 0.0]]),
            "targets: row 1 sums to 0.5, and one-hot rows sum to 1",
        ),
        (
            lambda: CrossEntropy(Constant([[0.5, 0.5], [2.0, -1.0]]), [0, 1]),
            "CrossEntropy: probs[1, 1] is -1.0, not a probability; apply SoftMax to logits first",
        ),
        (
            lambda: node(5, 3).backward(),
            "backward must begin at a scalar, the loss; this Constant has the shape (5, 3)",
        ),
    ],
)
def test_a_mistake_is_reported_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        make()
    assert str(caught.value) == message


def test_logits_that_are_not_finite_have_an_error_of_their_own() -> None:
    with pytest.raises(NotFiniteError):
        SoftMax(with_value(np.nan))


@pytest.mark.parametrize(("name", "shape"), [("jacobian_unmultiplied", "(5, 3, 3)"), ("summed_over_batch", "(3,)")])
def test_a_backward_that_gives_another_shape_is_refused(name: str, shape: str) -> None:
    wrong = MISTAKES["softmax", name]

    def vjp(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        available = {"probs": probs, "grad_output": grad_output}
        return wrong.function(**{argument: available[argument] for argument in wrong.arguments})

    loss = CrossEntropy(SoftMax(Parameter(LOGITS), vjp), LABELS)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        loss.backward()
    assert str(caught.value) == f"SoftMax: the gradient of input 0 is {shape}, the input (5, 3)"
