"""Lines read in several ways, of which the network's surest reading counts."""

from __future__ import annotations

from math import isnan

import pytest
import torch

from ndrnn.app.trained import set_reading
from ndrnn.data.batches import TranscribeBatch
from ndrnn.data.pipeline.samples import pad
from ndrnn.tasks import Facts, Transcribe, build
from ndrnn.tasks.network import Network
from ndrnn.tasks.views import STAGES, View, seen, surest


def bars(height, width, column, slant=0.0):
    """A line with a bar through it, of a column or slanted."""
    x = torch.zeros(height, width, 1)
    for row in range(height):
        x[row, round(column + slant * (row - (height - 1) / 2))] = 1
    return x


def test_a_line_as_it_is_is_not_touched():
    x = torch.rand(6, 9, 2)
    assert seen(x, View()) is x


@pytest.mark.parametrize("width", [0.5, 1.25, 2])
def test_wider_and_narrower(width):
    x = torch.linspace(0, 1, 24).expand(4, 24)[..., None]
    found = seen(x, View(width=width))
    assert found.shape == (4, round(24 * width), 1)
    inner = slice(2, -2)  # at the edges comes in what is beyond
    # a ramp of the same two ends, at the middles of points
    ends = (torch.arange(round(24 * width)) + 0.5) / width - 0.5
    assert torch.allclose(found[:, inner, 0], (ends / 23).expand(4, -1)[:, inner], atol=1e-5)


def test_an_upright_bar_leans_and_a_leaning_one_is_upright():
    leaning, upright = bars(9, 21, 10, slant=0.5), bars(9, 21, 10)
    assert torch.allclose(seen(leaning, View(slant=0.5)).sum(0)[10], torch.tensor(9.0), atol=2)
    assert float((seen(upright, View(slant=0.5)) * upright).sum()) < 4
    assert torch.equal(seen(upright, View(slant=1.0)), bars(9, 21, 10, slant=-1.0))


def test_lower_writing_keeps_its_middle_and_the_height_of_the_line():
    x = torch.zeros(9, 5, 1)
    x[2] = x[6] = 1
    found = seen(x, View(height=0.5))
    assert found.shape == x.shape
    assert torch.equal(found[:, 2, 0], torch.tensor([0, 0, 0, 1, 0, 1, 0, 0, 0.0]))
    assert torch.equal(seen(x, View(height=2.0))[:, 2, 0], torch.tensor([1, 0.5, 0, 0, 0, 0, 0, 0.5, 1]))


def test_each_stage_starts_from_the_best_of_those_before():
    wanted = [View(1.2, 0.15, 0.88), View(), View(0.8, 0.0, 1.12)]
    asked = []

    def read(views):
        asked.append(list(views))
        return list(views)

    def sureness(view):  # the closer the surer; which line it is of is known by its wish alone
        return -min(sum(abs(a - b) for a, b in zip(view, wish, strict=True)) for wish in wanted[:1])

    found = surest([View()] * 3, read, sureness)
    assert found == [(wanted[0], wanted[0])] * 3
    assert len(asked) == sum(len(values) for _, values in STAGES) == 10
    assert asked[6] == [View(1.2, -0.15, 1.0)] * 3
    assert asked[8] == [View(1.2, 0.15, 0.88)] * 3


def test_lines_are_judged_apart_and_nothing_that_is_not_a_number_is_taken():
    names = ["first", "second"]

    def read(views):
        return [(name, view) for name, view in zip(names, views, strict=True)]

    def sureness(reading):
        name, view = reading
        if name == "second" and view.width > 1:
            return float("nan")
        return view.width if name == "first" else -view.width

    (wide, first), (narrow, second) = surest(read([View()] * 2), read, sureness)
    assert (wide.width, narrow.width) == (1.45, 0.8)
    assert (first, second) == (("first", wide), ("second", narrow))


class WidthReader(torch.nn.Module):
    """Reads "a", surely where a line is 24 points wide, as "b" elsewhere, the less surely the farther from that."""

    def forward(self, x, sizes=None):
        widths = torch.full((len(x),), x.shape[2]) if sizes is None else sizes[:, 1]
        scores = torch.zeros(len(x), 1, 3)
        for line, width in enumerate(widths.tolist()):
            far = abs(width - 24)
            scores[line, 0, 1 if far == 0 else 2] = 5.0 if far == 0 else 3 - far / 20
        return scores

    def output_sizes(self, sizes):
        return torch.ones(len(sizes), 1, dtype=torch.long)


def reader(**options):
    task = build(Transcribe(network=Network(hidden=(2,)), **options), Facts(alphabet="ab"))
    task.model = WidthReader()
    return task


def batch(*widths):
    x, sizes = pad([torch.rand(4, width, 1) for width in widths], 2)
    return TranscribeBatch(x, ("a",) * len(widths), sizes)


@pytest.mark.parametrize(("width", "text"), [(24, "a"), (20, "a"), (30, "a"), (60, "b")])
def test_a_line_is_read_as_where_the_network_is_surest(width, text):
    (one,) = reader(views=True).predict_step(batch(width))
    assert one.text == text
    (plain,) = reader().predict_step(batch(width))
    assert plain.text == ("a" if width == 24 else "b")
    assert round(one.view.width * width) == 24 or text == "b"
    assert plain.view == View()
    assert one.confidence >= plain.confidence
    assert one.log_probability >= plain.log_probability


@pytest.mark.parametrize("beam", [0, 3])
def test_a_view_that_overflows_is_not_taken(beam):
    class Overflowing(WidthReader):
        def forward(self, x, sizes=None):
            return super().forward(x, sizes) / (0 if x.shape[2] > 24 else 1)

    task = reader(views=True, beam=beam)
    task.model = Overflowing()
    assert [one.text for one in task.predict_step(batch(20))] == ["a"]
    (one,) = task.predict_step(batch(60))
    assert isnan(one.confidence)


def test_a_blank_line_stays_blank_and_a_text_is_not_taken_for_one():
    task = reader(views=True)
    known = task.model.forward

    def forward(x, sizes=None):  # nothing is read in what is 24 points wide, and surely
        scores = known(x, sizes)
        widths = torch.full((len(x),), x.shape[2]) if sizes is None else sizes[:, 1]
        scores[widths == 24] = torch.tensor([9.0, 0.0, 0.0])
        return scores

    task.model.forward = forward
    assert [one.text for one in task.predict_step(batch(24))] == [""]
    assert [one.text for one in task.predict_step(batch(20))] == ["b"]
    assert [one.text for one in task.predict_step(batch(24, 20))] == ["", "b"]


def test_checks_count_what_is_read_so_but_those_of_a_training():
    task = reader(views=True)
    task.check(batch(20, 30, 60))
    assert float(task.results()["cer"]) == pytest.approx(1 / 3)

    class InTraining(type(task)):
        in_training = True

    task.__class__ = InTraining
    task.check(batch(20, 30, 60))
    assert float(task.results()["cer"]) == 1


def test_each_line_of_a_batch_is_read_as_it_is_alone():
    torch.manual_seed(0)
    network = Network(hidden=(4, 6), subsample=(4,), blocks=("1x1", "1x2"))
    task = build(Transcribe(network=network, views=True), Facts(alphabet="abc"))
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_()
        task.model.output.bias[0] -= 2  # of the blank
    task.eval()
    lines = [4 * torch.randn(1, columns, 1).repeat_interleave(4, 1).expand(6, -1, 1) for columns in (6, 2, 9)]
    x, sizes = pad(lines, 2)
    together = task.predict_step(TranscribeBatch(x, ("",) * 3, sizes))
    assert min(len({one.text for one in together}), len({one.view for one in together})) > 1
    for line, one in zip(lines, together, strict=True):
        (alone,) = task.predict_step(TranscribeBatch(line[None], ("",)))
        assert (alone.text, alone.view, alone.frames) == (one.text, one.view, one.frames)
        assert alone.log_probability == pytest.approx(one.log_probability, abs=1e-4)


def test_what_makes_no_frame_is_read_as_nothing():
    task = reader(views=True)
    task.model.output_sizes = lambda sizes: torch.zeros(len(sizes), 1, dtype=torch.long)
    (one,) = task.predict_step(batch(24))
    assert one.text == ""


def test_only_images_have_views():
    signals = build(Transcribe(network=Network(hidden=(2,))), Facts(1, alphabet="ab"))
    with pytest.raises(ValueError, match="views must be false for samples of 1 axes"):
        set_reading(signals, beam=3, views=True)
    assert signals.settings.beam == 0
    set_reading(signals, beam=3, views=False)
    assert signals.settings.beam == 3
    with pytest.raises(
        ValueError, match="views must be false for samples of 3 axes: images alone are slanted"
    ):
        build(Transcribe(network=Network(hidden=(2,)), views=True), Facts(3, alphabet="ab"))
