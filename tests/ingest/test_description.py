"""What a source's description may say, and what it is told when it says something else."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys.config import RecsysConfig
from recsys.config.places import CHECKOUT, PathsConfig
from recsys.config.sections import IngestConfig
from recsys.errors import ConfigError
from recsys.ingest import read_descriptions
from recsys.ingest.descriptions import raw_sources

RUN_DATE = date(2024, 3, 1)
SOUND: dict[str, Any] = {
    "kind": "events",
    "pattern": "raw/*.csv",
    "raw_columns": {"time": "timestamp", "customer": "string", "article": "string"},
    "columns": {"event_ts": "time", "user_id": "customer", "item_id": "article"},
    "event_type": "purchase",
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_CONF", str(tmp_path))
    for layer in ("base", "local", "private"):
        (tmp_path / layer / "sources").mkdir(parents=True)
    return tmp_path


def config(*sources: str) -> RecsysConfig:
    return RecsysConfig(ingest=IngestConfig(sources=sources), paths=PathsConfig(root="/data/var"))


def write(conf: Path, layer: str = "base", name: str = "till", **content: Any) -> None:
    (conf / layer / "sources" / f"{name}.yml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"timezone": "UTC"}, "unknown config key 'timezone'; did you mean 'time_zone'?"),
        (
            {"format": {"delimeter": ";"}},
            "unknown config key 'format.delimeter'; did you mean 'format.delimiter'?",
        ),
        (
            {"columns": {"event_ts": "time", "user": "customer"}},
            "no 'user' to fill; did you mean 'user_id'?",
        ),
        ({"columns": {"event_ts": "tme"}}, "no raw column 'tme'; did you mean 'time'?"),
        ({"columns": {"user_id": "customer"}}, "event_ts must be mapped"),
        ({"event_type": "buy"}, "unknown event type 'buy'"),
        ({"event_type": [{"type": "purchases"}]}, "did you mean 'purchase'?"),
        ({"raw_columns": {"time": "datetime"}}, "unknown type 'datetime'"),
        ({"time_zone": "London"}, "unknown time zone 'London'"),
        ({"key": ["custmer"]}, "did you mean 'customer'?"),
        (
            {"rules": [{"reason": "Bad", "column": "time", "not_null": True}]},
            "a reason code is lower case",
        ),
        ({"rules": [{"reason": "odd", "column": "time"}]}, "a condition takes"),
        (
            {"rules": [{"reason": "odd", "column": "time", "matches": "("}]},
            "not a regular expression",
        ),
        ({"rules": [{"reason": "odd", "sql": "true"}] * 2}, "given twice: odd"),
        ({"pattern": ""}, "takes `pattern`"),
        ({"partition": "day"}, "goes with the formats delta and table"),
        ({"partition_value": "{day}"}, "`partition_value` needs `partition`"),
        ({"valid_from": "time"}, "not for kind events"),
    ],
)
def test_nonsense_is_refused_by_name(conf: Path, change: dict[str, Any], said: str) -> None:
    write(conf, **(SOUND | change))
    with pytest.raises(ConfigError, match="source 'till'") as error:
        read_descriptions(config("till"), RUN_DATE)
    assert said in str(error.value)


def test_an_unknown_source_names_the_nearest(conf: Path) -> None:
    write(conf, **SOUND)
    with pytest.raises(ConfigError, match=r"no description of 'tills'.*did you mean 'till'"):
        read_descriptions(config("tills"), RUN_DATE)


def test_one_source_must_be_of_events(conf: Path) -> None:
    users = {
        "kind": "users",
        "pattern": "u.csv",
        "raw_columns": {"id": "string"},
        "columns": {"user_id": "id"},
    }
    write(conf, "base", "till", **users)
    with pytest.raises(ConfigError, match="no source of kind events"):
        read_descriptions(config("till"), RUN_DATE)


def test_a_later_layer_moves_a_source_and_leaves_the_rest(conf: Path) -> None:
    write(conf, **SOUND)
    write(conf, layer="private", pattern="/mnt/till/*.csv")
    [till] = read_descriptions(config("till"), RUN_DATE)
    assert till.pattern == "/mnt/till/*.csv"
    assert till.raw_columns == SOUND["raw_columns"]


def test_placeholders_are_the_day_the_run_date_and_configuration_keys(conf: Path) -> None:
    write(conf, **(SOUND | {"pattern": "{paths.root}/{day}/{run_date}.csv"}))
    [till] = read_descriptions(config("till"), RUN_DATE)
    assert till.pattern == "/data/var/2024-02-29/2024-03-01.csv"


def test_a_day_may_say_its_form(conf: Path) -> None:
    write(conf, **(SOUND | {"pattern": "raw/dt={day:%Y%m%d}/*.csv"}))
    [till] = read_descriptions(config("till"), RUN_DATE)
    assert (till.pattern, till.undated_pattern) == ("raw/dt=20240229/*.csv", "raw/dt={day}/*.csv")


def test_a_partition_value_and_a_constant_valid_from_take_placeholders_too(conf: Path) -> None:
    dump: dict[str, Any] = {
        "kind": "items", "pattern": "items", "format": {"type": "delta"}, "partition": "dumped",
        "raw_columns": {"article": "string"}, "columns": {"item_id": "article"},
        "partition_value": "{run_date}", "valid_from": {"constant": "{day}"},
    }  # fmt: skip
    write(conf, **SOUND)
    write(conf, name="dump", **dump)
    [_, items] = read_descriptions(config("till", "dump"), RUN_DATE)
    assert items.partition_value == "2024-03-01"
    assert items.valid_from is not None and items.valid_from.constant == "2024-02-29"


def test_a_dry_run_names_the_partition(conf: Path) -> None:
    place = {"table": "sales", "format": {"type": "table"}, "partition": "day", "pattern": ""}
    write(conf, **(SOUND | place), partition_value="{day}")
    assert list(raw_sources(config("till"), RUN_DATE)) == ["raw     till: sales day=2024-02-29"]


def test_a_dry_run_counts_the_files_that_a_pattern_matches(conf: Path, tmp_path: Path) -> None:
    write(conf, **(SOUND | {"pattern": f"{tmp_path}/till/*.csv"}))
    [line] = raw_sources(config("till"), RUN_DATE)
    assert line.endswith("/till/*.csv  (NO FILE MATCHES)")
    (tmp_path / "till").mkdir()
    (tmp_path / "till" / "a.csv").write_text("")
    [line] = raw_sources(config("till"), RUN_DATE)
    assert line.endswith("/till/*.csv  (1 file)")


def test_a_placeholder_that_is_no_key_is_named(conf: Path) -> None:
    write(conf, **(SOUND | {"pattern": "{paths.rot}/x.csv"}))
    with pytest.raises(ConfigError, match=r"asks for \{paths.rot\}"):
        read_descriptions(config("till"), RUN_DATE)


@pytest.mark.parametrize("env", ["local", "complete_journey", "generated_shop"])
def test_the_descriptions_that_we_ship_are_sound(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.config import load_config

    monkeypatch.delenv("RECSYS_CONF", raising=False)
    assert read_descriptions(load_config(env), RUN_DATE)


def test_the_least_description_of_the_readme_is_one(conf: Path) -> None:
    readme = (CHECKOUT / "conf" / "base" / "sources" / "README.md").read_text()
    example = readme.partition("```yaml\n")[2].partition("```")[0]
    (conf / "local" / "sources" / "till.yml").write_text(example)
    [till] = read_descriptions(config("till"), RUN_DATE)
    assert till.kind == "events"
    assert set(till.raw_columns) == {mapped.column for mapped in till.columns.values()}
