"""Backwards of attention: with the right keys and values, the gradient of the queries is that of softmax's logits.

Attention is ``softmax(queries @ keys.T * scale) @ values``. Where keys (times scale) and values are identity matrices,
the queries are the logits, what is returned is their softmax, and the gradient of the queries is that of the logits.
"""

import re
from collections.abc import Iterator

from .roles import roles_of

# The identity matrix as values, and as keys where the scale is a parameter, or is one over the root of their length.
VALUES, KEYS, LONG_KEYS = "values", "keys", "long_keys"
OF_ATTENTION = {VALUES, KEYS, LONG_KEYS}
_QUERIES = re.compile(r"q|quer(y|ies)", re.IGNORECASE)
_KEYS = re.compile(r"k|keys?", re.IGNORECASE)
_VALUES = re.compile(r"v|values?", re.IGNORECASE)
_OUTPUT = re.compile(r"o|out(put)?", re.IGNORECASE)


def roles_of_attention(parameters: list[str], *, backward: bool) -> Iterator[tuple[str, ...]]:
    """The roles of the parameters of attention, or of its backward; nothing if they are no queries, keys and values."""
    for keys in (LONG_KEYS, KEYS):
        roles = [_role(name, keys) for name in parameters]
        if {"logits", keys, VALUES} <= set(roles) and "" not in roles and ("grad_output" in roles) is backward:
            yield tuple(roles)


def _role(name: str, keys: str) -> str:
    patterns = {_QUERIES: "logits", _KEYS: keys, _VALUES: VALUES, _OUTPUT: "probs"}
    found = next((role for pattern, role in patterns.items() if pattern.fullmatch(name)), "")
    known = roles_of(name)[0]
    return found or (known if known in ("grad_output", "probs", "mask", "one", "nothing") else "")
