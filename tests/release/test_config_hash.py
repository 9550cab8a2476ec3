"""Which settings make another release of the same tables."""

from __future__ import annotations

import pytest

from recsys.config import load_config
from recsys.release.facts import config_hash


@pytest.mark.parametrize(
    "said", ["gate.bootstrap=true", 'ingest.accept_volume="a sale"', "serving.port=8011"]
)
def test_what_is_said_of_one_run_or_host_is_no_part_of_it(said: str) -> None:
    assert config_hash(load_config("local", [said])) == config_hash(load_config("local", []))


@pytest.mark.parametrize("setting", ["gate.max_list_churn=0.5", "scoring.n=7"])
def test_what_may_change_a_list_is(setting: str) -> None:
    assert config_hash(load_config("local", [setting])) != config_hash(load_config("local", []))
