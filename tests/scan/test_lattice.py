"""Directions, faces and extents."""

import torch

from ndrnn.lattice import all_directions, face_lattice, face_points, inside, pack_faces, unpack_faces


def test_directions_count_down_from_all_forward():
    assert all_directions(1) == ((1,), (-1,))
    assert all_directions(2) == ((1, 1), (1, -1), (-1, 1), (-1, -1))
    assert len(set(all_directions(4))) == 16


def test_faces_are_packed_by_axis_and_come_back(normal):
    lattice = (3, 4, 2)
    assert [face_lattice(lattice, axis) for axis in range(3)] == [(4, 2), (3, 2), (3, 4)]
    assert face_points(lattice) == [8, 6, 12]
    faces = [normal(2, 5, *face_lattice(lattice, axis), 7) for axis in range(3)]
    packed = pack_faces(faces)
    assert packed.shape == (2, 5, 26, 7)
    assert torch.equal(packed[:, :, 8:14], faces[1].flatten(2, 3))
    for face, back in zip(faces, unpack_faces(packed, lattice), strict=True):
        assert torch.equal(face, back)


def test_the_face_of_a_line_is_a_point(normal):
    assert face_points((9,)) == [1]
    (face,) = unpack_faces(pack_faces([normal(2, 5, 7)]), (9,))
    assert face.shape == (2, 5, 7)


def test_points_inside_the_extents():
    mask = inside(torch.tensor([[2, 1], [0, 3], [2, 3]]), (2, 3))
    assert mask.tolist() == [
        [[True, False, False], [True, False, False]],
        [[False] * 3, [False] * 3],
        [[True] * 3, [True] * 3],
    ]
