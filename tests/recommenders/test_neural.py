"""Networks over histories: they learn what follows what, through the training processes, and say it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from recsys.embeddings import LocalComm
from recsys.errors import CorruptArtifact, MissingInput
from recsys.recommenders import Histories, Recommender, Shop, Users
from recsys.recommenders.recurrent import Recurrent
from recsys.recommenders.transformer import HistoryNetwork, Transformer
from recsys.training import histories as training
from recsys.training.launch import launch
from recsys.training.worker import run_rank
from tests.recommenders.contract import NETWORKS

NUM_ITEMS, NUM_USERS = 24, 240
FAST = {
    "embedding_dim": 16, "dropout": 0.1, "num_blocks": 1, "num_negatives": 12, "global_batch_size": 16,
    "learning_rate": 1e-2, "table_learning_rate": 2e-2, "warmup_steps": 5, "max_epochs": 12, "max_length": 10,
}  # fmt: skip
KINDS: dict[str, type[HistoryNetwork]] = {"transformer": Transformer, "recurrent": Recurrent}
assert tuple(KINDS) == NETWORKS
every_network = pytest.mark.parametrize("kind", KINDS)


def chains(num_users: int = NUM_USERS, *, seed: int = 3, longest: int = 7) -> Histories:
    """Each item is followed by the item two places on, round and round; where a user begins is chance."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, longest + 1, num_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    first = np.repeat(random.integers(0, NUM_ITEMS, num_users), lengths)
    return Histories(offsets, (1 + (first + 2 * within) % NUM_ITEMS).astype(np.int32))


def shop(work: Path, **changes: object) -> Shop:
    given: dict[str, object] = {"threads": 1, "work": work, "seed": 5}
    return Shop(NUM_ITEMS, chains(), **(given | changes))  # type: ignore[arg-type]


def asked(histories: Histories) -> Users:
    return Users(histories, np.zeros(len(histories), dtype=np.int64))


@pytest.fixture(scope="module", autouse=True)
def in_this_process() -> Iterator[None]:
    """The same engine without a new process for every fit; the slow tests start them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "launch", lambda spec, *how: run_rank(spec, LocalComm()))
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HistoryNetwork]:
    return {
        kind: made(dict(FAST)).fit(shop(tmp_path_factory.mktemp(kind)))
        for kind, made in KINDS.items()
    }


@every_network
def test_it_learns_what_follows_what(kind: str, fitted: dict[str, HistoryNetwork]) -> None:
    histories = chains(100, seed=9)
    scores = fitted[kind].scores(asked(histories.without_newest()))
    assert isinstance(fitted[kind], Recommender)
    assert scores.shape == (100, NUM_ITEMS + 1)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (scores[:, 1:].argmax(axis=1) + 1 == histories.newest()).mean() > 0.95


@every_network
def test_a_users_scores_do_not_depend_on_who_else_is_asked(
    kind: str, fitted: dict[str, HistoryNetwork]
) -> None:
    users = asked(chains(150, seed=11, longest=14))
    together = fitted[kind].scores(users)
    assert np.array_equal(
        np.concatenate([fitted[kind].scores(users.slice(n, n + 1)) for n in range(0, 150, 13)]),
        together[::13],
    )
    parts = [fitted[kind].scores(users.slice(*span)) for span in ((0, 7), (7, 90), (90, 150))]
    assert np.array_equal(np.concatenate(parts), together)


@every_network
def test_what_was_saved_gives_the_same_scores(
    kind: str, fitted: dict[str, HistoryNetwork], tmp_path: Path
) -> None:
    fitted[kind].save(tmp_path)
    users = asked(chains(20, seed=12))
    loaded = KINDS[kind].load(tmp_path)
    assert np.array_equal(loaded.scores(users), fitted[kind].scores(users))
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(CorruptArtifact, match="fit it again"):
        KINDS[kind].load(tmp_path)


def test_equal_shops_give_equal_scores_and_a_seed_changes_them(tmp_path: Path) -> None:
    settings = FAST | {"max_epochs": 2}
    users = asked(chains(20, seed=12))
    one, again, other = (
        Transformer(settings).fit(shop(tmp_path / name, seed=seed)).scores(users)
        for name, seed in (("one", 5), ("again", 5), ("other", 6))
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_epochs_that_predict_the_targets_best_are_those_of_the_next_fit(tmp_path: Path) -> None:
    whole = shop(tmp_path)
    earlier = Shop(
        NUM_ITEMS, whole.histories.without_newest(), threads=1, work=tmp_path / "a", seed=5
    )
    targets = whole.histories.newest()
    network = Transformer(FAST | {"max_epochs": 6})
    network.choose(earlier, earlier.everyone(), targets)
    assert 2 <= network.epochs <= 6
    hits = network.scores(earlier.everyone())[:, 1:].argmax(axis=1) + 1 == targets
    assert hits.mean() > 0.5
    with_two = Transformer(FAST | {"max_epochs": 6}, epochs=2).fit(earlier)
    assert with_two.epochs == 2
    assert not np.array_equal(
        with_two.scores(earlier.everyone()), network.scores(earlier.everyone())
    )


def test_days_are_read_where_a_shop_has_them(tmp_path: Path) -> None:
    histories = chains()
    days = np.concatenate([np.arange(n, dtype=np.float64) for n in histories.lengths])
    dated = Shop(
        NUM_ITEMS, Histories(histories.offsets, histories.item_nums, days), as_of=9.0, threads=1,
        work=tmp_path, seed=5,
    )  # fmt: skip
    network = Transformer(FAST | {"max_epochs": 2}).fit(dated)
    few = dated.histories.take(np.arange(5))
    assert few.days is not None
    long_ago = Histories(few.offsets, few.item_nums, few.days - 300.0)
    assert not np.array_equal(network.scores(asked(few)), network.scores(asked(long_ago)))


def test_a_user_of_whom_nothing_is_known_gets_equal_scores(
    fitted: dict[str, HistoryNetwork],
) -> None:
    nobody = Histories(np.array([0, 0, 2]), np.array([0, 999], dtype=np.int32))
    assert not fitted["transformer"].scores(asked(nobody)).any()


def test_what_it_cannot_do_without_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"give Shop\.work"):
        Transformer().fit(Shop(NUM_ITEMS, chains(10)))
    singles = Histories(np.arange(4), np.array([1, 2, 3], dtype=np.int32))
    with pytest.raises(MissingInput, match="none of 3 users has two known events"):
        Transformer().fit(Shop(3, singles, threads=1, work=tmp_path))
    with pytest.raises(MissingInput, match="transformer has learned nothing yet"):
        Transformer().scores(asked(singles))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_processes_of_their_own_learn_it_the_same_every_time(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "launch", launch)
    users = asked(chains(100, seed=9).without_newest())
    first, again = (
        Transformer(FAST).fit(shop(tmp_path / name, threads=threads)).scores(users) for name in "ab"
    )
    assert (first[:, 1:].argmax(axis=1) + 1 == chains(100, seed=9).newest()).mean() > 0.95
    assert np.array_equal(first, again)


def test_attributes_tell_where_an_item_that_nobody_bought_belongs(tmp_path: Path) -> None:
    """Two of the items are of the same kinds as others; without attributes they are where chance put them."""
    cold, like = np.array([NUM_ITEMS + 1, NUM_ITEMS + 2]), np.array([4, 9])
    kind_of = np.concatenate([np.arange(NUM_ITEMS + 1), like])
    ones = np.ones(NUM_ITEMS + 2)
    attributes = csr_array(
        (ones, (np.arange(1, NUM_ITEMS + 3), kind_of[1:])), shape=(NUM_ITEMS + 3, NUM_ITEMS + 1)
    )
    users = asked(Histories(np.array([0, 2, 4]), np.array([24, 2, 5, 7], dtype=np.int32)))

    def ranks(known: csr_array | None) -> list[int]:
        given = Shop(
            NUM_ITEMS + 2,
            chains(),
            attributes=known,
            threads=1,
            work=tmp_path / str(known is None),
            seed=5,
        )
        scores = Transformer(dict(FAST)).fit(given).scores(users)
        return [1 + int((row > row[item]).sum()) for row, item in zip(scores, cold, strict=True)]

    informed, uninformed = ranks(attributes), ranks(None)
    assert max(informed) <= NUM_ITEMS / 3
    assert min(uninformed) > NUM_ITEMS / 3


@every_network
def test_a_catalogue_of_one_item_is_learned(kind: str, tmp_path: Path) -> None:
    always = Histories(np.array([0, 3, 5]), np.ones(5, dtype=np.int32))
    tiny = Shop(1, always, threads=1, work=tmp_path, seed=5)
    scores = KINDS[kind](FAST | {"max_epochs": 1}).fit(tiny).scores(tiny.everyone())
    assert scores.shape == (2, 2)
    assert np.isfinite(scores).all()
