"""torch's counter of operations knows the scans."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import ndrnn


def forward_by_hand(layer, points):
    directions, gates = layer.weight_ih.shape[:2]
    matrices = 2 if layer.cell.feeds_memory else 1 if layer.cell.recurrent else 0
    return 2 * points * directions * gates * (layer.input_size + matrices * layer.ndim * layer.hidden_size)


def test_a_training_step(backend, variant, normal, random_state):
    recompute = variant.name == "gru" and 2
    layer = variant(3, 4, 2, recompute=recompute)
    x = normal(2, 4, 5, 3).requires_grad_()
    state = random_state(layer, x)  # so that the plain backend multiplies at the border, too
    state = ndrnn.State(
        *(None if part is None else tuple(f.requires_grad_() for f in part) for part in state)
    )
    with FlopCounterMode(display=False) as forward:
        y = layer(x, initial_state=state)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    once = forward_by_hand(layer, 2 * 4 * 5)
    assert once == ndrnn.estimate(layer, tuple(x.shape), training=False).operations
    assert forward.get_total_flops() == once
    # the compiled linear layer keeps no gates and multiplies again
    again = recompute or (backend == "cpu" and not layer.cell.recurrent)
    assert backward.get_total_flops() == (3 if again else 2) * once


@pytest.mark.kernels
def test_what_needs_no_gradient_is_not_counted(normal):
    layer = ndrnn.MDLSTM(3, 4, dtype=torch.float64)
    of_inputs, once = 2 * 40 * 4 * 20 * 3, forward_by_hand(layer, 40)
    with FlopCounterMode(display=False) as counter:
        layer(normal(2, 4, 5, 3)).sum().backward()
    assert counter.get_total_flops() == 3 * once - of_inputs
    layer.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        layer(normal(2, 4, 5, 3).requires_grad_()).sum().backward()
    assert counter.get_total_flops() == 2 * once


@pytest.mark.kernels
@pytest.mark.parametrize("counter_first", [False, True])
def test_in_whatever_order_things_are_imported(counter_first):
    counter = "from torch.utils.flop_counter import FlopCounterMode"
    before, after = (counter, "") if counter_first else ("", counter)
    code = f"""
import sys, torch
{before}
import ndrnn
layer, x = ndrnn.MDLSTM(3, 4), torch.zeros(1, 2, 2, 3)
layer(x)
assert ("torch.utils.flop_counter" in sys.modules) == {counter_first}
{after}
with FlopCounterMode(display=False) as counter:
    layer(x)
print(counter.get_total_flops())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 2 * 4 * 4 * 20 * (3 + 8)
