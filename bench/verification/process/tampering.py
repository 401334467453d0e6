"""What a target has replaced outside itself, such as functions of the clock, of NumPy, of the suite.

This runs in the target's process, so it finds the plain cases only. Verdicts and times do not depend on it.
"""

import gc
import inspect
import os
import sys
import time
import types
from collections.abc import Iterator

import numpy as np
import psutil

WATCHED = (time, gc, os, np, psutil)
OWN = __package__.partition(".")[0]
SHOWN = 3


class Watch:
    """The functions as they were when it was made, before a target was loaded."""

    def __init__(self) -> None:
        self._before = dict(_functions())

    def changed(self) -> str:
        """The names of what is another object now, in words that follow 'it'; empty if nothing is."""
        now = dict(_functions())
        names = [name for name, function in self._before.items() if now.get(name) is not function]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"replaces {', '.join(names[:SHOWN])}{more}, which is not its own" if names else ""


def _functions() -> Iterator[tuple[str, object]]:
    """Every function and class of the watched modules and of the suite's, and the methods of the suite's classes."""
    own = [module for name, module in list(sys.modules.items()) if name == OWN or name.startswith(f"{OWN}.")]
    for module in (*WATCHED, *own):
        for name, value in list(vars(module).items()):
            if callable(value):
                yield f"{module.__name__}.{name}", value
            if inspect.isclass(value) and value.__module__ == module.__name__ and module in own:
                for method, function in vars(value).items():
                    if isinstance(function, types.FunctionType):
                        yield f"{module.__name__}.{name}.{method}", function
