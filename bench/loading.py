"""Import of a target by its name: ``module:attribute`` or ``path/to/file.py:attribute``."""

import difflib
import importlib
import importlib.util
import inspect
import sys
import types
from pathlib import Path
from typing import Any

from .errors import UserError

SHOWN_NAMES = 8


def load(target: str) -> tuple[Any, dict[str, Any]]:
    """The object that ``module:attribute`` or ``path/to/file.py:attribute`` names, and its module's namespace.

    For a method, ``file.py:Class.method``, it is the class.

    Raises:
        UserError: the text is not such a name, or there is no such file, module or attribute.
    """
    place, colon, attribute = target.rpartition(":")
    if not colon or not place or not attribute:
        raise UserError(f"{target!r}: expected module:attribute or path/to/file.py:attribute")
    module = _module_at(Path(place)) if place.endswith(".py") else _module_named(place)
    found: Any = module
    for name in attribute.split("."):
        owner = found
        try:
            found = getattr(owner, name)
        except AttributeError:
            raise UserError(f"{place}: has no {attribute!r}; {_suggestion(name, owner)}") from None
    if inspect.isclass(owner) and inspect.isfunction(inspect.getattr_static(owner, name)):
        found = owner
    return found, vars(module)


def method_named(target: str, found: Any) -> str:
    """The method that a name like ``file.py:Class.method`` ends with, if ``load`` found its class; otherwise empty."""
    name = target.rpartition(":")[2].rpartition(".")[2]
    return name if inspect.isclass(found) and found.__name__ != name and callable(getattr(found, name, None)) else ""


def import_folder(target: str) -> Path:
    """The folder from which a target can import other modules: that of its file, or that of its outermost package."""
    if ".py:" not in target:
        return Path.cwd()
    return _package_folder(Path(target.rpartition(":")[0]).resolve())


def _package_folder(path: Path) -> Path:
    """The folder that contains a file's outermost package, or the file itself if it is in no package."""
    return next(folder for folder in path.parents if not (folder / "__init__.py").exists())


def _module_at(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if (path.parent / "__init__.py").exists():
        # Relative imports work only if the module is imported with its full name, package.module.
        within = path.resolve().relative_to(_package_folder(path.resolve())).with_suffix("")
        return importlib.import_module(".".join(within.parts))
    # A user's file numpy.py or random.py must not replace the real module.
    name = f"target_{path.stem}" if path.stem in sys.modules or path.stem in sys.stdlib_module_names else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _module_named(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{name}: no such module; a file is named with its path, as in path/to/file.py:name"
            ) from None
        raise


def _suggestion(name: str, owner: object) -> str:
    known = [public for public in dir(owner) if not public.startswith("_") and callable(getattr(owner, public, None))]
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {close[0]}?"
    more = ", ..." if len(known) > SHOWN_NAMES else ""
    return f"it has {', '.join(known[:SHOWN_NAMES]) or 'nothing to call'}{more}"


def module_of(target: Any) -> dict[str, Any]:
    """The namespace of the module that defines a function, a class, or an object's class; empty if there is none."""
    name = getattr(target, "__module__", None) or type(target).__module__
    return dict(vars(sys.modules[name])) if name in sys.modules else {}
