"""Recipes and options: one set of keys, and errors that name the nearest."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from ndrnn.app import recipe as recipes
from ndrnn.app import toml
from ndrnn.data.readers.pairs import Masks

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Nothing:
    """No options of its own."""


def parse(*words):
    return recipes.parse([str(word) for word in words], Nothing, "ndrnn try")[0]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'task = "label"\ndice = 0.5\n[data]\nformat = "masks"\npath = "here"\nignore = [11]\n'
        "[network]\nhidden = [4, 8]\n[training]\nepochs = 7\n",
        encoding="utf-8",
    )
    return path


def test_a_recipe_and_options_over_it(file):
    recipe = parse(file, "--training.epochs", 3, "--data.ignore", 1, 2)
    assert recipe.task == "label"
    assert recipe.config.dice == 0.5
    assert recipe.config.network.hidden == (4, 8)
    assert recipe.config.training.epochs == 3
    assert recipe.data == Masks(path="here", ignore=(1, 2))


def test_options_alone():
    recipe = parse("--task", "classify", "--data.format=idx", "--data.path", "x", "--network.hidden", 3)
    assert recipe.config.network.hidden == (3,)
    assert type(recipe.data).__name__ == "Idx"


def test_another_format_keeps_the_place(file):
    recipe = parse(file, "--data.format", "arrays")
    assert type(recipe.data).__name__ == "Arrays"
    assert recipe.data.path == "here"


def test_a_recipe_comes_back_from_its_own_text(file, tmp_path):
    recipe = parse(file, "--data.classes", 'a "b"', "c\\d", "é", "--training.learning-rate", 1e-7)
    (tmp_path / "run").mkdir()
    recipe.save(tmp_path / "run")
    assert recipes.read(tmp_path / "run") == recipe
    assert parse(tmp_path / "run") == recipe


def test_what_a_recipe_expects_holds_for_who_changes_nothing_but_seed_and_place(file, tmp_path):
    file.write_text(file.read_text(encoding="utf-8") + "\n[expected]\nmean_iou = 0.5\n", encoding="utf-8")
    same = parse(file, "--training.seed", 3, "--data.path", "elsewhere/here", "--data.root", "/data")
    assert same.expected == {"mean_iou": 0.5}
    (tmp_path / "run").mkdir()
    same.save(tmp_path / "run")
    assert parse(tmp_path / "run").expected == {"mean_iou": 0.5}
    others = (
        ("--training.epochs", 3),
        ("--task", "label"),
        ("--data.path", "mine"),
        ("--data.classes", "a", "b"),
    )
    for words in others:
        assert not parse(file, *words).expected, words


def test_toml_of_every_kind_of_value():
    values = {
        "a": 1,
        "b": -2.5,
        "c": 1e-30,
        "d": True,
        "e": 'quotes " and \\ and \n and \x7f and ü',
        "f": [1, 2],
        "g": ["x", "y"],
        "h/i": 1,
        "t": {"u": False, "v": []},
    }
    assert tomllib.loads(toml.dumps({**values, "none": None})) == values
    with pytest.raises(TypeError, match="k must be a string, number"):
        toml.dumps({"k": object()})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('task = "lable"', "task 'lable' is not known; did you mean 'label'?"),
        ('tsk = "label"', "task must be one of label, classify, transcribe, density"),
        ('task = "label"', "data must be a table with the keys format and path"),
        ('task = "label"\n[data]\npath = "x"', "data.format is missing"),
        ('task = "label"\n[data]\nformat = "mask"', "did you mean 'masks'?"),
        (
            'task = "label"\n[data]\nformat = "masks"\nignroe = [1]',
            "unknown key 'data.ignroe'; did you mean 'ignore'?",
        ),
        ('task = "label"\ndcie = 1\n[data]\nformat = "masks"', "unknown key 'dcie'; did you mean 'dice'?"),
        ('task = "label"\ndice = "x"\n[data]\nformat = "masks"', "dice must be of type float, got 'x'"),
        ('task = "label"\n[data]\nformat = "masks"\n[training]\nepochs = 0', "epochs must be above 0"),
        ("task = ", "not TOML"),
        (
            'task = "label"\n[data]\nformat = "masks"\n[expected]\niou = "x"',
            "expected must be a table of metrics and their figures, got {'iou': 'x'}",
        ),
    ],
)
def test_wrong_recipes_end_with_status_2(text, message, ndrnn, tmp_path):
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    ran = ndrnn("check", tmp_path / "r.toml")
    assert ran.status == 2
    assert message in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("chekc",), "no command 'chekc'; did you mean 'check'?"),
        (
            ("train", "--task", "label", "--data.format", "masks", "--trainnig.epochs", "3"),
            "--training.epochs",
        ),
        (("check", "none.toml"), "none.toml: no such recipe"),
        (("check", "--task"), "--task needs a value"),
        (
            ("check", "--task", "label", "--data.format", "masks", "--plugin", "no_such_one"),
            "no module of this name",
        ),
        (("check", "--task", "label", "--data.format", "masks", "--plugin", "no.py"), "no such file"),
        (
            ("check", "--task", "label", "--data.format", "masks", "--data.path", "/no/such"),
            "no such file or folder",
        ),
        (("predict", "nowhere", "x"), "nowhere: no such model"),
        (("evaluate", "nowhere"), "nowhere: no such recipe"),
        (("bench", "--layer", "MDLTSM"), "did you mean 'MDLSTM'?"),
    ],
)
def test_wrong_words_end_with_status_2(words, message, ndrnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = ndrnn(*words)
    assert ran.status == 2
    assert message in ran.err


@pytest.mark.parametrize(
    "command",
    [
        *("info", "check", "train", "evaluate", "predict", "sample", "inpaint", "compress", "decompress"),
        "bench",
    ],
)
def test_every_command_has_help(command, ndrnn):
    ran = ndrnn(command, "--help")
    assert ran.status == 0
    assert f"usage: ndrnn {command}" in ran.out


def test_help_version_and_info(ndrnn):
    assert ndrnn("--help").status == 0
    assert ndrnn().status == 2
    assert ndrnn("--version").out.strip() == version("ndrnn")
    told = ndrnn("info", "--json").json
    assert told["tasks"][:4] == ["label", "classify", "transcribe", "density"]
    assert {"arrays", "classes", "idx", "images", "lines", "masks"} <= set(told["formats"])


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_project_are_valid(path):
    recipe = recipes.read(path)
    assert not Path(recipe.data.path).is_absolute()
    assert recipe.config.training.epochs > 0


def test_bench_counts_points(ndrnn):
    ran = ndrnn("bench", "--size", 4, 5, "--batch", 1, "--hidden", 2, "--seconds", 0.01, "--json")
    assert ran.status == 0
    figures = ran.json["points_per_second"]
    assert "wavefront" in figures
    assert all(rate > 0 for row in figures.values() for rate in row.values())


def test_a_missing_extra_is_named(tmp_path):
    """In a process of its own, where Lightning cannot be imported."""
    (tmp_path / "x").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "x/a.png")
    code = (
        f"import sys; sys.modules['lightning'] = None; from ndrnn.app.cli import main; "
        f"sys.exit(main(['train', '--task', 'density', '--data.format', 'images', '--data.path', {str(tmp_path)!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 1, ran.stderr
    assert "pip install 'ndrnn[train]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_run_of_before_is_read_as_it_learned(tmp_path):
    """Volumes were not brought to one orientation then, and its recipe does not say so."""
    text = 'task = "label"\n[data]\nformat = "masks"\npath = "volumes"\n'
    (tmp_path / "config.toml").write_text(text)
    assert recipes.read(tmp_path).data.orientation == "stored"
    assert recipes.read(tmp_path / "config.toml").data.orientation == "RAS"
    (tmp_path / "config.toml").write_text(text + 'orientation = "RAS"\n')
    assert recipes.read(tmp_path).data.orientation == "RAS"
