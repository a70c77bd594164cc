"""What is told beforehand is what it then takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import ndrnn
from ndrnn.inspect.estimate import Estimate

# Measures the pages that calls of a layer touch, as the operating system counts them: inference, a training step,
# and one with recomputation by strips.
MEASURE = """
import json, sys, torch, ndrnn
torch.set_num_threads(1)

def resident(field):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))

def call(layer, x):
    with torch.set_grad_enabled(x.requires_grad):
        y = layer(x)
    if x.requires_grad:
        y.backward(torch.ones_like(y))

backend, shape, hidden = json.loads(sys.argv[1])
with ndrnn.backend(backend):
    for training, recompute in ((False, False), (True, False), (True, True)):
        layer = ndrnn.MDLSTM(shape[-1], hidden, recompute=recompute)
        x = torch.randn(shape, requires_grad=training)
        call(layer, x.detach()[:1, :2, :2].requires_grad_(training))  # brings in code
        layer.zero_grad()
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")
        before = resident("VmRSS")
        call(layer, x)
        print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to reset the peak")
def test_peak_is_what_a_process_takes(backend):
    # the wavefront's steps take long to go through, the compiled kernels' own work space is to be a small part
    shape, hidden = ((64, 8, 8, 4), 64) if backend == "wavefront" else ((8, 96, 96, 4), 64)
    command = [sys.executable, "-W", "error", "-c", MEASURE, json.dumps([backend, shape, hidden])]
    # what is freed goes back to the system, so that the pages are those in use and not what malloc holds in reserve
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    plain, in_strips = (ndrnn.MDLSTM(4, hidden, recompute=recompute) for recompute in (False, True))
    for taken, layer, training in zip(
        map(int, output.split()), (plain, plain, in_strips), (False, True, True), strict=True
    ):
        told = ndrnn.estimate(layer, shape, training=training)
        assert told.peak_bytes / 1.3 < taken < told.peak_bytes * 1.3, (
            f"told {told}, took {taken / 1e6:.0f} MB"
        )


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_operations_are_those_of_the_products(variant, ndim, random_state):
    layer = variant(3, 4, ndim)
    x = torch.randn(2, *(4, 3, 5)[:ndim], 3, dtype=torch.float64, requires_grad=True)
    # with boundary states that have gradients every point has predecessors
    state = random_state(layer, x)
    for faces in state:
        for face in faces or ():
            face.requires_grad_()
    with ndrnn.backend("wavefront"), FlopCounterMode(display=False) as forward:
        y = layer(x, initial_state=state)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    told = [ndrnn.estimate(layer, tuple(x.shape), training=training).operations for training in (False, True)]
    counted = forward.get_total_flops()
    assert told == [counted, counted + backward.get_total_flops()]


def test_bytes_of_output_and_of_what_is_kept(backend):
    layer = ndrnn.MDLSTM(3, 32, dtype=torch.float64)
    shape = (2, 9, 8, 3)
    inference, training = (ndrnn.estimate(layer, shape, training=mode) for mode in (False, True))
    assert inference.output_bytes == training.output_bytes == 2 * 9 * 8 * 4 * 32 * 8
    assert inference.kept_bytes == 0
    # at the least the memories
    assert training.kept_bytes >= training.output_bytes
    assert training.peak_bytes >= 2 * training.output_bytes + training.kept_bytes


def test_recompute_keeps_less(backend):
    plain, in_strips = (
        ndrnn.estimate(ndrnn.MDLSTM(3, 8, recompute=recompute), (2, 12, 12, 3)) for recompute in (False, True)
    )
    assert in_strips.kept_bytes < plain.kept_bytes / 2
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


def test_a_parametrised_layer_costs_the_same_operations():
    plain, normed = ndrnn.MDLSTM(2, 3), ndrnn.MDLSTM(2, 3)
    parametrizations.weight_norm(normed, "weight_hh")
    parametrizations.spectral_norm(normed, "weight_ih")
    before = {name: value.clone() for name, value in normed.state_dict().items()}
    told, expected = ndrnn.estimate(normed, (1, 4, 4, 2)), ndrnn.estimate(plain, (1, 4, 4, 2))
    assert told.operations == expected.operations
    assert told.output_bytes == expected.output_bytes
    assert told.kept_bytes >= expected.kept_bytes
    for name, value in normed.state_dict().items():
        assert torch.equal(value, before[name])
