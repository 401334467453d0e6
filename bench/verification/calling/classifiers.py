"""Losses of a linear classifier, whose gradient is that of its weights: with the right data these are the logits.

Where the data is the identity matrix, ``data @ weights`` is the weights themselves, and so is their gradient
``data.T @ gradient of the logits``.
"""

import re
from collections.abc import Iterator

from .roles import roles_of

# What the data of a classifier is: one row for each class of weights, or for each component of a vector.
IDENTITY, BASIS = "identity", "basis"
_WEIGHTS = re.compile(r"w|weights?|thetas?|params?|beta|coef\w*", re.IGNORECASE)
_DATA = re.compile(r"x|xs|data|inputs?|features|images?|samples?|x_?(train|batch|dev|data|b)", re.IGNORECASE)
_PENALTY = re.compile(r"reg(ular\w*)?(_\w+)?|lam(b|bda|da)?_?\w?|l2(_\w+)?|(weight_?)?decay|alpha", re.IGNORECASE)
_BIAS = re.compile(r"b|bias(es)?", re.IGNORECASE)
_VECTOR = re.compile(r"((center|centre|input)_?(word_?)?vec(tor)?)|predicted(_?vec(tor)?)?|v_?c", re.IGNORECASE)
_VECTORS = re.compile(r"(outside|output|context)_?(word_?)?vec(tor)?s|u", re.IGNORECASE)
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
        roles = [fits(name) for name in parameters]
        if {"logits", data, "labels"} <= set(roles) and "" not in roles and len(set(roles)) == len(roles):
            yield tuple(roles)
            if fits is not _of_vectors:
                yield tuple("targets" if role == "labels" else role for role in roles)


def _of_classifier(name: str) -> str:
    if _WEIGHTS.fullmatch(name):
        return "logits"
    if _DATA.fullmatch(name):
        return IDENTITY
    if "targets" in roles_of(name):
        return "labels"
    return "zero" if _PENALTY.fullmatch(name) else "zeros" if _BIAS.fullmatch(name) else ""


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
