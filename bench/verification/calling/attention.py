"""Backwards of attention: with the right keys and values, the gradient of the queries is that of softmax's logits.

Attention is ``softmax(queries @ keys.T * scale) @ values``. Where keys (times scale) and values are identity matrices,
the queries are the logits, what is returned is their softmax, and the gradient of the queries is that of the logits.
"""

import itertools
import re
from collections.abc import Iterator

import numpy as np

from ...implementations import FloatArray
from .roles import roles_of

# The identity matrix as values, and as keys where the scale is a parameter, or is one over the root of their length.
VALUES, KEYS, LONG_KEYS = "values", "keys", "long_keys"
OF_ATTENTION = {VALUES, KEYS, LONG_KEYS}
# The logarithm of the sum of each row's exponentials, [B] or [B, 1]: what is kept of a forward in place of its softmax.
SUMS = LOG_SUMS, LOG_SUMS_AS_COLUMN = "log_sums", "log_sums_as_column"
_QUERIES = re.compile(r"q|quer(y|ies)", re.IGNORECASE)
_KEYS = re.compile(r"k|keys?", re.IGNORECASE)
_VALUES = re.compile(r"v|values?", re.IGNORECASE)
_OUTPUT = re.compile(r"o|out(put)?", re.IGNORECASE)
_LOG_SUMS = re.compile(r"l|(softmax_?)?lse|log_?sum_?exps?|logsumexp", re.IGNORECASE)
_CAUSAL = re.compile(r"(is_?)?causal")


def roles_of_attention(parameters: list[str], *, backward: bool) -> Iterator[tuple[str, ...]]:
    """The roles of the parameters of attention, or of its backward; nothing if they are no queries, keys and values."""
    for keys, log_sums in itertools.product((LONG_KEYS, KEYS), SUMS):
        if log_sums == LOG_SUMS_AS_COLUMN and not any(map(_LOG_SUMS.fullmatch, parameters)):
            continue
        roles = [_role(name, keys, log_sums) for name in parameters]
        if {"logits", keys, VALUES} <= set(roles) and "" not in roles and ("grad_output" in roles) is backward:
            yield tuple(roles)


def log_sums_of(logits: FloatArray) -> dict[str, FloatArray]:
    """The logarithms of the sums of exponentials of logits [B, N], by role."""
    highest = logits.max(axis=1, initial=-np.inf)  # [B]
    sums = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))  # [B]
    return {LOG_SUMS: sums, LOG_SUMS_AS_COLUMN: sums[:, None]}


def _role(name: str, keys: str, log_sums: str) -> str:
    patterns = {
        _QUERIES: "logits", _KEYS: keys, _VALUES: VALUES, _OUTPUT: "probs", _LOG_SUMS: log_sums, _CAUSAL: "false",
    }  # fmt: skip
    found = next((role for pattern, role in patterns.items() if pattern.fullmatch(name)), "")
    known = roles_of(name)[0]
    return found or (known if known in ("grad_output", "probs", "mask", "one", "nothing") else "")
