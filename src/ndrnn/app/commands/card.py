"""``ndrnn card``: what there is to know of a run, as a card to put beside its weights."""

from __future__ import annotations

from ...saving.atomic import replacing
from ..card import card
from ..options import Card
from ..output import Output
from ..outputs import Outputs


def run(options: Card) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    text = card(options.model, options.license)
    if options.out is not None:
        path = Outputs(force=options.force).claim(options.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        out.say(f"the card is in {path}")
    else:
        out.say(text.rstrip())
    out.result({"card": text, "out": None if options.out is None else str(options.out)})
    return 0
