"""The trained models that come with the package: their cards, their names, and what they give."""

from __future__ import annotations

import json
import re

import pytest
import torch

import ndrnn
from ndrnn.app import cli
from ndrnn.density import RIDE
from ndrnn.saving import shipped

FIELDS = {"summary", "weights", "data", "authors", "licences", "licence_of_the_weights", "command"}  # fmt: skip


def test_there_are_some():
    assert "photographs-grey" in shipped.names()
    assert {path.stem for path in shipped.FOLDER.glob("*.toml")} == set(shipped.names())


@pytest.mark.parametrize("name", shipped.names())
def test_a_model_is_what_its_card_says(name):
    card = shipped.card(name)
    assert card.keys() >= FIELDS
    assert card.keys() & {"bits_per_pixel", "bits_per_sample"}
    assert shipped.file_of(name).stat().st_size <= 1_000_000
    model = ndrnn.load(name)
    assert not model.training
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == card["weights"]


def test_photographs_in_grey_are_cheaper_than_noise():
    """A smooth picture costs few bits, noise more than the 8 that it is stored in."""
    ride = ndrnn.load("photographs-grey")
    assert isinstance(ride, RIDE)
    ramp = (
        torch.arange(64).view(1, 1, 64).expand(1, 48, 64).add(torch.arange(48).view(1, 48, 1)).to(torch.uint8)
    )
    noise = torch.randint(256, (1, 48, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    bits = [-float(ride.log_prob_discrete(image).mean()) / 0.6931471805599453 for image in (ramp, noise)]
    assert bits[0] < 3 < 8 < bits[1]


def test_names_that_do_not_ship():
    with pytest.raises(
        ValueError, match="or be one of the models that ship: photographs-colour, photographs-grey, "
    ):
        ndrnn.load("photographs")
    with pytest.raises(ValueError, match="name must be one of photographs-colour, photographs-grey, "):
        shipped.card("photographs")


def test_the_command_lists_them(capsys):
    assert cli.main(["models"]) == 0
    assert re.search(r"^photographs-grey +50,496", capsys.readouterr().out, re.MULTILINE)
    assert cli.main(["models", "photographs-grey", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["authors"]
    assert cli.main(["models", "photograph"]) == 2
    assert cli.main(["info", "photographs-grey"]) == 0
    shown = capsys.readouterr().out
    assert "RIDE" in shown
    assert "50,496" in shown  # as the card says


def test_commands_take_a_name(tmp_path, capsys):
    out = tmp_path / "drawn"
    assert (
        cli.main(
            ["sample", "photographs-grey", "--n", "1", "--height", "12", "--width", "10", "--out", str(out)]
        )
        == 0
    )
    assert list(out.rglob("*.png"))
    assert cli.main(["sample", "photographs-gray", "--out", str(tmp_path / "none")]) == 2
    assert "photographs-grey" in capsys.readouterr().err
