"""What a type checker tells users of a layer."""

import subprocess
import sys
from pathlib import Path

import pytest

import ndrnn

CODE = """
import ndrnn
import torch
from torch import Tensor

layer = ndrnn.MDLSTM(1, 2)
x = torch.zeros(1, 2, 2, 1)
y: Tensor = layer(x)
z: tuple[Tensor, ndrnn.State] = layer(x, return_state=True)
layer(x, initial_state=z[1])
of_stack: tuple[Tensor, tuple[ndrnn.State, ...]] = ndrnn.Stack(layer)(x, return_state=True)
turned: Tensor = ndrnn.ChannelsFirst(layer)(x)
scores: Tensor = ndrnn.Hierarchy(1, 2, hidden=(2,))(x)
taken: Tensor = ndrnn.MDLSTM.from_torch(torch.nn.LSTM(1, 2))(x)
layer(x, return_states=True)  # type: ignore[call-overload]
wrong: str = layer(x)  # type: ignore[assignment]
"""


@pytest.mark.slow
def test_calls_are_typed(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(CODE)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--cache-dir",
            tmp_path / "cache",
            "user.py",
        ],
        cwd=tmp_path,
        env={"MYPYPATH": str(Path(ndrnn.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout  # an ignore without an error is an error, too
