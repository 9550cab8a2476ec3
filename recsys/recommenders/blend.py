"""The learned blend: a sum of other recommenders' scores, with weights that suit the user.

A part's score of item i for user u counts ``a_u * (s_ui - mean_u)``, where
``a_u = (w + w' * l_u) / spread_u + (v + v' * l_u) / spread``: mean and spread are over the catalogue, spread without an
index is the mean over users; l_u says how long the user's history is. So a part may count by its z-score, by its own
certainty, or by both, more for long histories or for short ones, and the sum stays linear in the parts' scores: exact
over the whole catalogue. Parts that are never negative are also offered with their logarithm.

The weights maximise the likelihood of what users took next among what the parts would have shown them (a softmax over
candidates, as in listwise learning to rank: Cao et al., ICML 2007), then coordinate by coordinate NDCG@10.

Shape suffixes: B users, N catalogue (num_items + 1), C channels, F features of a user, P candidates of all users.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from recsys.errors import ConfigError, CorruptArtifact
from recsys.recommenders.blend_weights import (
    Candidates,
    Channel,
    Weights,
    centred,
    even,
    factors,
    learned,
    user_features,
)
from recsys.recommenders.histories import known
from recsys.recommenders.interface import Recommender
from recsys.recommenders.named import recommender, recommender_class
from recsys.recommenders.shop import (
    ItemNums,
    Scores,
    Shop,
    Users,
    blocks,
    in_blocks,
    nothing_seen,
    seen_mask,
)

PARTS = ("item_item", "item_item_classic", "linear_items", "transformer")
"""What the shipped blend adds up, by name."""
SAMPLE_USERS = 1024
"""Tell how far a part's scores spread."""
LAST_SHARE = 0.1
"""Of the events; the weights are learned on these where days are known."""
FIRST = 60
"""Each part's best so many unseen items are candidates."""
FILE = "blend.json"


class Blend:
    """Parts by name; ``fit`` learns the weights on every user's newest event, then fits the parts with it."""

    name: ClassVar[str] = "blend"
    about: ClassVar[str] = "the others' scores in one sum, weighed by what users took next"

    def __init__(self, parts: Mapping[str, Recommender] | None = None) -> None:
        """``parts``: the shipped ones (``PARTS``) by default."""
        self.parts = {n: recommender(n) for n in PARTS} if parts is None else dict(parts)
        self.weights: Weights | None = None

    def fit(self, shop: Shop) -> Self:
        """Learn on what came last, of which the parts then know nothing; then fit them with it.

        What came last is each user's newest event; where days are known, each user's first event in the last tenth of
        all, so that no part knows what others did meanwhile.
        """
        shop = replace(shop, histories=known(shop.histories, shop.num_items))
        earlier, targets = held_out(shop)
        users = earlier.everyone()
        for part in self.parts.values():
            choose(part, earlier, users, targets)
        self.learn(users, targets, exclude_seen=shop.exclude_seen)
        for part in self.parts.values():
            part.fit(shop)
        return self

    def learn(self, users: Users, targets: ItemNums, *, exclude_seen: bool = True) -> Self:
        """Choose the weights; the parts are fitted without ``targets``, the item that each of ``users`` took next.

        ``exclude_seen``: whether lists leave out what the user had.

        Where no part would have shown anybody what they took, all parts count alike.
        """
        channels = self._channels(users)
        candidates = self._candidates(channels, users, targets, exclude_seen) if channels else None
        values_CF = learned(candidates, channels) if candidates else even(len(channels))
        self.weights = Weights(channels, values_CF)
        return self

    def scores(self, users: Users) -> Scores:
        found = [self.summed(block, self.parts_scores(block)) for block in blocks(users)]
        return np.concatenate(found) if found else self.summed(users, self.parts_scores(users))

    def parts_scores(self, users: Users) -> dict[str, Scores]:
        return {name: part.scores(users) for name, part in self.parts.items()}

    def summed(self, users: Users, scores: Mapping[str, Scores]) -> Scores:
        """The blend of what the parts said of ``users``."""
        assert self.weights is not None
        width = next(iter(scores.values())).shape[1]
        of_user_BF = user_features(known(users.histories, width - 1).lengths)
        total = None
        for channel, weights_F in zip(self.weights.channels, self.weights.values_CF, strict=True):
            if not weights_F.any():
                continue
            values_BN, spread_B = centred(scores[channel.part], channel.scale)
            factor_B = factors(weights_F, of_user_BF, spread_B, channel.spread)
            values_BN *= factor_B.astype(np.float32)[:, None]
            total = values_BN if total is None else total + values_BN
        return np.zeros_like(next(iter(scores.values()))) if total is None else total

    def save(self, folder: Path) -> None:
        assert self.weights is not None
        classes = {}
        for name, part in self.parts.items():
            (folder / name).mkdir()
            part.save(folder / name)
            classes[name] = f"{type(part).__module__}:{type(part).__qualname__}"
        told = {"parts": classes, **self.weights.as_json()}
        (folder / FILE).write_text(json.dumps(told, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises CorruptArtifact also where a part's class is none that ``named.recommender_class`` gives."""
        path = folder / FILE
        try:
            told = json.loads(path.read_bytes())
            weights = Weights.from_json(told)
            classes = {name: str(of_class) for name, of_class in told["parts"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtifact(f"{path} is not what a blend wrote: {error}") from None
        folders = {part.name for part in folder.iterdir() if part.is_dir()}
        if lost := sorted(classes.keys() - folders):
            raise CorruptArtifact(
                f"{path} names parts that have no folder beside it: {', '.join(lost)}; fit the blend again"
            )
        try:
            found = {name: recommender_class(of_class) for name, of_class in classes.items()}
        except ConfigError as error:
            raise CorruptArtifact(
                f"{path} names a part that is neither a shipped recommender nor a class of yours: {error}; "
                "else fit the blend again"
            ) from None
        blend = cls({name: part.load(folder / name) for name, part in found.items()})
        blend.weights = weights
        return blend

    def _channels(self, users: Users) -> tuple[Channel, ...]:
        draw = np.random.default_rng(0)
        with_history = np.flatnonzero(users.histories.lengths)
        drawn = draw.permutation(with_history)[:SAMPLE_USERS]
        sample = users.take(np.sort(drawn) if len(drawn) else np.arange(min(1, len(users))))
        made: list[Channel] = []
        for name, scores in self.parts_scores(sample).items():
            values_BN = scores[:, 1:]
            scales = [0.0]
            if values_BN.min() >= 0 and values_BN.max() > 0:
                scales.append(1.0 / float(np.median(values_BN[values_BN > 0])))
            for scale in scales:
                spread_B = centred(scores, scale)[1]
                spread = float(spread_B.mean())
                if spread > 0:
                    made.append(Channel(name, scale, spread))
        return tuple(made)

    def _candidates(
        self, channels: tuple[Channel, ...], users: Users, targets: ItemNums, exclude_seen: bool
    ) -> Candidates | None:
        values, spreads, counts, lengths, target_places = [], [], [], [], []
        placed = 0
        for block, wanted in zip(blocks(users), in_blocks(targets), strict=True):
            scores = self.parts_scores(block)
            width = next(iter(scores.values())).shape[1]
            seen_BN = seen_mask(block, width) if exclude_seen else nothing_seen(block, width)
            rows = np.arange(len(block))
            kept_B = (wanted > 0) & ~seen_BN[rows, wanted]
            candidate_BN = np.zeros(seen_BN.shape, dtype=bool)
            for part_scores in scores.values():
                shown_BN = np.where(seen_BN, -np.inf, part_scores)
                first = min(FIRST, shown_BN.shape[1] - 1)
                best_BK = np.argpartition(-shown_BN, first - 1, axis=1)[:, :first]
                candidate_BN[rows[:, None], best_BK] = True
            candidate_BN &= ~seen_BN
            # A target that no part would show must not be put among what they do: being outside would tell it.
            kept_B &= candidate_BN[rows, wanted]
            candidate_BN[~kept_B] = False
            row_P, item_P = np.nonzero(candidate_BN)
            if not len(row_P):
                continue
            made = [centred(scores[channel.part], channel.scale) for channel in channels]
            values.append(np.stack([values_BN[row_P, item_P] for values_BN, _ in made], axis=1))
            spreads.append(np.stack([spread_B[kept_B] for _, spread_B in made], axis=1))
            counts.append(candidate_BN[kept_B].sum(axis=1))
            lengths.append(known(block.histories, seen_BN.shape[1] - 1).lengths[kept_B])
            target_places.append(placed + np.flatnonzero(item_P == wanted[row_P]))
            placed += len(row_P)
        if not counts:
            return None
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
        return Candidates(
            offsets, np.concatenate(values), np.concatenate(spreads),
            np.concatenate(lengths), np.concatenate(target_places),
        )  # fmt: skip


def held_out(shop: Shop) -> tuple[Shop, ItemNums]:
    """The shop as it was earlier, and the item that each of its users took next, 0 for none."""
    histories = shop.histories
    if histories.days is None or not len(histories.days):
        return replace(shop, histories=histories.without_newest()), histories.newest()
    cut = float(np.quantile(histories.days, 1.0 - LAST_SHARE))
    later = histories.where(histories.days >= cut)
    targets = np.zeros(len(histories), dtype=np.int32)
    has = later.lengths > 0
    targets[has] = later.item_nums[later.offsets[:-1][has]]
    return replace(shop, histories=histories.where(histories.days < cut), as_of=cut), targets


def choose(part: Recommender, shop: Shop, users: Users, targets: ItemNums) -> None:
    """Fit without the targets; a recommender that chooses something of its own on them (``choose``) does."""
    chooses = getattr(part, "choose", None)
    if chooses is None:
        part.fit(shop)
    else:
        chooses(shop, users, targets)
