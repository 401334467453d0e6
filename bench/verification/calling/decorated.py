"""A function behind a decorator that tells nothing of it: its name, its parameters and its code are the inner one's."""

import functools
import inspect
from typing import Any

from .roles import is_function


def tell_of_inner(target: Any) -> None:
    """Let a function that only hands ``*args, **kwargs`` on tell what it wraps, as ``functools.wraps`` would have."""
    if not inspect.isfunction(target) or hasattr(target, "__wrapped__"):
        return
    parameters = inspect.signature(target).parameters.values()
    inner = [value for value in map(_contents, target.__closure__ or ()) if is_function(value)]
    takes_anything = all(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters)
    if parameters and takes_anything and len(inner) == 1:
        functools.update_wrapper(target, inner[0])


def _contents(cell: Any) -> Any:
    """What a variable of an enclosing function holds; None if nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
