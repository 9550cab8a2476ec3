"""What every job shares: options, session, locks, logs, exit codes."""

from __future__ import annotations

from recsys.runner.job import Context, Job, job_app, running
from recsys.runner.options import DryRunOption, EnvOption, RunDateOption, SetOption, help_text

__all__ = [
    "Context",
    "DryRunOption",
    "EnvOption",
    "Job",
    "RunDateOption",
    "SetOption",
    "help_text",
    "job_app",
    "running",
]
