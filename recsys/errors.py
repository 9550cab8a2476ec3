"""What can go wrong, by kind. The kind decides the exit code; docs/runbook.md has an entry for each."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_CONFLICT = 75

FIRST_NIGHT = (
    "run `make demo`, or of another environment "
    "`./spark-submit.sh run_pipeline --env ENV --run-date YYYY-MM-DD --bootstrap`, first"
)
"""What makes the first tables and the first release."""


class RecsysError(Exception):
    """Base of every error we raise on purpose: which thing, what was found, what was wanted, what to do."""

    exit_code = EXIT_FAILED


class ConfigError(RecsysError):
    """Bad usage or configuration; nothing was read or written."""

    exit_code = EXIT_USAGE


class ContractError(RecsysError):
    """A table, file or artefact is not what its contract promises."""


class MissingInput(RecsysError):
    """Something that an earlier step makes is not there; the message names the step."""


class Refused(RecsysError):
    """A check or a gate said no. What was published before keeps serving."""

    exit_code = EXIT_REFUSED


class GateRefused(Refused):
    """The gate said no to a new model, and nothing is live to go on with."""


class CorruptArtifact(Refused):
    """A file's checksum, size or format is not what its manifest says."""


class Conflict(RecsysError):
    """Someone else holds the run or the table. Try again later."""

    exit_code = EXIT_CONFLICT
