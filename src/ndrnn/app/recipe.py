"""Recipes: what a TOML file and the options of the command line together say about a training.

A recipe names its task and the format of its data; every other key is a field of a frozen dataclass, so that a
misspelt key is an error, and is an option of the command line as well::

    task = "label"

    [data]
    format = "masks"
    path = "camvid120/camvid120.zip"

    [training]
    epochs = 20                           # or: ndrnn train recipe.toml --training.epochs 20

    [expected]                            # on the test samples, for who trains as it stands here
    mean_iou = 0.36
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro

from ..data.batches import Purpose
from ..data.readers.source import Reader
from ..registry import readers, tasks
from ..saving.atomic import replacing
from ..saving.config import from_dict, to_dict
from ..tasks.network import Network, of_kind
from . import plugins, toml

FILE = "config.toml"
"""A run's own recipe in its folder."""

EARLIER = {"orientation": "stored"}
"""How data were read before version 0.2, where the default is another now."""

Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class Recipe:
    """What is trained on what."""

    task: str
    config: Any
    """The configuration of the task, such as :class:`ndrnn.tasks.Label`."""
    data: Reader
    plugins: tuple[str, ...] = ()
    expected: Mapping[str, float] = field(default_factory=dict)
    """Metrics that a model trained with this configuration, whatever the seed, had on the test samples."""
    source: Path | None = field(default=None, compare=False)
    """The file or the run's folder that it was read from."""
    start: str = ""
    """A run's folder, or a file of weights, with whose weights the training begins, as far as they fit; key ``from``."""

    @property
    def purpose(self) -> Purpose:
        """Which task of the library it is, or resembles."""
        return tasks.find(self.task).purpose

    def dumps(self) -> str:
        """The recipe as TOML."""
        values: dict[str, Any] = {"task": self.task}
        if self.plugins:
            values["plugins"] = self.plugins
        if self.start:
            values["from"] = self.start
        data = {"format": readers.name_of(type(self.data)), **to_dict(self.data)}
        expected = {"expected": self.expected} if self.expected else {}
        return toml.dumps({**values, **to_dict(self.config), "data": data, **expected})

    def save(self, folder: Path) -> None:
        """Write the recipe into the folder of a run."""
        with replacing(folder / FILE) as temporary:
            temporary.write_text(self.dumps(), encoding="utf-8")


def read(path: Path) -> Recipe:
    """The recipe in a TOML file, or in the folder of a run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not TOML, a key is unknown, a value is of the wrong kind or out of range, or it asks for a
            plugin that is not imported yet.
    """
    return _make(_table(path), str(path))


def parse(
    argv: Sequence[str], arguments: type[Arguments], prog: str, *, data_only: bool = False
) -> tuple[Recipe, Arguments]:
    """A recipe and a command's own arguments from the command line.

    The first word, unless it is an option, names a TOML file or a run's folder. ``--task``, ``--data.format`` and
    ``--plugin`` come first of all, since they decide what other options there are.

    Args:
        argv: the words after the name of the command.
        arguments: a frozen dataclass with defaults and a docstring, the command's own options.
        prog: what the help calls the program.
        data_only: whether only the options of the data are offered.
    """
    words = list(argv)
    table: dict[str, Any] = {}
    source = None
    if words and not words[0].startswith("-"):
        source = Path(words.pop(0))
        table = _table(source)
    elif (trained := _value(words, "--from")) is not None and (Path(trained) / FILE).is_file():
        # what begins with its weights is like it, but for what is named
        table = _table(Path(trained))
        table.pop("expected", None)
        if (other := _value(words, "--task")) is not None and other != table.get("task"):
            table = {key: table[key] for key in ("network", "training", "data", "plugins") if key in table}
    task, data_format = pull(words, "--task"), pull(words, "--data.format")
    named = load_named(words)
    if task is not None:
        table["task"] = task
    data = dict(table.get("data", {}))
    if data_format is not None and data_format != data.get("format"):
        data = {"format": data_format, **{key: data[key] for key in ("path", "root") if key in data}}
    if data_format is not None or data:
        table["data"] = data
    if not data_only and (kind := _value(words, "--network.kind")) is not None:
        table = with_kind(table, _default_network(table.get("task")), kind)
    known = {plugins.module_name(plugin) for plugin in named}
    others = [plugin for plugin in table.get("plugins", ()) if plugins.module_name(str(plugin)) not in known]
    table["plugins"] = [*named, *others]
    asks_help = "-h" in words or "--help" in words
    if asks_help:
        # help must come even where nothing is chosen yet
        table.setdefault("task", "label")
        table.setdefault("data", {"format": "masks"})
    recipe = _make(table, prog if source is None else str(source))
    flat = tyro.conf.arg(name="")
    parts: list[tuple[str, Any, Any]] = [
        ("arguments", Annotated[arguments, flat], field(default_factory=arguments)),
        ("data", type(recipe.data), field(default=recipe.data)),
    ]
    if not data_only:
        parts.insert(1, ("config", Annotated[type(recipe.config), flat], field(default=recipe.config)))
    combined = make_dataclass("Command", parts, frozen=True)
    note = (
        "\n\nUsage: RECIPE.toml or RUN first, then options; --task {label,classify,transcribe,density}, "
        f"--data.format NAME and --plugin MODULE decide which options there are. {plugins.NOTE}"
    )
    result: Any = tyro.cli(combined, args=words, prog=prog, description=(arguments.__doc__ or "") + note)
    config = recipe.config if data_only else result.config
    as_it_stands = (
        task is None
        and data_format is None
        and _but_for_seed(config) == _but_for_seed(recipe.config)
        and _same_data(result.data, recipe.data)
    )
    expected = recipe.expected if as_it_stands else {}
    start = str(named_start) if (named_start := getattr(result.arguments, "start", None)) else recipe.start
    expected = {} if named_start else expected
    parsed = Recipe(recipe.task, config, result.data, recipe.plugins, expected, source, start)
    return parsed, result.arguments


def with_kind(table: Mapping[str, Any], default: object, kind: str) -> dict[str, Any]:
    """A configuration's table with a network of this kind: if it had one of another, with the defaults of this kind.

    Args:
        table: of the values of the configuration.
        default: the network of a table that names none.
        kind: of the network; one that there is not is left to who reads the options.
    """
    kinds = get_args(get_type_hints(Network)["kind"])
    own = table.get("network")
    before = own.get("kind", Network.kind) if isinstance(own, Mapping) else getattr(default, "kind", None)
    if not isinstance(default, Network) or kind not in kinds or kind == before:
        return dict(table)
    # what a task has by default is for its own kind
    return {**table, "network": of_kind(kind, own if isinstance(own, Mapping) else {})}


def _default_network(task: object) -> object:
    settings = tasks.find(task).settings if task in tasks else None
    for entry in fields(settings) if settings is not None else ():
        if entry.name == "network" and entry.default_factory is not MISSING:
            return entry.default_factory()
    return None


def load_named(words: list[str]) -> list[str]:
    """Take the plugins out of the words of a command line, and import them; gives their names."""
    named = []
    while (plugin := pull(words, plugins.OPTION)) is not None:
        plugins.load(plugin)
        named.append(plugin)
    return named


def _table(path: Path) -> dict[str, Any]:
    file = path / FILE if path.is_dir() else path
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise ValueError(f"{file}: is no plain file")  # a pipe would never end
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = f" (a run's folder holds {FILE})" if path.is_dir() else ""
        raise FileNotFoundError(f"{file}: no such recipe, nor a run of that name{hint}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not TOML ({error})") from error
    if path.is_dir():
        _complete(table.get("data"))
    return table


def _complete(data: Any) -> None:
    """Say of the data of a run what it was before there was a choice; a run says all that there was to choose."""
    if isinstance(data, dict) and data.get("format") in readers:
        known = {field.name for field in fields(readers.find(data["format"]))}
        for key in EARLIER.keys() & known:
            data.setdefault(key, EARLIER[key])


def _but_for_seed(config: Any) -> Any:
    return (
        replace(config, training=replace(config.training, seed=0)) if hasattr(config, "training") else config
    )


def _same_data(own: Any, other: Any) -> bool:
    """Whether two readers read the same, wherever it lies: files and folders are told by their names."""
    if type(own) is not type(other) or Path(own.path).name != Path(other.path).name:
        return False
    return bool(replace(own, path=other.path, root=other.root, memory=other.memory) == other)


def _make(table: Mapping[str, Any], where: str) -> Recipe:
    rest = dict(table)
    needed = rest.pop("plugins", ())
    if not isinstance(needed, (list, tuple)):
        raise ValueError(f"{where}: plugins must be a list, got {needed!r}")
    plugins.check(needed, where)
    task = rest.pop("task", None)
    if not isinstance(task, str):
        raise ValueError(f"{where}: task must be one of {', '.join(tasks)}, got {task!r}")
    settings = tasks.find(task).settings
    start = rest.pop("from", "")
    if not isinstance(start, str):
        raise ValueError(f"{where}: from must be a run's folder or a file of weights, got {start!r}")
    expected = rest.pop("expected", {})
    if not isinstance(expected, Mapping) or not all(
        type(value) in (int, float) for value in expected.values()
    ):
        raise ValueError(f"{where}: expected must be a table of metrics and their figures, got {expected!r}")
    data = rest.pop("data", None)
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: data must be a table with the keys format and path")
    data = dict(data)
    if "format" not in data:
        raise ValueError(f"{where}: data.format is missing")
    reader = readers.find(data.pop("format"), "data.format")
    try:
        return Recipe(
            task,
            from_dict(settings, rest),
            from_dict(reader, data, "data"),
            tuple(needed),
            expected,
            start=start,
        )
    except TypeError as error:  # a value of the wrong kind is the user's error, not ours
        raise ValueError(f"{where}: {error}") from error


def _value(words: Sequence[str], option: str) -> str | None:
    """The value of an option that stays among the words."""
    return pull(list(words), option)


def pull(words: list[str], option: str) -> str | None:
    """Take an option and its value out of the words."""
    for index, word in enumerate(words):
        if word == option:
            if index + 1 == len(words):
                raise ValueError(f"{option} needs a value")
            value = words[index + 1]
            del words[index : index + 2]
            return value
        if word.startswith(option + "="):
            del words[index]
            return word[len(option) + 1 :]
    return None
