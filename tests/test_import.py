"""What the package shows, what importing it costs, and which package may know which."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ndrnn

PACKAGE = Path(ndrnn.__file__).parent

# from the lowest; a module may import from its own package and from those before it
ORDER = ["version", "later", "registry", "progress", "seeds", "saving", "hub", "lattice", "saturation", "cells", "scan", "nn", "inspect", "density", "data", "onnx", "learn", "tasks", "app"]  # fmt: skip
# within density
FLOORS_OF_DENSITY = ["mixture", "lattices", "ride", "use", "learn"]
# what stands above all packages
TOP = {"ndrnn", "ndrnn.__main__", "ndrnn.builtin", "ndrnn.testing"}
# where Lightning, the readers' libraries and the command line begin
FIRST_WITH_LIBRARIES = "data"
LIBRARIES = ["lightning", "torchmetrics", "tyro", "rich", "matplotlib", "sklearn", "skimage", "scipy", "PIL", "nibabel", "constriction", "tensorboard", "onnx", "onnxscript", "onnxruntime", "huggingface_hub", "starlette", "uvicorn"]  # fmt: skip


def _name_of(path):
    name = ".".join(("ndrnn", *path.relative_to(PACKAGE).with_suffix("").parts))
    return name.removesuffix(".__init__")


MODULES = {_name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name, path, text=None):
    """The library's modules that a file names, with the line: imports at whatever depth and under whatever condition,
    and strings that are the name of a module, or of something in one (``"ndrnn.tasks.label:USE"``, ``".label"``)."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]

    def module(dotted):
        """The longest beginning of a dotted name that is a module."""
        parts = dotted.split(".")
        while parts and ".".join(parts) not in MODULES:
            parts.pop()
        return ".".join(parts)

    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found = [f"{stem}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            word = node.value.partition(":")[0]
            if word.startswith("ndrnn.") and word in MODULES:
                found = [word]
            elif word.startswith(".") and ".".join(package) + word in MODULES:
                found = [".".join(package) + word]
        for dotted in found:
            if dotted.split(".")[0] == "ndrnn":
                yield module(dotted), node.lineno


def rank(name):
    parts = name.split(".")
    inner = len(FLOORS_OF_DENSITY)
    if parts[1] == "density" and len(parts) > 2 and parts[2] in FLOORS_OF_DENSITY:
        inner = FLOORS_OF_DENSITY.index(parts[2])
    return ORDER.index(parts[1]), inner


def test_public_names():
    assert sorted(ndrnn.__all__) == [
        "CausalNeighborhood",
        "ChannelsFirst",
        "Diagnosis",
        "Estimate",
        "Hierarchy",
        "LeakyMDLSTM",
        "MCGSM",
        "MDGRU",
        "MDLSTM",
        "MDLinearRNN",
        "MDRNN",
        "RIDE",
        "SpatialLSTM",
        "StableMDLSTM",
        "Stack",
        "State",
        "available_backends",
        "backend",
        "diagnose",
        "estimate",
        "linear_scan",
        "load",
        "release_memory",
        "save",
    ]
    assert all(hasattr(ndrnn, name) for name in ndrnn.__all__)
    assert ndrnn.testing.assert_conforms
    with pytest.raises(AttributeError, match="no attribute 'densty'"):
        ndrnn.densty  # noqa: B018


def test_a_star_hides_no_module_of_others():
    run(
        "from torch import nn; from ndrnn import *; nn.Conv2d; MDLSTM, load, backend; assert 'data' not in globals()"
    )
    assert {*ndrnn.__all__, *ndrnn._MODULES, "__version__"} <= set(dir(ndrnn))


def test_modules_are_attributes_without_an_import_of_their_own():
    run(
        "import ndrnn; ndrnn.density.Rate; ndrnn.tasks.Label; ndrnn.learn.fit; ndrnn.data.Reader; "
        "ndrnn.testing.assert_conforms"
    )


def test_every_package_has_its_place():
    assert {name.split(".")[1] for name in MODULES if name not in TOP} == set(ORDER)


def test_imports_go_down_only():
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} names {found}"
        for name, path in MODULES.items()
        if name not in TOP
        for found, line in imports_of(name, path)
        if found in TOP or rank(found) > rank(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circle():
    graph = {name: {found for found, _ in imports_of(name, path)} - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    "text",
    [
        "from ..tasks import label",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..tasks.label import Label",
        "def late():\n    import ndrnn.tasks.label",
        "PLACE = 'ndrnn.tasks.label:USE'",
    ],
)
def test_an_upward_import_is_seen_wherever_it_hides(text):
    found = list(imports_of("ndrnn.nn.layers", MODULES["ndrnn.nn.layers"], text))
    assert [name for name, _ in found] == ["ndrnn.tasks.label"]
    assert rank(found[0][0]) > rank("ndrnn.nn.layers")


def test_the_lower_packages_load_without_the_libraries_of_the_higher():
    below = ORDER[: ORDER.index(FIRST_WITH_LIBRARIES)]
    names = [
        name for name in MODULES if name not in TOP and name.split(".")[1] in below and "triton" not in name
    ]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({LIBRARIES}))"
    run(f"{blocked}\nimport importlib\nfor name in {names}: importlib.import_module(name)")


def test_no_module_is_named_utils():
    vague = ("utils", "util", "helpers", "common", "misc")
    assert not [name for name in MODULES if name.split(".")[-1] in vague]


def test_what_the_registry_declares_is_there():
    registry = ndrnn.registry
    for kind in (registry.layers, registry.models, registry.tasks, registry.readers):
        assert all(kind[name] is not None for name in kind)
    own = ("MDRNN", "MDLSTM", "StableMDLSTM", "LeakyMDLSTM", "SpatialLSTM", "MDGRU", "MDLinearRNN")
    assert [registry.layers[name].__name__ for name in own] == list(own)


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )


def test_import_brings_nothing_and_says_nothing():
    result = run("import sys; import ndrnn; print(*sys.modules)")
    assert result.stderr == ""
    loaded = set(result.stdout.split())
    heavy = {*LIBRARIES, "torch", "numpy", "triton", "hypothesis", "pytest", "safetensors"}
    assert not {name.split(".")[0] for name in loaded} & heavy
    own = {name for name in loaded if name.startswith("ndrnn.")}
    assert own == {"ndrnn.builtin", "ndrnn.registry", "ndrnn.version"}


def test_a_layer_brings_nothing_heavy_beyond_torch():
    result = run(
        "import torch, sys; before = set(sys.modules); import ndrnn; ndrnn.MDLSTM(1, 1); "
        "print(*sorted(set(sys.modules) - before))"
    )
    assert result.stderr == ""
    new = result.stdout.split()
    heavy = {*LIBRARIES, "triton", "hypothesis", "pytest", "safetensors"}
    assert not {name.split(".")[0] for name in new} & heavy
    assert not [name for name in new if name.startswith(("torch._dynamo", "torch._inductor"))]
