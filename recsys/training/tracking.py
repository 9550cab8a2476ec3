"""The MLflow run: config, table versions, metrics by step and epoch, checkpoints, models."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from recsys.config import RecsysConfig
from recsys.errors import MissingInput, RecsysError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = structlog.get_logger()

LONGEST_VALUE = 500  # of a parameter, in characters; older tracking servers take no more
PER_BATCH = 500  # metrics in a request
PARAMS_PER_BATCH = 100

MODEL_ROLES = ("choosing", "measuring", "release")
"""Tags ``model.ROLE`` of a run name its sequential models. Those of ranking models have others; ``live`` is the fit
of the settings that are live, of the same day as ``measuring``: not what the run is known for."""


class TrackingFailed(RecsysError):
    """MLflow takes no run."""


@contextmanager
def _noted(what: str) -> Iterator[None]:
    """A tracking server that goes away, or a full disk, costs what it would have shown, never the night."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        yield
    except (MlflowException, OSError) as error:  # a full disk of artifacts, too
        log.warning("not_tracked", what=what, problem=str(error)[:300])


class Run:
    """An open MLflow run. Metrics are kept and sent by ``flush``: a request per step would cost seconds.

    What a started run cannot be told is a warning in the log.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self.run_id = client, run_id
        self._metrics: list[tuple[str, float, int]] = []

    def metric(self, name: str, value: float, step: int) -> None:
        self._metrics.append((name, value, step))

    def flush(self) -> None:
        # Heavy; see ``tracked_run``.
        from mlflow.entities import Metric  # noqa: PLC0415

        now = int(time.time() * 1000)  # MLflow asks for a clock; nothing of ours reads it
        kept, self._metrics = self._metrics, []
        for start in range(0, len(kept), PER_BATCH):
            batch = [
                Metric(name, value, now, step)
                for name, value, step in kept[start : start + PER_BATCH]
            ]
            with _noted("metrics"):
                self._client.log_batch(self.run_id, metrics=batch)

    def tag(self, **tags: str) -> None:
        with _noted("tags"):
            for name, value in tags.items():
                self._client.set_tag(self.run_id, name, value)

    def folder(self, path: Path, artifact_path: str) -> None:
        """Copy a folder's files into the run."""
        with _noted("files"):
            self._client.log_artifacts(self.run_id, str(path), artifact_path)

    def end(self, status: str) -> None:
        """FINISHED or FAILED."""
        self.flush()
        with _noted("status"):
            self._client.set_terminated(self.run_id, status=status)


@contextmanager
def tracked_run(
    config: RecsysConfig,
    run_date: date,
    table_versions: Mapping[str, int],
    *,
    name: str = "train",
    parent: Run | None = None,
) -> Iterator[Run]:
    """A run ``<name> <run_date>`` that ends as FINISHED, or as FAILED where the body raises; nested in ``parent``.

    Parameters are the resolved config, flattened, and ``table_version.<table>``; the config is an
    artifact too.

    Raises:
        TrackingFailed: MLflow takes no run; the body was not entered.
    """
    tracked = _started_run(config, run_date, table_versions, name)
    if parent is not None:
        tracked.tag(**{"mlflow.parentRunId": parent.run_id})
    try:
        yield tracked
    except BaseException:
        tracked.end("FAILED")
        raise
    tracked.end("FINISHED")


def _started_run(
    config: RecsysConfig, run_date: date, table_versions: Mapping[str, int], name: str
) -> Run:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # Heavy, and a job that trains nothing does without.
    from mlflow.entities import Param, RunTag  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    resolved = config.model_dump(mode="json")
    versions = {f"table_version.{table}": version for table, version in table_versions.items()}
    params = [
        Param(key, str(value)[:LONGEST_VALUE]) for key, value in flattened({**resolved, **versions})
    ]
    try:
        config.paths.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=config.paths.mlflow_uri)
        run = client.create_run(_experiment_id(client, config), run_name=f"{name} {run_date}")
        run_id = run.info.run_id
        for start in range(0, len(params), PARAMS_PER_BATCH):
            client.log_batch(run_id, params=params[start : start + PARAMS_PER_BATCH])
        tags = [RunTag("run_date", str(run_date)), RunTag("env", config.env)]
        client.log_batch(run_id, tags=tags)
        client.log_text(run_id, json.dumps(resolved, indent=1, sort_keys=True), "config.json")
    except MlflowException as error:
        raise TrackingFailed(
            f"MLflow at {config.paths.mlflow_uri} takes no run: {str(error)[:500]}. Nothing was trained; check "
            f"paths.mlflow_uri and that its server is up, then run {name} again"
        ) from error
    return Run(client, run_id)


def _experiment_id(client: MlflowClient, config: RecsysConfig) -> str:
    name = f"recsys {config.shop.name}"
    if experiment := client.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    place = config.paths.mlflow_artifacts.as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def models_of_run(config: RecsysConfig, run_id: str) -> list[str]:
    """Versions of the sequential models that a run of ``train`` made, one per cut-off.

    Raises:
        MissingInput: no such run, or it made none.
    """
    # Heavy; see ``tracked_run``.
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    store = config.paths.mlflow_uri.removeprefix("sqlite:///")
    if store.startswith("/") and not Path(store).exists():  # the client would make one
        raise MissingInput(f"no run {run_id}: there is no {store} yet; train makes it")
    try:
        tags = MlflowClient(tracking_uri=config.paths.mlflow_uri).get_run(run_id).data.tags
    except MlflowException as error:
        raise MissingInput(
            f"no run {run_id} in MLflow at {config.paths.mlflow_uri} ({str(error)[:200]}): `make mlflow` shows the runs"
        ) from None
    versions = [str(tags[tag]) for role in MODEL_ROLES if (tag := f"model.{role}") in tags]
    if not versions:
        raise MissingInput(
            f"run {run_id} made no model over histories: name a run of train that ended"
        )
    return versions


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` as ``("a.b", 1)``."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{name}.")
        else:
            yield name, value


def log_evaluation(
    config: RecsysConfig, run_id: str, figures: Mapping[str, float], files: Path
) -> None:
    """Add an evaluation's figures, and the files of its report, to the run that trained the models."""
    # Heavy; see ``tracked_run``.
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    run = Run(MlflowClient(tracking_uri=config.paths.mlflow_uri), run_id)
    for name, value in figures.items():
        run.metric(name, value, 0)
    run.flush()
    run.folder(files, "evaluation")
