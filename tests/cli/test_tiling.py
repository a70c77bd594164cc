"""Tiles give what the whole lattice gives: exactly in one direction, nearly in all."""

from __future__ import annotations

import pytest
import torch

import ndrnn
from ndrnn.nn.hierarchy import Hierarchy
from ndrnn.nn.tiled import one_direction, tiles


def whole_and_tiled(model, x, points, **options):
    with torch.no_grad():
        whole = model(x)
        covered = torch.zeros(x.shape[1:-1], dtype=torch.int64)
        tiled = torch.full_like(whole, torch.nan)
        largest = 0

        def window(part):
            nonlocal largest
            largest = max(largest, x[(0, *part)][..., 0].numel())
            return x[(slice(None), *part)]

        for place, scores in tiles(model, x.shape[1:-1], window, points, **options):
            tiled[(slice(None), *place)] = scores
            covered[place] += 1
    assert torch.equal(covered, torch.ones_like(covered))
    return whole, tiled, largest


@pytest.mark.parametrize("direction", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("layer", ["MDLSTM", "MDRNN", "SpatialLSTM"])
def test_states_handed_on_give_the_whole(layer, direction):
    torch.manual_seed(0)
    model = Hierarchy(
        2, 3, hidden=(3, 2), layer=layer, directions=[direction], blocks=[(1, 1), (1, 1)]
    ).double()
    x = torch.randn(1, 11, 13, 2, dtype=torch.float64)
    whole, tiled, largest = whole_and_tiled(model, x, 16)
    assert largest <= 16
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("direction", [(1, 1), (-1, 1)])
def test_states_are_handed_on_at_every_level(direction):
    torch.manual_seed(0)
    blocks = [(2, 1), (1, 3)]
    model = Hierarchy(
        1, 3, hidden=(3, 2), subsample=(4,), directions=[direction], blocks=blocks, expand=True
    ).double()
    x = torch.randn(1, 9, 20, 1, dtype=torch.float64)
    whole, tiled, largest = whole_and_tiled(model, x, 40)
    assert largest <= 40
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


def test_states_handed_on_in_volumes():
    torch.manual_seed(0)
    model = Hierarchy(1, 2, hidden=(2,), ndim=3, directions=[(1, -1, 1)]).double()
    x = torch.randn(1, 5, 6, 7, 1, dtype=torch.float64)
    whole, tiled, _ = whole_and_tiled(model, x, 30)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        ndrnn.SpatialLSTM(2, 3),
        ndrnn.MDGRU(2, 3, directions=[(-1, 1)]),
        ndrnn.Stack(
            ndrnn.MDLSTM(2, 3, directions=[(1, -1)]), ndrnn.MDRNN(3, 2, directions=[(1, -1)]), dropout=0.5
        ).eval(),
    ],
    ids=["SpatialLSTM", "MDGRU", "Stack"],
)
def test_layers_and_stacks_of_one_direction(model):
    torch.manual_seed(0)
    x = torch.randn(1, 11, 13, 2, dtype=torch.float64)
    whole, tiled, largest = whole_and_tiled(model.double(), x, 16)
    assert largest <= 16  # no overlap
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "points", "message"),
    [
        (Hierarchy(1, 2, hidden=(2,), blocks=[(2, 2)]), 9, "model must give values at every point"),
        (Hierarchy(1, 2, hidden=(2,), collapse=(0,)), 9, "model must give values at every point"),
        (ndrnn.MDGRU(1, 2, 3), 9, r"lattice must have 3 axes as the model, got \(4, 4\)"),
        (ndrnn.MDGRU(1, 2), 0, "points must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_tiled(model, points, message):
    with pytest.raises(ValueError, match=message):
        next(tiles(model, (4, 4), lambda part: torch.zeros(1, 4, 4, 1)[(slice(None), *part)], points))


def test_overlapping_tiles_reach_as_far_as_they_overlap():
    torch.manual_seed(0)
    model = Hierarchy(1, 3, hidden=(4,), blocks=[(2, 2)], expand=True).double()
    assert one_direction(model) is None
    x = torch.randn(1, 40, 44, 1, dtype=torch.float64)
    errors = []
    for overlap in (0, 8, 40):
        whole, tiled, _ = whole_and_tiled(model, x, 256, overlap=overlap)
        errors.append(float((tiled - whole).abs().max()))
    assert errors[0] > errors[1] > 1e-9
    assert errors[2] < 1e-12


def test_a_model_of_ones_own_is_cut_into_overlapping_tiles():
    def model(x, sizes=None):
        return 2 * x

    x = torch.randn(1, 7, 9, 1)
    whole, tiled, _ = whole_and_tiled(model, x, 9, overlap=1)
    assert torch.equal(whole, tiled)


@pytest.mark.parametrize(
    ("points", "overlap", "message"),
    [(0, 0, "points must be at least 1"), (4, -1, "overlap must not be negative")],
)
def test_bad_arguments(points, overlap, message):
    with pytest.raises(ValueError, match=message):
        next(tiles(torch.nn.Identity(), (3, 3), lambda part: None, points, overlap=overlap))
