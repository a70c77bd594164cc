"""What the directions of a layer remember, seen from outside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ndrnn
from ndrnn.inspect.activity import first_component, hidden_states, mean_activity, scan_layers
from ndrnn.nn.networks import LineReader


@pytest.mark.parametrize("merge", ["concat", "sum", "mean"])
def test_each_direction_is_what_its_scan_alone_says(merge):
    model = nn.Sequential(ndrnn.MDGRU(2, 3, merge=merge), ndrnn.MDLSTM(12 if merge == "concat" else 3, 2))
    x = torch.randn(2, 4, 5, 2)
    states = hidden_states(model, "0", lambda: model(x))
    assert states.shape == (2, 4, 5, 4, 3)
    for number, direction in enumerate(model[0].directions):
        alone = ndrnn.MDGRU(2, 3, directions=[direction])
        with torch.no_grad():
            for name, weight in alone.named_parameters():
                weight.copy_(getattr(model[0], name)[number : number + 1])
            assert torch.allclose(states[..., number, :], alone(x), atol=1e-6)


@pytest.mark.parametrize("by_name", [True, False])
def test_ragged_samples_of_merged_directions(by_name):
    layer = ndrnn.MDGRU(2, 3, merge="sum")
    model = nn.ModuleDict({"layer": layer})
    x, sizes = torch.randn(2, 4, 5, 2), torch.tensor([[4, 5], [2, 3]])

    def run():
        return layer(x=x, sizes=sizes) if by_name else layer(x, sizes)

    with torch.no_grad():
        assert torch.allclose(hidden_states(model, "layer", run).sum(-2), run(), atol=1e-6)


def test_layers_of_networks_are_found_along_one_axis_too():
    reader = LineReader(1, 4, widths=(4, 6), scans=(0, 1), blocks=((1, 1), (2, 2)), frame_scans=1).eval()
    layers = scan_layers(reader)
    assert [layer.ndim for layer in layers.values()] == [2, 1]
    x = torch.randn(1, 6, 8, 1)
    shapes = [tuple(hidden_states(reader, name, lambda: reader(x)).shape) for name in layers]
    assert shapes == [(1, 3, 4, 4, 4), (1, 4, 2, 4)]


def test_what_is_not_there_is_told():
    model = nn.Sequential(ndrnn.MDGRU(2, 3))
    with pytest.raises(ValueError, match="name must be one of 0, got 'x'"):
        hidden_states(model, "x", lambda: None)
    with pytest.raises(ValueError, match="its layer '0' was not called"):
        hidden_states(model, "0", lambda: None)
    assert not model[0]._forward_hooks


def test_the_first_component_is_that_of_the_largest_variance():
    generator = torch.Generator().manual_seed(0)
    axis = torch.tensor([0.6, -0.8, 0.0])
    along = torch.randn(20, 30, generator=generator)
    states = (3 + along[..., None] * axis + 0.01 * torch.randn(20, 30, 3, generator=generator)).unsqueeze(2)
    component, share = first_component(states)
    # the second unit weighs most, and counts positive
    assert torch.allclose(component[..., 0], -(along - along.mean()), atol=0.05)
    assert float(share) > 0.999
    still, none = first_component(torch.ones(2, 2, 1, 3))
    assert torch.equal(still, torch.zeros(2, 2, 1))
    assert float(none) == 0
    assert torch.allclose(mean_activity(torch.tensor([[1.0, -3.0]])), torch.tensor([2.0]))
