"""A function that makes what is to be judged: its forward and its backward, or a layer that has both."""

import inspect
from types import SimpleNamespace
from typing import Any

from .kept import functions_inside
from .methods import backward_names, sounds_backward
from .roles import is_function, required_names


def made_by(target: Any) -> Any:
    """What a function without parameters makes, if it defines a backward inside; any other target as it is.

    A forward and a backward that it returns as a pair, or by their names in a dict, become one object with both.
    """
    if not is_function(target) or required_names(target) or not any(map(sounds_backward, functions_inside(target))):
        return target
    try:
        made = target()
    except Exception:  # whatever goes wrong, it makes nothing in this way
        return target
    if isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
        return SimpleNamespace(forward=made[0], backward=made[1])
    if isinstance(made, dict) and made and all(map(callable, made.values())):
        return SimpleNamespace(**{str(name): function for name, function in made.items()})
    is_layer = not inspect.isroutine(made) and bool(backward_names(made))
    return made if is_layer else target
