"""What is told beforehand is what it then takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import ndrnn
from ndrnn.estimate import Estimate

# Builds a layer, then measures the pages that a call touches, as the operating system counts them.
MEASURE = """
import json, sys, torch, ndrnn
torch.set_num_threads(1)

def resident(field):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))

case = json.loads(sys.argv[1])
layer = ndrnn.MDLSTM(case["shape"][-1], case["hidden"], checkpoint=case["checkpoint"])
x = torch.randn(case["shape"], requires_grad=case["training"])

def call(x):
    with torch.set_grad_enabled(case["training"]):
        y = layer(x)
    if case["training"]:
        y.backward(torch.ones_like(y))

with ndrnn.backend(case["backend"]):
    call(x.detach()[:1, :2, :2].requires_grad_(case["training"]))  # brings in code
    layer.zero_grad()
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = resident("VmRSS")
    call(x)
print(resident("VmHWM") - before)
"""


def measured_peak(case):
    command = [sys.executable, "-W", "error", "-c", MEASURE, json.dumps(case)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to reset the peak")
@pytest.mark.parametrize("checkpoint", [False, True], ids=["plain", "checkpoint"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_peak_is_what_a_process_takes(backend, training, checkpoint):
    # the wavefront's steps take long to go through, the compiled kernels' own work space is to be a small part
    shape, hidden = ((64, 8, 8, 4), 64) if backend == "wavefront" else ((8, 96, 96, 4), 64)
    if checkpoint and not training:
        pytest.skip("inference is not cut into strips")
    case = {
        "backend": backend,
        "shape": shape,
        "hidden": hidden,
        "training": training,
        "checkpoint": checkpoint,
    }
    layer = ndrnn.MDLSTM(shape[-1], hidden, checkpoint=checkpoint)
    told, taken = ndrnn.estimate(layer, shape, training=training), measured_peak(case)
    assert told.peak_bytes / 1.3 < taken < told.peak_bytes * 1.3, f"told {told}, took {taken / 1e6:.0f} MB"


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_operations_are_those_of_the_products(variant, ndim):
    lattice, batch = (4, 3, 5)[:ndim], 2
    layer = variant(3, 4, ndim)
    x = torch.randn(batch, *lattice, 3, dtype=torch.float64, requires_grad=True)
    # the wavefront scan multiplies at every point, also where the predecessor is a boundary state of zeros
    with ndrnn.backend("wavefront"), FlopCounterMode(display=False) as forward:
        y = layer(x)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert ndrnn.estimate(layer, x.shape, training=False).operations == forward.get_total_flops()
    both = forward.get_total_flops() + backward.get_total_flops()
    assert ndrnn.estimate(layer, x.shape).operations == both


def test_bytes_of_output_and_of_what_is_kept(backend):
    layer = ndrnn.MDLSTM(3, 32, dtype=torch.float64)
    shape = (2, 9, 8, 3)
    inference, training = (ndrnn.estimate(layer, shape, training=mode) for mode in (False, True))
    assert inference.output_bytes == training.output_bytes == 2 * 9 * 8 * 4 * 32 * 8
    assert inference.kept_bytes == 0
    # at the least the memories
    assert training.kept_bytes >= training.output_bytes
    assert training.peak_bytes >= 2 * training.output_bytes + training.kept_bytes


def test_checkpoint_keeps_less(backend):
    plain, in_strips = (
        ndrnn.estimate(ndrnn.MDLSTM(3, 8, checkpoint=checkpoint), (2, 24, 24, 3))
        for checkpoint in (False, True)
    )
    assert in_strips.kept_bytes < plain.kept_bytes / 4
    assert in_strips.peak_bytes < plain.peak_bytes


def test_nothing_of_that_size_is_allocated(backends):
    if "cpu" not in backends:
        pytest.skip("the plain backend would take its many steps")
    told = ndrnn.estimate(ndrnn.MDLSTM(3, 256), (64, 2048, 2048, 3))
    assert told.peak_bytes > 2**40


def test_layer_is_left_alone(backend):
    layer = ndrnn.MDLSTM(2, 3)
    before = {name: parameter.clone() for name, parameter in layer.named_parameters()}
    ndrnn.estimate(layer, (1, 3, 3, 2))
    for name, parameter in layer.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


def test_reads_well():
    told = Estimate(22_000_000_000, 67_100_000, 0, 1_234)
    assert str(told) == "22 GFLOP; output 67.1 MB, kept for the backward pass 0 B, peak 1.23 kB"


@pytest.mark.parametrize(
    ("layer", "shape", "error", "message"),
    [
        (torch.nn.Linear(1, 1), (1, 2, 2, 1), TypeError, "layer must be a layer of ndrnn, got Linear"),
        (ndrnn.MDLSTM(2, 3), (1, 2, 2), ValueError, r"shape must be \(N, D1, D2, 2\), got \(1, 2, 2\)"),
        (ndrnn.MDLSTM(2, 3), (1, 2, 2, 3), ValueError, "shape must be"),
        (ndrnn.MDLSTM(2, 3), (1, -2, 2, 2), ValueError, "shape must be"),
        (ndrnn.MDLSTM(2, 3), (1, 2.0, 2, 2), TypeError, "shape must be ints"),
    ],
)
def test_bad_arguments(layer, shape, error, message):
    with pytest.raises(error, match=message):
        ndrnn.estimate(layer, shape)
