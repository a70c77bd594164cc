"""Whole images: what comes back, how long it is, threads, blocks, regions, planes."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ndrnn
from ndrnn.density import RIDE, CausalNeighborhood, PlaneModel, compress, decompress
from ndrnn.density.use.codec import decode, fingerprint, kernels, read_header, training_planes
from ndrnn.density.use.codec.blocks import Planes
from ndrnn.density.use.codec.network import network_of
from ndrnn.density.use.codec.planes import TRANSFORMS, join, plane_bits, split

from .conftest import make_ride, picture
from .decoder import Lattice

RIDE_2D = make_ride()
UNKNOWN = "lstm", "spatial_extended", "rnn", "MDLSTM", "MDRNN", "linear", "MDLinearRNN"


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 23), st.integers(1, 23)),
    st.integers(0, 5),
    st.integers(1, 16),
    st.sampled_from(["smooth", "noise", "constant", "extremes", "steps"]),
    st.booleans(),
)
def test_images_come_back(size: tuple[int, int], channels: int, bits: int, kind: str, mixing: bool) -> None:
    shape = size if channels == 0 else (*size, channels)
    rng, most = np.random.default_rng(size[0]), (1 << bits) - 1
    image = {
        "smooth": lambda: picture(shape, bits=bits),
        "noise": lambda: rng.integers(0, most + 1, shape),
        "constant": lambda: np.full(shape, most // 3),
        "extremes": lambda: rng.integers(0, 2, shape) * most,
        "steps": lambda: np.minimum(rng.integers(0, 4, shape) * (most // 5 + 1), most),
    }[kind]().astype(np.uint8 if bits <= 8 else np.uint16)
    data = compress(RIDE_2D, image, bits=bits, block=(8, 11), mixing=mixing)
    back = decompress(RIDE_2D, data)
    assert back.numpy().dtype == image.dtype
    assert np.array_equal(back.numpy(), image)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(1, 15), st.integers(0, 1 << 30), st.sampled_from(TRANSFORMS))
def test_transforms_are_reversible(channels: int, bits: int, seed: int, transform: str) -> None:
    samples = np.random.default_rng(seed).integers(0, 1 << bits, (30, max(channels, 3))).astype(np.uint16)
    samples[0], samples[1] = 0, (1 << bits) - 1
    planes = split(samples, bits, transform)
    for plane, wide in zip(planes, plane_bits(bits, samples.shape[-1], transform), strict=True):
        assert int(plane.max()) < 1 << wide
    assert np.array_equal(join(planes, bits, transform), samples)


def test_nothing_changes_a_byte() -> None:
    """Instruction sets, threads, the order of the blocks, how many values the computer is asked for at once."""
    ride, image = make_ride(hidden=17, layers=2, residual=True), picture((41, 37, 3), 1)
    data = compress(ride, image, block=(16, 16), threads=1)
    assert data == compress(ride, image, block=(16, 16), threads=3)
    before = torch.get_num_threads()
    try:
        torch.set_flush_denormal(True)
        torch.set_num_threads(2)
        assert data == compress(ride, torch.from_numpy(image), block=(16, 16))
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
    networks = [network_of(ride)] * 3
    block = image[:16, :16].astype(np.uint16)
    each = {isa: Planes(networks, 8, "green", isa=isa).encode(block) for isa in kernels.instruction_sets()}
    assert len(set(each.values())) == 1
    for isa in each:
        for other in each.values():
            back = Planes(networks, 8, "green", isa=isa).decode(other, (16, 16), "block")
            assert np.array_equal(back, block)
    assert np.array_equal(decompress(ride, data, threads=3).numpy(), image)


@pytest.mark.parametrize(
    ("cell", "bits", "residual"),
    [
        ("leaky", 8, False),
        ("leaky", 8, True),
        ("leaky", 13, False),
        ("leaky", 16, False),
        ("stable", 8, False),
        ("spatial", 8, False),
        ("gru", 8, True),
        ("gru", 3, False),
    ],
)
def test_the_length_is_what_the_model_predicts(cell: str, bits: int, residual: bool) -> None:
    """The model's own layers and mixture, in binary64, on the neighbourhoods that the coder sees."""
    ride = make_ride(cell=cell, hidden=8, layers=2, residual=residual)
    image = picture((50, 60), 4, bits=bits)
    levels, border = 1 << bits, int(image[0, 0])
    stream = kernels.encode(
        network_of(ride),
        image.astype(np.uint16),
        np.zeros((0, *image.shape), np.uint16),
        None,
        np.arange(1 << bits).astype(np.uint16),
        bits=bits,
        border=border,
        mixing=False,
        room=10**5,
    )
    offsets, double = ride.neighborhood.offsets, ride.double()
    lattice = Lattice(image.shape, offsets)
    seen = [
        [
            [border if at is None else int(image[at]) for at in (lattice.earlier((i, j), o) for o in offsets)]
            for j in range(60)
        ]
        for i in range(50)
    ]
    inputs = (torch.tensor(np.array(seen, np.int64), dtype=torch.float64)[None] + 0.5) / levels
    values = torch.from_numpy(image.astype(np.int64))[None, ..., None]
    low, high = (double.whitening(inputs, (values + side) / levels)[1] for side in (0, 1))
    low, high = low.masked_fill(values == 0, -torch.inf), high.masked_fill(values == levels - 1, torch.inf)
    hidden = double.whitening.whiten_inputs(inputs)
    with torch.no_grad():
        for level, layer in enumerate(double.layers):
            hidden = double.handed_on(level, hidden, layer(hidden))
        cost = -double.mcgsm(hidden).log_prob_interval(low, high) / log(2)
    assert stream is not None
    assert 0.999 * float(cost.sum()) - 8 < 8 * len(stream) < 1.001 * float(cost.sum()) + 16
    assert float(cost.mean()) < bits - 1


@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_a_file_takes_little_more_than_the_model_says(residual: bool) -> None:
    """Head, table, checksums, borders of blocks and all, on a tenth of a megapixel."""
    ride = make_ride(cell="leaky", hidden=4, layers=1 + residual, residual=residual)
    image = picture((330, 330), 7)
    logs = ride.log_prob_discrete(torch.from_numpy(image.astype(np.int64))[None], levels=256)
    for mixing in (False, True):
        data = compress(ride, image, mixing=mixing, chunks={"EXIF": b"camera"})
        assert 8 * len(data) / image.size < -1.01 * float(logs.double().mean()) / log(2)


def test_mixing_helps_where_a_density_does_not() -> None:
    label = np.zeros((60, 60), np.uint8)
    label[10:30, 20:50], label[35:50, 5:40] = 200, 77
    ride = make_ride()
    plain, mixed = (len(compress(ride, label, mixing=mixing)) for mixing in (False, True))
    assert mixed < plain


def test_noise_of_a_tenth_of_a_megapixel_grows_by_no_more_than_a_thousandth() -> None:
    """Head, checksums and blocks counted, whatever the model says of it."""
    for bits, shape in (
        (8, (400, 390)),
        (8, (330, 330, 3)),
        (16, (330, 330)),
        (11, (260, 400)),
    ):
        kind = np.uint8 if bits <= 8 else np.uint16
        noise = np.random.default_rng(1).integers(0, 1 << bits, shape).astype(kind)
        data = compress(RIDE_2D, noise, bits=bits, name="a model of noise")
        assert 8 * len(data) <= 1.001 * noise.size * bits
    assert np.array_equal(decompress(RIDE_2D, data).numpy(), noise)


def test_drawings_have_larger_blocks() -> None:
    """What repeats is learned once for all of a block; noise beside the drawing does not change that."""
    drawing = np.zeros((400, 410), np.uint8)
    drawing[::9] = drawing[:, ::11] = 255
    drawing[:100, :100] = np.random.default_rng(0).integers(0, 256, (100, 100))
    assert read_header(compress(RIDE_2D, drawing)).block == (400, 410)
    assert read_header(compress(RIDE_2D, picture((600, 500)))).block == (300, 250)


def test_noise_is_stored() -> None:
    for bits, kind in ((8, np.uint8), (12, np.uint16)):
        noise = np.random.default_rng(0).integers(0, 1 << bits, (120, 110)).astype(kind)
        data = compress(make_ride(), noise, bits=bits)
        assert len(data) <= noise.size * bits / 8 * 1.001 + 80
        assert np.array_equal(decompress(make_ride(), data).numpy(), noise)


def test_values_with_gaps_take_no_share() -> None:
    """Twelve bits in sixteen, and a stretched contrast: as few bytes as the values they came from."""
    ride, values = make_ride(), picture((50, 50), 2, bits=12, spread=0.02)
    plain = len(compress(ride, values, bits=12, mixing=False))
    shifted = (values << 4).astype(np.uint16)
    full = np.rint(values * (65535 / 4095)).astype(np.uint16)
    assert len(compress(ride, shifted, mixing=False)) < 1.02 * plain
    assert len(compress(ride, full, mixing=False)) < 1.3 * plain


def test_a_region_is_that_part() -> None:
    image = picture((40, 50, 3), 5)
    data = compress(RIDE_2D, image, block=(16, 16))
    for region in (((0, 1), (0, 1)), ((10, 33), (15, 17)), ((39, 40), (48, 50)), ((0, 40), (0, 50))):
        part = decompress(RIDE_2D, data, region=region).numpy()
        (top, bottom), (left, right) = region
        assert np.array_equal(part, image[top:bottom, left:right])
    for wrong in (((0, 41), (0, 1)), ((3, 3), (0, 1)), ((0, 1),)):
        with pytest.raises(ValueError, match="region must be"):
            decompress(RIDE_2D, data, region=wrong)


def test_a_region_needs_only_its_blocks() -> None:
    image = picture((32, 32), 5)
    data = bytearray(compress(RIDE_2D, image, block=(16, 16)))
    data[-1] ^= 1  # of the last block
    part = decompress(RIDE_2D, bytes(data), region=((0, 16), (0, 32)))
    assert np.array_equal(part.numpy(), image[:16])
    with pytest.raises(ValueError, match="block 3"):
        decompress(RIDE_2D, bytes(data))


@pytest.mark.parametrize("shape", [(70,), (9, 11, 10)], ids=["signal", "volume"])
def test_signals_and_volumes(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    window = CausalNeighborhood.window(3, ndim=len(shape))
    ride = RIDE(4, neighborhood=window, num_components=2, num_scales=2, num_features=2, cell="leaky")
    image = picture(shape, 3)
    data = compress(ride, image, block=tuple(max(1, size // 2) for size in shape))
    assert np.array_equal(decompress(ride, data, threads=2).numpy(), image)
    first = tuple((0, size // 2) for size in shape)
    part = image[tuple(slice(*ends) for ends in first)]
    assert np.array_equal(decompress(ride, data, region=first).numpy(), part)
    with pytest.raises(ValueError, match=f"the image has {len(shape)} axes, the model 2"):
        decompress(RIDE_2D, data)


def test_planes_have_their_own_models(tmp_path) -> None:
    rides = [make_ride(0), make_ride(1, seen=1), make_ride(2, seen=2, hidden=4)]
    model = PlaneModel(rides, "ycocg")
    colour = picture((30, 31, 4), 3)
    for image, alpha in (
        (colour[..., :3], False),
        (colour, True),
        (colour[..., 0], False),
        (colour[..., :2], True),
    ):
        data = compress(model, image, alpha=alpha)
        assert np.array_equal(decompress(model, data).numpy(), image)
        assert read_header(data).transform == (
            "ycocg" if image.shape[-1] - alpha == 3 and image.ndim == 3 else "none"
        )
    ndrnn.save(model, tmp_path / "planes.safetensors")
    again = ndrnn.load(tmp_path / "planes.safetensors")
    assert isinstance(again, PlaneModel)
    assert fingerprint(again) == fingerprint(model)
    assert compress(again, colour[..., :3]) == compress(model, colour[..., :3])


def test_what_the_models_of_planes_learn_from() -> None:
    image = picture((9, 8, 3), 3)
    planes = split(image.astype(np.uint16), 8, "ycocg")
    for plane, (values, seen) in enumerate(
        training_planes(image, generator=torch.Generator().manual_seed(0))
    ):
        levels = 256 if plane == 0 else 512
        assert np.array_equal((values[..., 0] * levels).floor().numpy(), planes[plane])
        assert seen.shape == (9, 8, plane)
        for other in range(plane):
            assert np.array_equal(
                seen[..., other].numpy(), ((planes[other] + 0.5) / (512 if other else 256)).astype("f4")
            )


def test_models_that_cannot_code_are_refused() -> None:
    image = picture((5, 5))
    for ride, message in (
        (ndrnn.RIDE(3, channels=3), "channels=3"),
        (ndrnn.RIDE(3, pad=True), "pad=True"),
        *((ndrnn.RIDE(3, cell=cell), "cell must be one of .*, got " + repr(cell)) for cell in UNKNOWN),
        (make_ride(seen=1), "put it into a PlaneModel"),
        (torch.nn.Linear(1, 1), "got Linear"),
    ):
        with pytest.raises(ValueError, match=message):
            compress(ride, image)
    ride = make_ride()
    with torch.no_grad():
        ride.mcgsm.means[0, 0] = torch.nan
    with pytest.raises(ValueError, match="must be finite"):
        compress(ride, image)
    with pytest.raises(ValueError, match="observe at most 0"):
        PlaneModel([make_ride(seen=1)])
    with pytest.raises(ValueError, match="transform must be"):
        PlaneModel([make_ride()], "xyz")


def test_layers_that_compute_something_else_are_refused() -> None:
    class Doubled(ndrnn.LeakyMDLSTM):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return 2 * super().forward(x)

    for layers, message in (
        ([Doubled(4, 5, directions=[(1, 1)])], "cell must be one of"),
        ([ndrnn.LeakyMDLSTM(4, 5, directions=[(1, -1)])], "first corner alone"),
        ([ndrnn.LeakyMDLSTM(4, 5, directions=[(1, 1)]), ndrnn.MDGRU(5, 5, directions=[(1, 1)])], "one cell"),
    ):
        ride = make_ride()
        ride.layers = torch.nn.ModuleList(layers)
        with pytest.raises(ValueError, match=message):
            compress(ride, picture((5, 5)))


def test_weights_with_a_parametrization_are_coded_as_they_are_computed() -> None:
    plain, ride, image = make_ride(), make_ride(), picture((9, 9))
    torch.nn.utils.parametrizations.weight_norm(ride.layers[0], "weight_hh")
    with torch.no_grad():
        plain.layers[0].weight_hh.copy_(ride.layers[0].weight_hh)
    assert compress(ride, image) == compress(plain, image)


def test_images_that_cannot_be_coded_are_refused() -> None:
    ride = make_ride()
    with pytest.raises(TypeError, match="float64"):
        compress(ride, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="2 axes"):
        compress(ride, np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="2 axes"):
        compress(ride, np.zeros((0, 4), np.uint8))
    with pytest.raises(ValueError, match="got bits=4 and 16"):
        compress(ride, np.full((4, 4), 16, np.uint8), bits=4)
    with pytest.raises(ValueError, match="1 to 8 bits, as its type has, got bits=12"):
        compress(ride, np.zeros((4, 4), np.uint8), bits=12)
    with pytest.raises(ValueError, match="1 to 16 channels"):
        compress(ride, np.zeros((4, 4, 17), np.uint8))
    with pytest.raises(ValueError, match="GB of memory with this model"):
        compress(make_ride(hidden=40), np.zeros((1 << 22, 1), np.uint8), block=(1 << 22, 1))


def test_what_belongs_to_an_image_is_kept_and_others_are_told_how_far_it_is() -> None:
    seen: list[tuple[int, int]] = []
    chunks = {"ICCP": b"profile" * 100, "EXIF": b""}
    image = picture((20, 20))
    data = compress(
        RIDE_2D, image, chunks=chunks, name="tiny", block=(10, 20), progress=lambda *at: seen.append(at)
    )
    assert seen == [(1, 2), (2, 2)]
    result = decode(RIDE_2D, data)
    assert result.header.chunks == chunks
    assert (result.header.model, result.damaged) == ("tiny", ())
    with pytest.raises(ValueError, match="names of 4 letters"):
        compress(RIDE_2D, image, chunks={"long name": b""})
