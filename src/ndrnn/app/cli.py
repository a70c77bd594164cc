"""``ndrnn``: train, evaluate and use networks from the command line.

Exit status: 0 all went well; 1 what was asked could not be done, or ``check`` found faults; 2 the command line, a
recipe or an argument is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from ..data.faults import BadFile
from ..registry import nearest
from ..version import __version__

COMMANDS = {
    "info": "versions, backends and formats here; or what a trained model is",
    "check": "read all data and name every file that cannot be used, before any training",
    "train": "train by a recipe; writes a folder with weights, logs and a report",
    "tune": "search for good options within a given time",
    "evaluate": "measure a trained model on data that it has not seen",
    "compare": "several runs in one table: figures, size, time, and the options that differ",
    "predict": "label, classify or transcribe files, or tell how many bits a density gives them",
    "join": "one result of what shards of predict or evaluate have found",
    "sample": "draw images, volumes or signals from a density model",
    "inpaint": "fill in what a mask hides",
    "compress": "images and volumes to few bytes without loss",
    "decompress": "the images that were compressed",
    "serve": "a page in the browser that shows trained models at work",
    "models": "the trained models that come with the package; with a name, what it learned from",
    "export": "a trained model as an ONNX file, to be used without PyTorch",
    "card": "what there is to know of a trained model, as a card to put beside its weights",
    "bench": "points a second of a layer on this machine",
}

_WITH_RECIPE = ("check", "train", "tune", "evaluate")

_EXTRAS = {
    **dict.fromkeys(("rich", "lightning", "torchmetrics", "matplotlib"), "train"),
    **dict.fromkeys(("PIL", "skimage", "scipy"), "vision"),
    "nibabel": "volumes",
    **dict.fromkeys(("onnx", "onnxscript", "onnx_ir"), "onnx"),
    "huggingface_hub": "hub",
    **dict.fromkeys(("starlette", "uvicorn", "anyio"), "serve"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    command = words[0]
    if command not in COMMANDS:
        print(f"error: no command {command!r}{nearest(command, COMMANDS)}", file=sys.stderr)
        return 2
    try:
        parsed = _parse(command, words[1:])
        # only now what does the work, and PyTorch with it: help and errors of the command line come at once
        status: int = import_module(f".commands.{command}", __package__).run(*parsed)
        return status
    except SystemExit as stop:  # of the parser: 0 after help, 2 after a wrong option
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has enough
        return 1
    except BadFile as error:
        return _fail(error, 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError) as error:
        return _fail(error, 2)
    except ModuleNotFoundError as error:
        return _fail(_missing(error), 1)
    except (ImportError, OSError) as error:
        return _fail(error, 1)


def _parse(command: str, words: Sequence[str]) -> tuple[object, ...]:
    """What the command line says: a command's options, and where it works by a recipe that before them."""
    import tyro

    from . import options, plugins, recipe

    kind = getattr(options, command.capitalize())
    if command in _WITH_RECIPE:
        return recipe.parse(words, kind, f"ndrnn {command}", data_only=command == "evaluate")
    words = list(words)
    recipe.load_named(words)
    note = f"{kind.__doc__}\n\n{plugins.NOTE}"
    return (tyro.cli(kind, prog=f"ndrnn {command}", args=words, description=note),)


def _missing(error: ModuleNotFoundError) -> BaseException:
    """What to install for a module that is not there, if it is one of the extras."""
    extra = _EXTRAS.get((error.name or "").partition(".")[0])
    return error if extra is None else ImportError(f"{error.name} is missing: pip install 'ndrnn[{extra}]'")


def _fail(error: BaseException, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name.ljust(width)}  {what}" for name, what in COMMANDS.items())
    return f"usage: ndrnn COMMAND ...\n\n{lines}\n\nndrnn COMMAND --help tells a command's options. Version {__version__}."
