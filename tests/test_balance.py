"""First weights scaled by the data, so that the highest level hears the image."""

import pytest
import torch

import ndrnn
from ndrnn.lattice import inside
from ndrnn.nn.hierarchy import Hierarchy
from ndrnn.nn.init import balance
from ndrnn.tasks import Facts, Label, LabelBatch, LabelTask, Network

BLOCKS = ((4, 2), (4, 2), (3, 1))


@pytest.fixture
def lines():
    torch.manual_seed(0)
    sizes = torch.tensor([[48, 60], [44, 51], [48, 33]])
    x = torch.zeros(3, 48, 60, 1)
    covered = inside(sizes, (48, 60))
    x[covered] = (torch.rand(int(covered.sum()), 1) < 0.2).float()
    return x, sizes


def variation(model, x, sizes):
    """How much the highest level varies over its points."""
    with torch.no_grad():
        top = model.hidden(x, sizes)[-1]
    for window in model.windows:
        sizes = window.output_sizes(sizes)
    return float(top[inside(sizes, top.shape[1:-1])].std(0).mean())


@pytest.mark.parametrize("layer", ["MDLSTM", "StableMDLSTM", "LeakyMDLSTM", "MDGRU", "MDRNN"])
@pytest.mark.parametrize("subsample", [(), (6, 20)])
def test_the_highest_level_hears_the_image(lines, layer, subsample):
    model = Hierarchy(1, 5, hidden=(2, 10, 30), subsample=subsample, blocks=BLOCKS, layer=layer)
    before = variation(model, *lines)
    balance(model, *lines)
    after = variation(model, *lines)
    assert after > 0.1
    assert after > before
    if subsample:
        assert before < 0.03


def test_what_a_level_gets_varies_by_one(lines):
    x, sizes = lines
    model = Hierarchy(1, 5, hidden=(3, 4), subsample=(5,), blocks=((4, 2), (4, 2)), layer="StableMDLSTM")
    model.standardize(torch.tensor([0.2]), torch.tensor([0.4]))
    kept = [layer.weight_hh.clone() for layer in model.layers]
    balance(model, x, sizes)
    coarse = model.windows[0].output_sizes(sizes)
    below = model.hidden(x, sizes)[0]
    given = model.windows[1].linear(model.windows[1].blocks(below, coarse))
    finer = model.windows[1].output_sizes(coarse)
    points = given[inside(finer, given.shape[1:-1])]
    assert points.var(0).mean().item() == pytest.approx(1, rel=1e-4)
    weight = model.layers[1].weight_ih[0]
    heard = torch.tanh(points) @ weight[weight.abs().sum(1) > 0].T  # one gate starts closed to the input
    assert heard.var(0).mean().item() == pytest.approx(1, rel=1e-4)
    for layer, before in zip(model.layers, kept, strict=True):
        assert torch.equal(layer.weight_hh, before)


def test_padding_does_not_matter(lines):
    x, sizes = lines
    found = []
    for filled in (0.0, 7.0):
        torch.manual_seed(1)
        model = Hierarchy(1, 5, hidden=(3, 4), subsample=(5,), blocks=((4, 2), (4, 2)))
        balance(model, x.masked_fill(~inside(sizes, (48, 60))[..., None], filled), sizes)
        found.append(model.layers[1].weight_ih.detach())
    assert torch.equal(*found)


def test_what_does_not_vary_stays(lines):
    model = Hierarchy(1, 5, hidden=(3,))
    before = model.layers[0].weight_ih.clone()
    balance(model, torch.zeros(2, 4, 4, 1))
    assert torch.equal(model.layers[0].weight_ih, before)


@pytest.mark.parametrize("asked", [False, True])
def test_a_task_balances_where_its_network_says_so(lines, asked):
    x, sizes = lines
    task = LabelTask(
        Label(Network(hidden=(3, 4), blocks=("4x2", "4x2"), balance=asked)), Facts(2, 1, ("a", "b"))
    )
    before = task.model.layers[1].weight_ih.clone()
    task.prepare([LabelBatch(x, torch.zeros(3, 48, 60, dtype=torch.long), sizes)])
    assert torch.equal(task.model.layers[1].weight_ih, before) != asked


def test_other_models_are_refused(lines):
    with pytest.raises(TypeError, match="model must be a Hierarchy, got MDLSTM"):
        balance(ndrnn.MDLSTM(1, 2), *lines)
    with pytest.raises(ValueError, match=r"x must have shape \(N, D1, D2, 3\)"):
        balance(Hierarchy(3, 2, hidden=(2,)), *lines)
