"""The roles that the parameters of a function may have, from their names and the operation that it belongs to."""

import functools
import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

# Patterns of parameters' names, and the roles that a matching name may have. The first match counts.
_AXIS = r"axis|dim|axes"
_RATE = r"lr|learning_?rate|eta|alpha|rate|step_?size"
_TEMPERATURE = r"temperature|temp|tau"
_CONTEXT = r"ctx|context"
_CACHE = r"(\w+_)?caches?|saved|memo(ry)?|tape|residuals"
_DERIVATIVE = r"(is_?|return_?|use_?|get_?)?(der|deriv|derivative|derivate|grad|gradient|prime|backward|back)"
_FUNCTION_NAME = r"name|kind|fn|fun(c|ction)?(_?name)?|act(ivation)?_?(fn|fun\w*|name|type|kind)|activate"
_MASK = r"\w*mask\w*"
_REWARD = r"rewards?|returns?|advantages?|td_?errors?"
_CLASSES = r"(n|num|number_of)_?(classes|labels|outputs?)|classes_?(n|num|number)"
_TRAINING = r"(is_?)?train(ing)?(_?(mode|flag|flg))?"
_REDUCTION = r"reduction|reduce"
_IGNORED_LABEL = r"\w*ignore\w*|pad(ding)?_?(idx|index|id|label|token)?"
_SMOOTHING = r"\w*smooth\w*|eps(ilon)?"
_AUXILIARY = r"z_?loss\w*|\w*dropout\w*|weight_?decay|momentum"  # what a loss or a step may add, or a layer leave out
_SCALE = r"(sm_?|softmax_?)?scal(e|ing)(_?factor)?"
_CLASS_WEIGHTS = r"(class_?|pos_?)weights?|\w*proportions?|priors?"
_WEIGHTS = r"weights?"  # attention's, or of the classes or the rows of a loss
_GROUP = r"\w*group"
_OUTPUT = r"out|last|final|sa[ií]da|salida|sortie|ausgabe"
_OPERATION = r"op|operation|node"
# At the end of a name: what the array is, not what it means.
_FORM = r"_(flat|1d|2d|np|arr(ay)?|tensor|t|l|L|mat(rix)?|curr(ent)?)$"
_SIZE = r"n|size|n_?(classes|features|outputs?|labels)|num_\w+|(number|no)_of_\w+"
_LENGTHS = r"(\w+_)?len(gth)?s"  # of the sequences whose rows follow one another
_TIMES = r"(n_?|num_?)?epochs?|(n|max|num)_?iter\w*|iterations?|time_?steps?"  # how often, or at which time
_INDEX = r"i|j|k|idx|ind|index|class_?(idx|index|i|id)"
_LOG_PROBS = r"log_?p(robs?|robabilit(y|ies))?|log_?softmax\w*|log_?likelihoods?"
_LOGITS = r"(\w+_)?logits?|(raw_?)?scores?|raw\w*|pre_?activations?|unnormalized\w*"
_TARGETS = (
    r"t|targ|tgt|gold|reals?|targets?|labels?|truths?|(y|t)_?true|one_?hot\w*|\w+_((one_?)?hot|oh)|ground_?truth|gt|true_?\w*|\w+_true|desired\w*"
    r"|expected\w*|actual\w*|correct\w*|answers?|actions|etiquetas?|rotulos?|alvos?|ziel\w*|cibles?|y_?(target|label|real|train|batch)s?|label_\w+|target_\w+"
    r"|(?!\w*(grad|pred|prob))\w+_(label|target)s?"
)  # fmt: skip
_OUTPUT_OR_TARGETS = r"ys?|Y"  # softmax's output in one file, the targets in another
_GRAD = (
    r"\w*grad\w*|\w*upstream\w*|cotangents?|deltas?|d_?out\w*|\w*err(or)?s?|err(or)?_\w+|residual|d[A-Z]\w*|d_\w+|d(y|z|a|l|o|s|p|x|h)"
    r"|g|g_[a-z]\w+|g[A-Z]\w*|v|u|dvalues|dloss|d(logits?|scores?|probs?|preds?|softmax)|\w*_diff|\w*_delta|sensitivity|seed|g(y|z|out|x)s?|dL_\w+|out_bar|\w+_bar"
)
_PROBS = (
    r"p|probs?|probabilit(y|ies)|softmax\w*|\w*_softmax|sm|out(put)?s?|(y|t)_?(hat|pred)\w*|preds?|predict\w*"
    r"|activations?|dist|\w*_probs?|attn\w*|attention\w*|policy"
)  # fmt: skip
WEIGHTS = ("probs", "ones", "row_ones")
# The gradient of cross-entropy with respect to the probabilities, -targets / probs [B, N], as what comes into softmax.
# LOG_LOSS_GRADIENT: that with respect to the log-probabilities, -targets [B, N], as what comes into log-softmax.
LOSS_GRADIENT, LOG_LOSS_GRADIENT = "loss_gradient", "log_loss_gradient"
TURNED_TARGETS = "turned_targets"  # one-hot, transposed, where the other arrays are not
INCOMING = ("upstream", "row_upstream")  # into a loss: a number, or one for each row
_ANYTHING = r"inputs?|inp|inps?|xs?|z|arrays?|values?|data"
_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_AXIS, ("axis", "positive_axis")),
    (_RATE, ("learning_rate",)),
    (_TEMPERATURE, ("temperature",)),
    (_CONTEXT, ("context",)),
    (_CACHE, ("cache",)),
    (_TRAINING, ("training",)),
    (_MASK, ("mask", "row_mask", "no_mask")),
    (_REWARD, INCOMING),
    (_FUNCTION_NAME, ("name",)),
    (_REDUCTION, ("reduction",)),
    (_IGNORED_LABEL, ("ignored_label",)),
    (_SMOOTHING, ("zero",)),
    (_AUXILIARY, ("zero",)),
    (_SCALE, ("one",)),
    (_CLASS_WEIGHTS, ("ones", "row_ones")),
    (_GROUP, ("nothing",)),
    (_WEIGHTS, WEIGHTS),
    (_OPERATION, ("operation",)),
    (_LENGTHS, ("lengths",)),
    (_TIMES, ("one",)),
    (_SIZE, ("features", "probs", "logits", "grad_output")),
    (_INDEX, ("index", "probs", "logits", "grad_output")),
    (_LOG_PROBS, ("log_probs",)),
    (_LOGITS, ("logits",)),
    (_TARGETS, ("targets",)),
    (_OUTPUT_OR_TARGETS, ("probs", "logits", "grad_output", "targets")),
    (_GRAD, ("grad_output",)),
    (_PROBS, ("probs",)),
    (_ANYTHING, ("logits", "probs", "grad_output")),
)
UNKNOWN = ("probs", "logits", "grad_output")
RETURNED = tuple(f"returned_{place}" for place in range(6))  # what the forward returned, by its place among it
FIXED = (
    "axis",
    "learning_rate",
    "temperature",
    "context",
    "cache",
    "training",
    "mask",
    "upstream",
    "name",
    "features",
    "reduction",
    "ignored_label",
    "first",
    "zero",
    "one",
    "ones",
    "row_ones",
    "nothing",
    "operation",
    "lengths",
    *RETURNED,
)  # a role that starts a name's roles is what the name means
LEAST_SMOOTHING = 1e-3  # what is less is added against division by 0
NO_LABEL = -100  # as PyTorch's losses have it
CONSTANTS = ("first", "zero", "one", "ones", "row_ones", "nothing")  # several parameters may have one of these
MOST_WAYS = 200_000
_PACKED = re.compile(r"inputs|args|xs|pair|tensors|parents")


def forward_roles(parameters: list[str], operation: str) -> Iterator[tuple[str, ...]]:
    """The arguments that the forward may take: logits (``cross_entropy``: probs), and targets if it is a loss."""
    first = "probs" if operation == "cross_entropy" else "logits"
    if len(parameters) == 1 and is_loss(operation) and _PACKED.fullmatch(parameters[0]):
        yield ("packed",)
    choices = []
    for name in parameters:
        known = roles_of(name)
        if known[0] in FIXED:
            choices.append(known)
        elif not is_loss(operation):
            choices.append((first,))
        elif known == ("logits",) and first == "probs":
            return
        else:
            of_targets = ("targets", "labels") if known == ("targets",) else (first, "targets", "labels")
            choices.append(("ones", "row_ones", *of_targets) if known == WEIGHTS else of_targets)
    yield from distinct(choices)


def backward_roles(parameters: list[str], operation: str, signature: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The arguments that the backward may take: a given signature, or whatever its parameters' names allow."""
    if signature:
        yield signature
        return
    choices = [backward_choices(name, operation, backward=True) for name in parameters]
    if is_loss(operation) and ("context",) in choices:  # beside that it gets nothing but what comes in
        choices = [roles if roles[0] in FIXED else INCOMING for roles in choices]
    yield from distinct(choices)


def backward_choices(name: str, operation: str, *, backward: bool = False) -> tuple[str, ...]:
    """The roles that a parameter of a backward may have, likeliest first."""
    known = roles_of(name)
    if known[0] in FIXED:
        return known
    if operation == "jacobian":
        # There are no targets, and nothing but an index can pick a row.
        more = ("index",) if known == UNKNOWN else ()
        return (*(role for role in known if role in ("index", "logits", "probs")), *more) or ("logits", "probs")
    if known[0] == "index" and (backward or is_loss(operation)):
        return ("labels", "targets", "first") if is_loss(operation) else ("first", *known[1:])
    if operation in ("softmax", "log_softmax"):
        return _plain_choices(known, operation, backward)
    first = ("probs", "logits") if operation == "softmax_cross_entropy" else ("probs",)
    named: dict[tuple[str, ...], tuple[str, ...]] = {
        ("targets",): ("targets", "labels"),
        ("probs", "logits", "grad_output", "targets"): ("targets", "labels", *first),
        ("grad_output",): (*INCOMING, "probs") if backward else INCOMING,
        ("logits",): ("logits",),
        ("log_probs",): ("log_probs",),
        ("probs",): first,
        WEIGHTS: ("ones", "row_ones", *first),
    }
    packed = ("packed",) if _PACKED.fullmatch(name) else ()
    return named.get(known, (*packed, *first, "targets", "labels"))


def _plain_choices(known: tuple[str, ...], operation: str, backward: bool) -> tuple[str, ...]:
    """The roles of a parameter where no loss is involved: targets are then an argument that is ignored."""
    known = ("probs",) if known == WEIGHTS else known
    if known == ("targets",):
        known = ("grad_output", "targets")
    if operation == "log_softmax" and "probs" in known:
        known = ("log_probs", *known)
    # A method that follows a forward takes the incoming gradient, whatever its name is.
    return tuple(sorted(known, key=lambda role: role != "grad_output")) if backward else known


def is_loss(operation: str) -> bool:
    """Whether an operation takes targets."""
    return operation.endswith("cross_entropy")


@functools.cache
def roles_of(name: str) -> tuple[str, ...]:
    """The roles that a name may mean; all usual ones if no pattern matches."""
    bare = without_form(name.strip("_"))
    for pattern, roles in _NAMES:
        if re.fullmatch(pattern, bare) or re.fullmatch(pattern, bare.lower()):
            return roles
    return UNKNOWN


def roles_of_returned(parameters: list[str], returned: tuple[str, ...]) -> dict[str, str]:
    """The roles of a backward's parameters whose names say nothing, but are those of what its forward returned."""
    places = {name: place for place, name in enumerate(returned[: len(RETURNED)]) if name}
    return {name: RETURNED[places[name]] for name in parameters if name in places and roles_of(name) == UNKNOWN}


def replaced(roles: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    """The roles with another one in the place of one of them."""
    return tuple(new if role == old else role for role in roles)


def without_form(name: str) -> str:
    """A name without an ending that says what form the array has, such as ``_flat``."""
    return re.sub(_FORM, "", name)


def distinct(choices: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Every way to give each parameter one role without using a role twice, the likeliest first.

    Of very many parameters with very many roles no way is given: nobody's backward takes so many arrays.
    """
    if math.prod(map(len, choices)) > MOST_WAYS:
        return
    ranked = sorted(
        itertools.product(*(range(len(roles)) for roles in choices)),
        key=lambda places: (sum(places), places),
    )
    for places in ranked:
        roles = tuple(choice[place] for choice, place in zip(choices, places, strict=True))
        once = [role for role in roles if role not in CONSTANTS]
        if len(set(once)) == len(once) and not {"targets", "labels"} <= set(roles) and not _are_swapped(roles, choices):
            yield roles


def _are_swapped(roles: tuple[str, ...], choices: list[tuple[str, ...]]) -> bool:
    """Whether logits and probabilities are both given, each under the name that rather means the other: ``(S, Z)``."""
    pair = {"logits": "probs", "probs": "logits"}
    if not pair.keys() <= set(roles):
        return False
    given = [(role, choice) for role, choice in zip(roles, choices, strict=True) if role in pair]
    return all(pair[role] in choice and choice.index(pair[role]) < choice.index(role) for role, choice in given)


def asked_names(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters that a call has to fill, in order.

    These are the ones without a default, and a gradient whose default is None or 1 if no other parameter is a gradient:
    ``backward(self, grad=None)`` cannot do without it. ``out`` is left out: the caller always passes that.
    """
    required = required_names(function)
    if any(roles_of(name) == ("grad_output",) for name in required):
        return required
    optional = [
        parameter.name
        for parameter in known_parameters(function)
        if _stands_for_none(parameter.default) and roles_of(parameter.name) == ("grad_output",)
    ]
    return required + optional[:1]


def _stands_for_none(default: object) -> bool:
    """Whether the default of a gradient says that none comes in: None, or the 1 of a loss."""
    return default is None or (type(default) in (int, float) and default == 1)


def required_names(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters without a default, in order, but for ``out``: the caller always passes that."""
    return [
        parameter.name
        for parameter in known_parameters(function)
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and not (parameter.kind is parameter.KEYWORD_ONLY and parameter.name == "out")
    ]


def optional_names(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters with a default, in order."""
    return [parameter.name for parameter in known_parameters(function) if parameter.default is not parameter.empty]


def training_flags(function: Callable[..., Any]) -> dict[str, bool]:
    """The optional parameters that say whether a network is being trained, by name: a backward follows, so it is."""
    return {
        parameter.name: True
        for parameter in known_parameters(function)
        if parameter.default is False and roles_of(parameter.name) == ("training",)
    }


def derivative_flags(function: Callable[..., Any]) -> dict[str, bool]:
    """The optional parameters by which one function is both a forward and its derivative, by name."""
    return {
        parameter.name: True
        for parameter in known_parameters(function)
        if parameter.default is False and re.fullmatch(_DERIVATIVE, parameter.name.lower())
    }


def class_counts(function: Callable[..., Any]) -> set[str]:
    """The optional parameters that are the number of classes: a default stands for its author's own data."""
    return {
        parameter.name
        for parameter in known_parameters(function)
        if type(parameter.default) is int and re.fullmatch(_CLASSES, parameter.name.lower())
    }


def activation_names(function: Callable[..., Any]) -> dict[str, str]:
    """The optional parameters that name another activation than softmax, by name, with softmax instead."""
    return {
        parameter.name: "softmax"
        for parameter in known_parameters(function)
        if isinstance(parameter.default, str) and re.fullmatch(r"act\w*|nonlinearity", parameter.name.lower())
    }


def output_activations(function: Callable[..., Any]) -> dict[str, str]:
    """The optional parameters that name the activation of a network's last layer, by name, with softmax instead."""
    return {
        parameter.name: "softmax"
        for parameter in known_parameters(function)
        if isinstance(parameter.default, str)
        and re.search(_OUTPUT, parameter.name.lower())
        and re.search(r"a[ck]?ti", parameter.name.lower())
    }


def classification_modes(function: Callable[..., Any]) -> dict[str, str]:
    """The optional parameters that say what a model is for, by name: for classification, where that is a choice."""
    return {
        parameter.name: "classification"
        for parameter in known_parameters(function)
        if parameter.default in ("regression", "classification")
    }


def softmax_flags(function: Callable[..., Any]) -> dict[str, bool]:
    """The optional parameters without which there is no softmax, by name, with true."""
    return {
        parameter.name: True
        for parameter in known_parameters(function)
        if parameter.default is False and re.fullmatch(r"((use|with|apply|is)_)?softmax", parameter.name.lower())
    }


def ignored_labels(function: Callable[..., Any]) -> dict[str, int]:
    """The optional parameters that say which label does not count, by name, with one that no row has."""
    return {
        parameter.name: NO_LABEL
        for parameter in known_parameters(function)
        if type(parameter.default) is int and roles_of(parameter.name) == ("ignored_label",)
    }


def smoothings(function: Callable[..., Any]) -> dict[str, float]:
    """The optional parameters that smooth labels unless they are told not to, by name, with 0."""
    smooths = "smooth" in getattr(function, "__qualname__", "").lower()
    return {
        parameter.name: 0.0
        for parameter in known_parameters(function)
        if type(parameter.default) is float and parameter.default >= LEAST_SMOOTHING
        if "smooth" in parameter.name.lower() or (smooths and re.fullmatch(r"eps(ilon)?|alpha", parameter.name))
    }


def default_temperature(function: Callable[..., Any]) -> float:
    """The default of a parameter that is a temperature by its name; 1 if there is none."""
    for parameter in known_parameters(function):
        if re.fullmatch(_TEMPERATURE, parameter.name) and isinstance(parameter.default, int | float):
            return float(parameter.default)
    return 1.0


def passed_by_name(function: Callable[..., Any]) -> set[str]:
    """The parameters that a call has to name: keyword-only ones, and those with a default."""
    return {
        parameter.name
        for parameter in known_parameters(function)
        if parameter.kind is parameter.KEYWORD_ONLY or parameter.default is not parameter.empty
    }


def keyword_only_without_default(function: Callable[..., Any]) -> set[str]:
    """The keyword-only parameters that have no default."""
    required = (each for each in known_parameters(function) if each.default is each.empty)
    return {parameter.name for parameter in required if parameter.kind is parameter.KEYWORD_ONLY}


def known_parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """All parameters of a function that a call may fill; none if Python does not know them."""
    if not inspect.ismethod(function):
        return _defined_parameters(function)
    defined = _defined_parameters(function.__func__)
    return defined[1:] if defined and defined[0].kind is not inspect.Parameter.VAR_POSITIONAL else defined


@functools.lru_cache(maxsize=512)
def _defined_parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """The parameters in a function's definition. They are asked for at every call, and take long to find out."""
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ()


def is_function(target: object) -> TypeGuard[Callable[..., Any]]:
    """Whether the target is a function, of Python or compiled from one as Numba does."""
    return not inspect.isclass(target) and inspect.isfunction(getattr(target, "py_func", target))


def has_signature(function: Callable[..., Any]) -> bool:
    """Whether Python knows all parameters of a function."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return False
    return inspect.Parameter.VAR_POSITIONAL not in kinds
