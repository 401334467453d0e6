"""Functions that return nothing: their result lands in an array that they are given."""

import itertools
import re
from collections.abc import Iterator

from .roles import INCOMING, backward_choices, distinct, is_loss, without_form

# The role of the argument that the result lands in: an array made for it, or one of the inputs, which is overwritten.
DESTINATION = "destination"
_IN_PLACE = ("grad_output", "probs", "logits")  # likeliest first
_DESTINATION = re.compile(
    r"out(put)?s?|dst|dest(ination)?|res(ult)?s?|buf(fer)?|\w+_out|out_\w+|dpre\w*"
    r"|(d|g|grad|gradient)_?(x|z|in|inp|inputs?|logits?|scores|pre)"
)
_ONE_BY_STEPS = "B"  # in (B, T, C): batch, steps and features
_STEPS = ("T", "t", "seq_len", "steps")
_ROWS = re.compile(r"B|M|m|b|(n_?|num_?)?(rows|batch|samples)|batch_?size|rows?")
_COLUMNS = re.compile(
    r"V|C|D|K|Vp|k|c|d|(n_?|num_?)?(cols|columns|classes|features)|columns?|cols?|vocab(_size)?|dim|size"
)
_EITHER = ("N", "n")


def roles_of_kernel(parameters: list[str], operation: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The roles of the parameters, and the one in which the result is found; likeliest first."""
    sizes = _sizes(parameters)
    others = [name for name in parameters if name not in sizes]
    choices = [_choices(name, operation) for name in others]
    has_destination = any(DESTINATION in each for each in choices)
    for chosen in distinct(choices):
        if has_destination and DESTINATION not in chosen:
            continue
        named = dict(zip(others, chosen, strict=True)) | sizes
        roles = tuple(named[name] for name in parameters)
        if DESTINATION in roles:
            yield roles, DESTINATION
        else:
            yield from ((roles, role) for role in _IN_PLACE if role in roles)


def _choices(name: str, operation: str) -> tuple[str, ...]:
    usual = backward_choices(name, operation)
    if is_loss(operation) and re.fullmatch(r"d_?loss(es)?", name):
        return (*reversed(INCOMING),)
    return (DESTINATION, *usual) if _DESTINATION.fullmatch(without_form(name)) else usual


def _sizes(parameters: list[str]) -> dict[str, str]:
    """The parameters that are sizes by their names, and what is passed; none where a name may be an array's."""
    has_steps = any(name in _STEPS for name in parameters)
    found = {}
    for name in itertools.takewhile(lambda name: name in _STEPS or _is_size(name), reversed(parameters)):
        if name in _STEPS:
            found[name] = "batch"
        elif name == _ONE_BY_STEPS and has_steps:
            found[name] = "one"
        elif name in _EITHER:
            found[name] = "batch" if "features" in found.values() else "features"
        else:
            found[name] = "batch" if _ROWS.fullmatch(name) else "features"
    return found


def _is_size(name: str) -> bool:
    return name in _EITHER or any(pattern.fullmatch(name) for pattern in (_ROWS, _COLUMNS))
