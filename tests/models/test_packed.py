"""Networks over rows of several histories: each history as if it were alone, wherever it lies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from recsys.models.packed import ByteDropout, Packed, PackedTransformer, predictions, segments
from recsys.models.places import prediction_places
from recsys.models.recurrent import PackedRecurrent, by_step

WIDTH, NUM_ITEMS, PLACES = 16, 9, 12


def network(kind: str, *, days: bool = True) -> nn.Module:
    torch.manual_seed(5)
    if kind == "recurrent":
        made: nn.Module = PackedRecurrent(
            embedding_dim=WIDTH, num_places=PLACES, num_layers=2, num_heads=2, dropout=0.5, days=days
        )  # fmt: skip
    else:
        made = PackedTransformer(
            embedding_dim=WIDTH, num_places=PLACES, num_blocks=2, num_heads=2, dropout=0.5, days=days
        )  # fmt: skip
    return made.eval()


every_network = pytest.mark.parametrize("kind", ["transformer", "recurrent"])
ITEMS = torch.randn(NUM_ITEMS + 1, WIDTH, generator=torch.Generator().manual_seed(1))
ITEMS[0] = 0

FIRST, SECOND = [3, 4, 5, 4], [7, 8, 1]
FIRST_AGES, SECOND_AGES = [60.0, 50.0, 30.0, 2.0], [90.0, 20.0, 9.0]


def row(*histories: tuple[list[int], list[float]]) -> tuple[Tensor, Tensor, Tensor]:
    """(1, W) items, ages and targets, padding on the left."""
    items = [item for history, _ in histories for item in history]
    ages = [age for _, of_history in histories for age in of_history]
    targets = [place > 0 for history, _ in histories for place in range(len(history))]
    padding = PLACES - len(items)
    return (
        torch.tensor([[0] * padding + items]),
        torch.tensor([[0.0] * padding + ages]),
        torch.tensor([[False] * padding + targets]),
    )


def vectors(made: nn.Module, items: Tensor, ages: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = made(ITEMS[items], Packed(segments(items, targets), ages))
    return found


@every_network
@pytest.mark.parametrize("days", [True, False])
def test_a_history_is_the_same_alone_and_beside_others(kind: str, days: bool) -> None:
    made = network(kind, days=days)
    both = vectors(made, *row((FIRST, FIRST_AGES), (SECOND, SECOND_AGES)))
    swapped = vectors(made, *row((SECOND, SECOND_AGES), (FIRST, FIRST_AGES)))
    first = vectors(made, *row((FIRST, FIRST_AGES)))
    torch.testing.assert_close(both[:, 5:9], first[:, -4:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(swapped[:, 5:8], both[:, 9:], rtol=1e-4, atol=1e-5)


@every_network
def test_a_row_without_padding_gives_what_a_padded_one_gives(kind: str) -> None:
    made = network(kind)
    items, ages, targets = row((FIRST, FIRST_AGES))
    narrow = vectors(made, items[:, -4:], ages[:, -4:], targets[:, -4:])
    wide = vectors(made, items, ages, targets)[:, -4:]
    torch.testing.assert_close(narrow, wide, rtol=1e-4, atol=1e-5)


@every_network
def test_a_place_knows_nothing_of_later_ones(kind: str) -> None:
    made = network(kind, days=False)
    seen = vectors(made, *row((FIRST, FIRST_AGES)))
    other = vectors(made, *row(([3, 4, 9, 9], FIRST_AGES)))
    torch.testing.assert_close(seen[:, -4:-2], other[:, -4:-2], rtol=1e-4, atol=1e-5)
    assert (seen[:, -2:] - other[:, -2:]).abs().max() > 1e-3


@every_network
def test_days_count_where_there_are_any(kind: str) -> None:
    recent, long_ago = row((FIRST, FIRST_AGES)), row((FIRST, [400.0, 300.0, 250.0, 200.0]))
    assert (vectors(network(kind), *recent) - vectors(network(kind), *long_ago))[
        :, -4:
    ].abs().max() > 1e-3
    without = network(kind, days=False)
    assert torch.equal(vectors(without, *recent), vectors(without, *long_ago))


def test_a_real_place_that_is_no_target_begins_a_history() -> None:
    items, _, targets = row((FIRST, FIRST_AGES), (SECOND, SECOND_AGES))
    assert segments(items, targets)[0].tolist() == [0] * 5 + [1] * 4 + [2] * 3


def test_every_event_but_a_historys_first_is_predicted_from_the_one_before() -> None:
    items, ages, targets = row((FIRST, FIRST_AGES), (SECOND, SECOND_AGES))
    found = predictions(items, Packed(segments(items, targets), ages))
    assert found.place_Q[found.query_of_P].tolist() == [5, 6, 7, 9, 10]
    assert found.item_nums_P.tolist() == [4, 5, 4, 8, 1]


def test_the_lines_of_a_visit_are_predicted_from_before_it() -> None:
    ages = [9.0, 4.0, 3.995, 3.99, 1.0]
    items, ages_1W, targets = row(([2, 3, 4, 5, 6], ages), ([7, 8, 9], [5.0, 5.0, 2.0]))
    packed = Packed(segments(items, targets), ages_1W)
    found = predictions(items, packed, quiet_days=0.04)
    told = list(
        zip(found.place_Q[found.query_of_P].tolist(), found.item_nums_P.tolist(), strict=True)
    )
    # Items 3, 4 and 5 are one visit; the second history begins with a visit of two, which nothing comes before.
    assert told == [(4, 3), (4, 4), (4, 5), (7, 6), (10, 9)]


@pytest.mark.parametrize("quiet_days", [0.0, 0.04])
def test_one_history_in_a_row_is_predicted_as_the_nightly_model_does(quiet_days: float) -> None:
    random = torch.Generator().manual_seed(2)
    items = torch.randint(1, NUM_ITEMS, (40, PLACES), generator=random)
    items[:, :3] *= torch.randint(0, 2, (40, 1), generator=random)
    ages = torch.rand(40, PLACES, generator=random).mul(0.3).sort(descending=True).values
    real = items != 0
    ages, first = ages * real, real & (real.cumsum(1) == 1)
    targets = real & ~first
    mine = predictions(items, Packed(segments(items, targets), ages), quiet_days=quiet_days)
    theirs = prediction_places(items, ages, targets, quiet_days=quiet_days)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_the_recurrent_network_steps_through_the_longest_histories_first() -> None:
    items, _, targets = row((SECOND, SECOND_AGES), (FIRST, FIRST_AGES))
    places, sizes = by_step(segments(items, targets))
    assert sizes.tolist() == [2, 2, 2, 1]
    assert items[0][places].tolist() == [3, 7, 4, 8, 5, 1, 4]


@every_network
def test_rows_of_padding_alone_give_numbers(kind: str) -> None:
    made = network(kind).train()
    nothing = torch.zeros(2, PLACES, dtype=torch.int64)
    found = vectors(made, nothing, torch.zeros(2, PLACES), nothing.bool())
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert found.isfinite().all()


def test_dropout_keeps_the_mean_and_follows_torchs_seed() -> None:
    drop = ByteDropout(0.4)
    ones = torch.ones(400, 500)
    torch.manual_seed(3)
    first = drop(ones)
    torch.manual_seed(3)
    assert torch.equal(drop(ones), first)
    assert not torch.equal(drop(ones), first)
    assert first.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (first == 0).float().mean().item() == pytest.approx(0.4, abs=0.01)
    assert torch.equal(drop.eval()(ones), ones)
