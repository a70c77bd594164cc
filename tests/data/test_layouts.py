"""Where people keep masks: endings of names, one folder for all, a wrapping folder, and nnU-Net's folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ndrnn.app.inputs import find
from ndrnn.data import BadFile
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.readers.nnunet import NnUnet
from ndrnn.data.readers.pairs import Masks

nibabel = pytest.importorskip("nibabel")


def grey(path, *values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], np.uint8)).save(path)


def read(source):
    """Value, label and split of each sample by its first point."""
    found = [source.read(index) for index in range(len(source))]
    return [(raw.values.flat[0], raw.target.flat[0]) for raw in found]


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("images/a.jpg masks/a_mask.png", {"mask_suffix": "_mask"}),
        ("train/a.png train/a.labels.tif", {"mask_suffix": ".labels"}),
        ("a.png a_masks.png", {"mask_suffix": "_masks"}),
        ("a_img.png a_masks.png", {"image_suffix": "_img", "mask_suffix": "_masks"}),
        ("x/a.png y/a_mask.png", {"images": "x", "masks": "y", "mask_suffix": "_mask"}),
        ("x/a.png x/a_mask.png", {"images": ".", "masks": ".", "mask_suffix": "_mask"}),
        ("train/b/a_left.png gt/train/b/a_ids.png", {"images": "{split}", "masks": "gt/{split}"}),
    ],
)
@pytest.mark.parametrize("packed", ["folder", "archive", "wrapped archive"])
def test_masks_by_the_end_of_their_names(layout, options, packed, tmp_path, zip_folder):
    if "{split}" in options.get("images", ""):
        options = {**options, "image_suffix": "_left", "mask_suffix": "_ids"}
    image, mask = layout.split()
    inside = "set/around" if packed == "wrapped archive" else "set"
    for name, values in ((image, [9] * 8), (mask, [1] * 8)):
        grey(tmp_path / inside / name, *values)
    path = tmp_path / "set" if packed == "folder" else zip_folder(tmp_path / "set")
    source = Masks(path=str(path), **options).open()
    assert not source.faults
    assert read(source) == [(9, 1)]
    assert source.splits == ["train" if "train" in image else ""]


def test_other_files_beside_masks_with_a_suffix_are_passed_over(tmp_path):
    for name in ("images/a.png", "masks/a_ids.png", "masks/a_color.png"):
        grey(tmp_path / name, 1)
    source = Masks(path=str(tmp_path), mask_suffix="_ids").open()
    assert len(source) == 1
    assert not source.faults


def test_what_to_type_is_said(tmp_path):
    for name in ("one/a.png", "one/a_mask.png", "two/images/a.png", "two/masks/a_seg.png"):
        grey(tmp_path / name, 1)
    for name in ("three/images/a_0000.png", "three/masks/a.png"):
        grey(tmp_path / name, 1)
    with pytest.raises(BadFile, match=r"names end in _mask: data\.mask-suffix=_mask takes those for masks"):
        Masks(path=str(tmp_path / "one")).open()
    with pytest.raises(BadFile, match=r"there is .*masks/a_seg\.png, which data\.mask-suffix=_seg"):
        Masks(path=str(tmp_path / "two")).open().read(0)
    with pytest.raises(BadFile, match=r"like a channel of nnU-Net, which data\.format nnunet reads"):
        Masks(path=str(tmp_path / "three")).open().read(0)


def test_masks_of_a_mixed_folder_are_not_predicted(tmp_path):
    for name in ("a.png", "a_mask.png"):
        grey(tmp_path / name, 1)
    reader = Masks(path="unused", mask_suffix="_mask")
    assert [file.name for file in find([tmp_path], reader)] == ["a.png"]
    assert [file.name for file in find([tmp_path / "a_mask.png"], reader)] == ["a_mask.png"]


def volume(path, value, affine=None, shape=(2, 3, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(
        nibabel.Nifti1Image(np.full(shape, value, np.int16), np.eye(4) if affine is None else affine), path
    )


def data_set(folder, table=None):
    """Two cases of two channels and one for the test, with labels 0 and 1."""
    for part, cases in (("Tr", "ab"), ("Ts", "c")):
        for index, case in enumerate(cases):
            for channel in range(2):
                volume(folder / f"images{part}/{case}_{channel:04}.nii.gz", 10 * index + channel)
            volume(folder / f"labels{part}/{case}.nii.gz", index)
    default = {"channel_names": {"0": "T1", "1": "ADC"}, "labels": {"background": 0, "tumour": 1}}
    (folder / "dataset.json").write_text(json.dumps(default if table is None else table), encoding="utf-8")
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_nnunet(packed, tmp_path, zip_folder):
    data_set(tmp_path / "raw/Dataset001_X")
    found = gather(NnUnet(path=str(zip_folder(tmp_path / "raw") if packed else tmp_path / "raw")), "label")
    assert found.facts.classes == ("background", "tumour")
    assert (found.facts.ndim, found.facts.channels) == (3, 2)
    assert not found.faults.found
    source = found.samples("test").source
    assert source.splits == ["", "", "test"]
    raw = source.read(1)
    assert raw.values.shape == (2, 3, 4, 2)
    assert raw.values[0, 0, 0].tolist() == [10, 11]
    assert raw.target.max() == raw.target.min() == 1


def test_nnunet_without_answers_without_channels_and_without_names(tmp_path):
    for case in "ab":  # as in the Medical Segmentation Decathlon
        volume(tmp_path / f"imagesTr/{case}.nii.gz", 5)
        volume(tmp_path / f"labelsTr/{case}.nii.gz", case == "b")
    volume(tmp_path / "imagesTs/c.nii.gz", 5)
    found = gather(NnUnet(path=str(tmp_path)), "label")
    assert set(found.splits) == {"train", "validation"}
    assert found.facts.classes == ("0", "1")


def test_nnunet_ignores_what_its_table_says(tmp_path):
    data_set(tmp_path, {"labels": {"background": 0, "ignore": 1}})
    source = NnUnet(path=str(tmp_path)).open()
    assert source.classes == ("background",)
    assert source.read(1).target.max() == -100
    assert NnUnet(path=str(tmp_path), binary=True).open().classes == ("background", "object")
    regions = data_set(tmp_path / "regions", {"labels": {"background": 0, "whole": [1, 2], "core": 2}})
    with pytest.raises(BadFile, match=r"dataset\.json: .* regions that overlap"):
        NnUnet(path=str(regions)).open()


def test_nnunet_names_what_is_wrong(tmp_path):
    data_set(tmp_path)
    (tmp_path / "imagesTr/a_0001.nii.gz").unlink()
    (tmp_path / "labelsTr/b.nii.gz").unlink()
    volume(tmp_path / "labelsTr/z.nii.gz", 0)
    shifted = np.eye(4)
    shifted[0, 3] = 2
    volume(tmp_path / "imagesTs/c_0001.nii.gz", 0, shifted)
    found = NnUnet(path=str(tmp_path)).open()
    told = {fault.file.rpartition("/")[2]: fault.reason for fault in found.faults}
    assert told == {
        "a_0000.nii.gz": "its case has the channels 0000, expected 0000 to 0001, as dataset.json tells",
        "z.nii.gz": "has no image of the same name",
    }
    with pytest.raises(BadFile, match=r"b_0000\.nii\.gz: has no mask"):
        found.read(0)
    with pytest.raises(BadFile, match=r"c_0001\.nii\.gz: its affine differs from that of .*c_0000"):
        found.read(1)
    for wrong in ("two", "three"):
        volume(tmp_path / f"more/{wrong}/imagesTr/a.nii", 0)
    with pytest.raises(BadFile, match=r"holds 2 data sets; name one of them"):
        NnUnet(path=str(tmp_path / "more")).open()
    with pytest.raises(BadFile, match="no folder imagesTr"):
        NnUnet(path=str(tmp_path / "more/two/imagesTr")).open()


def test_cases_of_channels_are_found_together(tmp_path):
    folder = data_set(tmp_path) / "imagesTr"
    reader = NnUnet(path="unused")
    found = find([folder], reader)
    assert [(file.place, file.name, file.channels) for file in found] == [
        ("a", "a_0000.nii.gz", ("a_0001.nii.gz",)),
        ("b", "b_0000.nii.gz", ("b_0001.nii.gz",)),
    ]
    (one,) = find([folder / "b_0000.nii.gz"], reader)
    assert one.channels == ("b_0001.nii.gz",)
