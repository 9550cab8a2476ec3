"""A commit of files that are there already, by Delta's own transaction: it writes no rows.

Delta's public writers take rows, and delta-rs does not know in-commit timestamps, which our tables have. So this is
the one place that calls inside of Delta (``OptimisticTransaction``); tests/lake/test_row_files.py holds it to what
readers, the change feed and the history show.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyspark.sql import SparkSession

WRITE = "DeltaOperations$Write"
UNSAID = 5
"""The options of Delta's ``Write`` after the user's metadata: dynamic overwrite, schema changes, REPLACE ON."""


def replace_files(
    spark: SparkSession,
    path: str,
    files: Iterable[Mapping[str, Any]],
    *,
    predicate: str,
    partitioned_by: Sequence[str],
    metadata: str,
) -> int:
    """Add ``files`` (the fields of ``add`` in the Delta protocol) and take away those of the partitions that
    ``predicate`` names, in one commit; returns its version. ``predicate`` is of partition columns alone.

    Raises:
        Py4JJavaError: another writer was there first; the files stay where they are, and nothing names them.
    """
    jvm, session = spark._jvm, spark._jsparkSession
    assert jvm is not None
    delta, nothing = jvm.org.apache.spark.sql.delta, jvm.scala.Option.empty()
    convert = jvm.scala.jdk.javaapi.CollectionConverters

    def some(value: Any) -> Any:
        return jvm.scala.Option.apply(value)

    def sequence(values: Iterable[Any]) -> Any:
        found = jvm.java.util.ArrayList()
        for value in values:
            found.add(value)
        return convert.asScala(found).toSeq()

    transaction = delta.DeltaLog.forTable(session, path).startTransaction(nothing, nothing)
    parsed = session.sessionState().sqlParser().parseExpression(predicate)
    replaced = convert.asJava(transaction.filterFiles(sequence([parsed]), False))
    from_json = delta.actions.Action.fromJson
    actions = [from_json(json.dumps({"add": file})) for file in files]
    actions += [file.remove() for file in replaced]
    operation = getattr(delta, WRITE)(
        jvm.org.apache.spark.sql.SaveMode.Overwrite, some(sequence(partitioned_by)), some(predicate),
        some(metadata), *[nothing] * UNSAID,
    )  # fmt: skip
    return int(transaction.commit(sequence(actions), operation))
