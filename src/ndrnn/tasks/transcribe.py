"""Reading lines of text: a hierarchy whose highest level is collapsed to frames, and CTC (Graves & Schmidhuber 2009)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf, nan
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.text import CharErrorRate, WordErrorRate

from ..data.batches import Facts, TranscribeBatch
from ..data.formats.direction import logical, visual
from ..data.pipeline.samples import pad
from ..data.reading import Word, mean_confidence, words_of
from ..learn.task import Task
from ..nn.evaluating import evaluating
from ..nn.hierarchy import Hierarchy
from ..nn.networks import LineReader
from ..nn.networks.encoder import whole
from . import mixing
from .configuration import Transcribe
from .decoding import BLANK, Labelling, aligned, beam_search, frames_needed, greedy, hits
from .reliability import Evidence, Judged, Reliability, tempered
from .views import View, check_views, seen, surest


class Transcribed(NamedTuple):
    """What a network reads in a sample."""

    name: str
    """Where the sample comes from."""
    text: str
    """In the order of reading."""
    confidence: float
    """The geometric mean of the confidences of its characters; of an empty text, that of the blank in all frames."""
    log_probability: float = 0.0
    """Of this whole text in the eyes of the network, summed over all paths, in nats; the longer a text the lower it is."""
    characters: tuple[float, ...] = ()
    """The confidence in each character of the text: its probability, by the task's temperature, in that frame in which the
    network is surest of it, of those in which it stands on the most probable path of this text. What may be missing
    between them does not count."""
    words: tuple[Word, ...] = ()
    frames: tuple[tuple[int, int], ...] = ()
    """The frames, first and last + 1, in which each character of the text stands on that path."""
    view: View = View()
    """The way of looking at the line in which it was read, and of which these frames are."""


class _Reading(NamedTuple):
    """Labels, the frames (T, L) in which they were read, and the way of looking that gave these."""

    labels: Labelling
    log_probs: Tensor
    view: View = View()


class TranscribeTask(Task):
    """Trains and checks a network that reads; its batches are :class:`TranscribeBatch`.

    Text runs along the last axis; the others are collapsed. Metrics: ``cer`` and ``wer``, wrong characters and words
    as a share of the true ones.
    """

    monitor = "cer"
    counted = ()
    settings_class = Transcribe
    settings: Transcribe
    model: Hierarchy | LineReader

    def __init__(self, settings: Transcribe, facts: Facts) -> None:
        if not facts.alphabet:
            raise ValueError("facts must have an alphabet of at least one character, got none")
        check_views(settings.views, facts.ndim)
        super().__init__(settings, facts)
        with torch.device("cpu"):  # their sums have memory also where the weights have none yet
            self.cer, self.wer = CharErrorRate(), WordErrorRate()
            self.reliability = Reliability()
        self.judged: Judged | None = None
        """How true the confidences in characters were in the last check that was none of a training."""
        self.scorer: Callable[[str], Sequence[float]] | None = None
        """A language model for beam search: from the text so far, as it stands on the image from left to right,
        to log-weights of its end and of each next character, in the order of the alphabet."""
        self._numbers = {character: number for number, character in enumerate(facts.alphabet, start=1)}

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("", *self.facts.alphabet)  # the first is the blank

    def make_model(self) -> Any:
        axes = range(self.facts.ndim - 1)
        return self.settings.network.build(self.facts, len(self.facts.alphabet) + 1, collapse=axes)

    def frames(self, sizes: Tensor) -> Tensor:
        """How many frames (N,) the network makes of samples of these extents (N, n)."""
        return self.model.output_sizes(sizes)[:, 0]

    def encode(self, text: str, name: str = "text") -> Labelling:
        """The labels of a text, in the order of the image, from left to right.

        Raises:
            ValueError: a character is not in the alphabet.
        """
        if self.facts.direction:
            text = visual(text, self.facts.direction)
        strange = sorted(set(text) - self._numbers.keys())
        if strange:
            raise ValueError(f"{name}: {''.join(strange)!r} is not in the alphabet {self.facts.alphabet!r}")
        return tuple(self._numbers[character] for character in text)

    def decode(self, labels: Labelling) -> str:
        """The text of labels, in the order of reading."""
        return self._in_order(self._spelled(labels))[0]

    def _spelled(self, labels: Labelling) -> str:
        return "".join(self.facts.alphabet[label - 1] for label in labels)

    def _in_order(self, seen: str) -> tuple[str, Sequence[int]]:
        return logical(seen, self.facts.direction) if self.facts.direction else (seen, range(len(seen)))

    def prepare(self, batches: Iterable[TranscribeBatch]) -> None:
        if (
            self.settings.augment.flip
        ):  # not when it is made: models that were saved with it are still to be loaded
            raise ValueError(
                "augment.flip must be false for reading: a mirrored line no longer says its text"
            )
        super().prepare(batches)

    def augmented(self, batch: TranscribeBatch) -> TranscribeBatch:
        x, _ = self.settings.augment(batch.x, batch.sizes)
        return batch._replace(x=x)

    def rearranged(self, batch: TranscribeBatch) -> TranscribeBatch:
        if self.settings.word_mix == 0 or float(torch.rand(())) >= self.settings.word_mix:
            return batch
        return self._mixed(batch) or batch

    @torch.no_grad()
    def _mixed(self, batch: TranscribeBatch) -> TranscribeBatch | None:
        """The lines of a batch made of one another's words; None if they cannot be."""
        space = self._numbers.get(" ")
        if space is None:
            return None
        with evaluating(self.model):
            log_probs, frames = self._log_probs(batch)
        sizes, frame = whole(batch.sizes, batch.x), self.frame_width()
        lines = []
        for text, sample, available, width in zip(
            batch.target, log_probs.cpu(), frames.tolist(), sizes[:, -1].tolist(), strict=True
        ):
            labels = self.encode(text)
            if not labels or frames_needed(labels) > available:
                return None  # the loss says which line it is
            lines.append(mixing.cut(sample[:available], labels, space, width, frame))
        if all(len(pieces) < 2 for pieces in lines):
            return None
        x, sizes, labellings = mixing.dealt(batch.x, sizes, lines, space)
        seen = [self._spelled(labels) for labels in labellings]
        texts = tuple(self._in_order(line)[0] for line in seen)
        direction = self.facts.direction
        # not every order on an image has a text, such as that of a bracket without its other half
        enough = all(
            frames_needed(labels) <= available and (not direction or visual(text, direction) == line)
            for labels, line, text, available in zip(
                labellings, seen, texts, self.frames(sizes).tolist(), strict=True
            )
        )
        # what stands in them is no longer what one name stands for
        return TranscribeBatch(x, texts, sizes, ()) if enough else None

    def loss(self, batch: TranscribeBatch) -> Tensor:
        """The negative log-probability of the texts, in nats a character.

        Raises:
            ValueError: a text has characters that are not in the alphabet, or needs more frames than there are.
        """
        log_probs, frames = self._log_probs(batch)
        names = batch.names or [f"sample {index} of the batch" for index in range(len(batch.x))]
        encoded = [self.encode(text, name) for text, name in zip(batch.target, names, strict=True)]
        for labels, name, available in zip(encoded, names, frames.tolist(), strict=True):
            if frames_needed(labels) > available:
                raise ValueError(
                    f"{name}: a text of {len(labels)} characters needs at least {frames_needed(labels)} frames, "
                    f"the network makes {available} of this image; use smaller blocks"
                )
        lengths = torch.tensor([len(labels) for labels in encoded])
        flat = torch.tensor([label for labels in encoded for label in labels], dtype=torch.long)
        total = F.ctc_loss(
            log_probs.transpose(0, 1), flat.to(log_probs.device), frames, lengths, BLANK, reduction="sum"
        )
        return total / self.share(lengths.sum()).clamp(min=1)

    def check(self, batch: TranscribeBatch) -> None:
        log_probs, frames = self._log_probs(batch)
        self.watch(log_probs, batch)
        found = self._labellings(log_probs, frames)
        if not self.in_training:
            found = self._seen_well(batch, found)
        texts = [self.decode(one.labels) for one in found]
        if not self.in_training:
            self.reliability.update(self._evidence(found, batch.target), self.temperature)
        self.cer.update(texts, list(batch.target))
        self.wer.update(texts, list(batch.target))

    def results(self) -> dict[str, Tensor | float]:
        results: dict[str, Tensor | float] = {"cer": self.cer.compute(), "wer": self.wer.compute()}
        self.judged = self.reliability.taken(self.temperature)
        self.cer.reset()
        self.wer.reset()
        return results

    def predict_step(self, batch: TranscribeBatch, batch_idx: int = 0) -> list[Transcribed]:
        """The text of each sample; its ``target`` is not looked at."""
        names = batch.names or ("",) * len(batch.x)
        with torch.no_grad():
            found = self._seen_well(batch, self._labellings(*self._log_probs(batch)))
        return [self._transcribed(name, one) for name, one in zip(names, found, strict=True)]

    def frame_width(self) -> int:
        """Over how many points of the last axis a frame stretches."""
        far = 1 << 24
        return round(far / int(self.frames(torch.full((1, self.facts.ndim), far))))

    def _log_probs(self, batch: TranscribeBatch) -> tuple[Tensor, Tensor]:
        """(N, T, L) in nats, and the frames (N,) of each sample."""
        log_probs = self.model(batch.x, batch.sizes).log_softmax(-1)
        return log_probs, self.frames(whole(batch.sizes, batch.x)).cpu()

    def _labellings(self, log_probs: Tensor, frames: Tensor) -> list[_Reading]:
        """What is read in each sample."""
        samples = [
            sample[:available].cpu() for sample, available in zip(log_probs, frames.tolist(), strict=True)
        ]
        return [_Reading(self._labels(sample), sample) for sample in samples]

    def _seen_well(self, batch: TranscribeBatch, found: list[_Reading]) -> list[_Reading]:
        """What is read in each sample in that way of looking at it in which the network is surest; where it reads nothing
        as it is, nothing: other ways would invent a text for what is blank."""
        if not self.settings.views:
            return found
        check_views(self.settings.views, self.facts.ndim)  # they may have been asked for later
        lines = [
            x[tuple(map(slice, size))]
            for x, size in zip(batch.x, whole(batch.sizes, batch.x).tolist(), strict=True)
        ]

        def read(ways: Sequence[View]) -> list[_Reading]:
            x, sizes = pad([seen(line, way) for line, way in zip(lines, ways, strict=True)], self.facts.ndim)
            sizes = None if sizes is None else sizes.to(x.device)
            return self._labellings(*self._log_probs(batch._replace(x=x, sizes=sizes)))

        def sureness(one: _Reading) -> float:
            """Of a character, or of the end; what is empty is never taken for a text."""
            if not one.labels:
                return -inf
            return log_probability(one.log_probs, one.labels) / (len(one.labels) + 1)

        seen_best = surest(found, read, sureness)
        return [
            best._replace(view=view) if one.labels else one
            for one, (view, best) in zip(found, seen_best, strict=True)
        ]

    def _labels(self, log_probs: Tensor) -> Labelling:
        if not len(log_probs):
            return ()
        # what is no number is refused, and of a view not taken
        if self.settings.beam and not bool(log_probs.isnan().any()):
            scorer = None if self.scorer is None else lambda labels: self.scorer(self._spelled(labels))  # type: ignore[misc]
            return self._spaced(beam_search(log_probs, self.settings.beam, scorer=scorer)[0].labels)
        return self._spaced(greedy(log_probs).labels)

    def _spaced(self, labels: Labelling) -> Labelling:
        """Labels without spaces at the ends and beside others, which no text has that was learned from."""
        space, kept = self._numbers.get(" "), list[int]()
        for label in labels:
            if label != space or (kept and kept[-1] != space):
                kept.append(label)
        return tuple(kept[:-1] if kept and kept[-1] == space else kept)

    def _evidence(self, found: Sequence[_Reading], texts: Sequence[str]) -> Evidence:
        """The characters that are read in samples beside the texts of these."""
        scores, said, right = [torch.zeros(0, len(self.outputs))], list[int](), list[bool]()
        for (labels, log_probs, _), text in zip(found, texts, strict=True):
            if labels:
                scores.append(surest_frames(log_probs, labels, aligned(log_probs, labels)))
                said += labels
                seen = visual(text, self.facts.direction) if self.facts.direction else text
                right += hits(self._spelled(labels), seen)
        return Evidence(torch.cat(scores), torch.tensor(said).long(), torch.tensor(right).bool())

    def _transcribed(self, name: str, one: _Reading) -> Transcribed:
        labels, log_probs, view = one
        if not len(log_probs):
            return Transcribed(name, "", 1.0)
        whole_text = log_probability(log_probs, labels)
        if not labels:
            blank = tempered(log_probs, self.temperature)[:, BLANK]
            return Transcribed(name, "", float(blank.mean().exp()), whole_text)
        if not bool(log_probs.isfinite().any(-1).all()):  # the caller says which file it is
            return Transcribed(name, self.decode(labels), nan, nan)
        spans = aligned(log_probs, labels)
        frames_of = surest_frames(log_probs, labels, spans)
        sure = tempered(frames_of, self.temperature)[range(len(labels)), labels].exp().tolist()
        text, order = self._in_order(self._spelled(labels))
        confidences = tuple(sure[place] for place in order)
        frames = tuple(spans[place] for place in order)
        words = words_of(
            text, confidences, [(first / len(log_probs), last / len(log_probs)) for first, last in frames]
        )
        return Transcribed(
            name, text, mean_confidence(confidences), whole_text, confidences, words, frames, view
        )


def log_probability(log_probs: Tensor, labels: Labelling) -> float:
    """Of a labelling, summed over all paths of the frames (T, L), in nats."""
    if not len(log_probs):
        return 0.0  # there is nothing but the empty text
    loss = F.ctc_loss(
        log_probs.unsqueeze(1),
        torch.tensor([labels], dtype=torch.long),
        torch.tensor([len(log_probs)]),
        torch.tensor([len(labels)]),
        BLANK,
        reduction="sum",
    )
    return -float(loss)


def surest_frames(log_probs: Tensor, labels: Labelling, spans: Sequence[tuple[int, int]]) -> Tensor:
    """The log-probabilities (characters, L) of those frames in which the network is surest of each label.

    Args:
        log_probs: (T, L).
        labels: at least one.
        spans: the frames of each label, see :func:`ndrnn.tasks.decoding.aligned`.
    """
    places = [
        first + int(log_probs[first:last, label].argmax())
        for label, (first, last) in zip(labels, spans, strict=True)
    ]
    return log_probs[places]
