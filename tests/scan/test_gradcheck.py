"""Analytic against numerical gradients in float64, on the very kernels that run in training."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

import ndrnn

LATTICES = {1: (4,), 2: (3, 2), 3: (2, 2, 2)}
SIZES = {1: [[4], [2], [0]], 2: [[3, 2], [2, 1], [0, 2]], 3: [[2, 2, 2], [1, 2, 1], [2, 1, 0]]}


def as_function(layer, sizes, has_state):
    """The layer as a function of everything that it can be differentiated by, giving all that it computes."""
    names = [name for name, _ in layer.named_parameters()]
    faces = layer.ndim

    def function(x, *tensors):
        parameters, entry = dict(zip(names, tensors, strict=False)), tensors[len(names) :]
        state = None
        if has_state:
            state = (entry[:faces], entry[faces:]) if layer.cell.memory else entry
        y, exits = functional_call(layer, parameters, (x, sizes, state), {"return_state": True})
        return (y, *(face for part in exits for face in part or ()))

    return function


def problem(variant, ndim, mode, normal, random_state, hidden=2, lattice=None):
    one = [(-1, 1, -1)[:ndim]]
    layer = variant(2, hidden, ndim, directions=one if mode.startswith("one") else "all")
    batch = len(SIZES[ndim]) if "ragged" in mode else 1
    x = normal(batch, *(lattice or LATTICES[ndim]), 2).requires_grad_()
    inputs = [x, *(parameter.detach().requires_grad_() for parameter in layer.parameters())]
    if "states" in mode:
        state = random_state(layer, x)
        inputs += [face.requires_grad_() for part in state for face in part or ()]
    sizes = torch.tensor(SIZES[ndim]) if "ragged" in mode else None
    return as_function(layer, sizes, "states" in mode), tuple(inputs)


@pytest.mark.parametrize(
    "mode",
    [
        "all",
        "one",
        "ragged_states",
        pytest.param("ragged", marks=pytest.mark.slow),
        pytest.param("states", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gradients_along_random_directions(backend, variant, ndim, mode, normal, random_state):
    function, inputs = problem(variant, ndim, mode, normal, random_state)
    assert gradcheck(function, inputs, fast_mode=True)


def test_every_element_of_the_jacobian(backend, variant, normal, random_state):
    function, inputs = problem(variant, 2, "one_states", normal, random_state, lattice=(2, 2))
    assert gradcheck(function, inputs)


@pytest.mark.parametrize(("ndim", "mode"), [(1, "states"), (2, "ragged_states"), (3, "one")])
def test_the_reference_itself(variant, ndim, mode, normal, random_state):
    with ndrnn.backend("reference"):
        function, inputs = problem(variant, ndim, mode, normal, random_state)
        assert gradcheck(function, inputs, fast_mode=True)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)  # torch's own use of it
@pytest.mark.parametrize("ndim", [1, 2])
def test_wavefront_in_forward_mode_and_batched(variant, ndim, normal, random_state):
    with ndrnn.backend("wavefront"):
        function, inputs = problem(variant, ndim, "one_states", normal, random_state)
        assert gradcheck(
            function,
            inputs,
            fast_mode=True,
            check_forward_ad=True,
            check_batched_grad=True,
            check_batched_forward_grad=True,
        )


@pytest.mark.parametrize(("ndim", "mode"), [(1, "states"), (2, "one_ragged_states"), (3, "one")])
def test_wavefront_twice(variant, ndim, mode, normal, random_state):
    with ndrnn.backend("wavefront"):
        function, inputs = problem(variant, ndim, mode, normal, random_state)
        assert gradgradcheck(function, inputs, fast_mode=True)
