"""Density models to disk and back."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import ndrnn
from ndrnn.density import LumaChromaRIDE, MultiscaleRIDE, StackedRIDE

from .test_ride import SMALL, draw, random_ride

PAIRS = {MultiscaleRIDE: (8, 10, 1), LumaChromaRIDE: (6, 7, 3)}


def random_pair(cls: type[StackedRIDE], **options: object) -> StackedRIDE:
    pair = cls(4, 2, width=3, cell="stable", pad=True, **SMALL, **options)  # type: ignore[call-arg]
    for part in (pair.first, pair.second):
        part.load_state_dict(
            random_ride(
                4,
                2,
                part.neighborhood,
                channels=part.channels,
                observed_channels=part.observed_channels,
                cell="stable",
                pad=True,
            ).state_dict()
        )
    return pair


def log_prob(model: torch.nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize("cls", PAIRS)
def test_a_pair_comes_back_as_it_was(cls: type[StackedRIDE], tmp_path: Path) -> None:
    pair, images = random_pair(cls), draw(2, *PAIRS[cls])
    ndrnn.save(pair, tmp_path / "pair.safetensors")
    found = ndrnn.load(tmp_path / "pair.safetensors")
    assert type(found) is cls
    assert torch.equal(log_prob(found, images), log_prob(pair, images))
    assert found.second.neighborhood.observed_size == 9


@pytest.mark.parametrize("cls", PAIRS)
def test_the_config_of_a_pair_has_no_other_keys(cls: type[StackedRIDE], tmp_path: Path) -> None:
    ndrnn.save(random_pair(cls), tmp_path / "pair.safetensors")
    path = tmp_path / "pair.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    metadata["config"] = json.dumps(json.loads(metadata["config"]) | {"num_layer": 3})
    save_file(load_file(path), path, metadata)
    with pytest.raises(
        ValueError, match=r"pair\.safetensors: unknown key 'num_layer'; did you mean 'num_layers'\?"
    ):
        ndrnn.load(path)


def test_a_pair_grown_alike_can_be_saved_and_others_not(tmp_path: Path) -> None:
    pair, images = random_pair(MultiscaleRIDE), draw(2, 8, 10, 1)
    pair.first.add_layer()
    with pytest.raises(ValueError, match="must have the same num_layers, got 3 and 2"):
        ndrnn.save(pair, tmp_path / "pair.safetensors")
    assert not list(tmp_path.iterdir())
    pair.second.add_layer()
    ndrnn.save(pair, tmp_path / "pair.safetensors")
    assert torch.equal(log_prob(ndrnn.load(tmp_path / "pair.safetensors"), images), log_prob(pair, images))


@pytest.mark.parametrize("cls", PAIRS)
def test_the_parts_of_a_pair_are_whole_models(cls: type[StackedRIDE]) -> None:
    pair = cls(4, 1, width=3, **SMALL)  # type: ignore[call-arg]
    assert isinstance(pair, StackedRIDE)
    for part in (pair.first, pair.second):
        assert isinstance(part, ndrnn.RIDE)
    assert pair.first.sample(1, 3, 4).shape == (1, 3, 4, 1)


@pytest.mark.parametrize("name", ["RIDE", "MultiscaleRIDE", "LumaChromaRIDE"])
def test_files_name_the_public_class(name: str, tmp_path: Path) -> None:
    ndrnn.save(getattr(ndrnn.density, name)(4), tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata()["model"] == name
