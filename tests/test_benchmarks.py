"""The benchmark's own arithmetic. No time is asserted."""

import json

import numpy as np
import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import codec, conformance, density, ride, table
from benchmarks.measure import Effort, Times
from benchmarks.scaling import exponent
from benchmarks.workloads import MAIN, Workload
from PIL import Image

from ndrnn import RIDE


def test_operations_of_a_workload():
    # 2 * (C + n*H) * G*H a point and direction
    workload = Workload("MDLSTM", 16, (28, 28), 1, 25)
    assert workload.operations() == 16 * 28 * 28 * 4 * 2 * (1 + 2 * 25) * 5 * 25


def test_operations_of_a_step_of_ride():
    # a spatial LSTM of 64 units sees 12 neighbours; 32 components have 48 features in common, and each a predictor and
    # a linear term of its own
    model = RIDE(64, 1, cell="spatial", num_components=32, num_features=48)
    lstm, mcgsm = 5 * 64 * (12 + 2 * 64), (48 + 32 + 32) * 64 + 32 * 48
    assert ride.operations(model, 1000) == 3 * 2 * (lstm + mcgsm) * 1000


def test_a_section_measures_what_is_asked_for(monkeypatch):
    monkeypatch.setattr(density, "SAMPLES", 200)
    wanted = density.Likelihood(torch.float64, 1)
    found = density.table([wanted], Effort(0.0, 1, 0.0), lambda text: None)
    (row,) = found.rows
    assert row[0] == wanted.name == "MCGSM; float64; 1 thread"
    assert all(isinstance(value, float) and value > 0 for value in row[1:])


def test_a_coder_is_measured_only_if_the_picture_comes_back(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, (9, 12)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "noise.png")
    order = {"path": str(tmp_path / "noise.png"), "grey": True, "crop": (8, 10), "model": "", "coder": "PNG"}
    found = codec.measure_one(order)
    assert found["bits"] > 8
    assert found["encode"] > 0 < found["decode"]
    write, _ = codec.by_pillow("PNG")
    monkeypatch.setitem(codec.CODERS, "PNG", lambda _: (write, lambda data: np.zeros((8, 10), np.uint8)))
    with pytest.raises(RuntimeError, match="did not come back"):
        codec.measure_one(order)


def test_share_and_ratio_are_medians_over_rounds():
    ours = Times(seconds=[1.0, 2.0, 1.0], limit=[100.0, 50.0, 200.0])
    theirs = Times(seconds=[3.0, 10.0, 2.0], limit=[100.0, 50.0, 200.0])
    assert ours.share(50) == 0.5  # of 0.5, 0.5 and 0.25
    assert ours.ratio(theirs) == 3.0  # of 3, 5 and 2


def test_exponent_of_a_power_law():
    sizes = [4.0, 9.0, 100.0]
    assert exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)


def test_tables_survive_being_kept():
    one = table.Table("Title", {"workload": "", "share": ".0%", "others": ".3g"}, notes=["A note."])
    one.add("small", 0.456, [2.0, 3.5])
    one.add("large", None, "over 60 s")
    again = [table.Table(**fields) for fields in json.loads(table.to_json({"cores": 2}, [one]))["tables"]]
    assert table.report({"cores": 2}, again) == table.report({"cores": 2}, [one])
    assert "| small    | 46%   | 2 / 3.5   |" in one.markdown()
    assert "| large    | –     | over 60 s |" in one.markdown()
    with pytest.raises(ValueError, match="has 3 values, got 1"):
        one.add("too short")


def test_nothing_is_reported_when_a_layer_disagrees(monkeypatch, capsys):
    def disagree(layer, x, sizes=None):
        raise AssertionError("y differs")

    monkeypatch.setattr(conformance, "assert_conforms", disagree)
    assert command.main(["--only", "launch"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "y differs" in printed.err


def test_conforming_layers_pass():
    assert conformance.failures(MAIN[:1]) == []


def test_unknown_selection_lists_what_there_is(capsys):
    assert command.main(["--only", "no such row"]) == 2
    assert "main: MDLSTM; 16, 28, 28, 1 → 25" in capsys.readouterr().out
