"""Build the examples that training reads, as of a day, exclusive; nothing when no training is due.

    ./spark-submit.sh build_training_set --env local --run-date 2010-12-10

Reads    histories, vocabularies   of each cut-off
Writes   training_examples   as_of = each cut-off
"""

from __future__ import annotations

from datetime import date

import structlog

from recsys import features
from recsys.config import RecsysConfig
from recsys.contracts import HISTORIES, TRAINING_EXAMPLES
from recsys.lake import Lake, Written
from recsys.release.schedule import training_due
from recsys.runner import Job, job_app

JOB = Job("build_training_set", reads=("histories", "vocabularies"), writes=("training_examples",))
log = structlog.get_logger()


def run(lake: Lake, config: RecsysConfig, run_date: date) -> list[Written]:
    due, conf, written = training_due(config, run_date), config.training_set, []
    if not due.due:
        log.info("no_training_set", reason=due.reason)
        return []
    for as_of in due.cut_offs:
        histories = lake.read(HISTORIES, as_of=as_of)
        num_examples = features.count_examples(histories, max_length=conf.max_length)
        log.info("training_set_started", as_of=as_of.isoformat(), num_examples=num_examples)
        examples = features.training_examples(
            histories, lake.vocabulary(as_of), shop=config.shop, max_length=conf.max_length,
            num_examples=num_examples,
        )  # fmt: skip
        size = features.row_group_bytes(
            num_examples, max_length=conf.max_length, wanted_rows=conf.row_group_rows
        )
        written.append(
            lake.replace(examples, TRAINING_EXAMPLES, {"as_of": as_of}, row_group_bytes=size)
        )
    return written


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
