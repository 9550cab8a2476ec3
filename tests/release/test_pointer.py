"""The pointer, and the manifest it names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact, MissingInput
from recsys.records import Recipe, ScoringRecord
from recsys.release.facts import model_facts
from recsys.release.manifest import ReleaseModel, TableVersion, content_id
from recsys.release.pointer import live_release, pointer_path, read_pointer, release_folder
from tests.release.making import NOON, make_release
from tests.scoring.ranking_worlds import ranking_folder


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    return PathsConfig(root=str(tmp_path))


def test_nothing_is_live_before_the_first_publish(paths: PathsConfig) -> None:
    assert read_pointer(paths) is None
    assert live_release(paths) is None


def test_the_live_release_is_the_one_the_pointer_names(paths: PathsConfig) -> None:
    manifest = make_release(paths)
    make_release(paths, users={}, live=False)
    assert live_release(paths) == manifest
    pointer = read_pointer(paths)
    assert pointer is not None
    assert (pointer.run_date, pointer.at) == (manifest.run_date, NOON)


@pytest.mark.parametrize(
    "text", ["", "{", '{"release_id": 1}', '{"release_id": "../x", "at": "2024-06-01T12:00:00Z"}']
)
def test_an_unreadable_pointer_says_what_to_do(paths: PathsConfig, text: str) -> None:
    make_release(paths)
    pointer_path(paths).write_text(text)
    with pytest.raises(CorruptArtifact, match=r"current is unreadable .* roll-back --to RELEASE"):
        live_release(paths)


def test_a_live_release_without_its_folder_says_what_to_do(paths: PathsConfig) -> None:
    manifest = make_release(paths)
    shutil.rmtree(release_folder(paths, manifest.release_id))
    with pytest.raises(
        CorruptArtifact, match=f"release {manifest.release_id} has no .* put it back"
    ):
        live_release(paths)


def test_a_release_is_named_by_its_content() -> None:
    day = NOON.date()
    model = ReleaseModel(version="m1", as_of=day, hash="h", age_days=0, reason="new")
    tables = {"events": TableVersion(version=1, content_hash="a", rows=1)}

    def name(version: int = 1, content: str = "a", similarity: float = 1.0, age: int = 0) -> str:
        changed = {"events": TableVersion(version=version, content_hash=content, rows=1)}
        recipe = Recipe(name="blend", similarity=similarity)
        return content_id(day, changed, model.model_copy(update={"age_days": age}), recipe)[0]

    same = content_id(day, tables, model, Recipe(name="blend", similarity=1.0))[0]
    assert same.startswith("2024-06-01-")
    assert name(version=9) == same  # the same rows written again
    assert len({same, name(content="b"), name(similarity=2.0), name(age=1)}) == 4


def test_stage_two_is_part_of_a_release_s_name_and_its_absence_is_not() -> None:
    day = NOON.date()
    model = ReleaseModel(version="m1", as_of=day, hash="h", age_days=0, reason="new")
    recipe = Recipe(name="blend", model=0.5)
    # The name that this release had before there was a stage 2.
    assert content_id(day, {}, model, recipe)[0] == "2024-06-01-066268dd2fc4"

    ranked = model.model_copy(update={"ranking_version": "r1", "ranking_hash": "h"})
    re_ranking = recipe.model_copy(update={"rerank": 50, "rerank_weight": 0.5})
    names = {
        content_id(day, {}, one, by)[0]
        for one, by in (
            (model, recipe),
            (ranked, re_ranking),
            (ranked.model_copy(update={"ranking_hash": "other"}), re_ranking),
            (ranked, re_ranking.model_copy(update={"rerank_weight": 0.75})),
        )
    }
    assert len(names) == 4
    for one in (model, ranked):
        assert ReleaseModel.model_validate_json(one.model_dump_json()) == one
    for by in (recipe, re_ranking, recipe.model_copy(update={"rerank": 50})):
        assert Recipe.model_validate_json(by.model_dump_json()) == by


def test_a_release_names_the_ranking_model_whose_files_verify(paths: PathsConfig) -> None:
    scoring = ScoringRecord(
        run_date=NOON.date(), model_version="gone", model_as_of=NOON.date(), model_age_days=0,
        reason="new", recipe=Recipe(name="blend", similarity=1.0, rerank=50), ranking_version="ranks",
    )  # fmt: skip
    folder = ranking_folder(paths.models, [1, 2, 3])

    found = model_facts(paths, scoring)

    assert (found.hash, found.ranking_version, len(found.ranking_hash)) == ("", "ranks", 64)
    alone = model_facts(paths, scoring.model_copy(update={"ranking_version": ""}))
    assert (alone.ranking_version, alone.ranking_hash) == ("", "")
    (folder / "item.npy").write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=r"item\.npy is damaged"):
        model_facts(paths, scoring)
    shutil.rmtree(folder)
    with pytest.raises(MissingInput, match=r"no model at .*ranks"):
        model_facts(paths, scoring)
