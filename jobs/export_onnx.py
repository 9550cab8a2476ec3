"""Export the release models to ONNX and prove on real histories that they give what torch gives.

    ./spark-submit.sh export_onnx --env local --run-date 2010-12-10

Reads    histories   as_of = run date; vocabularies where conf enables the ranking model; the record of train
Writes   model.onnx (the user encoder) or ranking.onnx (the ranking tower), parity.json and the manifest in
         the model's folder; nothing when no model was trained
"""

from __future__ import annotations

from datetime import date

import structlog

from recsys.config import RecsysConfig
from recsys.export import (
    ParityReport,
    check_parity,
    export_model,
    export_release_ranking,
    read_histories,
)
from recsys.lake import Lake
from recsys.records import ModelManifest, TrainingRecord
from recsys.runner import Job, job_app

JOB = Job(
    "export_onnx",
    reads=(
        "histories",
        "vocabularies",
        "models/trained-<run_date>.json",
        "models/<model_version>/",
    ),
    writes=("models/<model_version>/",),
)
log = structlog.get_logger()


def run(lake: Lake, config: RecsysConfig, run_date: date) -> ParityReport | None:
    record = TrainingRecord.read(config.paths, run_date)
    if not record.trained:
        log.info("nothing_to_export", reason=record.reason)
        return None
    folder = config.paths.models / record.models["release"]
    export_model(folder)
    histories = read_histories(
        lake,
        as_of=run_date,
        history_length=ModelManifest.read(folder).history_length,
        count=config.export.parity_users,
    )
    limit = config.export.max_relative_difference
    report = check_parity(folder, histories, max_relative_difference=limit)
    log.info("parity", users=report.users, max_relative_difference=report.max_relative_difference)
    if version := record.ranking.get("release"):
        export_release_ranking(lake, config, run_date, config.paths.models / version)
    return report


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
