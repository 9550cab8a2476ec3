"""Networks over histories: causal self-attention, and what all of them do around their training.

Trained in processes of their own (``recsys.training.histories``); here a score is a product of two vectors.

Shape suffixes: B users, N catalogue (num_items + 1), D width of the vectors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from recsys.errors import CorruptArtifact, MissingInput
from recsys.recommenders.shop import Histories, ItemNums, Scores, Shop, Users
from recsys.training.histories import HistoryModel, Processes, train
from recsys.training.histories_config import HistoriesConfig
from recsys.training.histories_files import FlatHistories

ABOUT = "recommender.json"

QUIET_DAYS = 0.04
"""The lines of one visit share a minute; what is predicted is the next visit."""


@dataclass
class HistoryNetwork:
    """A network trained to tell what a user takes next; ``settings`` are those of ``HistoriesConfig``."""

    name: ClassVar[str]
    network: ClassVar[Literal["transformer", "recurrent"]]
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int = 0
    """Of ``fit``; 0: all that the settings allow. ``choose`` finds it."""
    _model: HistoryModel | None = field(default=None, init=False, repr=False)
    _as_of: float | None = field(default=None, init=False, repr=False)

    def fit(self, shop: Shop) -> Self:
        """Train on every event.

        Raises:
            MissingInput: the shop has no folder to work in, or nobody in it has two events.
        """
        return self._train(shop, None)

    def choose(self, shop: Shop, users: Users, targets: ItemNums) -> Self:
        """Train on ``shop``, and keep the epoch that tells best what each of ``users``, all of its users, took next.

        ``fit`` trains as many epochs from then on. ``targets``: (U,), 0 where unknown.
        """
        if not np.array_equal(users.histories.offsets, shop.histories.offsets):
            raise MissingInput(
                f"{self.name} chooses its epochs on all users of the shop it is fitted on"
            )
        return self._train(shop, targets)

    def scores(self, users: Users) -> Scores:
        """(B, N); a user without events gets equal scores."""
        model = self._fitted()
        items_DN = model.item_vectors.T
        users_BD = model.user_vectors(self._histories(users.histories, len(items_DN.T) - 1))
        # One user at a time: in a product of matrices a row's last bits depend, on some processors, on its place.
        found_BN: Scores = (users_BD[:, None, :] @ items_DN)[:, 0]
        return found_BN

    def save(self, folder: Path) -> None:
        self._fitted().save(folder)
        told = {
            "recommender": self.name, "settings": self.settings, "epochs": self.epochs, "as_of": self._as_of
        }  # fmt: skip
        (folder / ABOUT).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        try:
            told = json.loads((folder / ABOUT).read_bytes())
            if told["recommender"] != cls.name:
                raise ValueError(f"it is of the recommender {told['recommender']!r}")
            made = cls(told["settings"], told["epochs"])
            made._as_of = told["as_of"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptArtifact(
                f"{folder / ABOUT} is not what {cls.name} wrote ({error}): fit it again"
            ) from None
        made._model = HistoryModel.load(folder)
        return made

    def _train(self, shop: Shop, targets: ItemNums | None) -> Self:
        if shop.work is None:
            raise MissingInput(
                f"{self.name} trains in processes of its own and the shop names no folder for their files: give "
                "Shop.work"
            )
        days, is_target = shop.histories.days, shop.histories.is_target
        self._as_of = shop.as_of
        if days is not None and len(days) and self._as_of is None:
            self._as_of = float(days.max())
        given = {
            "days": days is not None, "quiet_days": 0.0 if days is None else QUIET_DAYS,
            # What was only looked at may be listed, and is often what is taken next.
            "exclude_seen": shop.exclude_seen and (is_target is None or bool(is_target.all())),
        }  # fmt: skip
        config = HistoriesConfig.model_validate({**given, **self.settings, "network": self.network})
        self._model, epochs = train(
            self._histories(shop.histories, shop.num_items), config,
            Processes(shop.threads, shop.spark, shop.seed, shop.training), num_items=shop.num_items,
            work=shop.work / self.name, targets=targets, attributes=shop.attributes,
            epochs=0 if targets is not None else self.epochs,
        )  # fmt: skip
        if targets is not None:
            self.epochs = epochs
        return self

    def _histories(self, histories: Histories, num_items: int) -> FlatHistories:
        return FlatHistories.of(
            histories.offsets, histories.item_nums, histories.days, num_items=num_items, as_of=self._as_of
        )  # fmt: skip

    def _fitted(self) -> HistoryModel:
        if self._model is None:
            raise MissingInput(f"{self.name} has learned nothing yet: call fit or load first")
        return self._model


class Transformer(HistoryNetwork):
    """Causal self-attention with sampled softmax (SASRec: Kang and McAuley, 2018; its loss: Klenitskiy and Vasilev,
    RecSys 2023)."""

    name: ClassVar[str] = "transformer"
    about: ClassVar[str] = "causal self-attention over a user's history, trained on what came next"
    network: ClassVar[Literal["transformer", "recurrent"]] = "transformer"
