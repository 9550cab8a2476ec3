"""The content hash without a JVM: XXH64's own known answers, and the same number as Spark for every table."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from recsys import row_hashes
from recsys.columns import Column
from recsys.config.places import PathsConfig
from recsys.contracts import TABLES, TableContract
from recsys.errors import ContractError
from recsys.row_hashes import ContentHash, content_hash_of, xxh64
from recsys.sql.duck import open_lake

TYPES = {
    "text": (pa.string(), "string"), "flag": (pa.bool_(), "boolean"), "small": (pa.int32(), "int"),
    "large": (pa.int64(), "bigint"), "share": (pa.float32(), "float"), "score": (pa.float64(), "double"),
    "day": (pa.date32(), "date"), "moment": (pa.timestamp("us", "UTC"), "timestamp"),
    "price": (pa.decimal128(18, 4), "decimal(18,4)"), "blob": (pa.binary(), "binary"),
    "texts": (pa.list_(pa.string()), "array<string>"), "shares": (pa.list_(pa.float32()), "array<float>"),
    "attributes": (pa.map_(pa.string(), pa.string()), "map<string,string>"),
}  # fmt: skip
EVERYTHING = TableContract(
    name="everything",
    meaning="A column of each type",
    key=("text",),
    columns=(
        *(Column(name, type_, "") for name, (_, type_) in TYPES.items()),
        Column("written_at", "timestamp", "Not content", volatile=True),
    ),
)
ROWS: list[dict[str, Any]] = [
    {},  # nulls alone
    dict(
        text="", flag=False, small=0, large=0, share=0.0, score=0.0, day=date(1970, 1, 1), texts=[], shares=[],
        moment=datetime(1970, 1, 1, tzinfo=UTC), price=Decimal("0.0000"), blob=b"", attributes=[],
    ),
    dict(
        text="茶 tea", flag=True, small=-1, large=-(2**63), share=-0.0, score=math.nan, day=date(1899, 12, 31),
        moment=datetime(2024, 6, 1, 12, 0, 0, 1, tzinfo=UTC), price=Decimal("-12345678901234.5678"),
        blob=bytes(range(256)), texts=["a", None, "", "é" * 40], shares=[1.5, math.nan, None, -0.0],
        attributes=[("z", "1"), ("a", None), ("é", "2"), ("B", "")],
    ),
    *(dict(text="x" * length, blob=bytes(range(length)), small=length) for length in range(1, 72)),
]  # fmt: skip


def table(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {
        name: pa.array([row.get(name) for row in rows], type_) for name, (type_, _) in TYPES.items()
    }
    moments = [datetime(2024, 1, 1, tzinfo=UTC)] * len(rows)
    return pa.table(columns | {"written_at": pa.array(moments, pa.timestamp("us", "UTC"))})


def test_the_known_answers_of_xxh64() -> None:
    known = {
        b"": "ef46db3751d8e999",
        b"a": "d24ec4f1a98c6e5b",
        b"abc": "44bc2cf5ad770999",
        b"Nobody inspects the spammish repetition": "fbcea83c8a378bf1",
    }
    got = xxh64(pa.array(known, pa.large_binary()), np.zeros(len(known), dtype=np.uint64))
    assert [f"{int(one):016x}" for one in got] == list(known.values())


def test_order_and_batches_do_not_matter_and_every_value_does() -> None:
    whole = table(ROWS)
    wanted = content_hash_of(EVERYTHING, [whole])
    assert wanted.startswith(f"{len(ROWS):x}-")
    shuffled = whole.take(np.random.default_rng(17).permutation(len(ROWS)))
    for size in (1, 7, 50):
        slices = [shuffled.slice(start, size) for start in range(0, len(ROWS), size)]
        assert content_hash_of(EVERYTHING, slices) == wanted, size
        batches = [batch for one in slices for batch in one.to_batches()]
        assert content_hash_of(EVERYTHING, batches) == wanted, size
    for name, value in (
        ("texts", ["a"]),
        ("attributes", [("a", "b")]),
        ("price", Decimal("0.0001")),
    ):
        changed = [*ROWS[:1], ROWS[1] | {name: value}, *ROWS[2:]]
        assert content_hash_of(EVERYTHING, [table(changed)]) != wanted, name
    reordered = [*ROWS[:2], ROWS[2] | {"attributes": ROWS[2]["attributes"][::-1]}, *ROWS[3:]]
    assert content_hash_of(EVERYTHING, [table(reordered)]) == wanted  # a map has no order


@pytest.mark.skipif(row_hashes.library() is None, reason="row_hashes.cpp is not built: make setup")
def test_compiled_lists_have_the_hashes_that_numpy_gives_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = np.random.default_rng(3)
    texts = pa.array(["x" * int(n) + "é" for n in draw.integers(0, 80, 400)])
    numbers = draw.normal(size=400).astype(np.float32)
    numbers[:3] = 0.0, -0.0, np.nan
    offsets = pa.array(np.sort(draw.integers(0, 401, 31)).astype(np.int32))
    of_texts = pa.ListArray.from_arrays(offsets, texts)
    numbered = pa.ListArray.from_arrays(offsets, texts.dictionary_encode())
    of_numbers = pa.ListArray.from_arrays(offsets, pa.array(numbers))
    for column, kind in (
        (of_texts, "array<string>"),
        (numbered, "array<string>"),
        (of_numbers, "array<float>"),
    ):
        contract = TableContract("one", "", ("c",), (Column("c", kind, ""),))
        for rows in (pa.table({"c": column}), pa.table({"c": column}).slice(5, 20)):
            compiled = content_hash_of(contract, [rows])
            with monkeypatch.context() as patch:
                patch.setattr(row_hashes, "library", lambda: None)
                assert content_hash_of(contract, [rows]) == compiled, kind


def test_wall_clocks_are_no_content_and_columns_may_stand_in_any_order() -> None:
    whole = table(ROWS)
    later = whole.drop_columns(["written_at"])
    assert content_hash_of(EVERYTHING, [later.select(later.column_names[::-1])]) == content_hash_of(
        EVERYTHING, [whole]
    )


def test_a_column_that_is_missing_or_of_no_known_type_is_named() -> None:
    with pytest.raises(ContractError, match="everything: no column price to take a hash of"):
        content_hash_of(EVERYTHING, [table(ROWS).drop_columns(["price"])])
    odd = TableContract("odd", "", ("t",), (Column("t", "time", ""),))
    with pytest.raises(ContractError, match="column of type time64"):
        content_hash_of(odd, [pa.table({"t": pa.array([1], pa.time64("us"))})])


def test_no_rows_have_a_hash_too() -> None:
    nothing = f"0-{0:016x}-{0:016x}"
    assert content_hash_of(EVERYTHING, []) == nothing == content_hash_of(EVERYTHING, [table([])])


@pytest.mark.spark
def test_spark_and_arrow_agree_on_every_type_and_duckdb_on_every_table(
    spark: Any, tmp_path: Path
) -> None:
    from recsys.lake import Lake
    from recsys.lake.schema import content_hash, content_hash_columns
    from tests.release.shop import write_shop

    pq.write_table(table(ROWS), tmp_path / "rows.parquet")
    row = (
        spark.read.parquet(str(tmp_path / "rows.parquet"))
        .agg(*content_hash_columns(EVERYTHING))
        .first()
    )
    wanted = content_hash(row["rows"], row["hash_sum"], row["hash_xor"])
    assert content_hash_of(EVERYTHING, [table(ROWS)]) == wanted

    paths = PathsConfig(root=str(tmp_path))
    write_shop(Path(paths.lake_uri))
    with open_lake(paths) as lake:
        for name in ("events", "top_n_lists"):
            contract = TABLES[name]
            by_spark = Lake(spark, paths).content_hash(contract)
            by_duckdb = ContentHash(contract)
            for batch in lake.batches(f"SELECT * FROM {name}"):
                by_duckdb.add(batch)
            assert str(by_duckdb) == by_spark, name
            files = DeltaTable(f"{paths.lake_uri}/{name}").file_uris()
            assert content_hash_of(contract, map(pq.read_table, files)) == by_spark, name
