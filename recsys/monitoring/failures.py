"""What a copy that cannot be read has to say for itself: in short, and which file it is."""

from __future__ import annotations

import re
from collections.abc import Callable

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from recsys.errors import RecsysError
from recsys.monitoring.verdicts import Comparison, unreadable

UNREADABLE = (RecsysError, PySparkException, Py4JJavaError, OSError, ValueError, EOFError)
"""What reading a damaged table, model or snapshot raises."""

DATA_FILE = re.compile(r"[^\s'\"`()]*/[^\s'\"`()]+?\.parquet\b")
TRACE = re.compile(r"\n\s+at |\nJVM stacktrace:|\nDriver stacktrace:")


def files_named(error: BaseException) -> tuple[str, ...]:
    """Data files that the message names, without their folders twice."""
    return tuple(sorted({found.rpartition("lake/")[2] for found in DATA_FILE.findall(str(error))}))


def reason_of(error: BaseException) -> str:
    """The message without its traces."""
    return TRACE.split(str(error), maxsplit=1)[0].strip()[:1000] or type(error).__name__


def or_unreadable(one: str, other: str, compare: Callable[[], Comparison]) -> Comparison:
    """The comparison; or that one of the copies could not be read, and why."""
    try:
        return compare()
    except UNREADABLE as error:
        return unreadable(one, other, reason_of(error), files_named(error))
