"""Lists that are carried over: every row of a file but those left out, whoever wrote the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import ContractError, MissingInput
from recsys.lake import Destination, RowFileWriter
from recsys.scoring.carried_files import Sample, copied
from recsys.scoring.picked_lists import Picked, lists_of
from tests.lake.test_row_files import DAY, batch_of, destination_in

USERS = ("ana", "bo", "cy", "dan", "eve")


def rows_of(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.ParquetFile(path).read().to_pylist()
    return rows


@pytest.mark.parametrize("groups", [1, 5])
def test_every_row_but_those_left_out_is_in_the_copy(
    tmp_path: Path, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.lake.row_files.ROWS_PER_GROUP", 1 if groups > 1 else 100)
    to = destination_in(tmp_path)
    with RowFileWriter(to) as writer:
        for user in USERS:
            writer.write(batch_of(user))
        file = writer.close()
    assert file is not None
    source = Path(to.location, file.path)
    assert pq.ParquetFile(source).num_row_groups == groups

    copy = copied(str(source), pa.array(["bo", "nobody"]), to)

    assert copy is not None
    assert (copy.rows, copy.first_key, copy.last_key) == (4, "ana", "eve")
    wanted = [row for row in rows_of(source) if row["user_id"] != "bo"]
    assert rows_of(Path(to.location, copy.path)) == wanted
    assert copied(str(source), pa.array(USERS), to) is None, "nobody is left: no file"


def test_small_row_groups_are_put_together_and_hold_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = destination_in(tmp_path)
    monkeypatch.setattr("recsys.lake.row_files.ROWS_PER_GROUP", 1)
    with RowFileWriter(to) as writer:
        for n, user in enumerate(USERS):
            rows = pa.Table.from_batches([batch_of(user)])
            own = pa.array([[f"item-{n}", "tea"]])  # so each group has a dictionary of its own
            column = rows.schema.names.index("item_ids")
            [batch] = rows.set_column(column, "item_ids", own).to_batches()
            writer.write(batch)
        file = writer.close()
    assert file is not None
    monkeypatch.setattr("recsys.scoring.carried_files.ROWS_PER_GROUP", 4)

    copy = copied(str(Path(to.location, file.path)), pa.array([], pa.string()), to)

    assert copy is not None
    path = Path(to.location, copy.path)
    found = pq.ParquetFile(path).metadata
    assert [found.row_group(n).num_rows for n in range(found.num_row_groups)] == [4, 1]
    assert rows_of(path) == rows_of(Path(to.location, file.path))
    assert (copy.hash_sum, copy.hash_xor) == (file.hash_sum, file.hash_xor)


def test_a_sample_of_what_is_kept_is_told_of_and_is_the_same_again(tmp_path: Path) -> None:
    to = destination_in(tmp_path)
    with RowFileWriter(to) as writer:
        writer.write(batch_of(*USERS))
        file = writer.close()
    assert file is not None
    path = Path(to.location, file.path)

    def told(share: float, seed: int = 7) -> list[str]:
        picked = Picked()
        copied(str(path), pa.array(["bo"]), to, Sample(share, seed), picked)
        found = lists_of([picked.as_json()])
        rows = {str(row["user_id"]): row for row in rows_of(path)}
        for user, places in found.items():
            assert [item for item, _, _ in places] == rows[user]["item_ids"]
            assert [score for _, score, _ in places] == rows[user]["scores"]
            assert [source for _, _, source in places] == rows[user]["sources"]
        return list(found)

    assert told(1.0) == ["ana", "cy", "dan", "eve"], "who is left out is not carried over"
    assert told(0.0) == []
    assert set(told(0.3)) <= set(told(0.5)) == set(told(0.5))
    assert len({tuple(told(0.5, seed)) for seed in range(8)}) > 1, "other users with another seed"


def test_a_sample_is_of_all_users_however_many_files_they_lie_in() -> None:
    users = pa.chunked_array([pa.array([f"u{n:04}" for n in range(4000)])])
    sample = Sample(share=0.01, seed=7)

    of_files = [sample.of(users[start : start + 10]) for start in range(0, 4000, 10)]

    assert [user for of_file in of_files for user in of_file] == sample.of(users)
    assert 20 <= len(sample.of(users)) <= 60, "about 40: not one for each of 400 files"
    assert Sample(1.0, 7).of(users) == users.to_pylist()


def test_a_file_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"a file of the live lists is gone: .*nowhere"):
        copied(str(tmp_path / "nowhere.parquet"), pa.array(["bo"]), destination_in(tmp_path))


def test_a_file_that_spark_wrote_in_another_order_is_sorted(tmp_path: Path) -> None:
    source = tmp_path / "spark.parquet"
    pq.write_table(pa.Table.from_batches([batch_of("cy", "ana", "bo")]), source)

    copy = copied(str(source), pa.array(["ana"]), destination_in(tmp_path))

    assert copy is not None
    assert copy.path.startswith(f"as_of={DAY}/")
    path = Path(destination_in(tmp_path).location, copy.path)
    assert [row["user_id"] for row in rows_of(path)] == ["bo", "cy"]


OLD_FILE = pa.table({
    "user_id": ["ana", "bo", "cy"],
    "item_ids": [["tea", "pot"], [], ["cup"]],
    "scores": pa.array([[2.0, 1.0], [], [3.0]], pa.list_(pa.float32())),
    "sources": [["model", "similar"], [], ["popular"]],
})  # fmt: skip
"""As a worker wrote it before top_n_lists got model_version."""


def test_what_an_older_file_does_not_have_is_null_in_the_copy(tmp_path: Path) -> None:
    pq.write_table(OLD_FILE, tmp_path / "old.parquet")
    to = destination_in(tmp_path)

    copy = copied(str(tmp_path / "old.parquet"), pa.array(["bo"]), to)

    assert copy is not None
    path = Path(to.location, copy.path)
    assert rows_of(path) == [
        {"user_id": "ana", "item_ids": ["tea", "pot"], "scores": [2.0, 1.0],
         "sources": ["model", "similar"], "model_version": None},
        {"user_id": "cy", "item_ids": ["cup"], "scores": [3.0], "sources": ["popular"],
         "model_version": None},
    ]  # fmt: skip
    # The hash is that of rows that have the column and nothing in it.
    with RowFileWriter(to) as writer:
        writer.write(pq.read_table(path, partitioning=None).to_batches()[0])
        same = writer.close()
    assert same is not None
    assert (copy.hash_sum, copy.hash_xor) == (same.hash_sum, same.hash_xor)


def test_an_older_file_without_a_column_that_may_not_be_null_is_refused(tmp_path: Path) -> None:
    pq.write_table(OLD_FILE, tmp_path / "old.parquet")
    to = destination_in(tmp_path)
    at = to.schema.get_field_index("model_version")
    needed = to.schema.field(at).with_nullable(False)
    strict: Destination = replace(to, schema=to.schema.set(at, needed))

    with pytest.raises(ContractError, match="model_version: no such column"):
        copied(str(tmp_path / "old.parquet"), pa.array(["bo"]), strict)
