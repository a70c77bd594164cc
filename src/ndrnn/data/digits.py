"""The 1797 handwritten digits of 8 x 8 pixels that scikit-learn ships."""

from __future__ import annotations

import torch

from . import DigitImages, Split


def load() -> Split:
    """Two thirds to learn from, a third held out: of each digit, in the order of the collection, every third image.

    No chance is involved, so that the split is the same everywhere. The collection does not name its writers; some
    have written images on both sides.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'ndrnn[train]'") from error
    values, labels = load_digits(return_X_y=True)
    images = torch.tensor(values, dtype=torch.float32).reshape(-1, 8, 8, 1) / 16
    digits = DigitImages(images, torch.tensor(labels, dtype=torch.int64), num_classes=10)
    held_out = torch.zeros(len(digits), dtype=torch.bool)
    for label in range(10):
        held_out[(digits.labels == label).nonzero().flatten()[2::3]] = True
    return Split(digits[~held_out], digits[held_out], "scikit-learn's digits, a third held out")
