"""Import of a target by its name: ``module:attribute`` or ``path/to/file.py:attribute``."""

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import sys
import types
from pathlib import Path
from typing import Any

from .errors import UserError

SHOWN_NAMES = 8
PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", ".git")  # of these, a project's top folder has one


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
    if inspect.isclass(owner) and _needs_its_class(inspect.getattr_static(owner, name)):
        found = owner
    return found, vars(module)


def _needs_its_class(attribute: Any) -> bool:
    """Whether a class's attribute is a method of its objects, or shares a context with another method of the class."""
    if isinstance(attribute, staticmethod):
        return next(iter(inspect.signature(attribute).parameters), "") in ("ctx", "context")
    return inspect.isfunction(attribute)


def method_named(target: str, found: Any) -> str:
    """The method that a name like ``file.py:Class.method`` ends with, if ``load`` found its class; otherwise empty."""
    name = target.rpartition(":")[2].rpartition(".")[2]
    return name if inspect.isclass(found) and found.__name__ != name and callable(getattr(found, name, None)) else ""


def import_folders(target: str, root: Path | None = None) -> list[Path]:
    """The folders from which a target can import, as if its author started it; the first counts most.

    The folder of its outermost package comes first, or that of its file if it is in no package. Then follow its
    project's folder and ``src`` in there, and the folder above a package that its own code imports by name. ``root`` is
    the project's folder if the caller knows it; otherwise it is the nearest one above the file that has a file of
    `PROJECT_FILES`, or the working directory if that is above it.
    """
    if ".py:" not in target:
        return [Path.cwd()]
    path = Path(target.rpartition(":")[0]).resolve()
    above_packages = [folder.parent for folder in path.parents if folder.name in _imports(path)[1]]
    return list(dict.fromkeys([_package_folder(path), *_project_folders(path, root), *above_packages]))


def let_import(target: str, root: Path | None = None) -> None:
    """Let this process import what the target's author can: from `import_folders` first, from the file's folder last.

    That folder comes last for a file in a package. Its modules may have the names of Python's own.
    """
    sys.path[:0] = map(str, import_folders(target, root))
    if ".py:" in target:
        sys.path.append(str(Path(target.rpartition(":")[0]).resolve().parent))


def _project_folders(path: Path, root: Path | None = None) -> list[Path]:
    """The folder of the project that a file belongs to, and ``src`` in there; the given one, or what is found."""
    marked = (folder for folder in path.parents if any((folder / name).exists() for name in PROJECT_FILES))
    found = root or next(marked, None) or (Path.cwd() if Path.cwd() in path.parents else None)
    return [folder for folder in (found.resolve(), found.resolve() / "src") if folder.is_dir()] if found else []


def _package_folder(path: Path) -> Path:
    """The folder that contains a file's outermost package, or the file itself if it is in no package.

    Where a file imports relatively to folders without ``__init__.py``, these are packages, too: namespace packages. So
    are all folders up to the project's, or its ``src``, if their names can be imported; else as many as are needed.
    """
    regular = next(folder for folder in path.parents if not (folder / "__init__.py").exists())
    levels = max(_imports(each)[0] for each in path.parent.glob("*.py")) if _imports(path)[0] else 0
    needed = path.parents[min(levels, len(path.parents) - 1)]
    if needed not in regular.parents:
        return regular
    tops = [folder for folder in reversed(_project_folders(path)) if folder in (needed, *needed.parents)]
    named = [folder for folder in tops if all(map(str.isidentifier, path.parent.relative_to(folder).parts))]
    return next(iter(named), needed)


@functools.cache
def _imports(path: Path) -> tuple[int, frozenset[str]]:
    """How many packages a file's relative imports need around it, and the first names of its other imports."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return 0, frozenset()
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [node.module for node in froms if node.module and not node.level]
    return max((node.level for node in froms), default=0), frozenset(name.partition(".")[0] for name in names)


def _module_at(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if (folder := _package_folder(path.resolve())) != path.resolve().parent:
        # Relative imports work only if the module is imported with its full name, package.module.
        within = path.resolve().relative_to(folder).with_suffix("")
        parts = within.parts[:-1] if within.name == "__init__" else within.parts
        module = importlib.import_module(".".join(parts))
        _check_file(module, path)
        return module
    # A user's file numpy.py or random.py must not replace the real module.
    name = f"target_{path.stem}" if path.stem in sys.modules or path.stem in sys.stdlib_module_names else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _check_file(module: types.ModuleType, path: Path) -> None:
    """Check that an imported module is the file that was named: another one may have its name, and be judged for it.

    Raises:
        UserError: it is another file.
    """
    loaded = getattr(module, "__file__", None)
    if loaded is None or Path(loaded).resolve() != path.resolve():
        other = loaded or "a module without a file"
        raise UserError(f"{path}: Python imports {other} as {module.__name__}, not this file; give it another name")


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
