"""CSV and JSON lines, row by row: what a row is, what its text is, which rows are equal."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.ingest.description import Format
from recsys.ingest.files import SourceFile
from recsys.ingest.text_rows import END, MALFORMED, POSITION, PROBLEM, RAW_ROW, ROW_KEY, TextReader


def read(
    path: Path, *, columns: tuple[str, ...] = ("a", "b"), key: tuple[str, ...] = (), **format_: Any
) -> list[dict[str, Any]]:
    reader = TextReader("till", Format(**format_), columns, key, ())
    return [
        row for batch in reader.read(SourceFile(path.name, str(path))) for row in batch.to_pylist()
    ]


def rows_of(tmp_path: Path, text: str | bytes, **options: Any) -> list[dict[str, Any]]:
    path = tmp_path / "till.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path, **options)


def values(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["a"], row["b"]) for row in rows if row[POSITION] != END]


def test_quoted_line_breaks_and_quotes_are_one_row_with_its_whole_text(tmp_path: Path) -> None:
    first, second, end = rows_of(tmp_path, 'a,b\n1,"two\nlines"\n2,"say ""no"""\n')
    assert (first["b"], first[RAW_ROW]) == ("two\nlines", '1,"two\nlines"')
    assert (second["b"], second[RAW_ROW]) == ('say "no"', '2,"say ""no"""')
    assert (end[POSITION], end[RAW_ROW], end[PROBLEM]) == (END, "2", None)


def test_a_quote_inside_an_unquoted_field_is_text(tmp_path: Path) -> None:
    assert values(rows_of(tmp_path, 'a,b\n1,FRAME 7" SINGLE\n2,x\n')) == [
        ("1", 'FRAME 7" SINGLE'),
        ("2", "x"),
    ]


def test_a_quote_that_never_closes_costs_its_row_alone(tmp_path: Path) -> None:
    lines = "".join(f"{n},x\n" for n in range(300))
    rows = rows_of(tmp_path, 'a,b\n0,"open\n' + lines)
    assert rows[0][PROBLEM] == MALFORMED
    assert rows[0][RAW_ROW] == '0,"open'
    assert values(rows[1:]) == [(str(n), "x") for n in range(300)]


def test_too_few_and_too_many_fields_are_malformed(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "a,b\n1\n1,2,3\n1,2\n")
    assert [row[PROBLEM] for row in rows] == [MALFORMED, MALFORMED, None, None]


def test_bytes_that_are_no_text_are_malformed_and_written_out(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, b"a,b\n1,caf\xe9\n2,caf\xc3\xa9\n")
    assert rows[0][PROBLEM] == MALFORMED
    assert rows[0][RAW_ROW] == "1,caf\\udce9"
    assert rows[1]["b"] == "café"


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_rows(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, b"\xef\xbb\xbfa,b\r\n1,x\r\n\r\n2,y\r\n\r\n")
    assert values(rows) == [("1", "x"), ("2", "y")]
    assert rows[0][RAW_ROW] == "1,x"
    assert rows[-1][RAW_ROW] == "2"


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert [row[RAW_ROW] for row in rows_of(tmp_path, "")] == ["0"]


def test_without_a_header_the_description_names_the_columns(tmp_path: Path) -> None:
    assert values(rows_of(tmp_path, "1|x\n", header=False, delimiter="|")) == [("1", "x")]


def test_columns_are_found_by_name_whatever_their_order(tmp_path: Path) -> None:
    assert values(rows_of(tmp_path, "b,c,a\nx,?,1\n")) == [("1", "x")]


def test_the_key_is_every_column_of_the_file_unless_named(tmp_path: Path) -> None:
    text = "a,b,c\n1,x,p\n1,x,q\n1,x,p\n"
    every = [row[ROW_KEY] for row in rows_of(tmp_path, text)]
    assert every[0] == every[2] != every[1]  # c is not described, and tells rows apart all the same
    named = [row[ROW_KEY] for row in rows_of(tmp_path, text, key=("a",))]
    assert named[0] == named[1] == named[2]


def test_equal_values_are_one_key_however_they_are_quoted(tmp_path: Path) -> None:
    keys = [row[ROW_KEY] for row in rows_of(tmp_path, 'a,b\n1,x\n"1","x"\n"1,x",\n')]
    assert keys[0] == keys[1] != keys[2]


def test_a_truncated_gzip_is_named_at_the_file_s_end(tmp_path: Path) -> None:
    path = tmp_path / "till.csv.gz"
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(20_000)))
    path.write_bytes(whole[: len(whole) // 2])
    *_, end = read(path)
    assert end[POSITION] == END
    assert "till.csv.gz is a truncated gzip" in end[PROBLEM]


def test_damaged_gzip_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "till.csv.gz"
    whole = bytearray(gzip.compress(b"a,b\n" + b"1,x\n" * 5000))
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(whole))
    *_, end = read(path)
    assert "till.csv.gz cannot be read" in end[PROBLEM]


def test_json_lines_keep_text_numbers_and_nested_values(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path, '{"a": 1.50, "b": "x"}\nnot json\n[1]\n{"b": {"z": 1}}\n\n', type="json_lines"
    )
    assert [row[PROBLEM] for row in rows] == [None, MALFORMED, MALFORMED, None, None]
    assert values([rows[0], rows[3]]) == [("1.5", "x"), (None, '{"z": 1}')]
    assert rows[1][RAW_ROW] == "not json"


def test_half_of_a_surrogate_pair_costs_its_row_alone(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        r"""{"a": "1", "b": "\ud83d"}
{"a": "2", "b": {"cup": "\udc00"}}
{"a": "3", "b": "\ud83d\ude00"}
{"a": "4", "c": "\ud83d"}
""",
        type="json_lines",
    )
    assert [row[PROBLEM] for row in rows] == [MALFORMED, MALFORMED, None, None, None]
    assert rows[0][RAW_ROW] == r'{"a": "1", "b": "\ud83d"}'
    assert values(rows[2:]) == [("3", "\N{GRINNING FACE}"), ("4", None)]  # c is not described


def test_a_line_nested_too_deep_is_malformed(tmp_path: Path) -> None:
    deep = "[" * 200_000
    assert [row[PROBLEM] for row in rows_of(tmp_path, deep, type="json_lines")] == [MALFORMED, None]


# Line breaks as Python's csv writes them; other control characters would be written as they are.
field = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=12)


@given(st.lists(st.tuples(field, field), max_size=20))
def test_what_a_csv_writer_wrote_comes_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]]
) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("a", "b"), *table])
    rows = rows_of(tmp_path_factory.mktemp("csv"), text.getvalue())
    assert values(rows) == table
    assert [row[POSITION] for row in rows] == [*range(len(table)), END]
    keys = {row[ROW_KEY] for row in rows if row[POSITION] != END}
    assert len(keys) == len(set(table))
