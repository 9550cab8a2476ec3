"""train and export_onnx on a tiny shop: two Horovod processes inside the Spark session, from tables to a model."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import export_onnx, train
from recsys import contracts, features
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.ranking import RankingConfig
from recsys.config.sections import EvaluationConfig, TrainingSetConfig
from recsys.errors import ConfigError, MissingInput
from recsys.lake import Lake, local_rows, struct_type
from recsys.models.ranking_fields import FIELDS_VERSION
from recsys.records import ModelManifest, TrainingRecord, verify_model
from recsys.training.launch import launch
from recsys.training.preparation import other_settings, prepare
from recsys.training.validation import read_users
from tests.training.worlds import GROUPS, NUM_ITEMS, cyclic_histories, tiny_training, world_spec

pytestmark = [pytest.mark.spark]

RUN_DATE = date(2024, 6, 1)
WINDOW = 3
NUM_USERS, NUM_EVENTS, MAX_LENGTH = 40, 14, 8


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> RecsysConfig:
    """The configuration of a shop whose tables are written once for this module."""
    config = RecsysConfig(
        paths=PathsConfig(root=str(tmp_path_factory.mktemp("shop"))),
        training=tiny_training(launcher="spark", max_epochs=2),
        training_set=TrainingSetConfig(max_length=MAX_LENGTH, row_group_rows=16),
        evaluation=EvaluationConfig(window_days=WINDOW),
    )
    write_shop(Lake(spark, config.paths), config)
    return config


@pytest.fixture
def shop_config(shop: RecsysConfig, tmp_path: Path) -> RecsysConfig:
    """The shop in a folder of the test's own: Delta tables are files, and may be copied."""
    shutil.copytree(shop.paths.lake_uri, tmp_path / "var" / "lake")
    return shop.model_copy(update={"paths": PathsConfig(root=str(tmp_path / "var"))})


@pytest.fixture
def lake(spark: SparkSession, shop_config: RecsysConfig) -> Lake:
    return Lake(spark, shop_config.paths)


def write_shop(lake: Lake, config: RecsysConfig) -> None:
    """40 users who buy an item a day, the last one the day before the run date, in the cycle of groups."""
    bought = cyclic_histories(NUM_USERS, length=NUM_EVENTS)
    first_day = RUN_DATE - timedelta(days=NUM_EVENTS)
    events = [
        {
            "event_id": f"{user}-{place}",
            "event_type": "purchase",
            "user_id": f"u{user:02}",
            "item_id": f"i{item:02}",
            "event_ts": datetime(2024, 5, 18, 12, tzinfo=UTC) + timedelta(days=place),
            "event_date": first_day + timedelta(days=place),
            "source": "s",
            "source_file": "f",
        }
        for user, row in enumerate(bought)
        for place, item in enumerate(row.tolist())
    ]
    schema = struct_type(contracts.EVENTS)
    rows = [tuple(event.get(name) for name in schema.names) for event in events]
    lake.replace(
        local_rows(lake.spark, rows, schema),
        contracts.EVENTS,
        {"source": "s", "source_file": "f"},
    )
    for as_of in config.evaluation.cut_offs(RUN_DATE).all():
        days = (as_of - first_day).days
        known = local_rows(
            lake.spark,
            [("item", as_of, f"i{item:02}", item) for item in range(1, NUM_ITEMS + 1)]
            + [("user", as_of, f"u{user:02}", user + 1) for user in range(len(bought))],
            struct_type(contracts.VOCABULARIES),
        )
        lake.replace(known, contracts.VOCABULARIES, {"version": as_of})
        histories = local_rows(lake.spark, [
                (
                    f"u{user:02}", as_of, None, [f"i{item:02}" for item in row[:days]], row[:days].tolist(),
                    ["purchase"] * days, [float(age) for age in np.arange(days, 0, -1) - 0.5], False,
                )
                for user, row in enumerate(bought)
            ],
            struct_type(contracts.HISTORIES),
        )  # fmt: skip
        lake.replace(histories, contracts.HISTORIES, {"as_of": as_of})
        count = features.count_examples(histories, max_length=MAX_LENGTH)
        examples = features.training_examples(
            histories, known, shop=config.shop, max_length=MAX_LENGTH, num_examples=count
        )
        size = features.row_group_bytes(count, max_length=MAX_LENGTH, wanted_rows=16)
        lake.replace(examples, contracts.TRAINING_EXAMPLES, {"as_of": as_of}, row_group_bytes=size)


def write_item_features(lake: Lake, config: RecsysConfig) -> None:
    """Of every cut-off; nothing has a price."""
    schema = struct_type(contracts.ITEM_FEATURES)
    for as_of in config.evaluation.cut_offs(RUN_DATE).all():
        known = [{"item_id": f"i{item:02}", "as_of": as_of} for item in range(1, NUM_ITEMS + 1)]
        rows = [tuple(row.get(name) for name in schema.names) for row in known]
        lake.replace(
            local_rows(lake.spark, rows, schema), contracts.ITEM_FEATURES, {"as_of": as_of}
        )


@pytest.mark.horovod
def test_from_tables_to_an_exported_model(
    lake: Lake, shop_config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:

    record = train.run(lake, shop_config, RUN_DATE)

    assert record == TrainingRecord.read(shop_config.paths, RUN_DATE)
    assert (record.trained, record.reason) == (True, "no release is live yet")
    assert set(record.models) == {"choosing", "measuring", "release"}
    assert 1 <= record.epochs <= 2 == len(record.validation_ndcg_at_10)
    cut_offs = shop_config.evaluation.cut_offs(RUN_DATE)
    for name, as_of in zip(("choosing", "measuring", "release"), cut_offs.all(), strict=True):
        manifest = verify_model(shop_config.paths.models / record.models[name])
        assert (manifest.as_of, manifest.epochs, manifest.num_items) == (
            as_of,
            record.epochs,
            NUM_ITEMS,
        )
        rows = lake.read(contracts.ITEM_VECTORS, as_of=as_of).orderBy("item_num").collect()
        assert {row.model_version for row in rows} == {record.models[name]}
        assert [row.item_id for row in rows] == [f"i{num:02}" for num in range(1, NUM_ITEMS + 1)]
        folder = shop_config.paths.models / record.models[name]
        table = np.load(folder / "item_vectors.npy", allow_pickle=False)
        np.testing.assert_array_equal(
            np.array([row.vector for row in rows], dtype=np.float32), table[1:]
        )
    run = MlflowClient(shop_config.paths.mlflow_uri).get_run(record.mlflow_run_id)
    assert run.data.params["table_version.training_examples"] == str(
        lake.version(contracts.TRAINING_EXAMPLES)
    )
    assert run.data.tags["model.release"] == record.models["release"]
    assert run.data.metrics["choosing.ndcg_at_10"] == record.validation_ndcg_at_10[-1]

    checkpoints = sorted(path.name for path in shop_config.paths.checkpoints.iterdir())
    assert checkpoints == sorted(record.fits.values()), "the MLflow run names them"
    with monkeypatch.context() as patched:
        patched.setattr("recsys.training.train.launch", None)  # there is nothing to launch
        assert train.run(lake, shop_config, RUN_DATE) == record

    report = export_onnx.run(lake, shop_config, RUN_DATE)

    assert report is not None
    assert (report.users, report.different_top_10) == (NUM_USERS, 0)
    release = verify_model(shop_config.paths.models / record.models["release"])
    assert {"model.onnx", "parity.json"} <= set(release.files)


def test_what_training_is_told(lake: Lake, shop_config: RecsysConfig) -> None:
    """Validation users, files and hashes; the settings of a live model where they differ."""
    ranked = shop_config.model_copy(update={"ranking": RankingConfig(enabled=True)})
    with pytest.raises(MissingInput, match=r"item_features has no rows as of .*build_features"):
        prepare(lake, ranked, RUN_DATE)
    write_item_features(lake, shop_config)
    told = prepare(lake, ranked, RUN_DATE)
    assert "item_features" in told.table_versions
    asked = {fit.name: fit.measured.rpartition("/")[2] for fit in told.spec.fits if fit.ranking}
    assert asked == {
        "ranking_choosing": "validation.npz", "ranking_measuring": "measured.npz",
        "ranking_release": "", "linear_choosing": "validation.npz",
        "linear_measuring": "measured.npz",
    }  # fmt: skip
    assert {fit.fields_version for fit in told.spec.fits if fit.ranking} == {FIELDS_VERSION}

    spec = prepare(lake, shop_config, RUN_DATE).spec
    assert [fit.name for fit in spec.fits] == ["choosing", "measuring", "release"]
    assert [fit.epochs_of for fit in spec.fits] == ["", "choosing", "choosing"]
    assert len({fit.key for fit in spec.fits}) == 3

    users = read_users(spec.work / "validation.npz", history_length=MAX_LENGTH)
    assert len(users) == NUM_USERS
    bought = cyclic_histories(NUM_USERS, length=NUM_EVENTS)
    first = NUM_EVENTS - 2 * WINDOW  # bought before the choosing day
    # 8 events before choosing, the next 3 are the window's targets; users come by id.
    assert users.item_nums_UH.tolist() == bought[:, :first].tolist()
    targets = [
        sorted(set(bought[user, first : first + WINDOW].tolist())) for user in range(NUM_USERS)
    ]
    assert users.target_item_nums_T.tolist() == [num for items in targets for num in items]
    assert users.ages_days_UH[0].tolist() == [age - 0.5 for age in range(first, 0, -1)]

    live = ModelManifest(
        model_version="x", as_of=RUN_DATE, embedding_dim=16, history_length=MAX_LENGTH, num_items=3, epochs=7,
        training=tiny_training(seed=99).model_dump(mode="json"),
    )  # fmt: skip
    [*_, last] = prepare(lake, shop_config, RUN_DATE, live=live).spec.fits
    measuring = shop_config.evaluation.cut_offs(RUN_DATE).measuring
    assert (last.name, last.as_of, last.epochs, last.training.seed) == ("live", measuring, 7, 99)
    same = live.model_copy(
        update={
            "training": shop_config.training.model_dump(mode="json") | {"launcher": "horovodrun"}
        }
    )
    assert other_settings(shop_config, same) is None
    shorter = live.model_copy(update={"history_length": MAX_LENGTH - 1})
    assert other_settings(shop_config, shorter) is None, "today's examples have another length"
    three = tiny_training(seed=99, global_batch_size=33).model_dump(mode="json")
    of_three_processes = live.model_copy(update={"training": three})
    spec = prepare(lake, shop_config, RUN_DATE, live=of_three_processes).spec
    assert [fit.name for fit in spec.fits] == ["choosing", "measuring", "release"]
    assert all(fit.training.batch_size_of_each(spec.world_size) for fit in spec.fits)

    lake.replace(
        lake.read(contracts.VOCABULARIES).where(F.lit(False)),
        contracts.VOCABULARIES,
        {"version": measuring},
    )
    with pytest.raises(
        MissingInput, match=rf"no item vocabulary of {measuring}: run build_features first"
    ):
        prepare(lake, shop_config, RUN_DATE)

    nothing = lake.read(contracts.HISTORIES).where(F.lit(False))
    lake.replace(nothing, contracts.HISTORIES, {"as_of": measuring})
    with pytest.raises(
        MissingInput, match=rf"histories has no rows as of {measuring}: run build_fe"
    ):
        prepare(lake, shop_config, RUN_DATE)


def test_more_processes_than_slots_are_refused_at_once(spark: SparkSession, tmp_path: Path) -> None:
    training = tiny_training(launcher="spark", num_processes=8)
    with pytest.raises(ConfigError, match=r"num_processes=8 needs as many Spark slots.*has 2"):
        launch(world_spec(tmp_path, training=training), training, spark)


def test_nothing_is_trained_or_exported_when_nothing_is_due(
    lake: Lake, shop_config: RecsysConfig
) -> None:
    never = shop_config.model_copy(update={"training": tiny_training(when="never")})
    record = train.run(lake, never, RUN_DATE)
    assert not record.trained
    assert "training.when is never" in record.reason
    assert TrainingRecord.read(never.paths, RUN_DATE) == record
    assert export_onnx.run(lake, never, RUN_DATE) is None


def test_the_shop_has_what_the_tests_rely_on() -> None:
    assert GROUPS > 2 * WINDOW - 1  # a user's targets of one window are of different groups
