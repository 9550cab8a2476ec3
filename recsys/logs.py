"""Logs for people on a terminal, JSON lines elsewhere; every line carries run id, job and run date."""

from __future__ import annotations

import logging
import sys
import uuid
from typing import Any

import structlog


def configure_logs(**context: Any) -> str:
    """Set up structlog once per process and bind ``context``; returns the new run id."""
    run_id = uuid.uuid4().hex[:12]
    terminal = sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Asked at each call: a test or a command runner may have put another stream there since.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(run_id=run_id, **context)
    return run_id
