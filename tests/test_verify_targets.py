from pathlib import Path
from typing import Any

import pytest
import softmax_bench
from softmax_bench.errors import UserError
from softmax_bench.implementations import FloatArray
from softmax_bench.loading import load
from softmax_bench.verification.judging.own_forward import OF_OWN_FORWARD
from softmax_bench.verification.verdict import Status, verify

TARGETS = Path(__file__).parent / "targets"
HOBBY = TARGETS / "hobby_layers.py"
ASKED = TARGETS / "asked_nodes.py"
LAYERS: tuple[tuple[str, bool, str, dict[str, Any]], ...] = load(f"{HOBBY}:LAYERS")[0]


@pytest.mark.parametrize(("name", "right", "mistake", "options"), LAYERS, ids=[layer[0] for layer in LAYERS])
def test_hobby_layers_are_classified(name: str, right: bool, mistake: str, options: dict[str, Any]) -> None:
    report = softmax_bench.verify(load(f"{HOBBY}:{name}")[0], **options)
    assert report.status == (0 if right else 1), report
    assert (report.diagnosis.name if report.diagnosis else "") == mistake


def test_most_hobby_layers_need_no_options() -> None:
    assert len(LAYERS) >= 20
    assert sum(not options for *_, options in LAYERS) >= 17 / 20 * len(LAYERS)


def test_an_absent_result_attribute_is_reported() -> None:
    report = softmax_bench.verify(load(f"{HOBBY}:OddNames")[0], forward="squash", backward="unsquash", result="nowhere")
    assert report.status == 2
    assert report.failure is not None
    assert "no attribute 'nowhere'" in report.failure.summary


def test_homework_loss_of_the_question_is_right() -> None:
    report = softmax_bench.verify(f"{ASKED}:SoftmaxLoss")
    assert report.right
    assert report.operation == "softmax_cross_entropy"


@pytest.mark.parametrize(
    ("name", "operation", "mistake"),
    [
        ("SoftMax", "softmax", "eye_of_batch_elementwise"),
        ("LCE", "cross_entropy", "fused_gradient_at_loss_node"),
        ("SoftMaxFollowUp", "softmax", "diagonal_only"),
        ("follow_up", "softmax", "diagonal_only_unmultiplied"),
    ],
)
def test_nodes_of_the_question_are_wrong_with_their_mistakes_named(name: str, operation: str, mistake: str) -> None:
    report = softmax_bench.verify(f"{ASKED}:{name}")
    assert report.status == 1
    assert report.operation == operation
    assert report.diagnosis is not None
    assert report.diagnosis.name == mistake


def test_layouts_and_signatures_can_be_given() -> None:
    features_first = load(f"{HOBBY}:FeaturesFirst")[0]
    assert softmax_bench.verify(features_first, axis=0).right
    assert not softmax_bench.verify(features_first, axis=1).right
    swapped = softmax_bench.verify(
        lambda a, b: a * (b - (a * b).sum(1, keepdims=True)), signature=("grad_output", "probs")
    )
    assert swapped.diagnosis is not None
    assert swapped.diagnosis.name == "arguments_swapped"


def test_a_sum_without_an_axis_is_right_for_one_vector_and_wrong_for_a_batch() -> None:
    def whole(probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        grad_logits: FloatArray = probs * (grad_output - (grad_output * probs).sum())
        return grad_logits

    report = softmax_bench.verify(whole)
    assert report.words == "right, with a limit"
    assert "a batch is wrong: whole array as one row" in report.limits[0]
    on_batches = softmax_bench.verify(whole, layout="rows")
    assert on_batches.diagnosis is not None
    assert on_batches.diagnosis.name == "whole_array_as_one_row"
    assert softmax_bench.verify(whole, layout="vector").words == "right"


def test_a_sum_without_an_axis_is_wrong_where_the_code_is_of_batches() -> None:
    def averaged(batch_of_probs: FloatArray, grad_output: FloatArray) -> FloatArray:
        grad_logits: FloatArray = batch_of_probs * (grad_output - (grad_output * batch_of_probs).sum())
        return grad_logits

    report = softmax_bench.verify(averaged)
    assert report.words == "wrong"
    assert report.diagnosis is not None
    assert report.diagnosis.name == "whole_array_as_one_row"
    assert report.right_only == "for one row: its code is for batches"


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("nothing", {}, "expected module:attribute"),
        ("no_such_file.py:f", {}, "no such file"),
        ("no_such_module:f", {}, "no such module"),
        (f"{HOBBY}:StaticSoftmx", {}, "did you mean StaticSoftmax"),
        (f"{HOBBY}:StaticSoftmax", {"backward": "backwards"}, "no method 'backwards'"),
        (f"{HOBBY}:loops", {"signature": ("probs", "grad")}, "unknown role 'grad'"),
        (f"{HOBBY}:math", {}, "a module has no forward and backward"),
        (f"{HOBBY}:OddNames", {}, "name them with --forward and --backward .it has squash, unsquash"),
        (f"{HOBBY}:loops", {"operation": "softmax_cross_entropy"}, "its parameters .probs, grad. fit no"),
    ],
)
def test_what_does_not_exist_is_a_users_mistake(target: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        softmax_bench.verify(target, **options)


@pytest.mark.slow
def test_pytorch_is_right_in_each_way_of_calling_it() -> None:
    pytest.importorskip("torch")
    for name in ("through_autograd", "from_probs", "of_tensors", "Layer"):
        report = softmax_bench.verify(f"{TARGETS / 'torch_backwards.py'}:{name}")
        assert report.right, report
    assert softmax_bench.verify("torch.nn.functional:softmax").right


OTHER_FUNCTIONS = Path(__file__).parent / "targets" / "other_functions.py"


@pytest.mark.parametrize(
    "name",
    [
        "Softmin",
        "GivesOneArray",
        "Sparsemax",
        "Focal",
        "NegativeLogLikelihood",
        "Entropy",
        "Attention",
        "cubed_backward",
    ],
)
def test_what_is_right_for_its_own_forward_is_no_wrong_softmax(name: str) -> None:
    report = verify(f"{OTHER_FUNCTIONS}:{name}")
    assert report.words == "not a backward of softmax", report
    assert report.thing == OF_OWN_FORWARD
    assert report.exit_status(strict=False) == Status.NOT_CALLED


@pytest.mark.parametrize("name", ["ForgetsItsSign", "WithNoise", "ForgetsAFactor"])
def test_what_is_wrong_for_its_own_forward_too_stays_wrong(name: str) -> None:
    assert verify(f"{OTHER_FUNCTIONS}:{name}").status is Status.WRONG


@pytest.mark.parametrize("name", ["softmin_backward", "entropy_gradient"])
def test_what_has_the_name_of_another_function_is_no_wrong_softmax(name: str) -> None:
    report = verify(f"{OTHER_FUNCTIONS}:{name}")
    assert report.words == "not a backward of softmax", report
    assert report.thing.startswith("something else by its name")


def test_a_layer_with_numbered_or_lettered_weights_is_no_wrong_softmax() -> None:
    report = verify(f"{OTHER_FUNCTIONS}:ReturnsNothing")
    assert report.words == "not a backward of softmax", report
    assert "weights of its own" in report.thing
