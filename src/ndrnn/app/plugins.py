"""Modules of the user, with parts of their own: imported when the command line names them, and never otherwise.

A recipe, or the recipe in a run's folder, may say which plugins it needs. That alone runs nothing: whoever hands over
data or weights does not decide what is executed here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

OPTION = "--plugin"
NOTE = f"{OPTION} MODULE, as often as needed, first imports a module with parts of your own."

_loaded: set[str] = set()  # names of the modules that load() has imported


def load(name: str) -> None:
    """Import a module of the user, by its name (the current folder included) or by a path that ends in ``.py``.

    Raises:
        ValueError: there is no such module, or one of this name is there already, from elsewhere.
    """
    module = _from_file(Path(name), name) if name.endswith(".py") else _by_name(name)
    _loaded.add(module.__name__)


def check(names: Iterable[str], where: str) -> None:
    """See that the plugins that a recipe asks for are there; none is imported.

    Raises:
        ValueError: one is not; the message says what to type.
    """
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{where}: plugins must be names of modules, got {name!r}")
        if not _is_there(name):
            raise ValueError(
                f"{where} asks for the plugin {name!r}. A plugin is code, and runs only when the command line names it: "
                f"if you trust it, add {OPTION} {name}"
            )


def module_name(plugin: str) -> str:
    """What the module of a plugin is called."""
    return Path(plugin).stem if plugin.endswith(".py") else plugin


def _is_there(name: str) -> bool:
    module = sys.modules.get(module_name(name))
    if module is None or not name.endswith(".py"):
        return module is not None
    return module.__name__ in _loaded or _is_from(module, Path(name))


def _from_file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"plugin {name!r}: no such file")
    known = sys.modules.get(path.stem)
    if known is not None:
        if _is_from(known, path):
            return known
        raise ValueError(_taken(name, path.stem, known))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"plugin {name!r}: no file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _by_name(name: str) -> ModuleType:
    here = str(Path.cwd())
    # last of all places and not for long, so that no file of this folder stands in for a library
    sys.path.append(here)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise
        raise ValueError(f"plugin {name!r}: no module of this name, here or installed") from error
    finally:
        sys.path.remove(here)
    meant = Path(here, *name.split("."))
    for file in (meant.with_name(f"{meant.name}.py"), meant / "__init__.py"):
        if file.is_file() and not _is_from(module, file):
            raise ValueError(_taken(name, name, module))
    return module


def _taken(name: str, called: str, known: ModuleType) -> str:
    place = getattr(known, "__file__", None) or "Python itself"
    return (
        f"plugin {name!r}: a module called {called!r} is there already, from {place}; give yours another name"
    )


def _is_from(module: ModuleType, file: Path) -> bool:
    place = getattr(module, "__file__", None)
    return place is not None and Path(place).resolve() == file.resolve()
