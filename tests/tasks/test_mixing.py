"""Lines put together anew from the words of others."""

from collections import Counter

import pytest
import torch
from lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader

from ndrnn.data.sampler import BatchOrder, shuffled
from ndrnn.lattice import inside
from ndrnn.learn import Options, fit
from ndrnn.tasks import Facts, Network, Transcribe, TranscribeBatch, build
from ndrnn.tasks import mixing as dealing
from ndrnn.tasks.mixing import Piece, cut, dealt

A, B, SPACE = 1, 2, 3
ALPHABET = "ab "


class Batches(LightningDataModule):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def train_dataloader(self):
        order = BatchOrder(shuffled(len(self.batches), 0), 1, self.trainer)
        return DataLoader(self.batches, batch_sampler=order, collate_fn=lambda batch: batch[0])

    def val_dataloader(self):
        return DataLoader(self.batches, batch_size=None, collate_fn=lambda batch: batch)


class Sees(nn.Module):
    """Reads what is written in points: two of them make a frame, whose label is the value of the first; it is as sure of
    all as it is told to be."""

    def __init__(self, sure=0.97):
        super().__init__()
        self.sure = sure
        self.dropout = nn.Dropout(0.5)
        self.seen = []

    def output_sizes(self, sizes):
        return sizes[:, -1:] // 2

    def forward(self, x, sizes=None):
        self.seen.append((self.training, self.dropout.training, torch.is_grad_enabled()))
        labels = x[(slice(None), *[0] * (x.dim() - 3), slice(None, None, 2), 0)].long()
        other = (1 - self.sure) / len(ALPHABET)
        return (
            torch.full((*labels.shape, len(ALPHABET) + 1), other)
            .scatter(-1, labels[..., None], self.sure)
            .log()
        )


def written(*texts, n=2, height=3):
    """Each character in two frames, and one of the blank after it; a space has one before it too."""
    lines = []
    for text in texts:
        frames = []
        for character in text:
            label = ALPHABET.index(character) + 1
            frames += [0, label, label, 0] if label == SPACE else [label, label, 0]
        lines.append(torch.tensor(frames).repeat_interleave(2).float())
    width = max(map(len, lines))
    x = torch.zeros(len(texts), *[height] * (n - 1), width, 1)
    for line, points in zip(x, lines, strict=True):
        line[..., : len(points), 0] = points
    sizes = torch.tensor([[*[height] * (n - 1), len(points)] for points in lines])
    return TranscribeBatch(x, texts, sizes, tuple(f"{number}.png" for number in range(len(texts))))


def read(x, sizes):
    """The characters in lines as :func:`written` writes them, without what is left of spaces."""
    texts = []
    for line, (*_, width) in zip(x, sizes.tolist(), strict=True):
        frames = line[(*[0] * (line.dim() - 2), slice(None, width, 2), 0)].long().tolist()
        pairs = zip([0, *frames], frames, strict=False)
        texts.append("".join(ALPHABET[here - 1] for before, here in pairs if here not in (0, SPACE, before)))
    return texts


def reader(word_mix=1.0, n=2, model=None, alphabet=ALPHABET, direction=""):
    settings = Transcribe(network=Network(hidden=(2,)), word_mix=word_mix)
    task = build(settings, Facts(ndim=n, alphabet=alphabet, direction=direction))
    task.model = model or Sees()
    return task


def test_a_line_is_cut_in_the_middle_of_a_space():
    batch = written("ab ba b")
    (log_probs,) = Sees()(batch.x)
    labels = tuple(ALPHABET.index(character) + 1 for character in "ab ba b")
    # frames: a a - b b - | - s s - | b b - a a - | - s s - | b b -, each of two points
    assert cut(log_probs, labels, SPACE, 46, 2) == [
        Piece(0, 16, (A, B)),
        Piece(16, 36, (B, A)),
        Piece(36, 46, (B,)),
    ]


def test_a_line_is_cut_there_also_where_its_last_frame_is_partial():
    batch = written("ab b")
    (log_probs,) = Sees()(batch.x[..., :-1, :])  # 26 points, one less than all
    assert cut(log_probs, (A, B, SPACE, B), SPACE, 25, 2) == [Piece(0, 16, (A, B)), Piece(16, 25, (B,))]


def test_no_line_is_cut_where_the_network_is_not_sure():
    batch = written("ab ba")
    (log_probs,) = Sees(0.4)(batch.x)
    labels = (A, B, SPACE, B, A)
    assert cut(log_probs, labels, SPACE, 32, 2) == [Piece(0, 32, labels)]


def test_what_has_no_text_is_no_part():
    log_probs = Sees()(written(" a  b").x)[0]
    pieces = cut(log_probs, (SPACE, A, SPACE, SPACE, B), SPACE, 42, 2)
    assert [piece.labels for piece in pieces] == [(A,), (B,)]


@pytest.mark.parametrize("n", [2, 3])
def test_words_are_dealt_out_with_their_points(n):
    texts = ("ab ba b", "bb a", "aba bab ab ba", "b")
    task, batch = reader(n=n), written(*texts, n=n)
    orders = set()
    for seed in range(20):
        torch.manual_seed(seed)
        mixed = task.rearranged(batch)
        words = [text.split() for text in mixed.target]
        assert Counter(word for line in words for word in line) == Counter(" ".join(texts).split())
        assert read(mixed.x, mixed.sizes) == ["".join(line) for line in words]
        assert mixed.sizes[:, -1].sum() == batch.sizes[:, -1].sum()
        assert not mixed.x[~inside(mixed.sizes, mixed.x.shape[1:-1])].any()
        orders.add(mixed.target)
    assert len(orders) > 10


def test_new_lines_are_about_equally_wide():
    task, batch = reader(), written(" ".join(["ab"] * 30), "b a", "a b", "ba b")
    mixed = task.rearranged(batch)
    widest = 18  # of a word with a space around it
    share = int(batch.sizes[:, -1].sum()) / 4
    assert all(abs(width - share) <= widest for width in mixed.sizes[:, -1].tolist())


def test_lines_that_are_not_equally_high_are_not_cut_off():
    x = torch.zeros(2, 5, 12, 1)
    x[0, :3], x[1] = 1, 2
    pieces = [[Piece(0, 6, (A,)), Piece(6, 12, (A,))], [Piece(0, 6, (B,)), Piece(6, 12, (B,))]]
    torch.manual_seed(2)
    new, sizes, labels = dealt(x, torch.tensor([[3, 12], [5, 12]]), pieces, SPACE)
    assert new.sum() == x.sum()
    for height, line in zip(sizes[:, 0].tolist(), labels, strict=True):
        assert height == (5 if B in line else 3)


def test_the_network_looks_as_it_predicts_and_is_left_as_it_was():
    task = reader()
    task.model.train()
    task.model.dropout.eval()  # as of a part that is frozen
    task.rearranged(written("ab ba", "b a"))
    assert task.model.seen == [(False, False, False)]
    assert task.model.training
    assert not task.model.dropout.training


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(reader(0.0), id="not asked for"),
        pytest.param(reader(alphabet="ab", model=Sees()), id="no space"),
    ],
)
def test_lines_are_left_as_they_are(task):
    texts = ("ab ba", "b a") if " " in task.facts.alphabet else ("ab", "bba")
    batch = written(*texts)
    state = torch.get_rng_state()
    assert task.rearranged(batch) is batch
    if task.settings.word_mix == 0:
        assert torch.equal(torch.get_rng_state(), state)


def test_a_share_of_the_batches_is_mixed():
    task, batch = reader(0.25), written("ab ba b", "bb a")
    torch.manual_seed(0)
    mixed = sum(task.rearranged(batch) is not batch for _ in range(400))
    assert 70 <= mixed <= 130  # 100 expected, with a deviation of 9


def test_a_text_with_too_few_frames_is_left_to_the_loss():
    batch = written("ab ba", "b a")
    batch = batch._replace(target=("ab ba", "b a" * 40))
    task = reader()
    assert task.rearranged(batch) is batch
    with pytest.raises(ValueError, match=r"1\.png: a text of 120 characters needs"):
        task.loss(batch)


def test_texts_from_right_to_left_keep_their_order_on_the_image():
    alphabet = "אב "
    task = reader(alphabet=alphabet, direction="auto")
    batch = written("ab ba b", "bb a")  # as they stand on the image, from left to right
    turned = [text.translate(str.maketrans("ab", "אב"))[::-1] for text in batch.target]
    mixed = task.rearranged(batch._replace(target=tuple(turned)))
    assert mixed.target != tuple(turned)
    seen = [text[::-1].translate(str.maketrans("אב", "ab")) for text in mixed.target]
    assert read(mixed.x, mixed.sizes) == [text.replace(" ", "") for text in seen]


def test_nothing_that_is_cut_is_kept_for_the_next_step():
    """So that a training that is resumed has the same lines."""
    task, batch = reader(), written("ab ba b", "bb a")
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(task.rearranged(batch))
        task.rearranged(written("a b", "b b"))
    assert made[0].target == made[1].target
    assert torch.equal(made[0].x, made[1].x)


def test_a_training_learns_from_what_was_rearranged(tmp_path, monkeypatch):
    settings = Transcribe(
        network=Network(hidden=(2,), blocks=("1x2",)), word_mix=1.0, training=Options(epochs=2)
    )
    task, other = build(settings, Facts(alphabet=ALPHABET)), written("a b", "b")
    monkeypatch.setattr(task, "rearranged", lambda batch: other)
    fit(task, Batches([written("ab ba b", "bb a")]), tmp_path, show=False, accelerator="cpu")
    assert task.batch is other


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"word_mix must lie in \[0, 1\], got"):
        Transcribe(word_mix=share)


def test_lines_of_which_none_is_cut_are_not_joined():
    """There may be no space between them."""
    task, batch = reader(model=Sees(0.4)), written("ab ba b", "a", "b", "ba")
    for seed in range(5):
        torch.manual_seed(seed)
        assert task.rearranged(batch) is batch


def test_a_line_that_is_not_cut_stays_whole_beside_those_that_are():
    task, batch = reader(), written("ab ba b", "abba", "b a")
    for seed in range(5):
        torch.manual_seed(seed)
        mixed = task.rearranged(batch)
        assert mixed.target[-1] == "abba"
        width = int(batch.sizes[1, -1])
        assert mixed.sizes[-1].tolist() == batch.sizes[1].tolist()
        assert torch.equal(mixed.x[-1, :, :width], batch.x[1, :, :width])


def test_lines_of_nothing_but_space_are_left_as_they_are():
    task, batch = reader(), written(" ", " ")
    assert task.rearranged(batch) is batch


def test_lines_of_one_size_are_mixed():
    task, batch = reader(), written("ab ba", "ba ab")
    torch.manual_seed(0)
    mixed = task.rearranged(batch._replace(sizes=None))
    assert mixed is not batch
    assert read(mixed.x, mixed.sizes) == [text.replace(" ", "") for text in mixed.target]


def test_an_order_on_the_image_that_has_no_text_is_left(monkeypatch):
    """A bracket without its other half may be seen as its mirror image, which is no character of the alphabet."""
    task = reader(alphabet=")1a ", direction="rtl")
    seen = "1)a"
    labels = tuple(task.facts.alphabet.index(character) + 1 for character in seen)
    with pytest.raises(ValueError, match="not in the alphabet"):
        task.encode(task.decode(labels))
    monkeypatch.setattr(dealing, "cut", lambda *_: [Piece(0, 1, (A,)), Piece(1, 2, (A,))])
    monkeypatch.setattr(dealing, "dealt", lambda x, sizes, *_: (x, sizes, [labels] * len(x)))
    monkeypatch.setattr(task, "frames", lambda sizes: torch.full((len(sizes),), 99))
    monkeypatch.setattr(task, "_log_probs", lambda batch: (torch.zeros(2, 99, 5), torch.tensor([99, 99])))
    batch = written("a", "a")
    assert task.rearranged(batch) is batch


def test_lines_of_half_precision_keep_their_width():
    """Which bfloat16 would round to 1004."""
    task, widths = reader(), []
    task.frames = lambda sizes: widths.append(sizes[:, -1].tolist()) or sizes[:, -1] // 2
    task.predict_step(TranscribeBatch(torch.zeros(2, 3, 1003, 1, dtype=torch.bfloat16), ("", "")))
    assert widths == [[1003, 1003]]
