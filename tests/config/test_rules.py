"""The section ``rules``: what is refused, and how it is named."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from recsys.config import load_config
from recsys.config.places import CHECKOUT
from recsys.config.rules import Items, RulesConfig
from recsys.errors import ConfigError

DOCS = CHECKOUT / "docs" / "rules.md"
FILE = """
blocked_items: ["22423", "84077"]
min_price: 0.5
returned_days: 30
max_per: {brand: 2, category: 3}
catalogue:
  age_restricted:
    hide: {attributes: {alcohol: ["yes"]}}
  export:
    segments: [Germany, France]
    only: {categories: [Home], price_from: 10}
"""


@pytest.fixture
def rules_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("base", "local", "private"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("RECSYS_CONF", str(tmp_path))
    return tmp_path / "local" / "rules.yml"


def test_rules_are_declared_in_conf(rules_file: Path) -> None:
    rules_file.write_text(FILE)

    rules = load_config("local").rules

    assert rules.min_price == Decimal("0.5")
    assert rules.limits == (("category", 3), ("brand", 2))
    assert rules.segments == ("France", "Germany")
    assert rules.catalogue["export"].only == Items(categories=("Home",), price_from=Decimal(10))


def test_the_example_of_the_documentation_is_taken(rules_file: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    rules_file.write_text(example)

    rules = load_config("local").rules

    assert set(rules.model_dump()) == set(yaml.safe_load(example)), "every key is shown"
    assert sorted(rules.catalogue) == ["age_restricted", "export"]


def test_a_later_layer_adds_a_rule_and_lifts_a_limit(rules_file: Path) -> None:
    rules_file.write_text(FILE)
    (rules_file.parents[1] / "private" / "rules.yml").write_text(
        "max_per: {category: 0}\ncatalogue: {recall: {hide: {brands: [Acme]}}}\n"
    )

    rules = load_config("local").rules

    assert sorted(rules.catalogue) == ["age_restricted", "export", "recall"]
    assert rules.limits == (("brand", 2),)


def test_nothing_but_empty_stock_is_ruled_out_by_default() -> None:
    rules = RulesConfig()

    assert rules.model_dump(exclude={"out_of_stock"}, exclude_defaults=True) == {}
    assert rules.out_of_stock
    assert (rules.limits, rules.segments) == ((), ())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rules.catalogue.x={}", r"'rules\.catalogue\.x': give either hide or only"),
        ("rules.catalogue.x={hide: {brands: [a]}, only: {brands: [b]}}", "give either hide or only"),
        ("rules.catalogue.x={hide: {}}", r"'rules\.catalogue\.x\.hide': names no items; give at least one"),
        ("rules.catalogue.x={hide: {brand: [a]}}",
         r"'rules\.catalogue\.x\.hide\.brand'; did you mean 'rules\.catalogue\.x\.hide\.brands'"),
        ("rules.catalogue.x={hide: {attributes: {vegan: [yes]}}}",
         r"'rules\.catalogue\.x\.hide\.attributes': vegan: True is no text; write it in quotes"),
        ("rules.catalogue.x={hide: {attributes: {vegan: []}}}",
         r"'rules\.catalogue\.x\.hide': attributes\.vegan: no value is given"),
        ("rules.catalogue.x={segments: UK, hide: {brands: [a]}}",
         r"'rules\.catalogue\.x\.segments' takes a list, such as \[UK\]"),
        ("rules.catalogue.x={hide: {price_below: -1}}", r"rules\.catalogue\.x\.hide\.price_below"),
        ("rules.catalogue.blocked={hide: {brands: [a]}}", "'blocked' names another rule"),
        ("rules.catalogue.max_per_x={hide: {brands: [a]}}", "'max_per_x' names another rule"),
        ("rules.max_per={colour: 1}", r"'rules\.max_per\.colour.*'category' or 'brand'"),
        ("rules.max_per={category: -1}", r"rules\.max_per\.category"),
        ("rules.min_price=-0.01", r"'rules\.min_price'"),
        ("rules.returned_days=-1", r"'rules\.returned_days'"),
        ("rules.blocked_items=[1]", r"'rules\.blocked_items\.0'.*string"),
        ("scoring.max_per_category=2", r"unknown config key 'scoring\.max_per_category'"),
    ],
)  # fmt: skip
def test_a_malformed_rule_is_named_with_its_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("local", [override])
