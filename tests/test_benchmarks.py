"""The benchmark's own arithmetic. No time is asserted."""

import json

import numpy as np
import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import codec, codec_classes, codec_speed, conformance, density, linear, products, ride, table
from benchmarks.measure import Effort, Times
from benchmarks.scaling import exponent
from benchmarks.workloads import MAIN, Workload
from PIL import Image

from ndrnn import RIDE
from ndrnn.density.use.codec.network import network_of


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


def test_the_limit_is_the_sum_of_its_parts(monkeypatch):
    monkeypatch.setattr(products, "measure", lambda *_: {"best": 1e15})  # beyond any torch.mm
    workload = Workload("MDLinearRNN", 1, (6, 7), 3, 4)
    *parts, total, layer, share = linear.limit(workload, Effort(0.0, 1, 0.0), lambda text: None).rows
    assert parts[0][1] == pytest.approx(1e3 * 6 * 7 * 4 * 2 * 3 * 5 * 4 / 1e15)
    for (_, once, *both), times in zip(parts, [(1, 3), (5, 5), (1, 3)], strict=True):
        assert both == [count * once for count in times]
    for column in (2, 3):
        assert total[column] == pytest.approx(sum(row[column] for row in parts))
        assert share[column] == f"{total[column] / layer[column]:.0%}"


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


def test_operations_of_coding_a_point():
    """A leaky layer of 64 units on 12 neighbours, 32 components of 4 scales, 32 features; 8 decisions."""
    model = RIDE(64, 1, cell="leaky", num_components=32, num_scales=4, num_features=32)
    with torch.no_grad():
        model.mcgsm.linear.zero_()
    found = codec_speed.operations(network_of(model), 8)
    products = 12 * 12 + 12 + 5 * 64 * (12 + 2 * 64) + 32 * 64 + 32 * 32 + 32 * 64
    functions = 64 * 6 * 20 + 32 * 4 * 20
    assert found == 2 * products + functions + 32 * 4 * (2 + 8 * (5 + 40))
    assert codec_speed.bytes_moved(network_of(model), 8) > 4 * 8 * 32 * 4


def test_the_codec_is_measured(monkeypatch):
    small = codec_speed.Coding("grey", (24, 36), 2)
    monkeypatch.setattr(codec_speed, "GREY", small)
    volume = codec_speed.Coding("volume", (4, 5, 6), 3)
    found = codec_speed.table((small, volume), Effort(0.0, 1, 0.0), lambda text: None)
    assert [row[0] for row in found.rows] == ["grey; 24 x 36", "volume; 4 x 5 x 6"]
    assert found.rows[0][-1] == 1
    assert all(isinstance(value, float) and value > 0 for row in found.rows for value in row[1:])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_every_coder_takes_every_kind_of_picture(mode):
    values = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    image = Image.fromarray(values).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    for coder in codec.installed(["PNG", "JPEG-LS", "JPEG XL 7", "ndrnn"] + ["WebP"] * (mode != "I;16")):
        assert codec.measure(image, coder, "")["bits"] > 0


def test_classes_of_pictures(monkeypatch):
    monkeypatch.setattr(codec_classes, "SIZE", (120, 700))
    values = np.random.default_rng(0).integers(0, 256, (80, 100, 3)).astype(np.uint8)
    found = [*codec_classes.drawn(), *codec_classes.of_photograph(Image.fromarray(values))]
    assert len({name for name, _ in found}) == len(found) == 20
    assert {image.mode for _, image in found} == {"1", "L", "P", "RGB", "I;16"}


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
