"""Volumes: numbers as they are stored, labels exactly, and where they lie in space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ndrnn.data import BadFile
from ndrnn.data.formats import volumes
from ndrnn.data.formats.intensities import Intensities
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.readers.pairs import Masks

nibabel = pytest.importorskip("nibabel")

LEFT = np.diag([-2.0, 1, 1, 1])  # the first axis points to the left
LEFT[0, 3] = 10


def nifti(array, affine=None, slope=None, kind=nibabel.Nifti1Image):
    image = kind(array, np.eye(4) if affine is None else affine, dtype=array.dtype)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    return image.to_bytes()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", [">i2", "<i2", "i1", "u1", "u2", "i4", "i8", "f4", "f8"])
def test_numbers_arrive_as_they_are_stored(dtype, kind):
    values = np.random.default_rng(0).integers(0, 100, (2, 3, 4)).astype(dtype)
    decoded = volumes.decode(nifti(values, kind=kind))
    assert decoded.dtype == values.dtype.newbyteorder("=")
    assert np.array_equal(decoded[..., 0], values)


def test_sixteen_bits_are_scaled_by_the_range_of_their_type():
    for dtype, largest in ((np.int16, 32767), (np.uint16, 65535)):
        stored = np.array([0, 1000, largest], dtype).reshape(3, 1, 1)
        features = Intensities().convert(volumes.decode(nifti(stored)))
        assert features.flatten().tolist() == pytest.approx([0, 1000 / largest, 1])
    signed = Intensities().convert(volumes.decode(nifti(np.full((1, 1, 1), -1000, np.int16))))
    assert signed.item() == pytest.approx(-1000 / 32767)
    wide = volumes.decode(nifti(np.arange(4, dtype=np.int32).reshape(4, 1, 1)))
    with pytest.raises(ValueError, match=r"holds int32, .* choose data\.scale sample"):
        Intensities().convert(wide)
    assert Intensities(scale="sample").convert(wide).flatten().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize("scaled", [False, True])
def test_what_lies_far_from_zero_is_scaled_before_it_is_rounded(scaled):
    far = 1e9 + np.array([0, 0.25, 0.5, 1]).reshape(4, 1, 1)
    data = nifti(far)
    if scaled:
        image = nibabel.Nifti1Image(np.array([0, 1, 2, 4], np.int16).reshape(4, 1, 1), np.eye(4))
        image.header.set_slope_inter(0.25, 1e9)
        data = image.to_bytes()
    decoded = volumes.decode(data)
    assert np.array_equal(decoded[..., 0], far)
    features = Intensities(scale="sample").convert(decoded, colour=False)
    assert features.dtype == torch.float32
    assert features.flatten().tolist() == [0, 0.25, 0.5, 1]


def test_scaled_16_bits_around_zero_stay_narrow():
    image = nibabel.Nifti1Image(np.array([-1000, 0, 32767], np.int16).reshape(3, 1, 1), np.eye(4))
    image.header.set_slope_inter(1, -1024)
    decoded = volumes.decode(image.to_bytes())
    assert decoded.dtype == np.float32
    assert decoded.flatten().tolist() == [-2024, -1024, 31743]


def test_channels_of_volumes_are_no_colours(tmp_path):
    for folder, channels in (("imagesTr", 2), ("labelsTr", 0)):
        (tmp_path / folder).mkdir()
        shape = (2, 2, 2, channels) if channels else (2, 2, 2)
        array = np.zeros(shape, np.uint16)
        if channels:
            array[...] = 100, 300
        (tmp_path / folder / "a.nii").write_bytes(nifti(array))
    whole = gather(Masks(path=str(tmp_path)), "label")
    assert whole.facts.channels == 2
    assert whole.samples("train")[0].x[0, 0, 0].tolist() == pytest.approx([100 / 65535, 300 / 65535])
    with pytest.raises(BadFile, match=r"has 2 channels, expected 1; they are no colours"):
        gather(Masks(path=str(tmp_path), channels=1), "label")


def test_labels_keep_every_digit():
    labels = np.array([2**24 + 1, 2**53 + 1, -(2**62)]).reshape(3, 1, 1)
    assert volumes.decode_mask(nifti(labels)).tolist() == labels.tolist()
    with pytest.raises(BadFile, match=f"label {2**63} is too large"):
        volumes.decode_mask(nifti(np.full((1, 1, 1), 2**63, np.uint64)))


def test_labels_that_a_file_scales_may_be_rounded_and_no_others():
    stored = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    assert np.array_equal(volumes.decode_mask(nifti(stored, slope=0.99995)), stored)
    near = (stored + 0.0009).astype(np.float32)
    assert np.array_equal(volumes.decode_mask(nifti(near)), stored)
    for wrong in (0.25, np.nan, np.inf, 1e30):
        with pytest.raises(
            BadFile, match=f"m: labels must be integers, got {float(np.float32(wrong))!r}".replace("+", r"\+")
        ):
            volumes.decode_mask(nifti(np.full((1, 1, 1), wrong, np.float32)), "m")


@pytest.mark.parametrize("decode", [volumes.decode, volumes.decode_mask])
def test_complex_numbers_and_colours_of_three_bytes_are_refused(decode):
    with pytest.raises(BadFile, match="must hold real numbers, got complex64"):
        decode(nifti(np.full((2, 2, 2), 1 + 1j, np.complex64)))
    colours = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(BadFile, match="must hold real numbers"):
        decode(nifti(colours))


def pairs(folder, *, image=None, mask=None, count=1, mark=True):
    """Volumes with labels, of which the affines are given; without ``mark`` the files do not state them."""
    for part, affine in (("imagesTr", image), ("labelsTr", mask)):
        (folder / part).mkdir(exist_ok=True, parents=True)
        for _ in range(count):
            made = nibabel.Nifti1Image(np.indices((3, 4, 5)).sum(0).astype(np.uint8) % 2, affine)
            if not mark:
                made.set_sform(None, 0)
                made.set_qform(None, 0)
            nibabel.save(made, folder / part / f"{len(list((folder / part).iterdir()))}.nii")
    return folder


def test_labels_that_lie_elsewhere_are_named(tmp_path):
    straight = np.diag([2.0, 1, 1, 1])
    source = Masks(path=str(pairs(tmp_path, image=straight, mask=LEFT))).open()
    with pytest.raises(
        BadFile, match=r"labelsTr/0\.nii: its affine differs .*imagesTr/0\.nii.* \(LAS and RAS\)"
    ):
        source.read(0)
    assert Masks(path=str(tmp_path), geometry="ignore").open().read(0).target.shape == (3, 4, 5)


def test_a_shift_of_a_voxel_is_seen_and_rounding_is_not(tmp_path):
    straight, shifted, rounded = np.eye(4), np.eye(4), np.eye(4)
    shifted[1, 3], rounded[1, 3] = 1, 1e-3
    with pytest.raises(BadFile, match="by up to 1 voxels"):
        Masks(path=str(pairs(tmp_path / "a", image=straight, mask=shifted))).open().read(0)
    assert Masks(path=str(pairs(tmp_path / "b", image=straight, mask=rounded))).open().read(0)
    unstated = pairs(tmp_path / "c", image=LEFT, mask=straight, mark=False)
    assert Masks(path=str(unstated)).open().read(0)


def test_a_folder_of_two_orientations_is_told(tmp_path):
    pairs(tmp_path, image=np.eye(4), mask=np.eye(4), count=3)
    stored = Masks(path=str(tmp_path), orientation="stored", classes=("a", "b"))
    assert gather(stored, "label").remarks == ()
    pairs(tmp_path, image=LEFT, mask=LEFT)
    found = gather(stored, "label")
    assert not found.faults.found
    remark, sizes = found.remarks
    assert "the axes of the volumes point in 2 ways (3 RAS, 1 LAS; LAS: " in remark
    assert "imagesTr/3.nii" in remark
    assert sizes == "voxels measure 1 x 1 x 1 to 2 x 1 x 1 mm; data.spacing brings them to one size"
    assert gather(Masks(path=str(tmp_path), classes=("a", "b")), "label").remarks == (sizes,)
    pairs(tmp_path, image=np.eye(4), mask=np.eye(4), mark=False)
    *_, unstated = gather(Masks(path=str(tmp_path), classes=("a", "b"), spacing=(1.0,)), "label").remarks
    assert unstated.startswith("1 volume does not say how the axes lie")
