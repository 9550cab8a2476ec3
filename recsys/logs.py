"""Logs for people on a terminal, JSON lines elsewhere; every line carries run id, job and run date."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from typing import Any

import structlog

FOR_PEOPLE = "RECSYS_LOGS_FOR_PEOPLE"
"""Set where a job's output reaches a terminal by way of Spark, whose pipe is none."""


def configure_logs(**context: Any) -> str:
    """Set up structlog once per process and bind ``context``; returns the new run id."""
    run_id = uuid.uuid4().hex[:12]
    people = sys.stderr.isatty() or bool(os.environ.get(FOR_PEOPLE))
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people)
    renderers: list[Any] = (
        [_without_context, structlog.dev.ConsoleRenderer()]
        if people
        else [structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            stamp,
            structlog.processors.format_exc_info,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Asked at each call: a test or a command runner may have put another stream there since.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(run_id=run_id, **context)
    return run_id


def _without_context(
    _: Any, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """On a terminal each line of a run would say the same."""
    for name in ("run_id", "run_date", "job"):
        event.pop(name, None)
    return event
