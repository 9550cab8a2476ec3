"""An audit of a release: what is whole passes, and one changed byte is found and named, wherever it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jobs import audit_release
from recsys.config import RecsysConfig
from recsys.config.sections import PublishConfig
from recsys.contracts import ALSO_BOUGHT, CONSISTENCY, ITEMS, TOP_N_LISTS
from recsys.errors import CorruptArtifact
from recsys.monitoring.audit import _of_lists, compare_snapshot  # noqa: PLC2701
from recsys.monitoring.failures import or_unreadable
from recsys.monitoring.files import compare_files
from recsys.monitoring.fresh import compare_fresh
from recsys.monitoring.matrix import compare_matrix
from recsys.monitoring.tables import compare_model, compare_tables
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import live_release, release_folder
from recsys.release.snapshot import DATA_FILE
from tests.monitoring.world import NUMS as ITEM_NUMS
from tests.monitoring.world import USERS, VERSION
from tests.release.shop import RUN_DATE

if TYPE_CHECKING:
    from recsys.lake import Lake

pytestmark = pytest.mark.spark
BAD = {"differs", "unreadable"}


@pytest.fixture
def lake(spark, shop: RecsysConfig) -> Lake:  # type: ignore[no-untyped-def]
    from recsys.lake import Lake

    return Lake(spark, shop.paths)


def manifest_of(shop: RecsysConfig) -> ReleaseManifest:
    manifest = live_release(shop.paths)
    assert manifest is not None
    return manifest


def flip(path: Path, place: int) -> None:
    """Change one byte of a file; where Hadoop keeps a checksum beside it, that goes, too."""
    content = bytearray(path.read_bytes())
    content[place] ^= 0x01
    path.write_bytes(bytes(content))
    (path.parent / f".{path.name}.crc").unlink(missing_ok=True)


def data_file(lake: Lake, manifest: ReleaseManifest) -> Path:
    """The largest file of the lists that the release names."""
    version = manifest.tables[TOP_N_LISTS.name].version
    names = lake.read(TOP_N_LISTS, version=version).inputFiles()
    return max((Path(name.removeprefix("file:")) for name in names), key=os.path.getsize)


def test_a_release_that_nobody_touched_passes(lake: Lake, shop: RecsysConfig) -> None:
    found = audit_release.run(lake, shop, RUN_DATE)

    assert [str(one) for one in found if one.verdict not in {"ok", "skipped"}] == []
    rows = {(row["one_copy"], row["other_copy"]): row for row in lake.read(CONSISTENCY).collect()}
    assert rows["data files", "published checksums"]["checked"] >= 5
    assert {"tables", "model files", "item matrix", "snapshot", "fresh scores"} <= {
        one for one, _ in rows
    }
    users = rows["table top_n_lists", "snapshot users"]
    assert (users["checked"], users["differing"], users["verdict"]) == (len(USERS), 0, "ok")
    beside = rows["table also_bought", "snapshot also_bought"]
    assert (beside["checked"], beside["verdict"]) == (len(ITEM_NUMS), "ok")
    fresh = rows["fresh scores", "table top_n_lists"]
    assert (fresh["checked"], fresh["verdict"], fresh["reason"]) == (len(USERS), "ok", "")
    assert rows["service", "snapshot users"]["verdict"] == "skipped"


def test_one_byte_of_a_data_file_is_found_and_the_file_and_the_users_are_named(
    lake: Lake, shop: RecsysConfig
) -> None:
    manifest = manifest_of(shop)
    file = data_file(lake, manifest)
    before = lists_of(lake, manifest)
    place = place_of_a_score(file, sorted({s for scores in before.values() for s in scores}))
    flip(file, place)
    lake.spark.catalog.clearCache()
    after = lists_of(lake, manifest)
    changed = {user for user in before if before[user] != after[user]}
    assert changed, "the fault landed: Spark reads another score, and has no objection"

    found = {one.one_copy: one for one in _of_lists(lake, shop, manifest, is_whole=True)}
    tables = compare_tables(lake, manifest)
    files = compare_files(lake, release_folder(shop.paths, manifest.release_id))
    fresh = compare_fresh(lake, shop, manifest)

    users = found["table top_n_lists"]
    assert (users.verdict, users.differing) == ("differs", len(changed))
    assert all(file.name in example for example in users.examples)
    assert {user for user in USERS for e in users.examples if repr(user) in e} == changed
    assert [one.verdict for name, one in found.items() if name != "table top_n_lists"] == ["ok"] * (
        len(found) - 1
    )
    assert (tables.verdict, tables.differing) == ("differs", 1)
    assert tables.examples[0].startswith("table top_n_lists version ")
    assert (files.verdict, files.differing) == ("differs", 1)
    assert f"/{file.name} was changed: sha256 " in files.examples[0]
    assert fresh.verdict == "ok" or fresh.differing == len(changed)  # the last bit of a score


def lists_of(lake: Lake, manifest: ReleaseManifest) -> dict[str, list[float]]:
    version = manifest.tables[TOP_N_LISTS.name].version
    return {
        row["user_id"]: row["scores"] for row in lake.read(TOP_N_LISTS, version=version).collect()
    }


def place_of_a_score(file: Path, scores: list[float]) -> int:
    """Where one of the scores lies in the file as it is; not the least and the greatest: they are statistics, too."""
    content = file.read_bytes()
    for score in scores[1:-1]:
        if (place := content.find(np.float32(score).tobytes())) > 0:
            return place
    raise AssertionError(f"no score lies in {file} uncompressed")


def test_a_byte_that_no_row_depends_on_is_found_too(lake: Lake, shop: RecsysConfig) -> None:
    manifest = manifest_of(shop)
    file = data_file(lake, manifest)
    place = file.read_bytes().rindex(b"parquet-cpp")  # who wrote it, in the footer
    before = lists_of(lake, manifest)
    flip(file, place)
    lake.spark.catalog.clearCache()
    assert lists_of(lake, manifest) == before, "all rows are as they were"

    found = compare_files(lake, release_folder(shop.paths, manifest.release_id))

    assert (found.verdict, found.differing) == ("differs", 1)
    assert file.name in found.examples[0]


def test_a_data_file_that_cannot_be_read_is_named(lake: Lake, shop: RecsysConfig) -> None:
    manifest = manifest_of(shop)
    file = data_file(lake, manifest)
    flip(file, file.stat().st_size - 1)  # of the mark that every Parquet file ends with

    tables = compare_tables(lake, manifest)
    [users] = [
        one
        for one in _of_lists(lake, shop, manifest, is_whole=True)
        if one.one_copy == "table top_n_lists"
    ]

    assert (tables.verdict, tables.differing) == ("differs", 1)
    assert "table top_n_lists cannot be read" in tables.examples[0]
    assert file.name in tables.examples[0]
    assert users.verdict == "unreadable" and file.name in users.examples[0]


def test_lists_are_built_as_they_were_whatever_conf_says_now(
    lake: Lake, shop: RecsysConfig
) -> None:
    changed = shop.model_copy(update={"publish": PublishConfig(category_n=1)})

    found = {
        one.other_copy: one for one in _of_lists(lake, changed, manifest_of(shop), is_whole=True)
    }

    assert found["snapshot categories"].checked == 2  # Home, and Home > Wares with its two items
    assert {one.verdict for one in found.values()} == {"ok"}


def test_a_version_that_is_gone_spoils_the_lists_that_rest_on_it_alone(
    lake: Lake, shop: RecsysConfig
) -> None:
    manifest = manifest_of(shop)
    gone = manifest.tables[ITEMS.name].model_copy(update={"version": 99})
    tables = manifest.tables | {ITEMS.name: gone}

    of_lists = _of_lists(lake, shop, manifest.model_copy(update={"tables": tables}), is_whole=True)

    assert {one.other_copy: one.verdict for one in of_lists} == {
        "snapshot users": "ok", "snapshot segments": "ok", "snapshot categories": "unreadable",
        "snapshot items": "unreadable", "snapshot also_bought": "unreadable",
    }  # fmt: skip


def test_a_release_from_before_what_is_also_bought_is_compared_without_it(
    lake: Lake, shop: RecsysConfig
) -> None:
    manifest = manifest_of(shop)
    tables = {name: one for name, one in manifest.tables.items() if name != ALSO_BOUGHT.name}

    of_lists = _of_lists(lake, shop, manifest.model_copy(update={"tables": tables}), is_whole=True)

    assert {one.other_copy: one.verdict for one in of_lists} == {
        "snapshot users": "ok", "snapshot segments": "ok", "snapshot categories": "ok",
        "snapshot items": "ok",
    }  # fmt: skip


def test_one_byte_of_the_snapshot_is_found_and_the_file_and_the_user_are_named(
    lake: Lake, shop: RecsysConfig
) -> None:
    manifest = manifest_of(shop)
    path = release_folder(shop.paths, manifest.release_id) / DATA_FILE
    assert compare_snapshot(shop, manifest).verdict == "ok"
    key = "user-07"
    content = path.read_bytes()
    place = content.find(b'"score":', content.find(key.encode())) + len('"score":')
    flip(path, place)  # a digit of the first score in user-07's list, or its sign
    assert path.read_bytes()[place] != content[place], "the fault landed"

    files = compare_snapshot(shop, manifest)
    found = {one.other_copy: one for one in _of_lists(lake, shop, manifest, is_whole=False)}

    assert files.verdict == "differs" and DATA_FILE in files.examples[0]
    users = found["snapshot users"]
    assert (users.verdict, users.differing, users.checked) == ("differs", 1, len(USERS))
    assert users.examples[0].startswith(f"users {key!r}: ")
    assert {one.verdict for kind, one in found.items() if kind != "snapshot users"} == {"ok"}


def test_one_byte_of_the_item_matrix_is_found_and_the_file_and_the_item_are_named(
    lake: Lake, shop: RecsysConfig
) -> None:
    manifest = manifest_of(shop)
    path = shop.paths.models / VERSION / "item_vectors.npy"
    before = np.load(path)
    flip(path, path.stat().st_size - 4 * before.shape[1])  # the first number of the last item
    assert (np.load(path) != before).sum() == 1, "the fault landed"

    files = compare_model(shop.paths, manifest)
    rows = compare_matrix(lake, manifest, shop.paths.models)

    assert (
        files.verdict == "differs" and f"{VERSION}/item_vectors.npy is damaged" in files.examples[0]
    )
    assert (rows.verdict, rows.checked, rows.differing) == ("differs", len(before) - 1, 1)
    assert rows.examples[0].startswith("item 'pan', row 8 of hand-made/item_vectors.npy")
    assert compare_fresh_verdict(lake, shop, manifest) in BAD


def compare_fresh_verdict(lake: Lake, shop: RecsysConfig, manifest: ReleaseManifest) -> str:
    return or_unreadable("fresh", "table", lambda: compare_fresh(lake, shop, manifest)).verdict


def test_the_job_ends_refused_and_the_table_names_what_differs(
    lake: Lake, shop: RecsysConfig
) -> None:
    path = shop.paths.models / VERSION / "model.onnx"
    flip(path, path.stat().st_size // 2)

    with pytest.raises(CorruptArtifact, match=r"(?s)model files \| manifest: differs.*model\.onnx"):
        audit_release.run(lake, shop, RUN_DATE)

    bad = lake.read(CONSISTENCY).where("verdict IN ('differs', 'unreadable')").collect()
    assert {row["one_copy"] for row in bad} == {"model files", "fresh scores"}
    assert CorruptArtifact.exit_code == 3
