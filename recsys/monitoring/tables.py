"""The tables and models that a release rests on, against what its manifest says of them."""

from __future__ import annotations

from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact
from recsys.lake import Lake
from recsys.monitoring.failures import UNREADABLE, files_named, reason_of
from recsys.monitoring.verdicts import Comparison, compared
from recsys.records import ScoringRecord
from recsys.release import facts
from recsys.release.manifest import ReleaseManifest, TableVersion

TABLES, MANIFEST, MODEL = "tables", "manifest", "model files"


def compare_tables(lake: Lake, manifest: ReleaseManifest) -> Comparison:
    """Rows and content hash of each table at the version that the release names."""
    versions = {name: table.version for name, table in manifest.tables.items()}
    try:
        found = facts.table_facts(lake, versions, manifest.run_date, scoring_of(manifest))
        problems = _problems(manifest, found)
    except UNREADABLE:
        problems = []
        for name, version in versions.items():  # one by one: which of them is it?
            problems += _of_one(lake, manifest, name, version)
    return compared(
        TABLES, MANIFEST, checked=len(versions), differing=len(problems), examples=problems
    )


def _of_one(lake: Lake, manifest: ReleaseManifest, name: str, version: int) -> list[str]:
    scoring = scoring_of(manifest)
    try:
        return _problems(
            manifest, facts.table_facts(lake, {name: version}, manifest.run_date, scoring)
        )
    except UNREADABLE as error:
        file = ", ".join(files_named(error)) or f"version {version}"
        return [f"table {name} cannot be read: {file}: {reason_of(error)[:150]}"]


def _problems(manifest: ReleaseManifest, found: dict[str, TableVersion]) -> list[str]:
    return [
        f"table {name} version {table.version}: {table.rows} rows with hash {table.content_hash}, "
        f"the manifest says {wanted.rows} with {wanted.content_hash}"
        for name, table in found.items()
        if table != (wanted := manifest.tables[name])
    ]


def compare_model(paths: PathsConfig, manifest: ReleaseManifest) -> Comparison:
    """Every file of the models against their checksums, and these against the release's."""
    try:
        found = facts.model_facts(paths, scoring_of(manifest))
    except CorruptArtifact as error:
        return compared(MODEL, MANIFEST, checked=1, differing=1, examples=[str(error)])
    said = manifest.model
    problems = [
        f"model {version} was made anew: its files hash to {now[:16]}, the manifest says {then[:16]}"
        for version, now, then in (
            (said.version, found.hash, said.hash),
            (said.ranking_version, found.ranking_hash, said.ranking_hash),
        )
        if now != then
    ]
    return compared(MODEL, MANIFEST, checked=1, differing=len(problems), examples=problems)


def scoring_of(manifest: ReleaseManifest) -> ScoringRecord:
    """What the lists were made with, as the release says."""
    model = manifest.model
    return ScoringRecord(
        run_date=manifest.run_date,
        model_version=model.version,
        model_as_of=model.as_of,
        model_age_days=model.age_days,
        reason=model.reason,
        recipe=manifest.recipe,
        ranking_version=model.ranking_version,
        full_as_of=manifest.inputs_as_of if manifest.is_increment else None,
    )
