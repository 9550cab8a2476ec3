"""The plan says what each rank holds, and refuses what does not fit."""

from __future__ import annotations

import pytest

from recsys.embeddings import EmbeddingTable, RowwiseAdagrad, Sgd, plan_tables
from recsys.errors import ConfigError


def test_small_tables_are_replicated_and_the_plan_says_what_each_rank_holds() -> None:
    small = EmbeddingTable("weekday", 7, 64, Sgd(0.1))
    large = EmbeddingTable("item", 100_001, 64, RowwiseAdagrad(0.1))
    plan = plan_tables([small, large], 2)
    assert [p.kind for p in plan.placements] == ["replicated", "row_wise"]
    assert plan.bytes_on(0) == 7 * 64 * 4 + 50_001 * (64 + 1) * 4
    assert plan.bytes_on(1) == 7 * 64 * 4 + 50_000 * (64 + 1) * 4
    assert "item: 100,001 x 64, row_wise" in plan.describe()


def test_a_plan_that_does_not_fit_is_refused_with_the_numbers() -> None:
    table = EmbeddingTable("item", 10_000_000, 64, RowwiseAdagrad(0.1))
    with pytest.raises(ConfigError, match=r"need 1\.21 GiB on rank 0, 1\.00 GiB are allowed"):
        plan_tables([table], 2, bytes_per_rank=1 << 30)
    assert plan_tables([table], 3, bytes_per_rank=1 << 30).world_size == 3


def test_two_tables_of_one_name_and_a_table_of_nothing_are_refused() -> None:
    table = EmbeddingTable("item", 3, 2, Sgd(0.1))
    with pytest.raises(ConfigError, match=r"given twice: \['item'\]"):
        plan_tables([table, table], 1)
    with pytest.raises(ConfigError, match="'none' has 0 rows"):
        EmbeddingTable("none", 0, 2, Sgd(0.1))
