"""A commit of files that are there already, by Delta's own transaction: it writes no rows.

Delta's public writers take rows, and delta-rs does not know in-commit timestamps, which our tables have. So this is
the one place that calls inside of Delta (``OptimisticTransaction``); tests/lake/test_row_files.py holds it to what
readers, the change feed and the history show.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import SparkSession

WRITE = "DeltaOperations$Write"
UNSAID = 5
"""The options of Delta's ``Write`` after the user's metadata: dynamic overwrite, schema changes, REPLACE ON."""


def replace_files(
    spark: SparkSession,
    path: str,
    files: Iterable[Mapping[str, Any]],
    *,
    partition: Mapping[str, str],
    predicate: str,
    metadata: str,
) -> int:
    """Add ``files`` (the fields of ``add`` in the Delta protocol) and take away those of ``partition``, in one commit;
    returns its version. ``predicate`` says the same partition in SQL.

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
    from_json = delta.actions.Action.fromJson
    actions = [from_json(json.dumps({"add": file})) for file in files]
    if "://" in path:  # delta-rs may not know the place, or have no key to it
        parsed = session.sessionState().sqlParser().parseExpression(predicate)
        there = transaction.filterFiles(sequence([parsed]), False)
        actions += [file.remove() for file in convert.asJava(there)]
    else:
        # Whatever another writer commits meanwhile is then a conflict.
        transaction.readWholeTable()
        replaced = _files_there(path, transaction.readVersion(), partition)
        actions += [from_json(json.dumps({"remove": file})) for file in replaced]
    operation = getattr(delta, WRITE)(
        jvm.org.apache.spark.sql.SaveMode.Overwrite, some(sequence(partition)), some(predicate),
        some(metadata), *[nothing] * UNSAID,
    )  # fmt: skip
    return int(transaction.commit(sequence(actions), operation))


def _files_there(path: str, version: int, partition: Mapping[str, str]) -> list[dict[str, Any]]:
    """The files of a partition as ``remove`` of the protocol has them.

    delta-rs reads them from the log, at the version that the transaction has read, without the Spark job of 0.7 s that
    Delta's own ``filterFiles`` is on two cores.
    """
    if version < 0:
        return []
    found = DeltaTable(path, version=version).get_add_actions(flatten=True)
    now = int(time.time() * 1000)
    names = ["path", "size_bytes", *(f"partition.{name}" for name in partition)]
    rows = zip(*(found.column(name).to_pylist() for name in names), strict=True)
    return [
        {"path": file, "size": size, "partitionValues": dict(partition), "deletionTimestamp": now,
         "dataChange": True, "extendedFileMetadata": True}
        for file, size, *values in rows
        if [str(value) for value in values] == list(partition.values())
    ]  # fmt: skip
