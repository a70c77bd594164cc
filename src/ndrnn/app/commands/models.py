"""``ndrnn models``: the trained models that come with the package."""

from __future__ import annotations

from ...saving import shipped
from ..options import Models
from ..output import Output


def run(options: Models) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    if options.name is not None:
        card = shipped.card(options.name)
        out.table(
            (key, ", ".join(map(str, value)) if isinstance(value, list) else value)
            for key, value in card.items()
        )
        out.result(card)
        return 0
    cards = {name: shipped.card(name) for name in shipped.names()}
    rows = [(name, f"{card['weights']:,}", card["summary"]) for name, card in cards.items()]
    out.table(rows, ("name", "weights", "what it is"))
    out.result(cards)
    return 0
