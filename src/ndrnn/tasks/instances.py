"""Objects in maps of labels: what is connected has a number of its own, and is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def separate(labels: np.ndarray, classes: Sequence[int], *, apart: int = 0, smallest: int = 1) -> np.ndarray:
    """The objects of some classes, numbered from 1; all other points are 0.

    Points of one class that touch, also by their corners, are one object. With ``apart`` those are divided further, where
    they are narrow: by a watershed of the distance to their border, from its maxima (scikit-image).

    Args:
        labels: of all points (D1, ..., Dn), integers.
        classes: whose objects are looked for.
        apart: points that the middles of two objects which touch lie apart at least; 0: what touches is one.
        smallest: points of an object at least; smaller ones are left out.

    Returns:
        The number of the object of each point (D1, ..., Dn) int32.
    """
    from skimage.measure import label

    wanted = np.isin(labels, classes)
    # what neighbours as another class is another object
    objects = label(np.where(wanted, labels.astype(np.int32) + 1, 0), connectivity=labels.ndim)
    if apart:
        objects = _divided(labels, objects, classes, apart)
    points = np.bincount(objects.reshape(-1), minlength=1)
    kept = points >= smallest
    kept[0] = False
    number = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return number[objects]


def measured(
    objects: np.ndarray, labels: np.ndarray, confidence: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """A table of the objects that :func:`separate` found, a column a key, each of as many entries.

    ``instance`` is the number of the object, ``class`` that of its label; ``area``, ``centroid-0`` ..., ``bbox-0`` ...
    are as of :func:`skimage.measure.regionprops_table`: points, their mean place, the first place along each axis and
    then the last plus 1. ``confidence`` is the mean of ``confidence`` (D1, ..., Dn), where it is given.
    """
    from skimage.measure import regionprops_table

    if objects.ndim == 1:  # it takes two or three axes
        table = measured(objects[None], labels[None], None if confidence is None else confidence[None])
        own = {"centroid-1": "centroid-0", "bbox-1": "bbox-0", "bbox-3": "bbox-1"}
        added = ("centroid-0", "bbox-0", "bbox-2")
        return {own.get(name, name): column for name, column in table.items() if name not in added}
    wanted = ["label", "area", "centroid", "bbox"]
    wanted += [] if confidence is None else ["intensity_mean"]
    found: dict[str, Any] = regionprops_table(objects, confidence, properties=wanted)
    numbers = found.pop("label")
    class_of = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    class_of[objects] = labels
    table = {"instance": numbers, "class": class_of[numbers], "area": found.pop("area").astype(np.int64)}
    mean = found.pop("intensity_mean", None)
    return {**table, **found, **({} if mean is None else {"confidence": mean})}


def _divided(labels: np.ndarray, objects: np.ndarray, classes: Sequence[int], apart: int) -> np.ndarray:
    """The objects, divided further; not every number is used."""
    from scipy.ndimage import distance_transform_edt
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    result = np.zeros_like(objects)
    for number in classes:
        mask = labels == number
        if not mask.any():
            continue
        # the edge of the picture is no border: an object may go on there
        distance = distance_transform_edt(mask)
        peaks = peak_local_max(
            distance, min_distance=apart, labels=np.where(mask, objects, 0), exclude_border=False
        )
        markers = np.zeros_like(objects)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        found = watershed(-distance, markers, mask=mask, connectivity=mask.ndim)
        # an object without a maximum of its own stays whole
        left = mask & (found == 0)
        found = np.where(left, objects + len(peaks), found)
        result = np.where(mask, found + result.max(), result)
    return result
