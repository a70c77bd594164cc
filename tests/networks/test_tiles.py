"""A U-Net labels a large lattice tile by tile as it labels it whole, though its scans see all of it."""

import pytest
import torch
from torch.testing import assert_close

from ndrnn.nn.networks import ScanUNet
from ndrnn.nn.networks.tiling import margin
from ndrnn.nn.tiled import tiles

SMALL = {"widths": (2, 3, 4), "scans": (0, 0, 1)}


@pytest.mark.parametrize(
    ("options", "lattice", "points"),
    [
        pytest.param(SMALL, (75, 58), 300, id="odd extents"),
        pytest.param(SMALL, (90, 7), 100, id="thin"),
        pytest.param(SMALL, (9, 10), 10_000, id="one tile"),
        pytest.param({**SMALL, "scans": (0, 1, 1)}, (41, 38), 64, id="scans on two levels"),
        pytest.param({**SMALL, "scans": (1, 0, 0)}, (21, 18), 64, id="scans on the finest"),
        pytest.param({**SMALL, "scans": (0, 0, 0)}, (61, 38), 64, id="no scans"),
        pytest.param({**SMALL, "blocks": ((2, 1), (1, 3), (2, 2))}, (71, 62), 200, id="gathered"),
        pytest.param({**SMALL, "convolutions": 1, "norm": "layer"}, (47, 53), 64, id="one convolution a level"),
        pytest.param({"widths": (2, 3), "scans": (0, 1), "ndim": 3}, (13, 18, 15), 300, id="volume"),
    ],
)  # fmt: skip
def test_tiles_are_parts_of_the_whole(options, lattice, points, normal):
    torch.manual_seed(0)
    model = ScanUNet(2, 3, **options).double().eval()
    model.standardize(torch.tensor([0.3, -0.2]), torch.tensor([2.0, 0.5]))
    x = normal(1, *lattice, 2)
    asked = []

    def window(part):
        asked.append(x[(slice(None), *part)].shape[1:-1].numel())
        return x[(slice(None), *part)]

    covered = torch.zeros(lattice)
    with torch.no_grad():
        whole = model(x)
        for place, scores in tiles(model, lattice, window, points):
            covered[place] += 1
            assert_close(scores, whole[(slice(None), *place)], rtol=1e-11, atol=1e-11)
    assert (covered == 1).all()
    if points < 300 and min(lattice) > 40:
        assert max(asked) < x[..., 0].numel()


def test_the_margin_is_what_convolutions_see():
    # two convolutions on points and two on blocks of 2 x 2
    assert margin(ScanUNet(1, 2)) == (6, 6)
    assert margin(ScanUNet(1, 2, scans=(1, 0, 0))) == (0, 0)
