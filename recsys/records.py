"""Small facts that one job leaves for the next: JSON files, written atomically, read by name.

They lie under ``paths.models``; the tables hold what analysts ask for, these hold what jobs hand on.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import date
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from recsys.config.base import Config
from recsys.config.places import PathsConfig
from recsys.errors import ContractError, CorruptArtifact, MissingInput
from recsys.failpoints import failpoint

# The files of a model's folder; ModelManifest says what they hold.
MANIFEST_FILE = "manifest.json"
MODEL_CARD_FILE = "model_card.md"
"""In a model's folder, and no file that its manifest names, so a later evaluation may write it anew."""
WEIGHTS_FILE = "weights.npz"
ITEM_VECTORS_FILE = "item_vectors.npy"
ENCODER_FILE = "model.onnx"
PARITY_FILE = "parity.json"
TOWER_FILE = "ranking.onnx"
ATTRIBUTES_FILE = "attributes.npz"
ENCODER_INPUTS = ("history_vectors", "history_gaps", "history_mask")
ENCODER_OUTPUT = "user_vectors"


def sha256_of(path: Path) -> str:
    """64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Whole or not at all: a temporary file beside ``path``, fsynced, renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        failpoint(f"write:{path.name}")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk half a file would only take up room
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Recipe(Config):
    """How stage 1 of scoring adds up; every recommender and baseline is one of these.

    For a user with history h_1 … h_T (newest last), item i scores
    ``model * zscore_i(user_vector . item_vector_i) + log1p(50 * item_item(i))
    + popularity * popularity(i)``, where item_item(i) = sum over places t of ``weight(type_t) *
    decay^(T-t) * (similarity * cosine(h_t, i) + transitions * transition(h_t, i) + repeat * [h_t = i])
    + due * chance(i)``, weight(type) is the signal's weight in conf, and chance(i), 0 to 1, is that of the user
    taking an item that they bought again within 28 days (``recsys/candidates/reorders.py``).

    The z-score is over the items that have a vector, per user; items without one (newer than the
    model) get 0 for the first part, as does every item where the user has no history that the model
    knows. popularity(i) is the item's share of the best seller's buyers, 0 to 1, in the user's segment
    (small segments lean on the whole shop, see ``scoring.segment_prior_buyers``). A user without any
    history is scored by popularity alone.

    Where ``rerank`` is above 0, stage 2 orders the user's first ``rerank`` items of stage 1 anew, by
    ``(1 - rerank_weight) * zscore(stage 1's score) + rerank_weight * zscore(ranking model's logit)``, z over
    those items. Behind them the list goes on as stage 1 left it. A user of whose newest items the ranking
    model knows none keeps stage 1's order.
    """

    name: str
    model: float = Field(default=0.0, ge=0)
    similarity: float = Field(default=0.0, ge=0)
    transitions: float = Field(default=0.0, ge=0)
    repeat: float = Field(default=0.0, ge=0)
    due: float = Field(default=0.0, ge=0)
    popularity: float = Field(default=0.0, ge=0)
    decay: float = Field(default=0.9, ge=0, le=1)
    """Weight of a place against the next newer one, 0 to 1; 0 means the last item alone."""
    targets_only: bool = False
    """Only places that are targets (purchases, by default) count in item_item, not views."""
    rerank: int = Field(default=0, ge=0)
    """How many of stage 1's items stage 2 looks at; 0: there is no stage 2."""
    rerank_weight: float = Field(default=1.0, ge=0, le=1)
    """The ranking model's part of the final score."""

    @model_serializer(mode="wrap")
    def _without_what_is_new(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without what came later a recipe reads as it did before: the same releases keep their ids."""
        values: dict[str, object] = write(self)
        fields = type(self).model_fields
        unused = [
            n for n in ("due", "rerank", "rerank_weight") if values.get(n) == fields[n].default
        ]
        return {name: value for name, value in values.items() if name not in unused}

    @property
    def re_ranks(self) -> bool:
        return self.rerank > 0 and self.rerank_weight > 0

    @property
    def uses_item_item(self) -> bool:
        return max(self.similarity, self.transitions, self.repeat, self.due) > 0


class _Record(Config):
    prefix: ClassVar[str]
    made_by: ClassVar[str]

    run_date: date

    @classmethod
    def path(cls, paths: PathsConfig, run_date: date) -> Path:
        return paths.models / f"{cls.prefix}-{run_date}.json"

    @classmethod
    def read(cls, paths: PathsConfig, run_date: date) -> Self:
        """Raises MissingInput where the job that makes it has not run, ContractError where it is damaged."""
        path = cls.path(paths, run_date)
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise MissingInput(f"no {path}: run {cls.made_by} for {run_date} first") from None
        except ValidationError as error:
            count = error.error_count()
            raise ContractError(
                f"{path} is damaged ({count} problems): run {cls.made_by} again"
            ) from None

    @classmethod
    def read_if_there(cls, paths: PathsConfig, run_date: date) -> Self | None:
        return cls.read(paths, run_date) if cls.path(paths, run_date).exists() else None

    @classmethod
    def run_dates(cls, paths: PathsConfig) -> list[date]:
        """Those that have a record, oldest first."""
        names = [path.stem for path in paths.models.glob(f"{cls.prefix}-*.json")]
        return sorted(date.fromisoformat(name.removeprefix(f"{cls.prefix}-")) for name in names)

    @classmethod
    def discard(cls, paths: PathsConfig, run_date: date) -> None:
        """Before what it describes is changed: a job that is killed then leaves no record of another state."""
        cls.path(paths, run_date).unlink(missing_ok=True)

    def write(self, paths: PathsConfig) -> Path:
        path = self.path(paths, self.run_date)
        write_atomically(
            path, json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True).encode()
        )
        return path


class Answers(Config):
    """A file beside the records: what a ranking model said of items shown to users of the measuring window.

    They belong to the night, not to the model: events that come late change who is asked, and no weights.
    """

    file: str
    """Its name in ``paths.models``."""
    sha256: str
    asked: str
    """sha256 of the users and their targets."""

    @staticmethod
    def name_of(run_date: date, role: str) -> str:
        return f"answers-{run_date}-{role}.npz"

    def verified(self, paths: PathsConfig) -> Path:
        """Where they lie.

        Raises:
            MissingInput: they are not there.
            CorruptArtifact: they are not what the record says.
        """
        path = paths.models / self.file
        if not path.is_file():
            raise MissingInput(f"no {path}: run train again")
        if (found := sha256_of(path)) != self.sha256:
            raise CorruptArtifact(
                f"{path} is damaged: sha256 {found[:16]}, the record of train says {self.sha256[:16]}: run train again"
            )
        return path


class TrainingRecord(_Record):
    """What ``train`` made: one model per cut-off."""

    prefix = "trained"
    made_by = "train"

    trained: bool
    """False when no new model was due; ``models`` is empty then."""
    reason: str
    models: dict[str, str] = {}
    """choosing, measuring, release (and live: the live release's training config at ``measuring``,
    where it differs from today's) -> model_version, a folder of ``paths.models``."""
    ranking: dict[str, str] = {}
    """The ranking models, where conf enables them: choosing, measuring, release, and linear (the logistic
    baseline at ``measuring``) -> model_version, a folder of ``paths.models``."""
    answers: dict[str, Answers] = {}
    """Of the ranking models that are measured: measuring and linear."""
    fits: dict[str, str] = {}
    """By name as in ``models``, what decided the weights: a run with the same ones has nothing to train."""
    epochs: int = 0
    validation_ndcg_at_10: tuple[float, ...] = ()
    """By epoch, on the choosing window."""
    ranking_epochs: int = 0
    ranking_validation_auc: tuple[float, ...] = ()
    """The same of the ranking model."""
    mlflow_run_id: str = ""


class EvaluationRecord(_Record):
    """What ``evaluate`` decided."""

    prefix = "evaluated"
    made_by = "evaluate"

    passed: bool
    """False when the gate said no, or when there was no new model to judge."""
    reason: str
    recipe: Recipe | None = None
    """The blend chosen on the choosing window, to be published with the release model."""
    model_version: str = ""
    ranking_version: str = ""
    """The ranking model of the release, where the recipe re-ranks."""


class ScoringRecord(_Record):
    """What the lists of the day were made with."""

    prefix = "scored"
    made_by = "score_top_n"

    model_version: str
    model_as_of: date
    model_age_days: int
    reason: str
    """Why this model: new and passed, or why the live one scores on."""
    recipe: Recipe
    ranking_version: str = ""
    """The ranking model that re-ranked; empty where none did."""
    full_as_of: date | None = None
    """The full run whose inputs stayed, where only changes were scored (``score_changes``); None: a full run."""
    versions: dict[str, int] = {}
    """Tables that the full run read, at these versions; until the next one they stay."""
    settings: str = ""
    """Hash of what conf says of histories and lists, rules aside; where it changes, a full run is due."""
    events_version: int = 0
    """The newest events that these lists rest on."""
    lists_version: int = 0
    """Of top_n_lists, with these lists."""

    @property
    def inputs_as_of(self) -> date:
        """The day that histories, candidates and popularity are of."""
        return self.full_as_of or self.run_date


class _Manifest(Config):
    """``manifest.json`` of a folder ``paths.models/<model_version>/``."""

    model_version: str
    """First 16 hex digits of the sha256 over the weights' names, shapes and bytes."""
    as_of: date
    """Fitted on events strictly before this day; also the vocabulary version."""
    num_items: int
    epochs: int
    files: dict[str, str] = {}
    """File name -> sha256."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises MissingInput where there is no such model, CorruptArtifact where its manifest is damaged."""
        path = folder / MANIFEST_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise MissingInput(f"no model at {folder}: run train first") from None
        except ValidationError as error:
            raise CorruptArtifact(
                f"{path} is damaged ({error.error_count()} problems): run train and export_onnx again"
            ) from None

    @classmethod
    def verified(cls, folder: Path) -> Self:
        """Check every file of a model's folder against its manifest.

        Raises:
            MissingInput: no such model.
            CorruptArtifact: a file is missing or has another checksum; the message names it and what to do.
        """
        manifest = cls.read(folder)
        for name, wanted in sorted(manifest.files.items()):
            path = folder / name
            if not path.is_file():
                raise CorruptArtifact(
                    f"model file {path} is missing: run train and export_onnx again"
                )
            if (found := sha256_of(path)) != wanted:
                raise CorruptArtifact(
                    f"model file {path} is damaged: sha256 {found[:16]}, its manifest says {wanted[:16]}: "
                    "run train and export_onnx again"
                )
        return manifest

    def write(self, folder: Path) -> None:
        write_atomically(folder / MANIFEST_FILE, self.model_dump_json(indent=1).encode())


class ModelManifest(_Manifest):
    """The sequential model's.

    The folder holds ``weights.npz`` (the encoder and the item table), ``item_vectors.npy``
    (float32, [num_items + 1, embedding_dim], row 0 is padding and zero, row = item_num) and, after
    ``export_onnx``, ``model.onnx`` and ``parity.json``; without the latter no new model is released.
    """

    embedding_dim: int
    history_length: int
    """H: the newest events that the encoder takes."""
    training: dict[str, object] = {}
    """The resolved training section."""


class RankingManifest(_Manifest):
    """The ranking model's: stage 2 of scoring.

    The folder holds ``weights.npz`` (the tower), a table ``FIELD.npy`` for each field of
    ``recsys.models.ranking_fields`` (float32, row 0 is padding and zero), ``attributes.npz`` (what items and
    users of ``as_of`` are, by number) and, once exported, ``ranking.onnx`` (the tower); the release's has a
    ``parity.json``, without which it re-ranks nothing.
    """

    history_length: int
    """Newest events of a history that the model looks at."""
    fields_version: int = 0
    """What the rows of its tables mean (``ranking_fields.FIELDS_VERSION``); a model of another is refused."""
    calibration_intercept: float = 0.0
    calibration_slope: float = 1.0
    """From logit to probability (``recsys.models.calibration``): fitted on the choosing window, by the model that was
    fitted before it."""
    ranking: dict[str, object] = {}
    """The resolved ranking section."""


def verify_model(folder: Path) -> ModelManifest:
    """``ModelManifest.verified``."""
    return ModelManifest.verified(folder)
