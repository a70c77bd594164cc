"""The guide tells the truth: its commands are understood, and its code runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

from ndrnn.app import options, recipe
from ndrnn.app.cli import COMMANDS

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
MODEL_COMMANDS = {
    "predict": options.Predict,
    "sample": options.Sample,
    "inpaint": options.Inpaint,
}
FILE_COMMANDS = {"compress": options.Compress, "decompress": options.Decompress}
FORMATS = {
    "label": ["masks", "nnunet"],
    "classify": ["classes"],
    "transcribe": ["lines", "pages"],
    "density": ["images", "arrays"],
}


def commands():
    for page in sorted(GUIDE.glob("*.md")):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^\$ ndrnn (.*)$", text, flags=re.MULTILINE):
            yield pytest.param(shlex.split(line, comments=True), id=f"{page.stem}: {line[:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_of_the_guide_are_understood(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    command, *rest = words
    assert command in COMMANDS
    # a recipe, a run and a plugin that the guide takes for granted
    text = 'task = "label"\n[data]\nformat = "masks"\npath = "x"\n'
    (tmp_path / "runs/first").mkdir(parents=True)
    for name in ("recipe.toml", "runs/first/config.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "my_parts.py").write_text(
        'from ndrnn.registry import layers\nfrom ndrnn.nn.layers import MDRNN\nlayers.register(MDRNN, "MyLayer")\n',
        encoding="utf-8",
    )
    if command in ("check", "train", "tune"):
        cls = getattr(options, command.capitalize())
        parsed, _ = recipe.parse(rest, cls, f"ndrnn {command}")
        if "--task" in rest:
            assert parsed.task == rest[rest.index("--task") + 1]
            assert rest[rest.index("--data.format") + 1] in FORMATS[parsed.task]
    elif command == "evaluate":
        (tmp_path / rest[0]).mkdir(parents=True, exist_ok=True)
        (tmp_path / rest[0] / "config.toml").write_text(text, encoding="utf-8")
        recipe.parse(rest, options.Evaluate, "ndrnn evaluate", data_only=True)
    elif command in MODEL_COMMANDS:
        words = list(rest)
        recipe.load_named(words)
        assert tyro.cli(MODEL_COMMANDS[command], args=words).model == Path(rest[0])
    elif command == "serve":
        runs = [Path(word) for word in rest if not word.startswith("-")]
        assert list(tyro.cli(options.Serve, args=rest).models) == runs
    elif command == "compare":
        assert tyro.cli(options.Compare, args=rest).runs == tuple(map(Path, rest))
    elif command == "join":
        assert tyro.cli(options.Join, args=rest).folder == Path(rest[0])
    elif command in FILE_COMMANDS:
        parsed = tyro.cli(FILE_COMMANDS[command], args=rest)
        assert parsed.inputs == (Path(rest[0]),)
        if "--model" in rest:
            assert parsed.model == rest[rest.index("--model") + 1]


def test_lines_are_checked_for_the_network_that_is_trained():
    """Which lines are left out depends on the blocks: those of check are those of train."""
    text = (GUIDE / "transcribe.md").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {"check": [], "train": []}
    for command, rest in re.findall(r"^\$ ndrnn (check|train) (.*)$", text, flags=re.MULTILINE):
        cls = getattr(options, command.capitalize())
        found[command].append(recipe.parse(shlex.split(rest), cls, f"ndrnn {command}")[0])
    blocks = {one.config.network.blocks for one in found["check"] + found["train"]}
    assert blocks == {("4x2", "4x2", "3x1")}
    assert {one.data.height for one in found["check"] + found["train"]} == {48}
    advised = (GUIDE.parent / "choosing.md").read_text(encoding="utf-8")
    assert all(f"Start with {one.config.network.layer}" in advised for one in found["train"])


def test_the_readme_runs(capsys):
    (code,) = re.findall(
        r"```python\n(.*?)```", (GUIDE.parents[1] / "README.md").read_text("utf-8"), flags=re.DOTALL
    )
    exec(compile(code, "README.md", "exec"), {})  # a warning is an error here
    assert capsys.readouterr().out.startswith("MDLSTM(3, 32, ndim=2")


def test_there_are_commands():
    assert len(list(commands())) > 15


@pytest.mark.parametrize("page", ["label", "classify", "transcribe", "density"])
def test_a_page_shows_what_comes_out(page):
    text = (GUIDE / f"{page}.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", text)
    assert shown
    for words, name in shown:
        assert len(words) > 20  # for those who do not see it
        assert 2_000 < (GUIDE / name).stat().st_size < 150_000
        with Image.open(GUIDE / name) as image:
            image.verify()
        assert f"python docs/pictures/guide.py {page}" in text


def test_the_parts_of_ones_own_run(tmp_path, ndrnn, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"```python\n(.*?)```", (GUIDE / "own.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    layer, data, task, python = blocks
    (tmp_path / "guide_parts.py").write_text("\n\n".join((layer, data, task)), encoding="utf-8")
    generator = np.random.default_rng(0)
    (tmp_path / "sound").mkdir()
    for index in range(8):
        values = generator.normal(size=(5, 6 + index % 2)).astype(np.float32)
        np.save(tmp_path / f"sound/{'ab'[index % 2]}_{index}.npy", values)
    ran = ndrnn(
        *(
            "train",
            "--plugin",
            "guide_parts",
            "--task",
            "classify",
            "--by",
            "sample",
            "--data.format",
            "spectrograms",
        ),
        *("--data.path", tmp_path / "sound", "--network.layer", "Residual", "--network.hidden", 2, 2),
        *("--training.epochs", 1, "--out", "run"),
    )
    assert ran.status == 0, ran.err
    assert "2 classes: a, b" in ran.out
    images = tmp_path / "cells"
    for part in ("images", "masks"):
        (images / part).mkdir(parents=True)
    for index in range(4):
        array = generator.integers(0, 2, (8, 8)).astype(np.uint8)
        Image.fromarray(200 * array).save(images / f"images/{index}.png")
        Image.fromarray(array).save(images / f"masks/{index}.png")
    ran = ndrnn(
        *("train", "--plugin", "guide_parts", "--task", "focal", "--gamma", 1, "--data.format", "masks"),
        *("--data.path", images, "--network.hidden", 2, "--training.epochs", 1, "--out", "focal"),
    )
    assert ran.status == 0, ran.err
    exec(compile(python.replace("(8, 16)", "(1, 2)"), "own.md", "exec"), {})
    assert (tmp_path / "cells.safetensors").exists()
