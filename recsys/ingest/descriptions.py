"""Read the descriptions of conf/base/sources, conf/<env>/sources and conf/private/sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from string import Formatter
from typing import Any

import yaml
from pydantic import ValidationError

from recsys.config import RecsysConfig, conf_dir
from recsys.config.loading import explain
from recsys.errors import ConfigError, MissingInput
from recsys.ingest.description import SourceDescription, nearest
from recsys.ingest.files import find_files


def read_descriptions(config: RecsysConfig, run_date: date) -> list[SourceDescription]:
    """The sources that ``ingest.sources`` names, in its order, with their placeholders filled in.

    A later layer's file wins key by key (top-level keys), so conf/private may move a source's ``pattern``
    and leave the rest.

    Raises:
        ConfigError: unknown source, unknown key (the nearest is named), or a description that says nonsense.
    """
    descriptions = [_read(name, config) for name in config.ingest.sources]
    if not any(d.kind == "events" for d in descriptions):
        raise ConfigError(
            f"ingest.sources={list(config.ingest.sources)} has no source of kind events: one is needed"
        )
    return [_filled(d, config, run_date) for d in descriptions]


def raw_sources(config: RecsysConfig, run_date: date) -> Iterator[str]:
    """A line of a dry run for each source; raises what `read_descriptions` does."""
    for source in read_descriptions(config, run_date):
        part = f" {source.partition}={source.partition_value}" if source.partition_value else ""
        yield f"raw     {source.name}: {source.pattern or source.table}{part}{_counted(source)}"


def _counted(source: SourceDescription) -> str:
    """How many files a pattern on this machine matches."""
    if not source.pattern or "://" in source.pattern or source.format.type == "delta":
        return ""
    try:
        found = len(find_files(source))
    except MissingInput:
        return "  (NO FILE MATCHES)"
    except OSError as error:
        return f"  ({error})"
    return f"  ({found} file{'s' if found != 1 else ''})"


def _layers(env: str) -> list[Path]:
    return [conf_dir() / layer / "sources" for layer in ("base", env, "private")]


def _read(name: str, config: RecsysConfig) -> SourceDescription:
    paths = [path for layer in _layers(config.env) if (path := layer / f"{name}.yml").exists()]
    if not paths:
        known = sorted({path.stem for layer in _layers(config.env) for path in layer.glob("*.yml")})
        raise ConfigError(
            f"ingest.sources: no description of {name!r} in "
            f"{', '.join(str(layer) for layer in _layers(config.env))}{nearest(name, known)}"
        )
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not YAML: {error}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: expected keys and values, found {type(content).__name__}")
        merged |= content
    try:
        return SourceDescription.model_validate({**merged, "name": name})
    except ValidationError as error:
        problems = "\n  ".join(explain(error, SourceDescription))
        raise ConfigError(f"source {name!r} ({paths[-1]}):\n  {problems}") from None


def _filled(
    description: SourceDescription, config: RecsysConfig, run_date: date
) -> SourceDescription:
    """The description with its placeholders filled in, and the pattern as it was before it named a day."""
    dates = {"day": run_date - timedelta(days=1), "run_date": run_date}

    def fill(key: str, text: str, values: Mapping[str, object] = dates) -> str:
        return _fill(text, f"source {description.name!r}: {key}", values, config)

    since = description.valid_from
    if since is not None:
        since = since.model_copy(update={"constant": fill("valid_from", since.constant)})
    undated = {name: f"{{{name}}}" for name in dates}
    return description.model_copy(
        update={
            "pattern": fill("pattern", description.pattern),
            "undated_pattern": fill("pattern", description.pattern, undated),
            "partition_value": fill("partition_value", description.partition_value),
            "valid_from": since,
        }
    )


def _fill(text: str, where: str, values: Mapping[str, object], config: RecsysConfig) -> str:
    """``text`` with its placeholders replaced by ``values`` and by ``{section.key}`` of the configuration.

    A day may say its form: ``{day:%Y%m%d}``.
    """
    filled = ""
    for literal, field, form, _ in Formatter().parse(text):
        filled += literal
        if field is None:
            continue
        value: Any = values.get(field)
        if value is None:
            value = config
            for part in field.split("."):
                value = getattr(value, part, None)
        if value is None:
            raise ConfigError(
                f"{where} {text!r} asks for {{{field}}}, which is no configuration key; "
                "{day}, {run_date} and keys such as {paths.root} are filled in"
            )
        filled += format(value, form or "") if isinstance(value, date) else str(value)
    return filled
