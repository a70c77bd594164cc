"""Lossless coding of 8-bit grey images with a RIDE: image -> probabilities of its pixels -> range coder -> bytes.

Writer and reader walk the same wavefronts with :class:`ndrnn.density.use.stepping.WavefrontEvaluator`: the reader decodes
all pixels of a wavefront from their probabilities, writes them into its canvas, and has what the next wavefront needs.
A value's probability is the density integrated over its bin, as :func:`ndrnn.density.use.evaluation.log_prob_discrete` has
it. It is coded as its upper four bits and then, given those, its lower four, for which 30 values of the distribution
function are enough in place of 255.

Both sides have to compute equal probabilities to the last bit. They do so on one machine with one version of PyTorch
and one backend; another may round otherwise. The pixels' checksum tells, so that no wrong image is ever returned.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import log2
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..mixture.likelihood import MixtureParams, gate_log_probs, predictions, prepare
from ..ride.model import RideModel
from .stepping import Step, WavefrontEvaluator

_MAGIC, _VERSION = b"\x89ndrnn\r\n", 1
# magic, version, height, width, hash of the model, checksum of the pixels, number of 32-bit words that follow
_HEADER = struct.Struct("<8sHII32sII")
_CHECKSUM = struct.Struct("<I")  # of all before it, at the end
_LEVELS, _PARTS = 256, 16
_FLOOR = 1e-9  # no value is impossible, or a picture unlike the model's could not be coded
_LARGEST = 1 << 28
_MOST_MEMORY = 1 << 32


def compress(ride: RideModel, image: Tensor) -> bytes:
    """An image (H, W) or (H, W, 1) of torch.uint8 as bytes, from which :func:`decompress` with this model makes it again.

    A model that does not pad sees a border of its mean value around the image.

    Raises:
        TypeError: the image is not uint8.
        ValueError: it has another shape, or the model is not one of grey images on the CPU.
        ImportError: constriction is not installed.
    """
    stream = _entropy_coder()
    _check_model(ride)
    if image.dtype != torch.uint8:
        raise TypeError(f"image must hold 8-bit values, torch.uint8, got {image.dtype}")
    if image.dim() == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.dim() != 2 or not 0 < image.numel() <= _LARGEST:
        raise ValueError(
            f"image must have shape (H, W) or (H, W, 1) and 1 to {_LARGEST} pixels, got {tuple(image.shape)}"
        )
    height, width = image.shape
    _check_memory(ride, height, width)
    canvas, region = _canvas(ride, height, width)
    region.copy_(_centres(image.cpu(), canvas.dtype))
    values = image.cpu().flatten()
    encoder, family = stream.queue.RangeEncoder(), stream.model.Categorical(perfect=False)
    with _one_thread():
        evaluator, pixels = WavefrontEvaluator(ride, canvas), _PixelModel(ride)
        for step in evaluator:
            here = values[step.pixels].long()
            high, low = here // _PARTS, here % _PARTS
            coarse = pixels.distribution(step)
            encoder.encode(_symbols(high), family, _probabilities(coarse))
            encoder.encode(_symbols(low), family, _probabilities(pixels.within(step, coarse, high)))
    words = encoder.get_compressed().astype("<u4")
    content = image.cpu().contiguous().numpy().tobytes()
    head = _HEADER.pack(_MAGIC, _VERSION, height, width, fingerprint(ride), crc32(content), len(words))
    data = head + words.tobytes()
    return data + _CHECKSUM.pack(crc32(data))


def decompress(ride: RideModel, data: bytes) -> Tensor:
    """The image (H, W), torch.uint8, that :func:`compress` made ``data`` of with the same model.

    Raises:
        ValueError: the data are foreign, truncated, damaged, or of another model; or what they decode to is not the
            image, because this machine computes other probabilities than the one that wrote them; or their header says
            a size that so few bytes cannot hold, or that takes too much memory.
        ImportError: constriction is not installed.
    """
    stream = _entropy_coder()
    _check_model(ride)
    height, width, checksum, words = _parse(data, fingerprint(ride))
    _check_memory(ride, height, width)
    canvas, _ = _canvas(ride, height, width)
    values = torch.zeros(height * width, dtype=torch.uint8)
    decoder, family = stream.queue.RangeDecoder(words), stream.model.Categorical(perfect=False)
    with _one_thread():
        evaluator, pixels = WavefrontEvaluator(ride, canvas), _PixelModel(ride)
        for step in evaluator:
            coarse = pixels.distribution(step)
            try:
                high = torch.from_numpy(decoder.decode(family, _probabilities(coarse))).long()
                within = pixels.within(step, coarse, high)
                low = torch.from_numpy(decoder.decode(family, _probabilities(within))).long()
            except AssertionError as error:  # how constriction tells of words that no encoder wrote
                raise ValueError(_differs()) from error
            decoded = high * _PARTS + low
            values[step.pixels] = decoded.to(torch.uint8)
            evaluator.write(step, _centres(decoded, canvas.dtype).view(-1, 1, 1))
    image = values.view(height, width)
    if crc32(image.numpy().tobytes()) != checksum:
        raise ValueError(_differs())
    return image


def fingerprint(ride: RideModel) -> bytes:
    """SHA-256 of a model's configuration and weights."""
    digest = hashlib.sha256(json.dumps(ride.config(), sort_keys=True).encode())
    for name, tensor in sorted(ride.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.digest()


class _PixelModel:
    """Probabilities of pixel values by a RIDE, in float64."""

    @torch.no_grad()
    def __init__(self, ride: RideModel) -> None:
        self._whitening = ride.whitening
        self._shared = prepare(MixtureParams(*(p.detach().double() for p in ride.mcgsm.mixture_params())))
        self._root = (self._shared.precision.sqrt() * self._shared.factor.abs()).unsqueeze(-1)
        self._scale = ride.whitening.output_transform.double()
        self._inner = torch.arange(1, _PARTS, dtype=torch.float64)

    def distribution(self, step: Step) -> Tensor:
        """The distribution function, (m, 17), at the ends of the 16 ranges of values that share their upper bits."""
        inner = self._below(step, (self._inner * _PARTS / _LEVELS).expand(len(step.pixels), -1))
        return torch.cat([torch.zeros_like(inner[:, :1]), inner, torch.ones_like(inner[:, :1])], 1)

    def within(self, step: Step, coarse: Tensor, high: Tensor) -> Tensor:
        """The same (m, 17) at the ends of the 16 values whose upper bits are ``high`` (m,)."""
        inner = self._below(step, (high[:, None] * _PARTS + self._inner) / _LEVELS)
        return torch.cat([coarse.gather(1, high[:, None]), inner, coarse.gather(1, high[:, None] + 1)], 1)

    @torch.no_grad()
    def _below(self, step: Step, values: Tensor) -> Tensor:
        """P(pixel < value) for values (m, E)."""
        hidden = step.hidden.double()
        gate = gate_log_probs(self._shared, hidden).exp()
        zero = step.inputs.new_zeros(len(step.inputs), 1)
        expected = self._whitening.restore_outputs(step.inputs, zero).double()
        # the sign of the transform would turn the distribution around, but an inverse root is positive
        whitened = (values - expected) * self._scale
        distance = whitened - predictions(self._shared, hidden).unsqueeze(-1)
        return (gate.unsqueeze(-1) * torch.special.ndtr(self._root * distance)).sum((0, 1)).clamp_(0, 1)


def _probabilities(distribution: Tensor) -> np.ndarray:
    """Of the 16 symbols, (m, 16) float32, from the distribution function at their ends."""
    if not bool(distribution.isfinite().all()):
        raise FloatingPointError(
            "the probabilities of pixels are not finite: the model's memory or its mixture overflows on this image; "
            "cut it smaller, or train with a bounded cell such as cell='gru'"
        )
    mass = distribution.diff(dim=1).clamp_(min=0)
    mass = mass / mass.sum(1, keepdim=True).clamp_(min=1e-300) + _FLOOR
    return mass.float().contiguous().numpy()


def _symbols(values: Tensor) -> np.ndarray:
    return values.to(torch.int32).contiguous().numpy()


def _centres(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Where in [0, 1] neighbours see pixel values."""
    return (values.to(dtype) + 0.5) / _LEVELS


def border_level(ride: RideModel) -> int:
    """The value of the border around an image for a model that does not pad: its mean, rounded."""
    return int((ride.marginal.double().mean() * _LEVELS).floor().clamp(0, _LEVELS - 1))


def _canvas(ride: RideModel, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A canvas (1, H + ..., W + ..., 1) of which every pixel of the image is predicted, and the image's part of it."""
    top, bottom, left, right = ride.neighborhood.margins
    border = 0.0 if ride.pad else (border_level(ride) + 0.5) / _LEVELS
    shape = (1, height + top + bottom, width + left + right, 1)
    canvas = torch.full(shape, border, dtype=ride.marginal.dtype)
    return canvas, canvas[0, top : top + height, left : left + width, 0]


def _check_model(ride: RideModel) -> None:
    if ride.ndim != 2:
        raise ValueError(f"ride must be a model of images, of two axes, got {ride.ndim}")
    if ride.channels != 1 or ride.observed_channels:
        raise ValueError(
            "images can be coded by models of one channel without observed ones, "
            f"got channels={ride.channels}, observed_channels={ride.observed_channels}"
        )
    if ride.marginal.device.type != "cpu":
        raise ValueError(f"ride must be on the CPU, where its arithmetic repeats, got {ride.marginal.device}")


def _parse(data: bytes, model: bytes) -> tuple[int, int, int, np.ndarray]:
    """Height, width, checksum of the pixels and coded words."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"data must be a compressed image, got something that begins with {data[:8]!r}")
    least = _HEADER.size + _CHECKSUM.size
    if len(data) < least:
        raise ValueError(
            f"data are truncated: a compressed image has at least {least} bytes, got {len(data)}"
        )
    _, version, height, width, writer, checksum, count = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"data must be of format version {_VERSION}, got {version}")
    if len(data) != least + 4 * count:
        raise ValueError(f"data must have {least + 4 * count} bytes by their header, got {len(data)}")
    if crc32(data[: -_CHECKSUM.size]) != _CHECKSUM.unpack_from(data, len(data) - _CHECKSUM.size)[0]:
        raise ValueError("data are damaged: their checksum is wrong")
    if writer != model:
        raise ValueError(
            f"data were compressed with another model: its hash begins with {writer.hex()[:16]}, "
            f"that of this one with {model.hex()[:16]}"
        )
    # checked before anything is made of them: no coder says more pixels in so few words
    if not (height and width) or height * width > min(_LARGEST, _most_pixels(count)):
        raise ValueError(
            f"data must hold 1 to {min(_LARGEST, _most_pixels(count))} pixels in {count} words, "
            f"their header says {height} x {width}"
        )
    words = np.frombuffer(data, "<u4", count, _HEADER.size).astype(np.uint32)
    return height, width, checksum, words


def _most_pixels(words: int) -> int:
    """How many pixels a stream of so many words can hold: none costs less than two symbols of the highest probability
    that the coder knows, whose others keep one of its 2^24 parts each."""
    least = -2 * log2(1 - (_PARTS - 1) / (1 << 24))
    return int((32 * words + 64) / least)


def _check_memory(ride: RideModel, height: int, width: int) -> None:
    """Refuse an image whose states, which are kept for as many wavefronts as rows look back, do not fit."""
    ring = (ride.neighborhood.slope + 1) * (height + 1) * 2 * ride.hidden_size * ride.num_layers
    canvas = (height + sum(ride.neighborhood.margins[:2])) * (width + sum(ride.neighborhood.margins[2:]))
    size = (ring + canvas) * ride.marginal.element_size()
    if size > _MOST_MEMORY:
        raise ValueError(
            f"images must take at most {_MOST_MEMORY / 1e9:.1f} GB for the states of this model, "
            f"{height} x {width} pixels would take {size / 1e9:.1f} GB"
        )


def _differs() -> str:
    return (
        "data do not decode to their image: the probabilities computed here are not those of the writer, whose "
        f"processor, backend or version of PyTorch (here {torch.__version__}) may be another"
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums may be rounded otherwise when threads share them out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _entropy_coder() -> Any:
    try:
        from constriction import stream
    except ModuleNotFoundError as error:
        raise ImportError("coding images needs constriction: pip install 'ndrnn[codec]'") from error
    return stream
