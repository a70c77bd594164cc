"""Lossless coding: what comes back, how long it is, and what is refused."""

import struct
import sys
from zlib import crc32

import pytest
import torch
from torch import Tensor

from ndrnn.density import RIDE, CausalNeighborhood
from ndrnn.density.use.codec import border_level, compress, decompress, fingerprint

from .test_ride import random_ride

pytest.importorskip("constriction")
HEADER = struct.Struct("<8sHII32sII")


def picture(height: int = 14, width: int = 19, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-20, 21, (height, width), generator=generator).cumsum(1)
    return (128 + steps).clamp(0, 255).to(torch.uint8)


def grey_ride(pad: bool = False, **options: object) -> RIDE:
    """With random parameters, whose whitening fits pictures with values in [0, 1]."""
    ride = random_ride(5, 2, CausalNeighborhood.window(3), pad=pad, **options)
    floats = (picture(60, 60, seed=5).double() + 0.5) / 256
    ride.fit_whitening(floats[None], generator=torch.Generator().manual_seed(0))
    return ride


@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_come_back_to_the_last_bit(pad: bool, dtype: torch.dtype) -> None:
    ride = grey_ride(pad).to(dtype)
    images = [
        picture(),
        picture(1, 1),
        picture(2, 30),
        torch.zeros(5, 6, dtype=torch.uint8),
        torch.full((5, 6), 255, dtype=torch.uint8),
        torch.randint(256, (9, 7), generator=torch.Generator().manual_seed(1)).to(torch.uint8),
    ]
    for image in images:
        data = compress(ride, image)
        assert torch.equal(decompress(ride, data), image)
    assert compress(ride, picture().unsqueeze(-1)) == compress(ride, picture())


@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_the_length_is_what_the_model_predicts(pad: bool) -> None:
    ride = grey_ride(pad)
    image = picture(40, 50)
    seen = image.long()
    if not pad:
        top, bottom, left, right = ride.neighborhood.margins
        seen = torch.nn.functional.pad(seen, (left, right, top, bottom), value=border_level(ride))
    bits = -float(ride.log_prob_discrete(seen[None], levels=256).sum()) / torch.log(torch.tensor(2.0)).item()
    data = compress(ride, image)
    coded = 32 * HEADER.unpack_from(data)[-1]
    assert len(data) == HEADER.size + coded // 8 + 4
    # a range coder ends within two words
    assert 0.995 * bits < coded < 1.01 * bits + 64


def test_a_better_model_makes_shorter_files() -> None:
    flat = torch.full((30, 30), 77, dtype=torch.uint8)
    ride = grey_ride()
    noise = torch.randint(256, (30, 30), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    assert len(compress(ride, picture(30, 30))) < len(compress(ride, noise))
    assert len(compress(ride, flat)) < 30 * 30


def test_threads_make_no_difference() -> None:
    ride, image = grey_ride(), picture()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        data = compress(ride, image)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(decompress(ride, data), image)


def resealed(data: bytes) -> bytes:
    """With a right checksum at the end."""
    return data[:-4] + struct.pack("<I", crc32(data[:-4]))


def test_what_is_no_whole_file_is_refused() -> None:
    ride = grey_ride()
    data = compress(ride, picture())
    with pytest.raises(ValueError, match=r"must be a compressed image, got something that begins with b'PNG"):
        decompress(ride, b"PNG and more")
    with pytest.raises(ValueError, match="begins with b''"):
        decompress(ride, b"")
    with pytest.raises(ValueError, match="truncated: a compressed image has at least"):
        decompress(ride, data[:20])
    for cut in (HEADER.size + 4, len(data) - 1):
        with pytest.raises(ValueError, match=rf"must have {len(data)} bytes by their header, got {cut}"):
            decompress(ride, data[:cut])
    with pytest.raises(ValueError, match=rf"got {len(data) + 1}"):
        decompress(ride, data + b"\0")
    for at in (12, HEADER.size + 5, len(data) - 2):
        broken = bytearray(data)
        broken[at] ^= 4
        with pytest.raises(ValueError, match="damaged"):
            decompress(ride, bytes(broken))
    newer = bytearray(data)
    newer[8] = 9
    with pytest.raises(ValueError, match="format version 1, got 9"):
        decompress(ride, resealed(bytes(newer)))


def test_another_model_is_named() -> None:
    ride, other = grey_ride(), grey_ride()
    data = compress(ride, picture())
    with torch.no_grad():
        other.mcgsm.means[0, 0] += 1e-6
    names = f"{fingerprint(ride).hex()[:16]}.*{fingerprint(other).hex()[:16]}"
    with pytest.raises(ValueError, match=f"another model.*{names}"):
        decompress(other, data)


def test_other_probabilities_never_give_a_wrong_image() -> None:
    """Words that were not written with these probabilities: what a reader sees that rounds otherwise."""
    ride = grey_ride()
    data = bytearray(compress(ride, picture()))
    data[HEADER.size + 8] ^= 0x10
    with pytest.raises(ValueError, match="do not decode to their image"):
        decompress(ride, resealed(bytes(data)))


def test_images_and_models_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ride = grey_ride()
    with pytest.raises(TypeError, match=r"torch\.uint8, got torch\.float32"):
        compress(ride, torch.rand(4, 4))
    with pytest.raises(ValueError, match=r"shape \(H, W\) or \(H, W, 1\)"):
        compress(ride, torch.zeros(4, 4, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="1 to 268435456 pixels"):
        compress(ride, torch.zeros(0, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="channels=3"):
        compress(RIDE(3, channels=3), picture())
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r"pip install 'ndrnn\[codec\]'"):
        compress(ride, picture())


@pytest.mark.parametrize(
    ("height", "width"), [(1 << 14, 1 << 14), (1 << 31, 1), (0, 5), (1 << 20, 300)], ids=str
)
def test_a_header_that_announces_more_than_its_words_can_hold_is_refused(height: int, width: int) -> None:
    """A file of 64 bytes, whose checksums are right, as anybody can make them."""
    ride = grey_ride()
    head = HEADER.pack(b"\x89ndrnn\r\n", 1, height, width, fingerprint(ride), 0, 0)
    with pytest.raises(ValueError, match=f"in 0 words, their header says {height} x {width}"):
        decompress(ride, head + struct.pack("<I", crc32(head)))


def test_an_image_whose_states_do_not_fit_is_refused() -> None:
    ride = grey_ride()
    words = b"\0" * 4 * 4
    head = HEADER.pack(b"\x89ndrnn\r\n", 1, 60_000_000, 1, fingerprint(ride), 0, 4) + words
    with pytest.raises(ValueError, match=r"at most 4\.3 GB for the states .* 60000000 x 1 pixels would take"):
        decompress(ride, head + struct.pack("<I", crc32(head)))


def test_no_image_costs_less_than_the_limit_assumes() -> None:
    """A model that is as sure as it can be: the stream of a constant image still is long enough for its header."""
    ride = RIDE(2, num_components=1, num_scales=1, num_features=1, pad=True, dtype=torch.float64)
    with torch.no_grad():
        for p in ride.parameters():
            p.zero_()
        ride.mcgsm.cholesky.fill_(1)
        ride.mcgsm.scales.fill_(40)
        ride.mcgsm.means.fill_(100.5 / 256)
    image = torch.full((300, 400), 100, dtype=torch.uint8)
    data = compress(ride, image)
    assert len(data) < 80
    assert torch.equal(decompress(ride, data), image)
