"""CSV and JSON lines, read in the file's order by one task per file, each row with its text and its key.

Spark's own reader keeps neither a row's text nor, with quoted line breaks, its place in the file; both are
needed here: the text for quarantine, the place to know which of two equal rows was the earlier one.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from recsys.ingest.description import Format
from recsys.ingest.files import BROKEN, SourceFile, broken_message, open_text

POSITION = "_position"
"""0, 1, … in the file's order; END for the line that ends a file, with the number of rows read as its text."""
END = -1
RAW_ROW = "_raw_row"
ROW_KEY = "_row_key"
"""Hash of source, file and the columns of the key; becomes event_id."""
PROBLEM = "_problem"
"""Why the row could not be cut into columns (or the file not be read to its end); else null."""
FILE = "_source_file"
OWN_COLUMNS = (FILE, POSITION, RAW_ROW, ROW_KEY, PROBLEM)

BATCH_ROWS = 4096
MALFORMED = "malformed_row"


@dataclass(frozen=True)
class TextReader:
    """Reads files into batches of OWN_COLUMNS and one text column per raw column; plain data, sent to workers."""

    source: str
    format: Format
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """Empty: every column of the file."""
    files: tuple[SourceFile, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(
            [(FILE, pa.string()), (POSITION, pa.int64()), (RAW_ROW, pa.string()), (ROW_KEY, pa.string()),
             (PROBLEM, pa.string()), *((name, pa.string()) for name in self.columns)]
        )  # fmt: skip

    def map_in_arrow(self) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
        """For DataFrame.mapInArrow over a column of indices into ``files``."""

        def batches(indices: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in indices:
                for index in batch.column(0).to_pylist():
                    yield from self.read(self.files[index])

        return batches

    def read(self, file: SourceFile) -> Iterator[pa.RecordBatch]:
        """The file's rows in order, then the line that ends it."""
        rows: list[tuple[Any, ...]] = []
        count, problem = 0, None
        nothing = (None,) * len(self.columns)
        try:
            with open_text(file.path, self.format.encoding) as text:
                cut = self._csv_rows if self.format.type == "csv" else self._json_rows
                for raw, key, trouble, values in cut(file, text):
                    rows.append((file.name, count, raw, key, trouble, *(values or nothing)))
                    count += 1
                    if len(rows) == BATCH_ROWS:
                        yield self._batch(rows)
                        rows = []
        except BROKEN as error:
            problem = broken_message(file.name, error)
        rows.append((file.name, END, str(count), None, problem, *nothing))
        yield self._batch(rows)

    def _batch(self, rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
        columns = zip(*rows, strict=True)
        return pa.RecordBatch.from_arrays(
            [
                pa.array(values, field.type)
                for values, field in zip(columns, self.schema, strict=True)
            ],
            schema=self.schema,
        )

    def _csv_rows(self, file: SourceFile, text: IO[str]) -> Iterator[_Row]:
        # After a stray quote the reader looks again at the lines it swallowed: they wait in `again`.
        seen: list[str] = []
        again: list[str] = []

        def lines() -> Iterator[str]:
            while True:
                line = again.pop() if again else next(text, "")
                if not line:
                    return
                if len(seen) >= self.format.max_row_lines:
                    again.append(line)
                    raise csv.Error("a quote that never closes")
                seen.append(line)
                yield line

        def reader() -> Iterator[list[str]]:
            return csv.reader(
                lines(), delimiter=self.format.delimiter, quotechar=self.format.quote, strict=True
            )

        parsed = reader()
        names = next(parsed, None) if self.format.header else list(self.columns)
        if names is None:
            return
        seen.clear()
        places = [names.index(name) for name in self.columns]
        key_places = [names.index(name) for name in self.key or sorted(names)]
        hashed = _hasher(self.source, file.name)
        while True:
            try:
                fields = next(parsed)
            except StopIteration:
                return
            except csv.Error:
                first, rest = seen[0], seen[1:]
                again.extend(reversed(rest))
                seen.clear()
                parsed = reader()
                yield _text(first), None, MALFORMED, None
                continue
            raw = "".join(seen)
            seen.clear()
            if not fields:  # an empty line is no row
                continue
            if len(fields) != len(names) or not _is_text(raw):
                yield _text(raw), None, MALFORMED, None
                continue
            key = hashed([fields[place] for place in key_places])
            yield raw.rstrip("\r\n"), key, None, [fields[place] for place in places]

    def _json_rows(self, file: SourceFile, text: IO[str]) -> Iterator[_Row]:
        hashed = _hasher(self.source, file.name)
        for line in text:
            if not line.strip():
                continue
            try:
                record = json.loads(line) if _is_text(line) else None
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                yield _text(line), None, MALFORMED, None
                continue
            values = [_as_text(record.get(name)) for name in self.columns]
            # An escape such as \ud83d, half of a pair, is sound JSON and no text.
            if not all(_is_text(value or "") for value in values):
                yield _text(line), None, MALFORMED, None
                continue
            key = hashed([[name, record.get(name)] for name in self.key or sorted(record)])
            yield line.rstrip("\r\n"), key, None, values


_Row = tuple[str, str | None, str | None, Sequence[str | None] | None]


def _hasher(source: str, file: str) -> Callable[[list[Any]], str]:
    start = hashlib.blake2b(repr([source, file]).encode(), digest_size=16)

    def hashed(values: list[Any]) -> str:
        digest = start.copy()
        digest.update(
            repr(values).encode("utf-8", "surrogateescape")
        )  # repr keeps "a","b" and "a,b" apart
        return digest.hexdigest()

    return hashed


def _is_text(raw: str) -> bool:
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _text(raw: str) -> str:
    """For quarantine: bytes that are no text are written out as \\udcXX."""
    return raw.rstrip("\r\n").encode("utf-8", "backslashreplace").decode("utf-8")


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
