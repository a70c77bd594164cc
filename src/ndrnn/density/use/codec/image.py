"""Whole images: cut into blocks, which are coded alone, in threads, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from .blocks import Planes
from .header import HASH_BYTES, Entry, Header, pack, parse
from .kernels import Network
from .model import Image, PlaneModel, rides_of
from .network import fingerprint as network_fingerprint
from .network import network_of
from .planes import Samples

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_SAMPLES = 1 << 30
_EDGES = {1: 1 << 16, 2: 256, 3: 64}
_DRAWN_EDGE = 1024  # of drawings: what repeats is learned once for all of a block
_TYPES = (np.uint8, np.uint16)


def compress(
    model: nn.Module,
    image: Image,
    *,
    bits: int | None = None,
    alpha: bool = False,
    transform: str | None = None,
    block: Sequence[int] | None = None,
    mixing: bool = True,
    name: str = "",
    chunks: Mapping[str, bytes] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """An image as bytes, from which :func:`decompress` with the same model makes it again, on any machine.

    Args:
        model: a RIDE of one channel, or a :class:`PlaneModel`.
        image: uint8 or uint16, a tensor or array of the model's axes, or of one more for up to 16 channels.
        bits: of a sample; those of the image's type if not given.
        alpha: whether the last channel is opacity.
        transform: of three or four channels: ``"ycocg"``, ``"green"`` or ``"none"``; the model's if not given.
        block: points of a block along each axis; near 256 x 256, 64 x 64 x 64 or 65536 if not given, all much alike, and
            near 1024 x 1024 for drawings, where most points are like the one before.
        mixing: whether the model's probabilities are mixed with those of counters that adapt to the image.
        name: the model's name, for whoever has to find it.
        chunks: what belongs to the image, by names of four letters.
        threads: how many blocks are coded at a time; torch's number if not given. They do not change the result.
        progress: called with the number of blocks done and of all.

    Raises:
        TypeError: the image has another type.
        ValueError: shapes, options or the model do not fit.
    """
    networks = _Networks(model)
    samples, channel_axis = _samples(image, networks.axes)
    own = 8 * samples.itemsize
    bits = own if bits is None else bits
    if not 1 <= bits <= own or int(samples.max()) >> bits:
        raise ValueError(
            f"image must hold values of 1 to {own} bits, as its type has, got bits={bits} and {int(samples.max())}"
        )
    channels = samples.shape[-1]
    if transform is None:
        transform = networks.transform if channels - alpha == 3 else "none"
        transform = "green" if transform == "ycocg" and bits > 15 else transform
    header = Header(
        size=samples.shape[:-1],
        channels=channels,
        channel_axis=channel_axis,
        alpha=alpha,
        bits=bits,
        transform=transform,
        block=_usual_blocks(samples) if block is None else tuple(map(int, block)),
        model=name,
        fingerprint=networks.fingerprint,
        chunks=dict(chunks or {}),
    )
    header.check()
    planes = Planes(networks.of_planes(channels, alpha), bits, transform, mixing)
    places = header.blocks
    blocks = [b""] * len(places)

    def code(number: int) -> tuple[int, bytes]:
        return number, planes.encode(np.ascontiguousarray(samples[places[number]]))

    for done, (number, block_bytes) in enumerate(_in_threads(code, range(len(places)), threads), 1):
        blocks[number] = block_bytes
        if progress is not None:
            progress(done, len(places))
    return pack(header, blocks)


@dataclass(frozen=True)
class Decoded:
    """What came out of a file."""

    image: Tensor
    header: Header
    damaged: tuple[str, ...]
    """The blocks that could not be read, each with the reason; their samples are 0."""


def decompress(model: nn.Module, data: bytes, **options: Any) -> Tensor:
    """The image that :func:`compress` made ``data`` of with the same model, uint8 up to 8 bits, else uint16.

    The options are those of :func:`decode`.

    Raises:
        ValueError: see :func:`decode`.
    """
    return decode(model, data, **options).image


def decode(
    model: nn.Module,
    data: bytes,
    *,
    region: Sequence[tuple[int, int]] | None = None,
    salvage: bool = False,
    threads: int | None = None,
    most_samples: int = MOST_SAMPLES,
    progress: Progress | None = None,
) -> Decoded:
    """The image in ``data`` with all that belongs to it.

    Args:
        region: first and last + 1 point along every axis of the part that is wanted; only its blocks are read.
        salvage: whether to go on where a block is damaged.
        threads: how many blocks are decoded at a time; torch's number if not given.
        most_samples: the largest image that is made.
        progress: called with the number of blocks done and of all.

    Raises:
        ValueError: the data are foreign, truncated, damaged, of another version or another model, or too large; or the
            region lies outside.
    """
    whole = 1 << 62 if region is not None else most_samples
    header, entries = parse(data, whole)
    part = _region(region, header.size)
    size = tuple(where.stop - where.start for where in part)
    if prod(size) * header.channels > most_samples:
        raise ValueError(f"region must have at most {most_samples} samples, got {size} points")
    networks = _Networks(model)
    if networks.axes != len(header.size):
        raise ValueError(f"the image has {len(header.size)} axes, the model {networks.axes}")
    if networks.fingerprint != header.fingerprint:
        raise ValueError(
            f"data were compressed with another model, {header.model or 'without a name'}: its hash begins with "
            f"{header.fingerprint.hex()[:16]}, that of this one with {networks.fingerprint.hex()[:16]}"
        )
    planes = Planes(networks.of_planes(header.channels, header.alpha), header.bits, header.transform)
    samples = np.zeros((*size, header.channels), np.uint8 if header.bits <= 8 else np.uint16)
    wanted = [
        (number, place, entry)
        for number, (place, entry) in enumerate(zip(header.blocks, entries, strict=True))
        if all(a.start < b.stop and b.start < a.stop for a, b in zip(place, part, strict=True))
    ]

    def one(item: tuple[int, tuple[slice, ...], Entry]) -> str | None:
        number, place, entry = item
        corner = tuple(where.start for where in place)
        try:
            what = f"block {number} at {corner}"
            block = planes.decode(
                _bytes_of(data, entry, what), [where.stop - where.start for where in place], what
            )
        except ValueError as error:
            if not salvage:
                raise
            return str(error)
        to, of = _overlap(place, part)
        samples[to] = block[of]
        return None

    damaged = []
    for done, fault in enumerate(_in_threads(one, wanted, threads), 1):
        damaged += [fault] if fault else []
        if progress is not None:
            progress(done, len(wanted))
    image = torch.from_numpy(samples if header.channel_axis else samples[..., 0])
    return Decoded(image, header, tuple(sorted(damaged)))


def read_header(data: bytes, most_samples: int = 1 << 62) -> Header:
    """What a file says of itself, without its image.

    Raises:
        ValueError: see :func:`decode`.
    """
    return parse(data, most_samples)[0]


def fingerprint(model: nn.Module) -> bytes:
    """The hash by which files name a model: of all numbers that coding depends on."""
    return _Networks(model).fingerprint


class _Networks:
    """A model's networks, checked."""

    def __init__(self, model: nn.Module) -> None:
        self._networks = [network_of(ride) for ride in rides_of(model)]
        self.axes = self._networks[0].axes
        self.transform = model.transform if isinstance(model, PlaneModel) else "green"
        joined = b"".join(network_fingerprint(network) for network in self._networks)
        self.fingerprint = sha256(joined).digest()[:HASH_BYTES]

    def of_planes(self, channels: int, alpha: bool) -> list[Network]:
        """The network of every plane: opacity is coded by the first, planes beyond the last by the last."""
        networks = [self._networks[min(plane, len(self._networks) - 1)] for plane in range(channels)]
        return [*networks[:-1], self._networks[0]] if alpha else networks


def _samples(image: Image, axes: int) -> tuple[Samples, bool]:
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.dtype not in _TYPES:
        raise TypeError(f"image must be uint8 or uint16, got {array.dtype}")
    if array.ndim not in (axes, axes + 1) or not array.size:
        raise ValueError(
            f"image must have {axes} axes, as the model has, or one more for channels, and samples, got shape {array.shape}"
        )
    channel_axis = array.ndim == axes + 1
    return (array if channel_axis else array[..., None]), channel_axis


def _usual_blocks(samples: Samples) -> tuple[int, ...]:
    """Larger ones where most points of an image are like the one before: of a drawing, a screenshot, a map of labels."""
    size = samples.shape[:-1]
    drawn = len(size) == 2 and float((samples[:, 1:] == samples[:, :-1]).all(-1).sum()) > 0.5 * prod(size)
    return even_blocks(size, _DRAWN_EDGE if drawn else None)


def even_blocks(size: Sequence[int], edge: int | None = None) -> tuple[int, ...]:
    """As many blocks along every axis as come nearest to the usual edge, none much smaller than the others."""
    edge = edge or _EDGES[len(size)]
    return tuple(-(-extent // max(1, round(extent / edge))) for extent in size)


def _region(region: Sequence[tuple[int, int]] | None, size: Sequence[int]) -> tuple[slice, ...]:
    if region is None:
        return tuple(slice(0, extent) for extent in size)
    if len(region) != len(size) or not all(
        0 <= first < last <= extent for (first, last), extent in zip(region, size, strict=True)
    ):
        raise ValueError(f"region must be a first and a last point within {tuple(size)}, got {tuple(region)}")
    return tuple(slice(first, last) for first, last in region)


def _bytes_of(data: bytes, entry: Entry, what: str) -> bytes:
    block = data[entry.start : entry.start + entry.length]
    if len(block) != entry.length:
        raise ValueError(f"{what}: truncated, {len(block)} of {entry.length} bytes are there")
    if crc32(block) != entry.checksum:
        raise ValueError(f"{what}: damaged, its checksum is wrong")
    return block


def _overlap(
    place: tuple[slice, ...], part: tuple[slice, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where what two boxes share lies in the second, and where in the first."""
    both = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(place, part, strict=True)]
    to = tuple(slice(first - b.start, last - b.start) for (first, last), b in zip(both, part, strict=True))
    of = tuple(slice(first - a.start, last - a.start) for (first, last), a in zip(both, place, strict=True))
    return to, of


def _in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int | None
) -> Iterator[Result]:
    """Results as they come, in any order. Few items wait at a time; the compiled codec lets other threads run."""
    count = min(torch.get_num_threads() if threads is None else threads, len(items))
    if count <= 1:
        yield from map(work, items)
        return
    left = iter(items)
    with ThreadPoolExecutor(count) as pool:
        running = {pool.submit(work, item) for _, item in zip(range(count), left, strict=False)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    if (item := next(left, None)) is not None:
                        running.add(pool.submit(work, item))
                    yield future.result()
        finally:
            for future in running:
                future.cancel()
