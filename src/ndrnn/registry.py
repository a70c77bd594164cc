"""What can be named in a recipe, in a saved file or on the command line: layers, models, tasks and readers.

A name stands for an object, or for the place of one (``"package.module:attribute"``) that is imported when it is first
asked for. :mod:`ndrnn.builtin` fills in the library's own; what users add joins them by ``register``::

    ndrnn.registry.layers.register(MyLayer)        # Hierarchy(..., layer="MyLayer"), network.layer = "MyLayer"
    ndrnn.registry.models.register(MyModel)        # ndrnn.save, ndrnn.load
    ndrnn.data.register(MyReader, "dicom")         # data.format = "dicom"
    ndrnn.tasks.register("count", Count, CountTask, "label")    # task = "count"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

Named = TypeVar("Named")


def nearest(name: str, known: Iterable[str]) -> str:
    """What to add to a message that ``name`` is not known."""
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


class Registry(Mapping[str, Any]):
    """Objects of one kind by name, the library's own first.

    Args:
        kind: what messages call one of them, such as ``"layer"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._places: dict[str, str] = {}
        self._objects: dict[str, Any] = {}
        self._own: frozenset[str] = frozenset()

    def declare(self, places: Mapping[str, str]) -> None:
        """Say where the library's own are: ``name: "package.module:attribute"``."""
        self._places.update(places)
        self._own = self._own | places.keys()

    def register(self, thing: Named, name: str | None = None) -> Named:
        """Give ``thing`` a name, by default that of the class or function; returns it, so that it is a decorator too.

        Defining a class anew, as a notebook's cell does that is run again, replaces it.

        Raises:
            ValueError: the name stands for something else.
        """
        name = name or str(thing.__name__)  # type: ignore[attr-defined]
        taken = self._objects.get(name)
        if name in self._own or (taken is not None and _origin(taken) != _origin(thing)):
            raise ValueError(f"{self.kind} {name!r} already stands for another one")
        self._objects[name] = thing
        return thing

    def unregister(self, name: str) -> None:
        """Forget what was registered under a name; the library's own stay."""
        if name in self._own or name not in self._objects:
            raise ValueError(f"{self.kind} {name!r} is not registered by a user")
        del self._objects[name]

    def find(self, name: object, what: str | None = None) -> Any:
        """What a name stands for.

        Args:
            name: the name.
            what: how the message begins, such as ``"data.format"``; by default with the kind.

        Raises:
            ValueError: nothing has this name; the message says which is the nearest.
        """
        return self[self.check(name, what)]

    def check(self, name: object, what: str | None = None) -> str:
        """The name itself, if it stands for something; nothing is imported. Arguments and errors as for :meth:`find`."""
        if not isinstance(name, str) or name not in self:
            raise ValueError(f"{what or self.kind} {name!r} is not known{nearest(str(name), self)}")
        return name

    def name_of(self, thing: object) -> str | None:
        """The name under which a thing is known, or None."""
        for name, known in self._objects.items():
            if known is thing:
                return name
        # only what its own module declares is imported to be compared
        module = getattr(thing, "__module__", None)
        for name, place in self._places.items():
            if place.partition(":")[0] == module and self[name] is thing:
                return name
        return None

    def __getitem__(self, name: str) -> Any:
        if name not in self._objects:
            module, _, attribute = self._places[name].partition(":")
            self._objects[name] = getattr(import_module(module), attribute)
        return self._objects[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._places
        yield from (name for name in self._objects if name not in self._places)

    def __len__(self) -> int:
        return len(self._places.keys() | self._objects.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._objects

    def __repr__(self) -> str:
        return f"<registry of {self.kind}s: {', '.join(self)}>"


def _origin(thing: object) -> tuple[object, object]:
    """Where a class or function was written, or the kind of another object."""
    return thing.__module__, getattr(thing, "__qualname__", type(thing))


layers = Registry("layer")
"""Recurrent layers, made as ``layer(input_size, hidden_size, ndim, directions=...)`` and called as
``layer(x, sizes=sizes)``, with the attribute ``output_size``."""
models = Registry("model")
"""Modules that can be saved and loaded."""
tasks = Registry("task")
"""What networks are trained for, each an :class:`ndrnn.tasks.Use`."""
readers = Registry("format")
"""Formats of data, each a class derived from :class:`ndrnn.data.Reader`."""
