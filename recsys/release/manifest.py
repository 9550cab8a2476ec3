"""``manifest.json`` of a release: which data at which versions, which model, which lists."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path

from pydantic import SerializerFunctionWrapHandler, ValidationError, model_serializer

from recsys.config.base import Config
from recsys.errors import CorruptArtifact
from recsys.records import Recipe
from recsys.release.snapshot import MANIFEST_FILE, Promised
from recsys.scoring.choice import LiveModel

ID_DIGITS = 12
"""Hex digits of the content hash in a release's name."""


class TableVersion(Config):
    """A table as the release used it."""

    version: int
    """Delta version; read it with ``versionAsOf``."""
    content_hash: str
    """Order-free hash of the rows that the release rests on (of its run date, or before it)."""
    rows: int


class ReleaseModel(Config):
    """The model whose lists are published."""

    version: str
    as_of: date
    """Fitted on events strictly before this day."""
    hash: str
    """sha256 over the names and checksums of the model's files; empty for a baseline without files."""
    age_days: int
    reason: str
    """Why this model: new and passed, or why an older one scores on."""
    ranking_version: str = ""
    """The ranking model that re-ranked the lists; empty where none did."""
    ranking_hash: str = ""
    """As ``hash``, of the ranking model's files."""

    @model_serializer(mode="wrap")
    def _without_stage_two(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without stage 2 it reads as it did before there was one: the same releases keep their ids."""
        values: dict[str, object] = write(self)
        return {n: v for n, v in values.items() if v or not n.startswith("ranking_")}


class AcceptedVolume(Config):
    """A volume that a check refused and a person accepted."""

    job: str
    subject: str
    """The segment; empty for the whole shop."""
    value: float | None
    reason: str


class CodeVersion(Config):
    package: str
    commit: str
    """Git commit of the checkout; empty where there is none."""


class ReleaseInputs(Config):
    """What the lists were computed from: another day's tables than the run date's, where score_changes made them."""

    as_of: date
    """The full run whose histories, candidates and popularity the lists rest on."""
    versions: dict[str, int]
    """Tables as that full run read them; the next score_changes, and an audit, read them so again."""
    events_version: int | None = None
    """The newest events that the lists rest on; None: a release from before it was written down."""
    is_increment: bool | None = None
    """Whether score_changes made the lists, be it on the full run's own day; None: as ``events_version``."""


class ReleaseManifest(Config):
    """Everything that says what a release is; written once, never changed."""

    release_id: str
    """``<run_date>-<first hex digits of content_hash>``."""
    run_date: date
    shop: str
    content_hash: str
    tables: dict[str, TableVersion]
    lists: dict[str, str]
    """List -> the table it is published from."""
    model: ReleaseModel
    recipe: Recipe
    config_hash: str
    code: CodeVersion
    accepted_volumes: tuple[AcceptedVolume, ...] = ()
    golden_users: dict[str, str] = {}
    """User -> hash of the answer that the snapshot must give (``stored_list.answer_hash``)."""
    counts: dict[str, int] = {}
    """Keys in the snapshot by kind (``snapshot.KINDS``)."""
    inputs: ReleaseInputs | None = None
    """None: a release from before it was written down."""
    snapshot: dict[str, int] | None = None
    """What, beside the tables, decided what the snapshot holds (``lists.snapshot_options``); None: as ``inputs``."""
    users_with_a_list: int | None = None
    """Users whose list is not empty; None: as ``inputs``."""

    @property
    def promised(self) -> Promised:
        """What the snapshot is compared with."""
        return Promised(self.release_id, self.counts, self.golden_users)

    @property
    def inputs_as_of(self) -> date:
        """The day that histories, candidates and popularity are of."""
        return self.inputs.as_of if self.inputs else self.run_date

    @property
    def is_increment(self) -> bool:
        """Whether score_changes made the lists. An older release on the full run's own day does not say."""
        said = self.inputs.is_increment if self.inputs else None
        return self.inputs_as_of != self.run_date if said is None else said

    @property
    def events_version(self) -> int:
        """The version of ``events`` that the lists rest on; an older release knows that of its publish alone."""
        said = self.inputs.events_version if self.inputs else None
        return self.tables["events"].version if said is None else said

    @property
    def scored_by(self) -> LiveModel:
        """What made the lists, for whoever scores on with it."""
        model = self.model
        return LiveModel(model.version, model.as_of, self.recipe, model.ranking_version)

    def to_json(self) -> str:
        """The file's text: sorted keys, so that equal manifests are equal bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path) -> ReleaseManifest:
        """The manifest of the release in ``folder``.

        Raises:
            CorruptArtifact: the folder or the file is missing, or the file is no manifest.
        """
        path = folder / MANIFEST_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise CorruptArtifact(
                f"release {folder.name} has no {path}: its folder was moved or removed; "
                "put it back, or take another (recsys release list, then roll-back --to RELEASE)"
            ) from None
        except ValidationError as error:
            problem = error.errors()[0]
            raise CorruptArtifact(
                f"{path} is damaged ({'.'.join(map(str, problem['loc'])) or 'not JSON'}: {problem['msg'][:200]}): "
                "publish its run date again, or roll back to another release"
            ) from None


def content_id(
    run_date: date,
    tables: dict[str, TableVersion],
    model: ReleaseModel,
    recipe: Recipe,
    snapshot: dict[str, int] | None = None,
) -> tuple[str, str]:
    """Return (release_id, content_hash).

    ``snapshot`` is what decides how the lists are stored (``lists.snapshot_options``).
    Delta versions, wall clocks, paths and the code's version are left out: the same rows scored by the
    same model, for the same reason, are the same release, however often they were written.
    """
    content: dict[str, object] = {
        "run_date": run_date.isoformat(),
        "tables": {name: table.content_hash for name, table in tables.items()},
        "model": model.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
    }
    if snapshot:
        content["snapshot"] = snapshot
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{run_date.isoformat()}-{digest[:ID_DIGITS]}", digest
