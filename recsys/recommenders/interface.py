"""What every recommender does; one contract suite asks it of all of them (tests/recommenders/contract.py)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol, Self, runtime_checkable

from recsys.recommenders.shop import ItemNums, Scores, Shop, Users


@runtime_checkable
class Recommender(Protocol):
    """Fitted on a shop as of a cut-off; scores users against its whole catalogue.

    Two fits on equal shops with equal seeds give equal scores, to the last bit, whoever else is in the batch.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    """What it does, in a line."""

    def fit(self, shop: Shop) -> Self:
        """Learn from ``shop`` alone; returns itself.

        Raises:
            RecsysError: it needs something that the shop has not, such as attributes; the message names it.
        """

    def scores(self, users: Users) -> Scores:
        """(B, N) float32, finite, greater is better; comparable within a user, not between users.

        Column 0 means nothing. Items that the user had are scored like others: whoever lists decides on masks. A user
        of whom it knows nothing gets equal scores, or what is popular.
        """

    def save(self, folder: Path) -> None:
        """Write what ``fit`` learned into ``folder``, which exists and is empty; nothing is pickled."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What was saved there: the same scores, to the last bit.

        Raises:
            CorruptArtifact: a file is missing or no such file.
        """


@runtime_checkable
class Chooses(Protocol):
    """What a recommender may do besides: choose something of its own, such as how many epochs it trains."""

    def choose(self, shop: Shop, users: Users, targets: ItemNums) -> object:
        """Fit on ``shop``, which is the shop as it was earlier, and choose by what its users went on to take.

        ``users``: all of the shop's, as they were then. ``targets``: (B,), the first item that each took, 0 where
        unknown. A ``fit`` that comes after it, on all that is known, goes by what was chosen.
        """
