"""The learned blend finds who is right for whom, and stays a sum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest

from recsys.errors import CorruptArtifact
from recsys.recommenders import Histories, Shop, Users
from recsys.recommenders.blend import Blend
from recsys.recommenders.blend_weights import centred
from recsys.recommenders.shop import Scores

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


def test_users_of_one_event_each_are_enough_to_be_fitted_on() -> None:
    """Nothing is known of them before it."""
    alone = Histories(np.arange(4, dtype=np.int64), np.array([1, 2, 3], dtype=np.int32))
    blend = Blend({"one": Knows()}).fit(Shop(NUM_ITEMS, alone))
    found = blend.scores(Shop(NUM_ITEMS, alone).everyone())
    assert found.shape == (3, NUM_ITEMS + 1) and np.isfinite(found).all()
