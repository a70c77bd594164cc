"""The studies of cells, of trained layers, of reach and of inpainting: what they compare, not what comes out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import inpainting, larger, reach, trained_stability
from benchmarks.baselines.parts import weights
from benchmarks.which_cell import Kind, Options, RowsTask, Study, fitting_units, make, settings, weights_of

from ndrnn.data.pipeline.gather import Gathered
from ndrnn.density import RIDE
from ndrnn.registry import layers
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import Facts, Label, LabelTask, Network

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


def test_sensitivities_are_told_by_distance():
    """With a single unit a random combination of units is that unit, so that the Jacobian itself is known."""
    torch.manual_seed(0)
    options = reach.Options(hidden=1, distances=(1, 3, 4), samples=1)
    layer = reach.build("MDGRU", 1, 2).double()
    found = torch.tensor(reach.profile(layer, (5, 4), options, seed=3), dtype=torch.float64)
    x = torch.randn(1, 5, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x[..., 1] = 0
    jacobian = torch.autograd.functional.jacobian(lambda given: layer(given)[0, -1, -1, 0], x)
    norm = jacobian[0].norm(dim=-1)
    for row, d in zip(found, (1, 3), strict=False):
        axes = (norm[4 - d, 3] ** 2 + norm[4, 3 - d] ** 2).div(2).sqrt()
        torch.testing.assert_close(row, torch.stack([axes, norm[4 - d, 3 - d]]) / norm[4, 3])
    assert found[2].isnan().all()  # the second axis has no point so far back


def test_what_is_to_be_recalled_is_marked():
    mark = reach.Mark("the end of a row", (3, 4), (2, 0))
    x, target = reach.marked(50, mark, torch.Generator().manual_seed(0))
    assert x[..., 1].nonzero().tolist() == [[n, 2, 0] for n in range(50)]
    assert torch.equal(x[:, 2, 0, 0] == 1, target == 1)
    assert torch.equal(x[..., 0].abs(), torch.ones(50, 3, 4))
    assert 0.2 < target.mean() < 0.8


def test_images_are_cut_without_a_rest_and_crops_keep_their_labels():
    images = torch.arange(2 * 8 * 8).view(2, 8, 8, 1)
    cut = larger.pieces(images, 4)
    assert cut.shape == (8, 4, 4, 1)
    assert torch.equal(cut[1], images[0, :4, 4:])
    assert torch.equal(cut[6], images[1, 4:, :4])
    batch = larger.crops(images, images[..., 0], 20, 3, torch.Generator().manual_seed(0))
    assert torch.equal(batch.x[..., 0], batch.target)
    steps = batch.target.diff(dim=2).unique().tolist()
    assert steps == [-1, 1]  # some are mirrored, none is torn
    assert batch.target.diff(dim=1).unique().tolist() == [8]


def test_networks_of_equal_weights():
    config = Label(network=Network(hidden=(8, 16), blocks=("2x2", "2x2")))
    data = Gathered(Facts(2, 1, ("paper", "ink")), {}, None)
    target = weights(LabelTask(config, data.facts).model)
    for layer in ("MDLinearRNN", "LeakyMDLSTM"):
        task = larger.fitting(config, layer, data, target)
        assert task.settings.network.layer == layer
        assert abs(weights(task.model) - target) < 0.05 * target
