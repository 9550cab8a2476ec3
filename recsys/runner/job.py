"""A job: what it reads and writes, and everything around its ``run``."""

from __future__ import annotations

import errno
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import structlog
import typer
import yaml
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from recsys import errors
from recsys.config import RecsysConfig, load_config
from recsys.errors import EXIT_FAILED, RecsysError
from recsys.lake import Lake, spark_session
from recsys.locks import exclusive
from recsys.logs import configure_logs
from recsys.runner.options import (
    DryRunOption,
    EnvOption,
    RunDateOption,
    SetOption,
    help_text,
    parse_day,
)

log = structlog.get_logger()


Details = Callable[[RecsysConfig, date], Iterable[str]]


def no_details(config: RecsysConfig, run_date: date) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Job:
    """A job's name and its edges in the data flow."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    details: Details = no_details
    """Further lines of a dry run, which depend on the configuration; raises what the run would."""

    @property
    def submitted(self) -> str:
        """How a person calls it."""
        return f"./spark-submit.sh {self.name}"


@dataclass(frozen=True)
class Context:
    """What a job's ``run`` needs."""

    lake: Lake
    config: RecsysConfig
    run_date: date


Run = Callable[[Lake, RecsysConfig, date], Any]


def job_app(job: Job, run: Run, doc: str | None) -> typer.Typer:
    """The command line of a job that has only the shared options."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.command(name=job.name, help=help_text(doc))
    def main(
        run_date: RunDateOption,
        env: EnvOption = "local",
        set_: SetOption = [],  # noqa: B006  (typer copies it)
        dry_run: DryRunOption = False,
    ) -> None:
        with running(job, env, run_date, set_, dry_run=dry_run) as context:
            if context:
                run(context.lake, context.config, context.run_date)

    return app


@contextmanager
def running(
    job: Job,
    env: str,
    run_date: str | None,
    overrides: Sequence[str] = (),
    *,
    dry_run: bool = False,
) -> Iterator[Context | None]:
    """Resolve the configuration, lock (job, run date), start Spark, and turn errors into exit codes.

    Yields None on a dry run, after printing what would happen.
    """
    configure_logs(job=job.name, run_date=run_date)
    started = time.monotonic()
    try:
        config = load_config(env, overrides)
        day = parse_day(run_date) if run_date is not None else date.min
        if dry_run:
            print_plan(job, config, run_date, job.details(config, day))
            yield None
            return
        with ExitStack() as stack:
            lock = config.paths.locks / f"run-{job.name}-{run_date or 'undated'}.lock"
            what = f"{job.name} of {run_date}" if run_date else job.name
            stack.enter_context(exclusive(lock, wait=False, what=what))
            spark = stack.enter_context(spark_session(job.name, config.spark))
            log.info("job_started", env=env, code=sys.argv[0])
            yield Context(Lake(spark, config.paths), config, day)
        log.info("job_done", seconds=round(time.monotonic() - started, 1))
    except RecsysError as error:
        _fail(str(error), error.exit_code)
    except (PySparkException, Py4JJavaError) as error:
        if ours := raised_by_a_worker(str(error)):
            _fail(str(ours), ours.exit_code)
        _fail(_spark_message(error), EXIT_FAILED)
    except OSError as error:
        _fail(_os_message(error), EXIT_FAILED)


def print_plan(
    job: Job, config: RecsysConfig, run_date: str | None, details: Iterable[str]
) -> None:
    """What ``--dry-run`` shows, the submit command aside: `recsys.config.launch` adds it."""
    lines = list(details)  # it raises before anything is printed
    resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    typer.echo(f"# resolved config\n{resolved}")
    typer.echo(f"# {job.name}" + (f" of {run_date}" if run_date else ""))
    typer.echo(f"reads   {', '.join(job.reads)}\nwrites  {', '.join(job.writes)}")
    typer.echo("\n".join([f"in      {config.paths.lake_uri}", *lines]))


def _fail(message: str, exit_code: int) -> None:
    log.error("job_failed", exit_code=exit_code)
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(exit_code) from None


def _os_message(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"no space left on device ({error.filename}): free some, then run again; nothing was published"
    return str(error)


def raised_by_a_worker(text: str) -> RecsysError | None:
    """An error of ours, out of the traces that Spark wraps it in; None where there is none."""
    found = re.search(
        r"^recsys\.errors\.(\w+): (.+?)(?=\n\s*\n|\n\tat |\Z)", text, re.MULTILINE | re.DOTALL
    )
    kind = getattr(errors, found[1], None) if found else None
    if found is None or not isinstance(kind, type) or not issubclass(kind, RecsysError):
        return None
    return kind(found[2].strip())


def _spark_message(error: PySparkException | Py4JJavaError) -> str:
    """The cause in one paragraph; Spark's own message repeats the stack trace."""
    text = str(error)
    for pattern, hint in _CAUSES:
        if found := re.search(pattern, text):
            return f"{found.group(0)[:500]}: {hint}"
    said = text.split("JVM stacktrace:", maxsplit=1)[0].splitlines()
    return "\n".join(line for line in said if not line.startswith("\t")).strip()[:2000]


_CAUSES = (
    (r"No space left on device[^\n]*", "free some disk, then run again; nothing was published"),
    (r"java\.lang\.OutOfMemoryError[^\n]*", "raise spark.driver_memory or lower the batch"),
)
