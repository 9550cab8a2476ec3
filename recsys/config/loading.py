"""Base YAML, then the environment's, then conf/private, then RECSYS_… variables, then --set: the later wins."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from recsys.config.places import CHECKOUT
from recsys.config.root import RecsysConfig
from recsys.errors import ConfigError
from recsys.logs import FOR_PEOPLE

VARIABLE_PREFIX = "RECSYS_"
VARIABLES_OF_OUR_OWN = {
    "RECSYS_CONF",
    "RECSYS_CACHE",
    "RECSYS_FAILPOINT",
    "RECSYS_CALLED_FROM",
    FOR_PEOPLE,
}
"""Variables that are not configuration keys."""

TELLS_ITS_INPUT = {
    "bool_parsing", "bool_type", "int_parsing", "int_type", "int_from_float", "float_parsing", "float_type",
    "literal_error", "greater_than", "greater_than_equal", "less_than", "less_than_equal",
}  # fmt: skip
"""Problems whose message repeats what was given. No text is among them: it may be a key."""

EXAMPLE = "training.max_epochs=3"
"""Of what ``--set`` takes."""

Layer = dict[str, Any]


def conf_dir() -> Path:
    """The folder of base/, <env>/ and private/: RECSYS_CONF, or conf/ of the checkout."""
    return Path(os.environ.get("RECSYS_CONF") or CHECKOUT / "conf")


def environments() -> list[str]:
    """The names that ``--env`` takes.

    Raises:
        ConfigError: there is no configuration folder.
    """
    if not conf_dir().is_dir():
        raise ConfigError(
            f"no configuration folder {conf_dir()}: set RECSYS_CONF to the folder that holds base/ and the "
            "environments (conf/ of a checkout, or a copy of it)"
        )
    shared = {"base", "private"}
    return sorted(p.name for p in conf_dir().iterdir() if p.is_dir() and p.name not in shared)


def load_config(env: str = "local", overrides: Sequence[str] = ()) -> RecsysConfig:
    """Return the resolved configuration of ``env``.

    ``overrides`` are ``key=value`` with dotted keys; values are YAML.

    Raises:
        ConfigError: no configuration folder, unknown environment, unknown key (the nearest is named), bad
            value, unreadable file.
    """
    if env not in environments():
        raise ConfigError(
            f"unknown environment {env!r}: {conf_dir()} has {', '.join(environments()) or 'none'}"
        )
    merged: Layer = {}
    for name in ("base", env, "private"):
        for path in sorted((conf_dir() / name).glob("*.yml")):
            _merge(merged, _read_yaml(path))
    _merge(merged, _from_variables(os.environ))
    for override in overrides:
        _merge(merged, _from_override(override))
    merged["env"] = env
    try:
        return RecsysConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, RecsysConfig))) from None


def _read_yaml(path: Path) -> Layer:
    """A file ``training.yml`` holds the section ``training``."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(content).__name__}")
    return {path.stem: content}


def _from_variables(environ: Mapping[str, str]) -> Layer:
    """``RECSYS_TRAINING__MAX_EPOCHS=3`` sets ``training.max_epochs``."""
    layer: Layer = {}
    for name, value in environ.items():
        if name.startswith(VARIABLE_PREFIX) and name not in VARIABLES_OF_OUR_OWN:
            key = name.removeprefix(VARIABLE_PREFIX).lower().replace("__", ".")
            _merge(layer, _from_override(f"{key}={value}"))
    return layer


def _from_override(override: str) -> Layer:
    key, found, text = override.partition("=")
    if not found or not key:
        raise ConfigError(f"--set takes key=value, got {override!r}; for example {EXAMPLE}")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return dict(value)


def _merge(into: Layer, layer: Layer) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def explain(error: ValidationError, root: type[BaseModel]) -> Iterator[str]:
    """Each problem of ``error`` in one line, with the key's full path and, when unknown, the nearest key."""
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        path = ".".join(location)
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(location[-1], _keys_beside(location, root), n=1)
            hint = f"; did you mean {'.'.join([*location[:-1], *near])!r}?" if near else ""
            yield f"unknown config key {path!r}{hint}"
        elif problem["type"] == "missing":
            yield f"config key {path!r} is missing: set it in conf, by variable or with --set {path}=…"
        elif problem["type"] in {"tuple_type", "list_type"}:
            yield f"config key {path!r} takes a list, such as [{problem['input']}]; got {problem['input']!r}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = f", got {problem['input']!r}" if problem["type"] in TELLS_ITS_INPUT else ""
            yield f"config key {path!r}: {message}{got}" if path else message


def _keys_beside(location: list[str], root: type[BaseModel]) -> list[str]:
    """The keys known where the unknown one stands."""
    model: Any = root
    for part in location[:-1]:
        field = model.model_fields.get(part) if _is_model(model) else None
        model = _inner(field.annotation) if field else _inner(model)
    return list(model.model_fields) if _is_model(model) else []


def _is_model(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, BaseModel)


def _inner(type_: Any) -> Any:
    """The model inside ``X | None``, ``dict[str, X]`` or ``list[X]``."""
    if get_origin(type_) in (Union, UnionType, dict, list, tuple):
        return next((arg for arg in get_args(type_) if _is_model(arg)), type_)
    return type_
