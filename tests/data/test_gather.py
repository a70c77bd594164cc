"""Checked samples: splits, facts, and faults that name the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.data import BadFile
from ndrnn.data.batches import Facts
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.pipeline.samples import pad
from ndrnn.data.readers.arrays import Arrays
from ndrnn.data.readers.folders import Classes, Images
from ndrnn.data.readers.lines import Lines
from ndrnn.data.readers.pairs import Masks


def test_facts_splits_and_samples(mask_folder):
    gathered = gather(Masks(path=str(mask_folder)), "label")
    assert gathered.facts == Facts(2, 1, ("0", "1", "2"), reach=1.0)
    assert {split: len(samples) for split, samples in gathered.splits.items()} == {
        "train": 5,
        "validation": 1,
    }
    assert not gathered.faults.found
    train = gathered.samples("train")
    for index in range(5):
        sample = train[index]
        with Image.open(sample.name) as image:
            assert torch.equal(sample.x[..., 0], torch.tensor(np.asarray(image) / np.float32(255)))
        assert sample.target.shape == sample.x.shape[:2] == train.extents[index]
        assert sample.target.dtype == torch.int64
    with pytest.raises(ValueError, match="split must be one of train, validation or all, got 'test'"):
        gathered.samples("test")


def test_held_out_samples_depend_on_the_seed_alone(mask_folder):
    reader = Masks(path=str(mask_folder), held_out=0.34)
    names = [
        [gather(reader, "label", seed=seed).samples("validation").name(index) for index in range(2)]
        for seed in (0, 0, 1)
    ]
    assert names[0] == names[1] != names[2]


def test_samples_out_of_memory_are_read_again(mask_folder):
    kept = gather(Masks(path=str(mask_folder)), "label").samples("train")
    read = gather(Masks(path=str(mask_folder), memory=0), "label").samples("train")
    assert all(torch.equal(kept[index].x, read[index].x) for index in range(len(kept)))
    (mask_folder / "images/0.png").unlink()
    assert torch.is_tensor(kept[0].x)
    gone = next(index for index in range(len(read)) if read.name(index).endswith("images/0.png"))
    with pytest.raises(BadFile, match=r"images/0\.png: No such file"):
        read[gone]


def test_damaged_files_are_counted_or_stop_the_run(mask_folder):
    (mask_folder / "images/1.png").write_bytes(b"no image")
    (mask_folder / "masks/3.png").unlink()
    gathered = gather(Masks(path=str(mask_folder)), "label")
    assert [fault.file.rpartition("set/")[2] for fault in gathered.faults.found] == [
        "images/1.png",
        "images/3.png",
    ]
    assert sum(map(len, gathered.splits.values())) == 4
    with pytest.raises(BadFile, match=r"images/1\.png: not an image"):
        gather(Masks(path=str(mask_folder)), "label", strict=True)


def test_nothing_usable_is_an_error_that_tells_why(mask_folder):
    for path in (mask_folder / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(BadFile, match=r"none of 6 samples can be used; the first: .*0\.png: not an image"):
        gather(Masks(path=str(mask_folder)), "label")


def test_labels_out_of_range_are_named(mask_folder):
    labels = np.zeros((5, 7), np.uint8)
    labels[2, 2] = 9
    Image.fromarray(labels).save(mask_folder / "masks/0.png")
    gathered = gather(Masks(path=str(mask_folder), classes=("a", "b", "c")), "label")
    assert str(gathered.faults.found[0]).endswith(
        "images/0.png: label 9 is out of range, it must be [0, 3), or be named in data.ignore; "
        "data.classes 9=NAME ... names other values"
    )
    assert not gather(
        Masks(path=str(mask_folder), classes=("a", "b", "c"), ignore=(9,)), "label"
    ).faults.found


def test_data_must_fit_a_trained_model(mask_folder):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(mask_folder / "images/6.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(mask_folder / "masks/6.png")
    facts = Facts(2, 3, ("a", "b"))
    gathered = gather(Masks(path=str(mask_folder)), "label", facts=facts)
    assert gathered.facts == facts
    assert len(gathered.faults) == 6  # they have a label 2
    assert gathered.samples("train")[0].x.shape == (4, 4, 3)


def test_channels_follow_the_first_file(tmp_path):
    Image.fromarray(np.full((4, 4), 10, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 4, 3), 20, np.uint8)).save(tmp_path / "b.png")
    gathered = gather(Images(path=str(tmp_path)), "density")
    assert gathered.facts.channels == 1
    assert {sample.x.shape for split in gathered.splits.values() for sample in [split[0]]} == {(4, 4, 1)}


def test_texts_give_the_alphabet_and_can_be_refused(line_folder):
    gathered = gather(Lines(path=str(line_folder)), "transcribe")
    assert gathered.facts.alphabet == " abá"
    refused = gather(
        Lines(path=str(line_folder)),
        "transcribe",
        accept=lambda raw: "too long" if len(raw.target) > 3 else None,
    )
    assert [fault.reason for fault in refused.faults.found] == ["too long"]


@pytest.mark.parametrize(
    ("purpose", "message"),
    [("classify", "has no class"), ("transcribe", "has no text"), ("label", "has no mask")],
)
def test_a_format_without_the_targets_of_the_task(purpose, message, tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(BadFile, match=message):
        gather(Images(path=str(tmp_path)), purpose)


def test_padding_keeps_samples_and_tells_sizes():
    a, b = torch.ones(2, 3, 1), torch.ones(4, 1, 1)
    padded, sizes = pad([a, b], 2, fill=7)
    assert padded.shape == (2, 4, 3, 1)
    assert torch.equal(padded[0, :2, :3], a)
    assert torch.equal(padded[1, :4, :1], b)
    assert padded.eq(7).sum() == 2 * 12 - 6 - 4
    assert sizes.tolist() == [[2, 3], [4, 1]]
    assert pad([a, a], 2)[1] is None


@pytest.mark.parametrize("purpose", ["label", "classify"])
def test_a_label_far_beyond_the_others_makes_no_billion_classes(purpose, tmp_path):
    labels = np.zeros((3, 4, 4), np.int64)
    labels[1] = 10**9
    np.savez(
        tmp_path / "a.npz",
        image=np.ones((3, 4, 4), np.float32),
        label=labels if purpose == "label" else labels[:, 0, 0],
    )
    found = gather(Arrays(path=str(tmp_path / "a.npz"), held_out=0.5), purpose)
    assert found.facts.classes == ("0",)
    (fault,) = found.faults.found
    assert fault.file.endswith("a.npz[1]")
    assert "label 1000000000 is beyond 65535" in fault.reason


def test_a_class_that_only_other_samples_have_is_said(tmp_path):
    """It would never be found, without a word."""
    for split, labels in (("train", (0, 1)), ("validation", (0, 2)), ("test", (1, 1))):
        for name, values in (("images", (9, 9)), ("masks", labels)):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.array([values] * 2, np.uint8)).save(folder / "0.png")
    reader = Masks(path=str(tmp_path), images="{split}/images", masks="{split}/masks")
    (remark,) = gather(reader, "label").remarks
    assert remark == "1 class cannot be learned, as no training sample has it: 2"
    (remark,) = gather(replace(reader, classes=("road", "tree", "car", "sky")), "label").remarks
    assert remark == "2 classes cannot be learned, as no training sample has them: car, sky"
    known = Facts(classes=("road", "tree", "car"))
    assert gather(reader, "label", facts=known).remarks == ()


def test_a_kind_of_sample_that_is_not_learned_from_is_said(tmp_path):
    for split, names in (("train", "ab"), ("test", "abc")):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / split / name / f"{number}.png")
    (remark,) = gather(Classes(path=str(tmp_path)), "classify").remarks
    assert remark == "1 class cannot be learned, as no training sample has it: c"


def test_a_character_that_is_not_learned_from_is_said(tmp_path):
    for split, text in (("train", "ab"), ("validation", "ba"), ("test", "aé")):
        (tmp_path / split).mkdir()
        Image.fromarray(np.full((4, 40), 9, np.uint8)).save(tmp_path / split / "0.png")
        (tmp_path / split / "0.gt.txt").write_text(text, encoding="utf-8")
    (remark,) = gather(Lines(path=str(tmp_path)), "transcribe").remarks
    assert (
        remark == f"1 character cannot be learned, as no training sample has it: 'é' ({tmp_path}/test/0.png)"
    )


def test_a_density_needs_no_sample_of_each_class(tmp_path):
    for name, kind in (("a", np.uint8), ("b", np.uint16)):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(np.full((4, 4), 9, kind)).save(tmp_path / name / f"{number}.png")
    (remark,) = gather(Classes(path=str(tmp_path)), "density").remarks
    assert remark.startswith("samples differ in their levels")


def test_numbers_between_those_of_classes_are_classes_too(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((8, 4, 4), np.uint8), label=np.array([1, 4] * 4))
    gathered = gather(Arrays(path=str(tmp_path / "a.npz"), held_out=0.01), "classify")
    assert len(gathered.facts.classes) == 5
    assert gathered.remarks == ("3 classes cannot be learned, as no training sample has them: 0, 2, 3",)


def arrays(folder, **stacks):
    """Readers of stacked samples with labels, one a name."""
    for name, stack in stacks.items():
        np.savez(folder / f"{name}.npz", image=stack, label=np.arange(stack.size).reshape(stack.shape) % 2)
    return [Arrays(path=str(folder / f"{name}.npz")) for name in stacks]


BYTES = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)


@pytest.mark.parametrize(
    ("learned", "given", "message"),
    [
        (
            BYTES,
            BYTES.astype(np.float32),
            "floating-point values of up to 15, and .* from values of at most 1",
        ),
        (BYTES / np.float32(255), BYTES.astype(float), "floating-point values of up to 15"),
        (BYTES / np.float32(30), BYTES.astype(float), "up to 15, .* from values of at most 1.03"),
        (BYTES - 900.0, BYTES, "holds uint8, which becomes 1 at most, .* floating-point values of up to 900"),
        (BYTES - 900.0, BYTES.astype(np.int16), "holds int16, which becomes 1 at most"),
    ],
)
def test_samples_of_another_scale_than_those_learned_from_are_refused(learned, given, message, tmp_path):
    before, after = arrays(tmp_path, before=learned, after=given)
    facts = gather(before, "label").facts
    with pytest.raises(BadFile, match=message):
        gather(after, "label", facts=facts)
    # each by its own range they are alike
    before, after = replace(before, scale="sample"), replace(after, scale="sample")
    assert gather(after, "label", facts=gather(before, "label").facts).faults.found == []
    # as is what an older model was trained on, of which nothing is known
    assert gather(replace(after, scale="type"), "label", facts=replace(facts, reach=0.0)).faults.found == []


@pytest.mark.parametrize("given", [BYTES.astype(np.uint16), BYTES / np.float32(255), BYTES / np.float32(20)])
def test_samples_of_about_the_same_scale_are_taken(given, tmp_path):
    before, after = arrays(tmp_path, before=BYTES, after=given)
    facts = gather(before, "label").facts
    assert facts.reach == 1
    assert gather(after, "label", facts=facts).faults.found == []
    assert gather(before, "label", facts=gather(after, "label").facts).faults.found == []


def test_samples_that_differ_in_scale_among_themselves_are_said(tmp_path):
    (tmp_path / "a").mkdir()
    for name, kind in (("a", np.uint8), ("b", np.float32)):
        for number in range(2):
            Image.fromarray(np.full((4, 4), 9 + number, kind)).save(tmp_path / "a" / f"{name}{number}.tif")
    gathered = gather(Images(path=str(tmp_path / "a")), "density")
    assert gathered.facts.reach == 0
    assert (
        f"samples differ in their scale: integers become 1 at most ({tmp_path}/a/a0.tif), floating-point values stay as "
        f"they are, up to 10 ({tmp_path}/a/b1.tif); data.scale sample scales each to its range"
    ) in gathered.remarks
