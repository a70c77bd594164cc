"""The density half of the demo."""

import io
import re
import struct
import zlib

import pytest
import torch

pytest.importorskip("skimage")
pytest.importorskip("PIL")

from ndrnn.app.demo.photographs import Effort, _Baseline, _size, photographs
from ndrnn.app.report import Report
from ndrnn.density import MCGSM, CausalNeighborhood, Whitening


def test_it_prints_and_reports_all_it_promises(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("Title", "Lead")
    effort = Effort(
        texture_steps=2,
        side=24,
        mcgsm_pixels=1200,
        mcgsm_iterations=2,
        texture_side=8,
        hole=4,
        sweeps=1,
        tune_pixels=2000,
    )
    state = torch.get_rng_state()
    rows = photographs(report, effort, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    printed = capsys.readouterr().out
    for name in ("PNG", "WebP", "MCGSM", "RIDE"):
        value = rows[f"{name}, bits a pixel"]
        assert 2 < float(value) < 10
        assert re.search(rf"{name}, bits a pixel +{value}", printed)
    page = report.html()
    assert page.count("<img") == 3
    assert len(report.sections) == 3


def test_a_files_size_counts_every_byte() -> None:
    """A grey PNG of one colour, written by hand, is as long as Pillow says."""
    image = torch.full((5, 7), 9, dtype=torch.uint8)
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.numpy()).save(buffer, "PNG")
    content = buffer.getvalue()
    assert _size(image, "PNG") == len(content)
    assert content.startswith(b"\x89PNG")
    # the pixels are really in it: every row is a filter byte and seven values
    length = struct.unpack(">I", content[33:37])[0]
    assert len(zlib.decompress(content[41 : 41 + length])) == 5 * 8


def test_the_baselines_discrete_probabilities_sum_to_one() -> None:
    torch.manual_seed(0)
    nb = CausalNeighborhood.window(3)
    whitening = Whitening(nb.size)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(500, nb.size, generator=generator)
    whitening.fit(x, x[:, 3:] + 0.05 * torch.randn(500, 1, generator=generator))
    baseline = _Baseline(nb, whitening, MCGSM(nb.size, num_components=3))
    images = torch.randint(256, (1, 2, 3), dtype=torch.uint8, generator=generator).repeat(256, 1, 1)
    images[:, 1, 1] = torch.arange(256)
    value = baseline.log_prob_discrete(images)
    assert value.shape == (256,)
    assert float(value.double().exp().sum()) == pytest.approx(1, abs=1e-5)
