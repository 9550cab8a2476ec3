"""The layers of configuration: the later wins, and what is wrong is named with the nearest right."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.config import load_config
from recsys.config.loading import EXAMPLE
from recsys.config.places import CHECKOUT, PathsConfig
from recsys.errors import ConfigError


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("base", "local", "private"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("RECSYS_CONF", str(tmp_path))
    return tmp_path


def test_each_layer_wins_over_the_one_before(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def epochs(*overrides: str) -> int:
        return load_config("local", overrides).training.max_epochs

    (conf / "base" / "training.yml").write_text("max_epochs: 1\nseed: 5\n")
    assert epochs() == 1
    (conf / "local" / "training.yml").write_text("max_epochs: 2\n")
    assert epochs() == 2
    (conf / "private" / "training.yml").write_text("max_epochs: 3\n")
    assert epochs() == 3
    monkeypatch.setenv("RECSYS_TRAINING__MAX_EPOCHS", "4")
    assert epochs() == 4
    assert epochs("training.max_epochs=5") == 5
    assert load_config("local").training.seed == 5, "a later layer keeps what it does not name"


def test_one_value_for_a_list_is_shown_as_it_is_written(conf: Path) -> None:
    with pytest.raises(ConfigError, match=r"'ingest.sources' takes a list, such as \[my_shop\]"):
        load_config("local", ["ingest.sources=my_shop"])


def test_an_unknown_key_names_the_nearest(conf: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"'training.max_epoch'; did you mean 'training.max_epochs'\?"
    ):
        load_config("local", ["training.max_epoch=3"])
    with pytest.raises(
        ConfigError, match=r"'ingest.volume.flor'; did you mean 'ingest.volume.floor'\?"
    ):
        load_config("local", ["ingest.volume.flor=0.5"])
    (conf / "local" / "trainig.yml").write_text("max_epochs: 2\n")
    with pytest.raises(ConfigError, match=r"'trainig'; did you mean 'training'\?"):
        load_config("local")


def test_every_problem_is_named_at_once(conf: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("local", ["training.max_epochs=many", "shop.time_zone=Mars/Base"])
    assert "training.max_epochs" in str(error.value)
    assert "unknown time zone 'Mars/Base'" in str(error.value)


def test_an_unknown_environment_lists_those_there_are(conf: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown environment 'prod': .* has local"):
        load_config("prod")


def test_a_file_that_is_not_yaml_is_named(conf: Path) -> None:
    (conf / "base" / "shop.yml").write_text("name: [unclosed\n")
    with pytest.raises(ConfigError, match=r"shop\.yml is not YAML"):
        load_config("local")


def test_a_set_without_a_value_says_the_form(conf: Path) -> None:
    with pytest.raises(ConfigError, match="--set takes key=value, got 'training'"):
        load_config("local", ["training"])
    assert load_config("local", [EXAMPLE]).training.max_epochs == 3, "the example is a key"


def test_a_configuration_folder_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_CONF", str(tmp_path / "cnof"))
    with pytest.raises(ConfigError, match=r"no configuration folder .*/cnof: set RECSYS_CONF"):
        load_config("local")


def test_relative_paths_start_from_the_checkout_wherever_a_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = PathsConfig(root="var", lake="elsewhere/lake")
    assert paths.releases == CHECKOUT / "var" / "releases"
    assert paths.lake_uri == str(CHECKOUT / "elsewhere" / "lake")
    assert PathsConfig(root="/data").models == Path("/data/models")
    assert PathsConfig(lake="s3a://shop/lake").lake_uri == "s3a://shop/lake"


@pytest.mark.parametrize("env", ["local", "complete_journey", "generated_shop", "cluster"])
def test_the_shipped_environments_resolve(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_CONF", raising=False)
    assert load_config(env).env == env


def test_a_value_of_the_wrong_kind_is_repeated_and_a_key_never() -> None:
    with pytest.raises(ConfigError, match=r"'ranking.enabled': .* got 'perhaps'"):
        load_config("local", ["ranking.enabled=perhaps"])
    for secret in ("hunter2secret", "7777777"):
        with pytest.raises(ConfigError, match=r"serving\.api_key") as refused:
            load_config("local", [f"serving.api_key={secret}"])
        assert secret not in str(refused.value)
