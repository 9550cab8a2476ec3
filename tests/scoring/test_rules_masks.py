"""Stage 1's rules: what each takes out of the catalogue, and from whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config.rules import RulesConfig
from recsys.scoring.masks import Facts, Mask, Unknown, allowed_under, masks_of, unknown_names

SEGMENTS = ("", "France", "UK")
ROWS: list[dict[str, Any]] = [
    dict(item_id=None),  # 0 is padding
    dict(item_id="tea", category="Food", brand="Own", price=2.5, out_of_stock=False, vegan="yes"),
    dict(item_id="cup", category="Home > Cups", brand="Own", price=0.99, vegan="no"),
    dict(item_id="pot", category="Home", price=1.0, out_of_stock=True),
    dict(item_id="wok", category="Homes", brand="Iron", out_of_stock=False),
    dict(item_id="gem"),  # nothing is known of it
    dict(item_id=None, price=0.5),  # a number that no item has
]


def facts() -> Facts:
    types = {"price": pa.float64(), "out_of_stock": pa.bool_()}
    names = {"vegan": "attributes.vegan"}
    columns = ("item_id", "category", "brand", "price", "out_of_stock", "vegan")
    return Facts(pa.table({
        names.get(name, name): pa.array([row.get(name) for row in ROWS], types.get(name, pa.string()))
        for name in columns
    }))  # fmt: skip


def rules(**section: Any) -> RulesConfig:
    return RulesConfig.model_validate({"out_of_stock": False} | section)


def hidden(mask: Mask) -> list[str]:
    return [ROWS[num]["item_id"] for num in np.flatnonzero(mask.hidden_N)]


@pytest.mark.parametrize(
    ("name", "section", "items"),
    [
        ("blocked", {"blocked_items": ["pot", "no such item"]}, ["pot"]),
        ("out_of_stock", {"out_of_stock": True}, ["pot"]),  # a stock that is not known is no empty one
        ("min_price", {"min_price": 1}, ["cup"]),  # 1 will do, and so does a price that is not known
    ],
)  # fmt: skip
def test_the_rules_that_every_shop_has(
    name: str, section: dict[str, Any], items: list[str]
) -> None:
    [mask] = masks_of(rules(**section), facts(), ())

    assert (mask.rule, mask.segments, hidden(mask)) == (name, (), items)


@pytest.mark.parametrize(
    ("items", "fulfil"),
    [
        ({"item_ids": ["tea", "gem"]}, ["tea", "gem"]),
        ({"categories": ["Home"]}, ["cup", "pot"]),  # with what is below it; Homes is not
        ({"categories": ["Home > Cups", "Food"]}, ["tea", "cup"]),
        ({"brands": ["Own"]}, ["tea", "cup"]),
        ({"attributes": {"vegan": ["yes", "perhaps"]}}, ["tea"]),
        ({"price_below": 1}, ["cup"]),
        ({"price_from": "0.99", "price_below": "2.5"}, ["cup", "pot"]),
        ({"brands": ["Own"], "price_from": 1}, ["tea"]),  # every key
    ],
)
def test_items_are_named_by_what_is_known_of_them(items: dict[str, Any], fulfil: list[str]) -> None:
    catalogue = {"a": {"hide": items}, "b": {"only": items, "segments": ["UK"]}}

    hide, only = masks_of(rules(catalogue=catalogue), facts(), ())

    assert (hide.rule, hide.segments, hidden(hide)) == ("a", (), fulfil)
    rest = [row["item_id"] for row in ROWS if row["item_id"] and row["item_id"] not in fulfil]
    assert (only.rule, only.segments, hidden(only)) == ("b", ("UK",), rest)


def test_blocked_now_is_a_rule_while_something_is() -> None:
    [mask] = masks_of(rules(), facts(), ("wok", "cup"))

    assert (mask.rule, hidden(mask)) == ("blocked_now", ["cup", "wok"])
    assert masks_of(rules(), facts(), ()) == ()


def never(mask: Mask, segment: str, left: int) -> None:
    raise AssertionError(mask, segment, left)


def test_a_rule_of_a_segment_leaves_the_others_alone() -> None:
    catalogue = {
        "no_own_brand": {"segments": ["UK"], "hide": {"brands": ["Own"]}},
        "no_gem": {"hide": {"item_ids": ["gem"]}},
    }
    masks = masks_of(rules(catalogue=catalogue), facts(), ())

    allowed, by_segment = allowed_under(masks, facts(), SEGMENTS, never)

    assert np.flatnonzero(allowed).tolist() == [1, 2, 3, 4]
    assert by_segment is not None
    assert [np.flatnonzero(row).tolist() for row in by_segment] == [
        [1, 2, 3, 4], [1, 2, 3, 4], [3, 4],
    ]  # fmt: skip


def test_without_a_rule_by_segment_there_is_one_mask_for_all() -> None:
    masks = masks_of(rules(blocked_items=["tea"]), facts(), ())

    allowed, by_segment = allowed_under(masks, facts(), SEGMENTS, never)

    assert (np.flatnonzero(allowed).tolist(), by_segment) == ([2, 3, 4, 5], None)


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(SEGMENTS[1:]), unique=True),
            st.lists(st.booleans(), min_size=len(ROWS), max_size=len(ROWS)),
        ),
        max_size=5,
    )
)
def test_masks_add_up_and_what_would_leave_nothing_is_reported_and_not_applied(
    drawn: list[tuple[list[str], list[bool]]],
) -> None:
    is_item = facts().is_item
    masks = [Mask(f"r{n}", tuple(s), np.array(h) & is_item, "") for n, (s, h) in enumerate(drawn)]
    reported: list[str] = []

    allowed, by_segment = allowed_under(
        masks, facts(), SEGMENTS, lambda mask, _, left: reported.append(mask.rule)
    )

    applied = [mask for mask in masks if mask.rule not in reported]
    for row, segment in enumerate(SEGMENTS):
        left = is_item.copy()
        for mask in applied:
            if not mask.segments or segment in mask.segments:
                left &= ~mask.hidden_N
        found = allowed if by_segment is None else by_segment[row]
        np.testing.assert_array_equal(found, left)
        assert left.any()
        assert not (found & ~allowed).any()


def test_names_that_nothing_has_are_found() -> None:
    section = rules(
        blocked_items=["tea", "teq"],
        catalogue={
            "a": {
                "segments": ["UK", "Mars"],
                "hide": {"item_ids": ["cup", "cuq"], "categories": ["Home", "Hom"], "brands": ["own"]},
            },
            "b": {"only": {"attributes": {"vegan": ["yes", "ja"]}}},
        },
    )  # fmt: skip

    assert list(unknown_names(section, facts(), {"UK", "France"}, ("gone",))) == [
        Unknown("blocked", "blocked_items", ("teq",)),
        Unknown("blocked_now", "item_id", ("gone",)),
        Unknown("a", "segments", ("Mars",)),
        Unknown("a", "item_ids", ("cuq",)),
        Unknown("a", "categories", ("Hom",)),
        Unknown("a", "brands", ("own",)),
        Unknown("b", "attributes.vegan", ("ja",)),
    ]
