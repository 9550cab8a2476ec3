"""What a night's record says of the night's training: whether there is something left to train."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.records import TrainingRecord
from recsys.training.model_folder import write_model
from recsys.training.spec import TrainingSpec
from recsys.training.train import sweep_checkpoints, trained_before
from tests.scoring.ranking_worlds import answers_file
from tests.training.test_model_folder import untrained
from tests.training.worlds import AS_OF, tiny_training, world_spec


@pytest.fixture
def night(tmp_path: Path) -> tuple[RecsysConfig, TrainingSpec, TrainingRecord]:
    """A recorded night whose fits all came to one model."""
    paths, fit, result = untrained(tmp_path)
    version = write_model(paths, fit, result).model_version
    spec = world_spec(tmp_path, name="night")
    record = TrainingRecord(
        run_date=AS_OF, trained=True, reason="due",
        models={fit.name: version for fit in spec.fits},
        fits={fit.name: spec.name_of(fit) for fit in spec.fits},
    )  # fmt: skip
    record.write(paths)
    return RecsysConfig(paths=PathsConfig(root=paths.root)), spec, record


def test_the_same_fits_are_not_trained_again(
    night: tuple[RecsysConfig, TrainingSpec, TrainingRecord],
) -> None:
    config, spec, record = night
    assert trained_before(config, AS_OF, spec) == record


def test_other_fits_are_trained(
    night: tuple[RecsysConfig, TrainingSpec, TrainingRecord], tmp_path: Path
) -> None:
    config, spec, record = night
    seeded = world_spec(tmp_path, training=tiny_training(seed=99))
    assert trained_before(config, AS_OF, seeded) is None
    more_processes = spec.model_copy(update={"world_size": 2})  # other last bits, as good
    assert trained_before(config, AS_OF, more_processes) == record
    earlier = record.model_copy(update={"fits": {}})  # as before records named their fits
    earlier.write(config.paths)
    assert trained_before(config, AS_OF, spec) is None


def test_other_users_to_be_measured_are_asked_though_the_fits_are_done(
    night: tuple[RecsysConfig, TrainingSpec, TrainingRecord],
) -> None:
    config, spec, record = night
    measured = spec.fits[0].model_copy(
        update={"name": "ranking_measuring", "measured_hash": "users"}
    )
    asking = spec.model_copy(update={"fits": (*spec.fits, measured)})
    said = answers_file(config.paths.models, AS_OF, "measuring", {"user_S": [1]})
    fits = {fit.name: asking.name_of(fit) for fit in asking.fits}
    asked = record.model_copy(update={"fits": fits, "answers": {"measuring": said}})
    asked.write(config.paths)
    assert trained_before(config, AS_OF, asking) == asked
    late = measured.model_copy(update={"measured_hash": "and one that came late"})
    other = asking.model_copy(update={"fits": (*spec.fits, late)})
    assert [other.name_of(fit) for fit in other.fits] == list(fits.values())
    assert trained_before(config, AS_OF, other) is None
    (config.paths.models / said.file).unlink()
    assert trained_before(config, AS_OF, asking) is None


@pytest.mark.parametrize("damaged", ["weights.npz", "manifest.json"])
def test_a_damaged_model_is_trained_again(
    night: tuple[RecsysConfig, TrainingSpec, TrainingRecord], damaged: str
) -> None:
    config, spec, record = night
    (config.paths.models / record.models["release"] / damaged).write_bytes(b"damaged")
    assert trained_before(config, AS_OF, spec) is None


def test_a_damaged_record_stops_no_training(
    night: tuple[RecsysConfig, TrainingSpec, TrainingRecord],
) -> None:
    config, spec, _ = night
    TrainingRecord.path(config.paths, AS_OF).write_bytes(b"{")
    assert trained_before(config, AS_OF, spec) is None


def test_checkpoints_of_recorded_nights_before_go(
    night: tuple[RecsysConfig, TrainingSpec, TrainingRecord],
) -> None:
    config, _, record = night
    next_day = AS_OF + timedelta(days=1)
    tomorrow = record.model_copy(update={"run_date": next_day, "fits": {"release": "tomorrow"}})
    damaged = TrainingRecord.path(config.paths, AS_OF - timedelta(days=1))
    damaged.write_bytes(b"{")
    unrecorded = "of a night that was killed"
    folders = [*record.fits.values(), "tomorrow", unrecorded]
    for name in folders:
        (config.paths.checkpoints / name).mkdir(parents=True, exist_ok=True)

    def left() -> set[str]:
        return {path.name for path in config.paths.checkpoints.iterdir()}

    sweep_checkpoints(config, AS_OF, keep=set(record.fits.values()))
    assert left() == set(folders)
    tomorrow.write(config.paths)
    shared = next(iter(record.fits.values()))
    sweep_checkpoints(config, next_day, keep={"tomorrow", shared})
    assert left() == {"tomorrow", unrecorded, shared}
    sweep_checkpoints(config, next_day, keep={"tomorrow"})
    assert left() == {"tomorrow", unrecorded}
