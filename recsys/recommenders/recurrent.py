"""A gated recurrent network over histories."""

from __future__ import annotations

from typing import ClassVar, Literal

from recsys.recommenders.transformer import HistoryNetwork


class Recurrent(HistoryNetwork):
    """Hidasi et al., ICLR 2016, with the transformer's loss and item vectors."""

    name: ClassVar[str] = "recurrent"
    about: ClassVar[str] = (
        "a gated recurrent network over a user's history, trained on what came next"
    )
    network: ClassVar[Literal["transformer", "recurrent"]] = "recurrent"
