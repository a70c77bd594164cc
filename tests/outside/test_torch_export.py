"""Programs of ``torch.export`` that another process loads, which knows the operators and none of the layers."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from torch.export import Dim

import ndrnn

from .conftest import drawn

pytestmark = [pytest.mark.kernels, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

USE = """
import sys, torch, ndrnn.scan  # brings the operators
folder, compiled = sys.argv[1], sys.argv[2] == "compiled"
x, sizes, y = torch.load(f"{folder}/data.pt")
if compiled:
    program = torch._inductor.aoti_load_package(f"{folder}/compiled.pt2")
else:
    program = torch.export.load(f"{folder}/program.pt2").module()
with torch.no_grad():
    torch.testing.assert_close(program(x, sizes), y)
assert not [name for name in sys.modules if name.startswith("ndrnn.nn")]
"""


@pytest.fixture
def program(tmp_path):
    """A program for free batch and extents, with samples of other sizes and what the layer says of them."""
    module = drawn(ndrnn.Stack(ndrnn.MDRNN(2, 2, merge="sum"), ndrnn.MDLinearRNN(2, 2)))
    n = Dim("n", min=1, max=64)
    free = {"x": {0: n, 1: Dim("h", min=1, max=512), 2: Dim("w", min=1, max=512)}, "sizes": {0: n}}
    given = torch.zeros(2, 20, 30, 2), torch.tensor([[20, 30], [5, 7]])
    with torch.no_grad():
        made = torch.export.export(module, given, dynamic_shapes=free, strict=False)
        x, sizes = torch.randn(3, 7, 11, 2), torch.tensor([[7, 11], [3, 4], [0, 5]])
        torch.save((x, sizes, module(x, sizes)), tmp_path / "data.pt")
    return made


def use(folder, how):
    ran = subprocess.run(
        [sys.executable, "-c", USE, folder, how], capture_output=True, text=True, timeout=200, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_a_program_in_another_process(program, tmp_path):
    torch.export.save(program, tmp_path / "program.pt2")
    use(tmp_path, "program")


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_a_compiled_program_in_another_process(program, tmp_path):
    torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "compiled.pt2"))
    use(tmp_path, "compiled")
