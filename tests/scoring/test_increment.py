"""What an increment says where the files that it reads are gone."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from recsys.contracts import ITEMS
from recsys.errors import Refused
from tests.release.shop import RUN_DATE, write_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys.scoring.increment import Increment

pytestmark = pytest.mark.spark


@pytest.fixture
def step() -> Increment:
    named = SimpleNamespace(since_full=SimpleNamespace(version=3), full_as_of=date(2024, 6, 1))
    return cast("Increment", named)


def test_a_file_that_vacuum_took_is_named_with_what_to_do(
    spark: SparkSession, tmp_path: Path, step: Increment
) -> None:
    from recsys.scoring.increment import read_as_it_was

    write_table(tmp_path, ITEMS, [dict(item_id="tea", valid_from=RUN_DATE, title="TEA")])
    items = spark.read.format("delta").load(str(tmp_path / ITEMS.name))
    [file] = (tmp_path / ITEMS.name).glob("*.parquet")
    file.unlink()

    for read in (items.collect, items.toArrow):
        with pytest.raises(Refused) as refused, read_as_it_was(step):
            read()
        assert file.name in str(refused.value)
        assert "can no longer be read: " in str(refused.value)
        assert ". Nothing was written. Run a full night" in str(refused.value)
    with (
        pytest.raises(Refused, match=r"\. No list was written\. Run a full night"),
        read_as_it_was(step, written="No list was written"),
    ):
        items.collect()


def test_a_version_that_is_gone_is_said_and_another_fault_is_not_called_that(
    spark: SparkSession, tmp_path: Path, step: Increment
) -> None:
    from pyspark.errors import PySparkException

    from recsys.scoring.increment import read_as_it_was

    write_table(tmp_path, ITEMS, [dict(item_id="tea", valid_from=RUN_DATE, title="TEA")])
    table = spark.read.format("delta").option("versionAsOf", 7)
    with pytest.raises(Refused, match="can no longer be read"), read_as_it_was(step):
        table.load(str(tmp_path / ITEMS.name)).collect()
    with pytest.raises(PySparkException, match="no_such_column"), read_as_it_was(step):
        spark.sql("SELECT no_such_column")
