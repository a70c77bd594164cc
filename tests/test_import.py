"""What the package shows, what importing it costs, and which floor may know which."""

import ast
import subprocess
import sys
from pathlib import Path

import ndrnn

PACKAGE = Path(ndrnn.__file__).parent

# what is not named here is on the third floor
FLOORS = [
    {"atomic", "settings", "lattice", "cells", "scan"},
    {"layers", "strips", "blocks", "hierarchy", "density", "testing", "diagnose", "estimate"},
]
THIRD_FLOOR_LIBRARIES = ["lightning", "torchmetrics", "tyro", "rich", "matplotlib", "sklearn", "skimage", "scipy", "PIL", "nibabel", "constriction", "tensorboard"]  # fmt: skip


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def floor_of(module):
    """The floor, counted from 0, of a module named by the first part of its path below the package."""
    return next((level for level, names in enumerate(FLOORS) if module in names), len(FLOORS))


def imports_of(path):
    """Absolute names of all modules that a file imports, at whatever depth, with the line."""
    package = ("ndrnn", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield stem, node.lineno
            yield from ((f"{stem}.{alias.name}", node.lineno) for alias in node.names)


def test_public_names():
    assert sorted(ndrnn.__all__) == [
        "CausalNeighborhood",
        "Diagnosis",
        "Estimate",
        "LeakyMDLSTM",
        "MCGSM",
        "MDGRU",
        "MDLSTM",
        "MDRNN",
        "RIDE",
        "SpatialLSTM",
        "StableMDLSTM",
        "available_backends",
        "backend",
        "diagnose",
        "estimate",
        "load",
        "release_memory",
        "save",
        "testing",
    ]
    assert all(hasattr(ndrnn, name) for name in ndrnn.__all__)
    assert ndrnn.testing.assert_conforms


def test_the_named_modules_exist():
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert set.union(*FLOORS) <= names


def test_imports_go_down_only():
    wrong = []
    for path in modules():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for name, line in imports_of(path):
            if name.startswith("ndrnn.") and floor_of(name.split(".")[1]) > floor_of(own):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_lower_floors_load_without_the_libraries_of_the_third():
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in modules()
        if floor_of(path.relative_to(PACKAGE).parts[0].removesuffix(".py")) < len(FLOORS)
        and "triton" not in path.parts
    ]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({THIRD_FLOOR_LIBRARIES}))"
    run(f"{blocked}\nimport importlib\nfor name in {names}: importlib.import_module(name)")


def test_no_module_is_named_utils():
    assert not [path for path in modules() if path.stem in ("utils", "util", "helpers", "common", "misc")]


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )


def test_import_brings_nothing_heavy_and_says_nothing():
    code = "import torch, sys; before = set(sys.modules); import ndrnn; print(*sorted(set(sys.modules) - before))"
    result = run(code)
    assert result.stderr == ""
    new = {name.split(".")[0] for name in result.stdout.split()}
    assert not new & {*THIRD_FLOOR_LIBRARIES, "triton", "hypothesis", "pytest", "safetensors"}
    own = {name.split(".")[1] for name in result.stdout.split() if name.startswith("ndrnn.")}
    assert all(floor_of(name) < len(FLOORS) for name in own)
    assert not [
        name for name in result.stdout.split() if name.startswith(("torch._dynamo", "torch._inductor"))
    ]
