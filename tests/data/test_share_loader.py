"""Every example of an epoch once, over all ranks, stops and numbers of ranks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.data import (
    Batch,
    EpochPosition,
    Examples,
    Leg,
    ShareLoader,
    batch_sizes,
    batch_start,
    num_steps,
)
from recsys.errors import ContractError

SEED = 17
Read = Callable[[int, int], Examples]

# Rows of each row group: ranks get whole groups, so shares are unequal and some are empty.
row_groups = st.lists(st.integers(0, 12), max_size=7)
# (world size, steps until the run stops)
stops = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), max_size=5)


def examples(ids: list[int]) -> Examples:
    id_E = torch.tensor(ids, dtype=torch.int64)
    nums_EW = id_E.to(torch.int32).unsqueeze(1) * 10
    return Examples(id_E, id_E + 1, nums_EW, nums_EW.float(), nums_EW % 20 == 0)


def reader(groups: list[int]) -> Read:
    starts = [sum(groups[:number]) for number in range(len(groups))]
    ids = [list(range(start, start + rows)) for start, rows in zip(starts, groups, strict=True)]
    return lambda rank, size: examples(list(chain.from_iterable(ids[rank::size])))


def loaders(read: Read, size: int, seed: int = SEED) -> list[ShareLoader]:
    return [ShareLoader(read, rank=rank, size=size, seed=seed) for rank in range(size)]


def begun(position: EpochPosition, ranks: list[ShareLoader], batch_size: int) -> EpochPosition:
    """What a trainer does: go on with the leg, or agree on the steps of a new one."""
    if position.under_way(len(ranks)):
        return position
    steps = num_steps(max(rank.share_size(position) for rank in ranks), batch_size)
    leg = Leg(world_size=len(ranks), steps=steps)
    return position.model_copy(update={"legs": (*position.legs, leg)})


def advanced(position: EpochPosition, steps: int) -> EpochPosition:
    """As a checkpoint keeps it: through JSON."""
    *before, leg = position.legs
    leg = leg.model_copy(update={"done": leg.done + steps})
    moved = position.model_copy(update={"legs": (*before, leg)})
    return EpochPosition.model_validate_json(moved.model_dump_json())


def left(rank: ShareLoader, position: EpochPosition, size: int) -> int:
    """Examples of the rank that are in no batch yet."""
    share, leg = rank.share_size(position), position.under_way(size)
    return share - (batch_start(share, leg.steps, leg.done) if leg else 0)


def ids_of(batches: list[Batch]) -> list[list[int]]:
    return [batch.example_id_B.tolist() for batch in batches]


def whole_epoch(
    read: Read, size: int, epoch: int, batch_size: int, seed: int = SEED
) -> list[list[list[int]]]:
    ranks = loaders(read, size, seed)
    position = begun(EpochPosition(epoch=epoch), ranks, batch_size)
    return [ids_of(list(rank.batches(position))) for rank in ranks]


@given(groups=row_groups, stops=stops, last=st.integers(1, 4), batch_size=st.integers(1, 8))
def test_no_example_is_skipped_or_repeated_over_any_stops_and_world_sizes(
    groups: list[int], stops: list[tuple[int, int]], last: int, batch_size: int
) -> None:
    read, position = reader(groups), EpochPosition(epoch=1)
    seen: list[int] = []
    for size, wanted in [*stops, (last, 10_000)]:
        ranks = loaders(read, size)
        assert sum(left(rank, position, size) for rank in ranks) == sum(groups) - len(seen)
        position = begun(position, ranks, batch_size)
        steps = min(wanted, position.legs[-1].steps - position.legs[-1].done)
        for rank in ranks:
            batches = ids_of(list(islice(rank.batches(position), steps)))
            assert len(batches) == steps
            seen += chain.from_iterable(batches)
        position = advanced(position, steps)
    assert sorted(seen) == list(range(sum(groups)))
    assert [left(rank, position, last) for rank in ranks] == [0] * last


@given(groups=row_groups, size=st.integers(1, 4), batch_size=st.integers(1, 8))
def test_ranks_take_equal_steps_of_nearly_equal_batches(
    groups: list[int], size: int, batch_size: int
) -> None:
    of_ranks = whole_epoch(reader(groups), size, 1, batch_size)
    assert len({len(batches) for batches in of_ranks}) == 1
    for batches in of_ranks:
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size


@given(groups=row_groups, size=st.integers(1, 4), stop=st.integers(0, 4), other=st.integers(1, 4))
def test_every_rank_knows_the_sizes_of_all_batches_of_a_step(
    groups: list[int], size: int, stop: int, other: int
) -> None:
    """From the sizes of the shares, told once: also where the leg takes up what other ranks have left."""
    read = reader(groups)
    position = begun(EpochPosition(epoch=1), loaders(read, other), 3)
    position = advanced(position, min(stop, position.legs[-1].steps))
    ranks = loaders(read, size)
    position = begun(position, ranks, 3)
    leg = position.legs[-1]
    shares = [rank.share_size(position) for rank in ranks]
    of_ranks = [ids_of(list(rank.batches(position))) for rank in ranks]
    for step in range(leg.done, leg.steps):
        sizes = [len(batches[step - leg.done]) for batches in of_ranks]
        assert batch_sizes(shares, leg.steps, step) == sizes


@given(groups=row_groups, stops=stops, size=st.integers(1, 3), done=st.integers(0, 6))
def test_a_stopped_run_goes_on_with_the_batches_that_were_to_come(
    groups: list[int], stops: list[tuple[int, int]], size: int, done: int
) -> None:
    read, position = reader(groups), EpochPosition(epoch=2)
    for other, steps in stops:
        position = begun(position, loaders(read, other), 3)
        position = advanced(position, min(steps, position.legs[-1].steps - position.legs[-1].done))
    position = begun(position, loaders(read, size), 3)
    done = min(done, position.legs[-1].steps - position.legs[-1].done)
    later = advanced(position, done)
    for undisturbed, fresh in zip(loaders(read, size), loaders(read, size), strict=True):
        to_come = list(undisturbed.batches(position))[done:]
        assert ids_of(list(fresh.batches(later))) == ids_of(to_come)


@given(groups=st.lists(st.integers(0, 30), min_size=1, max_size=5), stop=st.integers(0, 4))
def test_a_new_number_of_ranks_shares_out_what_is_left_to_within_one_example(
    groups: list[int], stop: int
) -> None:
    read = reader(groups)
    position = begun(EpochPosition(epoch=1), loaders(read, 2), 4)
    position = advanced(position, min(stop, position.legs[-1].steps))
    shares = [rank.share_size(position) for rank in loaders(read, 3)]
    assert max(shares) - min(shares) <= 1


def test_the_order_is_that_of_seed_epoch_rank_and_world_size() -> None:
    read = reader([40, 40, 40, 40])
    first = whole_epoch(read, 2, 1, 16)
    assert whole_epoch(read, 2, 1, 16) == first
    assert whole_epoch(read, 2, 2, 16) != first
    assert whole_epoch(read, 2, 1, 16, seed=18) != first
    # Two ranks with as many examples do not take them in the same order.
    places = [
        [sorted(chain.from_iterable(rank)).index(e) for e in chain.from_iterable(rank)]
        for rank in first
    ]
    assert places[0] != places[1]


def test_a_batch_has_the_columns_of_its_examples() -> None:
    [rank] = loaders(reader([9]), 1)
    position = begun(EpochPosition(epoch=1), [rank], 4)
    for batch in rank.batches(position):
        ids_B = batch.example_id_B
        assert batch.user_num_B.tolist() == (ids_B + 1).tolist()
        assert batch.item_nums_BW.dtype == torch.int64
        assert batch.item_nums_BW[:, 0].tolist() == (ids_B * 10).tolist()
        assert batch.ages_days_BW[:, 0].tolist() == (ids_B * 10).tolist()
        assert batch.targets_BW[:, 0].tolist() == (ids_B % 2 == 0).tolist()


def test_a_rank_with_fewer_examples_than_steps_gives_empty_batches_of_full_width() -> None:
    ranks = loaders(reader([20, 1]), 2)
    position = begun(EpochPosition(epoch=1), ranks, 4)
    shapes = [tuple(batch.item_nums_BW.shape) for batch in ranks[1].batches(position)]
    assert shapes == [(1, 1), (0, 1), (0, 1), (0, 1), (0, 1)]


def test_a_share_is_read_once_for_all_epochs_of_one_number_of_ranks() -> None:
    read, asked = reader([8, 8]), []

    def counted(rank: int, size: int) -> Examples:
        asked.append((rank, size))
        return read(rank, size)

    loader = ShareLoader(counted, rank=1, size=2, seed=SEED)
    for epoch in (1, 2, 3):
        position = EpochPosition(epoch=epoch, legs=(Leg(world_size=2, steps=2),))
        assert len(list(loader.batches(position))) == 2
    assert asked == [(1, 2)]


def test_batches_without_a_leg_of_this_world_size_are_refused() -> None:
    position = EpochPosition(epoch=1, legs=(Leg(world_size=3, steps=2),))
    with pytest.raises(ContractError, match=r"no leg of 2 ranks under way \(legs of \[3\]\)"):
        loaders(reader([8]), 2)[0].batches(position)


def test_a_position_beyond_its_steps_is_refused() -> None:
    with pytest.raises(ValidationError, match="done=3 of steps=2"):
        Leg(world_size=1, steps=2, done=3)
