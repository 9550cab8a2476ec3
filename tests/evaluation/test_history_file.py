"""Files of histories: read as they are, and a malformed line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.errors import ContractError, MissingInput
from recsys.evaluation.history_file import read_attributes, read_histories


def written(folder: Path, text: str) -> Path:
    path = folder / "shop.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_items_are_numbered_by_ascending_id_and_keep_their_order(tmp_path: Path) -> None:
    file = read_histories(written(tmp_path, "7 30 10 20\n\n3 20 20\n"))
    assert file.item_ids.tolist() == [10, 20, 30]
    assert file.histories.offsets.tolist() == [0, 3, 5]
    assert file.histories.item_nums.tolist() == [3, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3\n2\n", "line 2: user 2 has no items"),
        ("1 2 x3\n", "line 1: 'x3' is no whole number"),
        ("1 2 -3\n", "line 1: '-3' is no whole number"),
        ("1 2 1_0\n", "line 1: '1_0' is no whole number"),
        ("1 2 99999999999999999999\n", "line 1: '99999999999999999999' is no whole number"),
        ("1 2\n\n2 3\n1 4\n", "line 4: user 1 was on line 1 already"),
    ],
)
def test_a_malformed_line_is_named_by_its_number(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ContractError, match="nothing was measured") as error:
        read_histories(written(tmp_path, text))
    assert said in str(error.value) and "shop.txt" in str(error.value)


def test_ten_malformed_lines_are_named_and_all_are_counted(tmp_path: Path) -> None:
    text = "".join(f"{user}\n" for user in range(12))
    with pytest.raises(ContractError, match="12 lines") as error:
        read_histories(written(tmp_path, text))
    assert "line 10:" in str(error.value) and "line 11:" not in str(error.value)


def test_a_file_that_is_not_there_or_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"no file .*absent\.txt"):
        read_histories(tmp_path / "absent.txt")
    with pytest.raises(MissingInput, match="nobody to measure on"):
        read_histories(written(tmp_path, "\n"))


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.txt"
    path.write_bytes(b"1 2\n2 3 \xff\n")
    with pytest.raises(ContractError, match="line 2: no UTF-8"):
        read_histories(path)


def test_words_that_two_items_share_are_attributes_column_by_column(tmp_path: Path) -> None:
    items = tmp_path / "items.tsv"
    items.write_text(
        "item_id\ttext\ttags\n10\tRed nail\t1,2\n20\tred soap\t2\n30\tred\tred\n99\tred nail\t1\n",
        encoding="utf-8",
    )
    file = read_histories(written(tmp_path, "1 10 20 30\n"))
    found = read_attributes(items, file.item_ids).toarray()
    # 0:red is on all three, 1:2 on two; nail, soap, 1:1 and 1:red on one item of the shop.
    assert sorted(map(tuple, found.T.tolist())) == [(0, 1, 1, 0), (0, 1, 1, 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20\tred\n10 red\n", "line 2: wanted `item_id<TAB>"),
        ("item\tx\nten\tred\n", "line 2: wanted `item_id<TAB>"),
        ("10\ta\n10\tb\n", "line 2: item 10 was on line 1 already"),
    ],
)
def test_a_malformed_line_of_attributes_is_named(tmp_path: Path, text: str, said: str) -> None:
    items = tmp_path / "items.tsv"
    items.write_text(text, encoding="utf-8")
    file = read_histories(written(tmp_path, "1 10 20\n"))
    with pytest.raises(ContractError, match=r"items\.tsv") as error:
        read_attributes(items, file.item_ids)
    assert said in str(error.value)


def test_attributes_of_another_shop_are_refused(tmp_path: Path) -> None:
    items = tmp_path / "items.tsv"
    items.write_text("77\tred\n", encoding="utf-8")
    file = read_histories(written(tmp_path, "1 10 20\n"))
    with pytest.raises(MissingInput, match="none of the 2 items"):
        read_attributes(items, file.item_ids)
