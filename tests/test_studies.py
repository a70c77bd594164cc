"""The studies of cells, of trained layers and of inpainting: what they compare, not what comes out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import inpainting, trained_stability
from benchmarks.which_cell import Kind, Options, RowsTask, Study, fitting_units, make, settings, weights_of

from ndrnn.density import RIDE
from ndrnn.registry import layers
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import Facts

DIGITS = Facts(2, 1, tuple("0123456789"))
KINDS = [*map(Kind, layers), Kind("MDLSTM", 2), Kind("MDLSTM", 1), Kind("MDLSTM", 2, rows=True)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_units_bring_the_weights_nearest_to_the_target(kind):
    options, target = Options(), 9_000

    def distance(units: int) -> int:
        return abs(weights_of(make(kind, settings(kind, units, 0.01, 0, options), DIGITS)) - target)

    units = fitting_units(kind, target, options, DIGITS)
    assert distance(units) <= min(distance(units - 1), distance(units + 1))
    assert distance(units) < 0.06 * target


def test_rows_are_a_sequence():
    kind = Kind("MDLSTM", 2, rows=True)
    task = make(kind, settings(kind, 3, 0.01, 0, Options()), DIGITS)
    assert isinstance(task, RowsTask)
    assert task.model.layers[0].ndim == 1
    x = torch.rand(1, 28, 28, 1, requires_grad=True)
    scores = task.model(x)
    assert scores.shape == (1, 28, 28, 11)
    (gradient,) = torch.autograd.grad(scores[0, 14, 3].sum(), x)
    assert bool((gradient[0, :, :, 0].abs().sum(1) > 0).all())  # every row is seen from every row


def test_the_rate_is_chosen_by_the_validation(monkeypatch):
    study = Study.__new__(Study)
    study.options = Options(rates=(0.1, 0.2), seeds=(0, 1))

    def trained(kind, rate, seed):
        good = rate == 0.2
        return {
            "rate": rate,
            "seed": seed,
            "validation": {"point_error": 0.1 if good else 0.3},
            "test": {"point_error": 0.9 if good else 0.0},
        }

    monkeypatch.setattr(study, "trained", trained)
    chosen = study.chosen(Kind("MDLSTM"))
    assert [(result["rate"], result["seed"]) for result in chosen] == [(0.2, 0), (0.2, 1)]


def test_layers_of_a_density_are_given_what_they_read():
    torch.manual_seed(0)
    ride = RIDE(3, num_layers=2, num_components=2).requires_grad_(False)
    images = torch.rand(1, 10, 12, 1)
    (_, first, x), (_, second, y) = trained_stability.inputs_of(ride, images)
    assert (first, second) == tuple(ride.layers)
    assert x.shape == (1, 8, 8, 12)
    torch.testing.assert_close(y, first(x))


def test_a_hole_is_filled_and_told_of(tmp_path: Path, capsys):
    torch.manual_seed(0)
    ride = RIDE(2, num_components=2)
    ride.fit_whitening(torch.rand(1, 40, 40))
    checkpoint.save(ride, tmp_path / "ride.safetensors")
    options = inpainting.Options(
        tmp_path / "ride.safetensors",
        size=(16, 18),
        hole=5,
        sweeps=1,
        chains=2,
        steps=1,
        picture=tmp_path / "hole.png",
        json=tmp_path / "hole.json",
    )
    inpainting.main(options)
    figures = json.loads((tmp_path / "hole.json").read_text())
    assert figures["hidden_pixels"] == 25
    assert len(figures["metropolis_hastings"]["acceptance"]) == 2
    assert (tmp_path / "hole.png").read_bytes().startswith(b"\x89PNG")
    beyond = replace(options, image=tmp_path / "hole.png", corner=(10_000, 0))
    with pytest.raises(ValueError, match="crop must lie within"):
        inpainting.crop(beyond, ride, torch.Generator())
