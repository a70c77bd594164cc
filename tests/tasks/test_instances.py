"""Objects in maps of labels, against a flood fill and sums point by point."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("skimage")

from ndrnn.tasks.instances import measured, separate


def flooded(labels, classes):
    """The number of the object of each point, by walking from neighbour to neighbour."""
    objects, count = np.zeros(labels.shape, int), 0
    steps = [step for step in product((-1, 0, 1), repeat=labels.ndim) if any(step)]
    for start in np.ndindex(*labels.shape):
        if labels[start] not in classes or objects[start]:
            continue
        count += 1
        objects[start], waiting = count, [start]
        while waiting:
            point = waiting.pop()
            for step in steps:
                near = tuple(np.add(point, step))
                inside = all(0 <= place < extent for place, extent in zip(near, labels.shape, strict=True))
                if inside and not objects[near] and labels[near] == labels[start]:
                    objects[near] = count
                    waiting.append(near)
    return objects


@pytest.mark.parametrize("shape", [(40,), (15, 17), (6, 7, 8)])
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_objects_are_what_is_connected(shape, kind):
    labels = np.random.default_rng(0).choice(4, shape, p=[0.7, 0.1, 0.1, 0.1]).astype(kind)
    objects = separate(labels, [1, 3])
    assert objects.dtype == np.int32
    assert np.array_equal(objects, flooded(labels, (1, 3)))


@pytest.mark.parametrize(("shape", "rare"), [((200,), 0.35), ((20, 21), 0.1), ((9, 8, 7), 0.1)])
def test_measures_by_hand(shape, rare):
    generator = np.random.default_rng(1)
    n = len(shape)
    labels = generator.choice(3, shape, p=[1 - 2 * rare, rare, rare])
    confidence = generator.random(labels.shape)
    objects = separate(labels, [1, 2], smallest=3)
    table = measured(objects, labels, confidence)
    assert table["instance"].tolist() == list(range(1, objects.max() + 1))
    assert objects.max() > 3
    for row, number in enumerate(table["instance"]):
        places = np.argwhere(objects == number)
        assert table["area"][row] == len(places) >= 3
        assert set(labels[objects == number]) == {table["class"][row]}
        assert [table[f"centroid-{axis}"][row] for axis in range(n)] == pytest.approx(places.mean(0).tolist())
        box = [table[f"bbox-{index}"][row] for index in range(2 * n)]
        assert box == [*places.min(0).tolist(), *(places.max(0) + 1).tolist()]
        assert table["confidence"][row] == pytest.approx(confidence[objects == number].mean())


def test_small_ones_are_left_out_and_the_rest_counted_on():
    labels = np.array([[1, 0, 1, 1, 0, 1, 1, 1]])
    assert separate(labels, [1], smallest=2).tolist() == [[0, 0, 1, 1, 0, 2, 2, 2]]
    assert separate(labels, [1], smallest=9).max() == 0
    assert len(measured(separate(labels * 0, [1]), labels)["area"]) == 0


def test_dividing_keeps_every_point_and_no_object_of_two_classes():
    generator = np.random.default_rng(2)
    rows, columns = np.ogrid[:60, :60]
    labels = np.zeros((60, 60), int)
    for number in range(12):
        row, column = generator.integers(5, 55, 2)
        labels[(rows - row) ** 2 + (columns - column) ** 2 < 40] = 1 + number % 2
    whole, divided = separate(labels, [1, 2]), separate(labels, [1, 2], apart=3)
    assert np.array_equal(divided > 0, labels > 0)
    assert divided.max() > whole.max()
    assert set(np.unique(divided)) == set(range(divided.max() + 1))
    for number in range(1, divided.max() + 1):
        assert len(set(labels[divided == number])) == 1
        assert len(set(whole[divided == number])) == 1


def test_an_even_block_is_one_object():
    labels = np.zeros((12, 12), int)
    labels[2:8, 2:8] = 1
    labels[10, 10] = 1
    assert separate(labels, [1], apart=2).max() == 2
    assert separate(np.ones((4, 4), int), [1], apart=2).max() == 1  # there is nothing around it
