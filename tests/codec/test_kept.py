"""Files that were written once are read for ever. Nothing here may be written anew; a new version adds files.

Models and pictures are made by formulas of whole numbers, so that nothing but the files themselves is kept.
``python -m tests.codec.test_kept`` writes those that are missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ndrnn.density import RIDE, CausalNeighborhood, PlaneModel, compress
from ndrnn.density.use.codec import decode

KEPT = Path(__file__).parent / "kept"


def numbers(count: int, start: int) -> np.ndarray:
    """Scattered multiples of 2^-20 in [-0.5, 0.5)."""
    k = np.arange(start, start + count, dtype=np.uint64)
    return ((k * np.uint64(2654435761) % np.uint64(1 << 32) >> np.uint64(12)) / 2.0**20 - 0.5).astype(
        np.float32
    )


def made(cell: str, layers: int, seen: int, residual: bool = False) -> RIDE:
    neighborhood = CausalNeighborhood.window(5 if seen else 3, observed=seen > 0)
    ride = RIDE(
        6,
        layers,
        neighborhood,
        num_components=3,
        num_scales=2,
        num_features=4,
        observed_channels=seen,
        cell=cell,
        residual=residual,
    )
    start = 1
    with torch.no_grad():
        for _, parameter in sorted(ride.named_parameters()):
            parameter.copy_(torch.from_numpy(numbers(parameter.numel(), start)).view_as(parameter))
            start += parameter.numel()
        white, inputs = ride.whitening, ride.whitening.num_inputs
        ride.mcgsm.cholesky.fill_(1)
        ride.mcgsm.linear.zero_()
        white.input_mean.fill_(0.5)
        white.output_mean.fill_(0.5)
        white.input_transform.copy_(8 * torch.eye(inputs))
        white.predictor.zero_()
        white.predictor[0, neighborhood.size - 1] = 1
        white.output_transform.fill_(32)
    return ride


def pictured(shape: tuple[int, ...], bits: int) -> np.ndarray:
    at = np.indices(shape)
    slow = (at[0] * at[0] * 3 + at[1] * at[1] * 2 + 5 * at[0] * at[1]) // 97 + sum(
        at[2:], np.zeros(shape, int)
    ) * 11
    return ((slow + at[0] * 13 % 7) % (1 << bits)).astype(np.uint8 if bits <= 8 else np.uint16)


GREY = pictured((37, 29), 8)
COLOUR = pictured((24, 31, 3), 8)
DEEP = pictured((21, 20, 2), 12)
DRAWING = np.where(np.indices((40, 50)).sum(0) % 23 < 5, 200, 31).astype(np.uint8)
TILES = np.tile(pictured((7, 11), 12) * 37 % 4096, (9, 8))
PLANES = ("leaky", 2, 0), ("stable", 1, 1), ("spatial", 1, 2)

FILES = {
    "2-grey": (lambda: made("leaky", 2, 0), GREY, {"block": (20, 29), "chunks": {"EXIF": b"kept"}}),
    "2-colour": (lambda: PlaneModel([made(*plane) for plane in PLANES], "ycocg"), COLOUR, {}),
    "2-deep": (lambda: made("gru", 1, 0), DEEP, {"bits": 12, "alpha": True}),
    "2-drawing": (lambda: made("gru", 1, 0), DRAWING, {}),
    "2-tiles": (lambda: made("leaky", 1, 0), TILES, {"bits": 12, "block": (40, 88)}),
    "2-residual": (lambda: made("leaky", 3, 0, residual=True), GREY, {"block": (37, 20)}),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_before_are_read(name: str) -> None:
    model, image, options = FILES[name]
    result = decode(model(), (KEPT / f"{name}.ndrnn").read_bytes())
    assert np.array_equal(result.image.numpy(), image)
    assert result.header.chunks == options.get("chunks", {})
    assert result.header.alpha == options.get("alpha", False)


if __name__ == "__main__":
    for name, (model, image, options) in FILES.items():
        if not (path := KEPT / f"{name}.ndrnn").exists():
            path.write_bytes(compress(model(), image, name="kept", **options))
            print(
                f"{path}: {path.stat().st_size} bytes, {8 * path.stat().st_size / image.size:.2f} bits a sample"
            )
