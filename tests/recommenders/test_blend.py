"""The learned blend finds who is right for whom, and stays a sum."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest

from recsys.errors import CorruptArtifact, MissingInput
from recsys.evaluation.ranking import METRICS, metrics_by_user
from recsys.recommenders import Histories, Shop, Users
from recsys.recommenders import blend as blend_module
from recsys.recommenders.blend import Blend, held_out, next_items
from recsys.recommenders.blend_weights import Candidates, Ndcg, centred
from recsys.recommenders.shop import Scores
from tests.recommenders.contract import small_shop

NUM_ITEMS, NUM_USERS = 60, 700


class Knows:
    """Points at the item after the newest one, as far as it is right, and loudly or quietly."""

    name: ClassVar[str] = "knows"
    about: ClassVar[str] = "for tests"

    def __init__(self, right: float = 1.0, seed: int = 3, loud: float = 1.0) -> None:
        self.right, self.seed, self.loud = right, seed, loud

    def fit(self, shop: Shop) -> Self:
        return self

    def scores(self, users: Users) -> Scores:
        newest = users.histories.newest()
        made = np.empty((len(users), NUM_ITEMS + 1), dtype=np.float32)
        for row, (user, item) in enumerate(zip(users.user_nums, newest, strict=True)):
            draw = np.random.default_rng([self.seed, int(user), int(item)])
            made[row] = draw.normal(size=NUM_ITEMS + 1)
            if draw.random() < self.right:
                made[row, item % NUM_ITEMS + 1] += 4.0
        return made * np.float32(self.loud) + np.float32(7.0)

    def save(self, folder: Path) -> None:
        np.save(folder / "said.npy", np.array([self.right, self.seed, self.loud]))

    @classmethod
    def load(cls, folder: Path) -> Self:
        right, seed, loud = np.load(folder / "said.npy")
        return cls(right, int(seed), loud)


def shop() -> Shop:
    """Everybody goes from an item to the next one; some users are new, some have been here for long."""
    draw = np.random.default_rng(5)
    lengths = draw.integers(2, 12, NUM_USERS)
    starts = draw.integers(0, NUM_ITEMS, NUM_USERS)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    steps = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    nums = (np.repeat(starts, lengths) + steps) % NUM_ITEMS + 1
    return Shop(NUM_ITEMS, Histories(offsets, nums.astype(np.int32)))


def hit_rate(blend: Blend) -> float:
    users = shop().everyone()
    best = blend.scores(users)[:, 1:].argmax(axis=1) + 1
    return float(np.mean(best == users.histories.newest() % NUM_ITEMS + 1))


def test_who_is_right_counts_and_who_shouts_does_not() -> None:
    """A wrong part a hundred times as loud: an even sum of scores follows it, the learned one does not."""
    parts = {"right": Knows(0.9), "loud": Knows(0.0, seed=4, loud=100.0)}
    learned = hit_rate(Blend(parts).fit(shop()))
    alone = hit_rate(Blend({"right": Knows(0.9)}).fit(shop()))
    assert alone > 0.6
    assert learned > alone - 0.03


def test_two_who_are_each_right_at_times_are_better_together() -> None:
    parts = {"one": Knows(0.5, seed=8), "other": Knows(0.5, seed=9)}
    apart = [hit_rate(Blend({name: part}).fit(shop())) for name, part in parts.items()]
    assert hit_rate(Blend(parts).fit(shop())) > max(apart) + 0.1


def test_a_user_is_scored_alike_in_every_batch() -> None:
    blend = Blend({"one": Knows(0.5, seed=8), "other": Knows(0.6, seed=9)}).fit(shop())
    users = shop().everyone()
    whole = blend.scores(users)
    assert np.array_equal(whole[600:603], blend.scores(users.slice(600, 603)))


def test_what_was_saved_scores_as_before(tmp_path: Path) -> None:
    blend = Blend({"one": Knows(0.5, seed=8), "other": Knows(0.6, seed=9)}).fit(shop())
    blend.save(tmp_path)
    users = shop().everyone().slice(0, 50)
    assert np.array_equal(Blend.load(tmp_path).scores(users), blend.scores(users))


def test_a_damaged_blend_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blend.json").write_text('{"parts": {}}')
    with pytest.raises(CorruptArtifact, match=r"blend\.json is not what a blend wrote"):
        Blend.load(tmp_path)


@pytest.mark.parametrize(
    ("part", "of_class", "said"),
    [
        ("one", "subprocess:Popen", "no recommender: it has no name, about, fit"),
        ("one", "subprocess", "no recommender is called 'subprocess'"),
        ("one", "no_such_module:Model", "PYTHONPATH.*; else fit the blend again"),
        ("other", "tests.recommenders.test_blend:Knows", "have no folder beside it: other"),
        ("..", "tests.recommenders.test_blend:Knows", r"have no folder beside it: \.\."),
    ],
)
def test_a_part_is_a_recommender_in_a_folder_of_the_blend(
    tmp_path: Path, part: str, of_class: str, said: str
) -> None:
    Blend({"one": Knows()}).fit(shop()).save(tmp_path)
    file = tmp_path / "blend.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"parts": {part: of_class}}))

    with pytest.raises(CorruptArtifact, match=said):
        Blend.load(tmp_path)


def test_scores_are_centred_over_the_catalogue_without_item_0() -> None:
    values_BN, spread_B = centred(np.array([[99.0, 1.0, 3.0, 5.0]], dtype=np.float32), 0.0)
    assert values_BN.tolist() == [[0.0, -2.0, 0.0, 2.0]]
    assert spread_B[0] == pytest.approx(np.sqrt(8 / 3))


def test_all_that_was_taken_counts_and_not_the_first_of_it_alone() -> None:
    """The one part knows what comes next, the other all that comes later: where lists are long, that is worth more."""
    draw = np.random.default_rng(1)
    users, later = Users(shop().histories, np.arange(1, NUM_USERS + 1)), 6
    taken_UL = np.stack([draw.permutation(NUM_ITEMS)[:later] + 1 for _ in range(NUM_USERS)])
    offsets = np.arange(0, later * NUM_USERS + 1, later, dtype=np.int64)

    class Told(Knows):
        def __init__(self, places: slice) -> None:
            super().__init__()
            self.places = places

        def scores(self, users: Users) -> Scores:
            made = np.zeros((len(users), NUM_ITEMS + 1), dtype=np.float32)
            taken_BL = taken_UL[users.user_nums - 1][:, self.places]
            np.put_along_axis(made, taken_BL, np.float32(1.0), axis=1)
            noise = np.random.default_rng([len(users), self.places.start])
            return made + noise.random(made.shape, dtype=np.float32)

    blend = Blend({"next": Told(slice(0, 1)), "others": Told(slice(1, later))})
    blend.learn(users, Histories(offsets, taken_UL.ravel().astype(np.int32)), exclude_seen=False)

    assert blend.weights is not None
    worth = {
        part: sum(
            values_F[[0, 2]].sum()
            for channel, values_F in zip(
                blend.weights.channels, blend.weights.values_CF, strict=True
            )
            if channel.part == part
        )
        for part in blend.parts
    }
    assert worth["others"] > worth["next"] > 0


def test_where_days_are_known_all_of_the_newest_days_is_held_out() -> None:
    days = np.array([0.0, 50.0, 80.0, 95.0, 10.0, 60.0, 99.0])
    histories = Histories(
        np.array([0, 4, 7]), np.array([1, 2, 3, 3, 4, 5, 6], dtype=np.int32), days
    )
    earlier, later = held_out(Shop(6, histories, as_of=100.0))
    assert earlier.as_of == 72.0
    assert earlier.histories.item_nums.tolist() == [1, 2, 4, 5]
    assert (later.offsets.tolist(), later.item_nums.tolist()) == ([0, 2, 3], [3, 3, 6])
    assert next_items(later).tolist() == [3, 6]


def test_where_all_was_on_one_day_or_nothing_of_late_the_newest_event_is_held_out() -> None:
    offsets, nums = np.array([0, 3, 4]), np.array([1, 2, 3, 4], dtype=np.int32)
    for days, as_of in ((np.full(4, 7.0), 7.5), (np.array([1.0, 2.0, 3.0, 1.0]), 90.0)):
        earlier, later = held_out(Shop(6, Histories(offsets, nums, days), as_of=as_of))
        assert earlier.histories.item_nums.tolist() == [1, 2]
        assert later.item_nums.tolist() == [3, 4]
        assert earlier.as_of == as_of


def test_where_the_newest_days_hold_most_a_tenth_is_held_out() -> None:
    days = np.arange(20.0)
    histories = Histories(np.array([0, 20]), np.arange(1, 21, dtype=np.int32), days)
    earlier, later = held_out(Shop(20, histories, as_of=20.0))
    assert later.item_nums.tolist() == [19, 20] and earlier.histories.item_nums.tolist() == list(
        range(1, 19)
    )


def test_ndcg_of_many_targets_is_that_of_the_evaluation() -> None:
    """Against recsys.evaluation.ranking, on distinct sums; equal ones go against the target."""
    draw = np.random.default_rng(2)
    counts = np.array([30, 5, 40])
    is_target_P = draw.random(75) < 0.3
    is_target_P[[0, 30, 35]] = True
    starts = np.cumsum(counts) - counts
    num_targets = np.add.reduceat(is_target_P.astype(np.int64), starts) + np.array([0, 4, 1])
    sum_P = draw.permutation(75).astype(np.float32)
    blank = np.zeros((75, 1), dtype=np.float32)
    found = Candidates(counts, blank, np.ones((3, 1)), counts, is_target_P, num_targets)
    wanted = []
    for start, count, targets in zip(starts, counts, num_targets, strict=True):
        best = np.argsort(-sum_P[start : start + count])[:10]
        hit_1K = np.zeros((1, 10), dtype=bool)
        hit_1K[0, : len(best)] = is_target_P[start : start + count][best]
        values_1MK = metrics_by_user(hit_1K, np.array([targets]), (10,))
        wanted.append(values_1MK[0, METRICS.index("ndcg"), 0])
    assert Ndcg.of(found)(sum_P) == pytest.approx(np.mean(wanted), abs=1e-12)
    assert (
        Ndcg.of(found)(np.zeros(75, dtype=np.float32)) < 0.2
    )  # the five stand behind each other at place 5


def test_a_part_that_is_negative_for_somebody_who_was_not_in_the_sample_gives_no_nan() -> None:
    values_BN, spread_B = centred(np.array([[0.0, -3.0, 0.0, 5.0]], dtype=np.float32), 1.0)
    assert np.isfinite(values_BN).all() and np.isfinite(spread_B).all()
    assert values_BN[0, 1] == values_BN[0, 2] < values_BN[0, 3]


def test_a_shipped_blend_takes_the_parts_of_the_shop_that_it_is_fitted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blend_module, "PARTS", ("item_item",))
    again = small_shop()
    anew = replace(again, histories=replace(again.histories, days=None), as_of=None)

    blend = Blend().fit(replace(again, exclude_seen=False))
    assert set(blend.parts) == {"item_item", *blend_module.REPEATS}
    assert set(blend.fit(anew).parts) == {"item_item"}


def test_one_that_was_not_fitted_says_so(tmp_path: Path) -> None:
    blend, users = Blend({"one": Knows()}), shop().everyone().slice(0, 2)
    with pytest.raises(MissingInput, match="blend has learned nothing yet"):
        blend.scores(users)
    with pytest.raises(MissingInput, match="blend has learned nothing yet"):
        blend.save(tmp_path)


def test_users_of_one_event_each_are_enough_to_be_fitted_on() -> None:
    """Nothing is known of them before it."""
    alone = Histories(np.arange(4, dtype=np.int64), np.array([1, 2, 3], dtype=np.int32))
    blend = Blend({"one": Knows()}).fit(Shop(NUM_ITEMS, alone))
    found = blend.scores(Shop(NUM_ITEMS, alone).everyone())
    assert found.shape == (3, NUM_ITEMS + 1) and np.isfinite(found).all()
