"""Sums over users who are never in one place: the same however they were parted, and those of a bootstrap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.evaluation import times_shown
from recsys.evaluation.block import Block, People
from recsys.evaluation.catalogue import FIGURES
from recsys.evaluation.examples import best_and_worst
from recsys.evaluation.intervals import ByUser, Estimate, resampled_means
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.list_figures import of_all_lists
from recsys.evaluation.measured import Measured
from recsys.evaluation.pieces import pieces
from recsys.evaluation.poisson import poisson_counts
from recsys.evaluation.splits import Targets
from recsys.evaluation.tally import Plan, Tally
from recsys.mixing import mix64
from tests.evaluation.measured import added_up_whole, block, measured, people

NUM_ITEMS, USERS, KS = 30, 250, (5, 10)


def shop() -> Block:
    draw = np.random.default_rng(5)
    targets = [
        (draw.permutation(NUM_ITEMS)[: draw.integers(1, 6)] + 1).tolist() for _ in range(USERS)
    ]
    whom = people(
        *targets, num_events=draw.integers(1, 150, USERS).tolist(),
        segments=draw.choice(["", "home", "trade"], USERS).tolist(),
    )  # fmt: skip
    lists = {
        name: [
            (draw.permutation(NUM_ITEMS)[: draw.integers(0, 11)] + 1).tolist() for _ in range(USERS)
        ]
        for name in ("blend", "live")
    }
    found = block(whom, lists, ks=KS)
    said = draw.uniform(0, 1, (USERS, len(FIGURES), len(KS)))
    said[draw.random(said.shape) < 0.2] = np.nan  # fmt: skip
    return replace(found, list_values={"blend": said, "live": said / 2})


def rows_of(whole: Block, rows: NDArray[np.int64]) -> Block:
    people_, targets = whole.people, whole.people.targets
    spans = [slice(targets.offsets[row], targets.offsets[row + 1]) for row in rows]
    nums = [targets.item_nums[span] for span in spans]
    some = People(
        tuple(people_.user_ids[row] for row in rows), people_.keys_U[rows],
        tuple(people_.segments[row] for row in rows), people_.num_events_U[rows],
        people_.newest_UK[rows],
        Targets(
            np.cumsum([0, *map(len, nums)]), np.concatenate([np.zeros(0, np.int32), *nums]),
            targets.counts[rows],
        ),
        people_.num_first_U[rows],
    )  # fmt: skip
    return Block(
        some,
        {name: values[rows] for name, values in whole.by_user.items()},
        {name: values[rows] for name, values in whole.list_values.items()},
        {name: values[rows] for name, values in whole.lists.items()},
    )


def items() -> ItemFacts:
    nums = np.arange(NUM_ITEMS + 1)
    names = tuple(f"i{num}" for num in nums)
    return ItemFacts(names, names, 90 - nums, np.where(nums % 3 > 0, nums / 2, np.nan))


def figures(found: Measured) -> dict[tuple[object, ...], tuple[float, ...]]:
    """Every number of it."""
    names = found.names
    return {
        **{
            (name, kind, metric, k): _numbers(found.estimate(name, kind, metric, k))
            for name in names for kind in ("all", "first") for metric in ("ndcg", "map") for k in KS
        },
        **{tuple(one[:3]): _numbers(one.estimate) for one in found.list_figures()},
        **{
            (name, *part): _numbers(found.sliced.estimate(name, part, "recall"))
            for name in names for part in found.sliced.parts
        },
        ("churn",): (found.churn["live"], found.num_users, *found.sliced.num_targets),
    }  # fmt: skip


def _numbers(one: Estimate) -> tuple[float, ...]:
    return (one.value, one.low, one.high, one.num_users)


def test_the_figures_are_the_same_however_the_users_are_parted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = measured(shop(), num_items=NUM_ITEMS, ks=KS, items=items())
    monkeypatch.setattr(times_shown, "COMPACTED", 100)
    shuffled = np.random.default_rng(2).permutation(USERS)
    parts = [rows_of(shop(), rows) for rows in np.split(shuffled, [1, 40, 40, 200])]

    parted = measured(*parts, num_items=NUM_ITEMS, ks=KS, items=items())

    assert repr(figures(parted)) == repr(figures(whole))  # to the last bit, NaN too
    assert len(figures(whole)) > 90
    assert parted.seen == whole.seen and len(whole.seen) == 6


def test_the_intervals_are_those_of_a_bootstrap_that_has_all_users() -> None:
    found = measured(shop(), num_items=NUM_ITEMS, ks=KS, rounds=4000)
    values = shop().by_user["blend"][:, 0, 1]

    means = resampled_means(
        {"blend": ByUser(values[:, None, :], np.ones((USERS, 1), dtype=bool))}, rounds=4000, seed=3
    )

    poisson = found.estimate("blend", "all", "ndcg", 10)
    multinomial = means["blend"].at(0, KS.index(10))
    assert poisson.value == pytest.approx(multinomial.value)
    half = (multinomial.high - multinomial.low) / 2
    assert (poisson.low, poisson.high) == pytest.approx(
        (multinomial.low, multinomial.high), abs=half / 12
    )


def test_counts_are_poisson_and_each_user_s_own() -> None:
    keys = mix64(np.arange(500, dtype=np.uint64))

    counts = poisson_counts(keys, rounds=401, seed=7)

    assert counts.shape == (500, 402) and (counts[:, 0] == 1).all()
    drawn = counts[:, 1:]
    shares = np.bincount(drawn.astype(int).ravel(), minlength=4)[:4] / drawn.size
    assert shares == pytest.approx([0.3679, 0.3679, 0.1839, 0.0613], abs=0.005)
    assert drawn.var() == pytest.approx(1, abs=0.02)
    # Neither users nor rounds go together: the largest of 124,750 correlations of 401 draws is about .23.
    assert np.abs(np.corrcoef(drawn)[np.triu_indices(500, 1)]).max() < 0.35
    assert np.abs(np.corrcoef(drawn.T)[np.triu_indices(401, 1)]).max() < 0.35
    assert (poisson_counts(keys[3:5], rounds=401, seed=7) == counts[3:5]).all()
    assert (poisson_counts(keys, rounds=401, seed=8) != counts).any()


def test_the_interval_of_coverage_is_that_of_lists_that_are_all_here() -> None:
    draw = np.random.default_rng(11)
    lists = [(draw.permutation(4000)[:10] + 1).tolist() for _ in range(400)]
    found = measured(block(people(*[[1]] * 400), {"blend": lists}), num_items=4000)

    spread = found.of_shop("blend", "coverage", 10)

    here = dict(of_all_lists(np.array(lists, dtype=np.int32), np.arange(4001) > 0))["coverage"]
    assert spread.value == here.value
    # Other groups, so not the same; of 19 differences, either may be a half more than the other.
    assert 1 / 1.6 < (spread.high - spread.low) / (here.high - here.low) < 1.6


def test_another_seed_draws_other_resamples() -> None:
    lists = {"blend": [[1] if n % 3 else [2] for n in range(60)]}
    of_60 = block(people(*[[1]] * 60), lists)

    one, other = (
        measured(of_60, num_items=4, seed=seed).estimate("blend", "all", "ndcg", 10)
        for seed in (1, 2)
    )

    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)


def test_coverage_counts_the_places_up_to_each_cut_off() -> None:
    lists = {"blend": [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7, 8]]}

    found = measured(block(people([1], [1]), lists, ks=KS), num_items=10, ks=KS)

    assert found.of_shop("blend", "coverage", 5).value == 5 / 10
    assert found.of_shop("blend", "coverage", 10).value == 8 / 10
    assert found.of_shop("blend", "coverage", 10).num_users == 2


def test_of_a_handful_of_users_nobody_is_told_twice() -> None:
    """Four: the three best are never among the worst, and the one who is left is."""
    lists = {"blend": [[1], [9, 1], [9, 8, 1], [9]]}

    found = measured(block(people([1], [1], [1], [1]), lists), num_items=10)

    assert [one.user_id for one in found.seen] == ["u0", "u1", "u2", "u3"]
    assert found.of_shop("blend", "coverage", 10).low < 3 / 10  # of four groups with a user each


def test_a_piece_that_is_missing_fails_the_night() -> None:
    whole = block(people([1]), {"blend": [[1]]})
    plan = Plan((10,), rounds=200, seed=1)
    tally = Tally(plan, width=3)
    tally.add(whole)

    with pytest.raises(KeyError, match="128"):
        added_up_whole(list(pieces(tally))[:1], plan, ("blend",), 2)


def test_the_best_and_the_worst_are_told_once_each() -> None:
    whole = measured(shop(), num_items=NUM_ITEMS, ks=KS)
    ndcg = shop().by_user["blend"][:, 0, 1, KS.index(10)]

    best, worst = whole.seen[:3], whole.seen[3:]

    assert [one.ndcg for one in best] == sorted(ndcg, reverse=True)[:3]
    assert [one.ndcg for one in worst] == sorted(ndcg)[:3]
    assert len({one.user_id for one in whole.seen}) == 6
    two = best_and_worst(whole.seen[:2])
    assert two == whole.seen[:2]  # nobody is both
