"""The task of density: its settings, its noise, and what it says of numbers that are not finite."""

import pytest

from ndrnn.data.batches import Facts
from ndrnn.tasks import Density
from ndrnn.tasks.density import DensityTask

SMALL = {"hidden": 3, "components": 2, "scales": 2, "features": 2, "window": 3, "patch": 6, "patches": 2}


@pytest.mark.parametrize(
    ("cell", "layer"), [("spatial", "SpatialLSTM"), ("gru", "MDGRU"), ("LeakyMDLSTM",) * 2]
)
def test_the_cell_is_chosen_by_name(cell: str, layer: str) -> None:
    task = DensityTask(Density(cell=cell, layers=2, **SMALL), Facts(channels=1, ndim=2))
    assert [type(each).__name__ for each in task.model.layers] == [layer, layer]


def test_an_unknown_cell_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"cell must be one of .* did you mean 'leaky'"):
        Density(cell="leeky", **SMALL)
