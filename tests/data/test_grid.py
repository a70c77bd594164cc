"""The lattices of volumes: one orientation, one spacing, and the way back to the file's own."""

from __future__ import annotations

import numpy as np
import pytest

from ndrnn.data import BadFile
from ndrnn.data.formats import volumes
from ndrnn.data.formats.grid import grid
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.readers.folders import Images
from ndrnn.data.readers.pairs import Masks
from ndrnn.data.readers.pictures import Part

nibabel = pytest.importorskip("nibabel")
from nibabel.orientations import (  # noqa: E402
    axcodes2ornt,
    io_orientation,
    ornt_transform,
)

EDGES = np.diag([1.0, 2.0, 3.0, 1.0])
EDGES[:3, 3] = -5, 7, 11


def turned(image, codes):
    """A volume with its axes in other directions, by nibabel."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))


def random(shape=(4, 5, 6), kind=np.float32, affine=EDGES):
    values = np.random.default_rng(0).integers(0, 50, shape)
    return nibabel.Nifti1Image(values.astype(kind), affine)


def of(image, **options):
    data = image.to_bytes()
    return grid(volumes.space(data), image.shape[:3], "v.nii", **options)


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PIR", "ASL", "SRA"])
def test_every_orientation_becomes_the_same_sample_and_goes_back(codes):
    straight = random()
    image = turned(straight, codes)
    found = of(image)
    stored = np.asarray(image.dataobj)
    assert np.array_equal(found.values(stored[..., None])[..., 0], np.asarray(straight.dataobj))
    assert np.array_equal(found.back(found.labels(stored)), stored)
    assert np.allclose(found.turned(image.affine), EDGES)
    kept = of(image, orientation="stored")
    assert np.array_equal(kept.labels(stored), stored)


def test_tilted_axes_are_turned_as_far_as_they_go():
    angle = np.radians(20)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = turned(random(affine=tilt @ EDGES), "PIL")
    assert of(image).turned(image.affine) == pytest.approx(tilt @ EDGES)


def test_volumes_that_do_not_say_how_they_lie_stay(tmp_path):
    image = random(affine=None)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    found = of(image)
    assert found.order == (0, 1, 2)
    assert not any(found.flipped)


def test_a_broken_affine_is_named():
    space = volumes.Space(np.diag([1.0, 1, 0, 1]), stated=True, spacing=(1.0, 1.0, 0.0))
    with pytest.raises(BadFile, match=r"v\.nii: its affine gives its axes no directions; data\.orientation"):
        grid(space, (4, 5, 6), "v.nii")
    with pytest.raises(BadFile, match="does not say how far its voxels lie apart, got 1 x 1 x 0 mm"):
        grid(space, (4, 5, 6), "v.nii", orientation="stored", spacing=(1,))


@pytest.mark.parametrize("codes", ["RAS", "PIR"])
def test_spacing_by_hand(codes):
    # two points of 2 mm become four of 1 mm, whose middles lie a quarter of an edge from the old ones
    values = np.array([10, 20], np.float32).reshape(1, 2, 1)
    image = turned(nibabel.Nifti1Image(values, np.diag([1.0, 2, 1, 1])), codes)
    found = of(image, spacing=(1,))
    stored = np.asarray(image.dataobj)[..., None]
    assert found.values(stored)[0, :, 0, 0].tolist() == pytest.approx([10, 12.5, 17.5, 20])
    assert found.labels(stored[..., 0])[0, :, 0].tolist() == [10, 10, 20, 20]
    expected = [2, 4] if codes == "RAS" else [4, 2]  # the file begins at the front
    assert found.back(np.array([[[1], [2], [3], [4]]])).reshape(-1).tolist() == expected


def test_coarser_points_are_smoothed_and_types_stay():
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 32)).astype(np.uint8)
    image = nibabel.Nifti1Image(noise, np.eye(4))
    found = of(image, spacing=(4, 4, 4))
    values = found.values(noise[..., None])
    assert values.shape == (8, 8, 8, 1)
    assert values.dtype == np.uint8
    assert values.std() < noise.std() / 3
    assert of(image, spacing=(1.0,)).values(noise[..., None]).std() == noise.std()


def test_units_count(tmp_path):
    image = random(affine=np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("micron")
    assert volumes.space(image.to_bytes()).spacing == pytest.approx((0.002,) * 3)
    assert of(image, spacing=(0.001,)).size == (8, 10, 12)


def test_numbers_of_spacing_must_fit(tmp_path):
    with pytest.raises(BadFile, match=r"data\.spacing must be one number or 3, got 2"):
        of(random(), spacing=(1, 1))
    with pytest.raises(ValueError, match="spacing must be above 0"):
        Images(path="x", spacing=(0.0,))
    with pytest.raises(BadFile, match=r"announces .* bytes"):
        of(random(), spacing=(1e-4,))
    with pytest.raises(BadFile, match=r"data\.spacing is for NIfTI volumes"):
        Images(path="x", spacing=(1.0,)).picture([Part("a.png", b"", "a.png")])


@pytest.mark.parametrize("spacing", [(), (1.5,)])
def test_a_volume_and_its_labels_may_be_stored_in_other_directions(spacing, tmp_path):
    image, labels = random(), random(kind=np.uint8)
    for folder, one in (("imagesTr", turned(image, "LPI")), ("labelsTr", turned(labels, "ASR"))):
        (tmp_path / folder).mkdir()
        nibabel.save(one, tmp_path / folder / "a.nii.gz")
    raw = Masks(path=str(tmp_path), spacing=spacing).open().read(0)
    straight = of(image, spacing=spacing)
    assert np.array_equal(raw.target, straight.labels(np.asarray(labels.dataobj)))
    assert np.array_equal(raw.values, straight.values(np.asarray(image.dataobj)[..., None]))
    stored = Masks(path=str(tmp_path), orientation="stored").open()
    with pytest.raises(BadFile, match="mask must be 4 x 5 x 6 like its image, got 5 x 6 x 4"):
        stored.read(0)


def test_labels_without_a_place_go_with_their_volume(tmp_path):
    image, labels = turned(random(), "LPI"), turned(random(kind=np.uint8), "LPI")
    labels.set_sform(None, 0)
    labels.set_qform(None, 0)
    for folder, one in (("imagesTr", image), ("labelsTr", labels)):
        (tmp_path / folder).mkdir()
        nibabel.save(one, tmp_path / folder / "a.nii.gz")
    raw = Masks(path=str(tmp_path)).open().read(0)
    assert np.array_equal(raw.target, raw.values[..., 0])
    assert np.array_equal(raw.target, np.asarray(random().dataobj))


@pytest.mark.parametrize("codes", ["RA", "LA", "PR", "SP"])
def test_pictures_in_nifti_are_turned_in_their_plane(codes, tmp_path):
    # the third axis, which there is none of, points where it may
    ends = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1)}
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = (ends[letter] for letter in codes)
    affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
    values = np.random.default_rng(0).integers(0, 3, (4, 5)).astype(np.uint8)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / folder / "a.nii.gz")
    found = gather(Masks(path=str(tmp_path), classes=("a", "b", "c")), "label")
    assert found.facts.ndim == 2
    expected = {"RA": values, "LA": values[::-1], "PR": values[::-1].T, "SP": values[:, ::-1].T}[codes]
    raw = found.samples("train").source.read(0)
    assert np.array_equal(raw.values[..., 0], expected)
    assert np.array_equal(raw.target, expected)


@pytest.mark.parametrize(("kind", "order"), [("Nifti1", "<"), ("Nifti1", ">"), ("Nifti2", "<")])
def test_results_keep_the_header_of_their_file(kind, order, tmp_path):
    header = getattr(nibabel, f"{kind}Header")(endianness=order)
    tilted = EDGES.copy()
    tilted[0, 1] = 0.5
    image = getattr(nibabel, f"{kind}Image")(np.zeros((4, 5, 6, 2), np.int16), tilted, header)
    image.set_qform(EDGES, 1)
    image.set_sform(tilted, 4)
    image.header.set_xyzt_units("micron", "sec")
    image.header["descrip"], image.header["cal_max"], image.header["aux_file"] = b"as measured", 900, b"aux"
    image.header.set_slope_inter(2, 1)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"of the values"))
    labels = np.random.default_rng(0).integers(0, 300, (4, 5, 6))
    volumes.write(labels, tmp_path / "a.nii.gz", like=image.to_bytes())
    volumes.write(labels / 300, tmp_path / "b.nii.gz", like=image.to_bytes(), kind=np.float32)
    for name, expected, stored in (("a", labels, np.uint16), ("b", labels / 300, np.float32)):
        found = nibabel.load(tmp_path / f"{name}.nii.gz")
        assert type(found) is type(image)
        assert np.asarray(found.dataobj) == pytest.approx(expected, rel=1e-6)
        assert found.get_data_dtype() == np.dtype(stored).newbyteorder(order)
        for field in ("descrip", "aux_file", "xyzt_units", "qform_code", "sform_code", "srow_x", "quatern_b"):
            assert (
                found.header[field] == pytest.approx(image.header[field])
                if field == "srow_x"
                else (found.header[field] == image.header[field])
            )
        assert np.array_equal(found.get_sform(), image.get_sform())
        assert np.array_equal(found.get_qform(), image.get_qform())
        assert found.header["cal_max"] == 0
        assert not found.header.extensions
