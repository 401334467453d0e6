"""Losses of a linear classifier, whose gradient is that of its weights: with the right data these are the logits.

Where the data is the identity matrix, ``data @ weights`` is the weights themselves, and so is their gradient
``data.T @ gradient of the logits``. Its rows come in reverse, as those of a model's inputs do.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from .roles import optional_names, replaced, roles_of, without_form

# What the data of a classifier is: one row for each class of weights, or for each component of a vector.
IDENTITY, BASIS = "identity", "basis"
PENALTY = "penalty"  # the factor of a penalty on large weights: it is 0, but where the penalty itself is tried
_WEIGHTS = re.compile(r"w|weights?|thetas?|params?|beta|coef\w*|pesos|poids|gewichte", re.IGNORECASE)
_DATA = re.compile(
    r"x|xs|a|a_?0|x_?0|a_?prev|data|inputs?|inp|features|images?|imgs?|samples?|batch_?x|x_?(train|batch|dev|data|b|in(put)?s?)"
    r"|input_?(data|x|vector|array|batch|features|images?|m(a?)tri?x)|train_?x|datos|dados|entradas?",
    re.IGNORECASE,
)
_PENALTY = re.compile(r"reg(ular\w*)?(_\w+)?|lam(b|bda|da)?_?\w*|l2(_\w+)?|(weight_?)?decay|alpha", re.IGNORECASE)
_BIAS = re.compile(r"b|bias(es)?|sesgos?|vies|biais", re.IGNORECASE)
_RATE = re.compile(r"lr|eta|learning_?rate|step_?size|tasa\w*|taxa\w*", re.IGNORECASE)
_CLASSES = re.compile(r"(n|num|number_?of)_?(class|label|categor)(es|s|ies)", re.IGNORECASE)
_ROWS = re.compile(
    r"(n|num|number_?of)_?(inputs|features|samples|examples)|input_?(size|dim)|batch(_?size)?", re.IGNORECASE
)
_VECTOR = re.compile(
    r"((center|centre|input)_?(word_?)?vec(tor)?)|predicted(_?vec(tor)?)?|v_?c|h|hidden", re.IGNORECASE
)
_VECTORS = re.compile(r"(u_)?(outside|output|context)_?(words?_?)?(vec(tor)?s|weights|embeddings?)|u", re.IGNORECASE)
_INDEX = re.compile(r"(outside|target|context)_?(word_?)?(idx|index)|target|o", re.IGNORECASE)
_HIDDEN = re.compile(r"h|x|e|hidden(_states)?|inputs?|embed\w*|features", re.IGNORECASE)
_HEAD = re.compile(r"w(_\w+)?|c|(lm_|head_|out(put)?_)?weights?|(lm_)?head|classifier|kernel", re.IGNORECASE)
_CHUNK = re.compile(r"\w*(chunk|block|tile)\w*", re.IGNORECASE)
_IGNORED = re.compile(r"data_?set", re.IGNORECASE)


def roles_of_classifier(parameters: list[str]) -> Iterator[tuple[str, ...]]:
    """The roles of the parameters of a loss with weights, likeliest first; nothing if their names do not say so.

    It is a classifier's, whose weights are trained; a network's last layer and its loss in one; or word2vec's.
    """
    for fits, data in ((_of_classifier, IDENTITY), (_of_head, BASIS), (_of_vectors, BASIS)):
        roles = [fits(without_form(name)) for name in parameters]
        if {"logits", data, "labels"} <= set(roles) and "" not in roles and len(set(roles)) == len(roles):
            yield tuple(roles)
            if fits is not _of_vectors:
                yield replaced(tuple(roles), "labels", "targets")


def optional_of_classifier(function: Callable[..., Any]) -> dict[str, str]:
    """The roles of the optional parameters of a loss with weights that change its gradient, by name."""
    named = {name: setting_of(name) for name in optional_names(function)}
    return {name: role for name, role in named.items() if role}


def _of_classifier(name: str) -> str:
    if _WEIGHTS.fullmatch(name):
        return "logits"
    if is_data(name):
        return IDENTITY
    known = roles_of(name)
    if "targets" in known:
        return "labels"
    if known == ("probs",):
        return "probs"
    return setting_of(name) or ("zeros" if _BIAS.fullmatch(name) else "features" if _CLASSES.fullmatch(name) else "")


def is_data(name: str) -> bool:
    """Whether a name is that of a classifier's data."""
    return _DATA.fullmatch(name) is not None


def setting_of(name: str) -> str:
    """The role of a parameter that is no array, by its name; empty if it is none of these."""
    patterns = {_RATE: "learning_rate", _PENALTY: PENALTY, _ROWS: "batch"}
    return next((role for pattern, role in patterns.items() if pattern.fullmatch(name)), "")


def _of_head(name: str) -> str:
    patterns = {_HIDDEN: "logits", _HEAD: BASIS, _BIAS: "zeros", _CHUNK: "features"}
    known = roles_of(name)
    if "targets" in known:
        return "labels"
    found = next((role for pattern, role in patterns.items() if pattern.fullmatch(name)), "")
    return found or (known[0] if known[0] in ("ignored_label", "reduction", "zero", "one") else "")


def _of_vectors(name: str) -> str:
    patterns = {_VECTOR: "logits", _VECTORS: BASIS, _INDEX: "labels", _IGNORED: "nothing"}
    return next((role for pattern, role in patterns.items() if pattern.fullmatch(name)), "")
