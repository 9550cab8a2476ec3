"""The learned blend: a sum of other recommenders' scores, with weights that suit the user.

A part's score of item i for user u counts ``a_u * (s_ui - mean_u)``, where
``a_u = (w + w' * l_u) / spread_u + (v + v' * l_u) / spread``: mean and spread are over the catalogue, spread without an
index is the mean over users; l_u says how long the user's history is. So a part may count by its z-score, by its own
certainty, or by both, more for long histories or for short ones, and the sum stays linear in the parts' scores: exact
over the whole catalogue. Parts that are never negative are also offered with their logarithm.

The weights maximise the likelihood of what users went on to take among what the parts would have shown them (a softmax
over candidates, as in listwise learning to rank: Cao et al., ICML 2007), then coordinate by coordinate NDCG@10.

Shape suffixes: B users, N catalogue (num_items + 1), C channels, F features of a user, P candidates of all users.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from recsys.errors import ConfigError, CorruptArtifact, MissingInput
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
from recsys.recommenders.interface import Chooses, Recommender
from recsys.recommenders.named import recommender, recommender_class
from recsys.recommenders.shop import (
    BLOCK_USERS,
    Histories,
    ItemNums,
    Scores,
    Shop,
    Users,
    blocks,
    nothing_seen,
    seen_mask,
)

PARTS = ("item_item", "item_item_classic", "linear_items", "transformer")
"""What the shipped blend adds up, by name."""
REPEATS = ("repeat_purchase", "last_purchases", "popularity")
"""Further parts where lists may hold what the user had, and days are known."""
SAMPLE_USERS = 1024
"""Tell how far a part's scores spread."""
WINDOW_DAYS = 28.0
"""The weights are learned on the newest so many days, where days are known."""
LAST_SHARE = 0.1
"""Of the events, in place of the window where less than half of them came before it."""
FIRST = 60
"""Each part's best so many unseen items are candidates."""
FILE = "blend.json"


class Blend:
    """Parts by name; ``fit`` learns the weights on what came last, then fits the parts with it."""

    name: ClassVar[str] = "blend"
    about: ClassVar[str] = "the others' scores in one sum, weighed by what users took next"

    def __init__(self, parts: Mapping[str, Recommender] | None = None) -> None:
        """``parts``: by default those shipped (``PARTS``, and for a shop that suits them ``REPEATS``)."""
        self._are_shipped = parts is None
        self.parts = {name: recommender(name) for name in PARTS} if parts is None else dict(parts)
        self.weights: Weights | None = None

    def fit(self, shop: Shop) -> Self:
        """Learn on what came last, of which the parts then know nothing; then fit them with it.

        What came last is each user's newest event; where days are known, all of the newest ``WINDOW_DAYS``, so that no
        part knows what others did meanwhile. Of events that are no targets (views) the parts learn, the weights do not.
        """
        if self._are_shipped:
            repeats = () if shop.exclude_seen or shop.histories.days is None else REPEATS
            self.parts = {name: recommender(name) for name in (*PARTS, *repeats)}
        shop = replace(shop, histories=known(shop.histories, shop.num_items))
        earlier, later = held_out(shop)
        users, targets = earlier.everyone(), next_items(later)
        for part in self.parts.values():
            choose(part, earlier, users, targets)
        self.learn(users, later, exclude_seen=shop.exclude_seen)
        for part in self.parts.values():
            part.fit(shop)
        return self

    def learn(self, users: Users, later: Histories, *, exclude_seen: bool = True) -> Self:
        """Choose the weights; the parts are fitted without ``later``, what each of ``users`` went on to take.

        ``exclude_seen``: whether lists leave out what the user had.

        Where no part would have shown anybody what they took, all parts count alike.
        """
        channels = self._channels(users)
        candidates = self._candidates(channels, users, later, exclude_seen) if channels else None
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
        weights = self._learned()
        width = next(iter(scores.values())).shape[1]
        of_user_BF = user_features(known(users.histories, width - 1).lengths)
        total = None
        for channel, weights_F in zip(weights.channels, weights.values_CF, strict=True):
            if not weights_F.any():
                continue
            values_BN, spread_B = centred(scores[channel.part], channel.scale)
            factor_B = factors(weights_F, of_user_BF, spread_B, channel.spread)
            values_BN *= factor_B.astype(np.float32)[:, None]
            total = values_BN if total is None else total + values_BN
        return np.zeros_like(next(iter(scores.values()))) if total is None else total

    def save(self, folder: Path) -> None:
        weights = self._learned()
        classes = {}
        for name, part in self.parts.items():
            (folder / name).mkdir()
            part.save(folder / name)
            classes[name] = f"{type(part).__module__}:{type(part).__qualname__}"
        told = {"parts": classes, **weights.as_json()}
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

    def _learned(self) -> Weights:
        if self.weights is None:
            raise MissingInput(
                f"{self.name} has learned nothing yet: call fit, learn or load first"
            )
        return self.weights

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
        self, channels: tuple[Channel, ...], users: Users, later: Histories, exclude_seen: bool
    ) -> Candidates | None:
        found = []
        for place, block in enumerate(blocks(users)):
            scores = self.parts_scores(block)
            width = next(iter(scores.values())).shape[1]
            # As in the lists that are measured: what was looked at is not seen, what was taken is.
            taken = replace(block, histories=block.histories.targets())
            seen_BN = seen_mask(taken, width) if exclude_seen else nothing_seen(block, width)
            rows = np.arange(len(block))
            wanted = later.take(rows + place * BLOCK_USERS)
            wanted_BN = seen_mask(Users(wanted, block.user_nums), width)
            wanted_BN[:, 0] = False
            candidate_BN = np.zeros(seen_BN.shape, dtype=bool)
            for part_scores in scores.values():
                shown_BN = np.where(seen_BN, -np.inf, part_scores)
                first = min(FIRST, shown_BN.shape[1] - 1)
                best_BK = np.argpartition(-shown_BN, first - 1, axis=1)[:, :first]
                candidate_BN[rows[:, None], best_BK] = True
            candidate_BN &= ~seen_BN
            # A target that no part would show must not be put among what they do: being outside would tell it.
            kept_B = (wanted_BN & candidate_BN).any(axis=1)
            candidate_BN[~kept_B] = False
            row_P, item_P = np.nonzero(candidate_BN)
            if not len(row_P):
                continue
            made = [centred(scores[channel.part], channel.scale) for channel in channels]
            found.append(
                Candidates(
                    counts=candidate_BN[kept_B].sum(axis=1),
                    scores_PC=np.stack([values_BN[row_P, item_P] for values_BN, _ in made], axis=1),
                    spread_BC=np.stack([spread_B[kept_B] for _, spread_B in made], axis=1),
                    lengths=known(block.histories, width - 1).lengths[kept_B],
                    is_target_P=wanted_BN[row_P, item_P],
                    num_targets=wanted_BN[kept_B].sum(axis=1),
                )
            )
        return Candidates.joined(found) if found else None


def held_out(shop: Shop) -> tuple[Shop, Histories]:
    """The shop as it was earlier, and what each of its users went on to take: target events alone."""
    histories = shop.histories
    taken = histories.targets()
    if histories.days is None or taken.days is None or not len(taken.days):
        return _newest_held_out(shop)
    end = float(histories.days.max()) if shop.as_of is None else shop.as_of
    cut = end - WINDOW_DAYS
    if np.median(taken.days) >= cut:
        cut = float(np.quantile(taken.days, 1.0 - LAST_SHARE))
    later = taken.where(taken.days >= cut)
    earlier = histories.where(histories.days < cut)
    if not len(earlier.item_nums) or not len(later.item_nums):
        return _newest_held_out(shop)  # all on one day, or nothing of late
    return replace(shop, histories=earlier, as_of=cut), later


def _newest_held_out(shop: Shop) -> tuple[Shop, Histories]:
    """Each user's newest target event, and what came before it; all of a user who has none."""
    histories, num_events = shop.histories, len(shop.histories.item_nums)
    places = np.arange(num_events)
    if histories.is_target is None:
        newest = histories.offsets[1:] - 1
    else:
        newest = np.full(len(histories), num_events, dtype=np.int64)
        taken = np.flatnonzero(histories.is_target)
        newest[histories.rows[taken]] = taken  # the last of a user's is what stays
    of_event = newest[histories.rows]
    return replace(shop, histories=histories.where(places < of_event)), histories.where(
        places == of_event
    )


def next_items(later: Histories) -> ItemNums:
    """(U,): the first that each user took, 0 for none; ``later`` as ``held_out`` gives it."""
    found = np.zeros(len(later), dtype=np.int32)
    has = later.lengths > 0
    found[has] = later.item_nums[later.offsets[:-1][has]]
    return found


def choose(part: Recommender, shop: Shop, users: Users, targets: ItemNums) -> None:
    """Fit without the targets; a recommender that chooses something of its own on them does."""
    if isinstance(part, Chooses):
        part.choose(shop, users, targets)
    else:
        part.fit(shop)
