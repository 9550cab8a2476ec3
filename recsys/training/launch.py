"""Start the training processes: inside the job's Spark session, by horovodrun, or one alone."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import structlog
from pyspark.sql import SparkSession

from recsys import errors
from recsys.config.sections import TrainingConfig
from recsys.errors import ConfigError, RecsysError
from recsys.training.spec import FitResult, TrainingSpec
from recsys.training.worker import RESULTS, horovod_main

log = structlog.get_logger()

OUTPUT = "processes.log"
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(
    None
)  # opened here: between fork and exec a lock may be held that nobody lets go


class TrainingFailed(RecsysError):
    """A training process ended with an error, and the others with it."""


def launch(
    spec: TrainingSpec, config: TrainingConfig, spark: SparkSession | None
) -> list[FitResult]:
    """Run the spec to its end and return what rank 0 found; weights are in the checkpoints.

    A run whose process died or stopped answering starts again, up to ``training.restarts`` times; it goes on
    from its last checkpoint. What a rank refused is refused at once: it would be again.

    Raises:
        RecsysError: what the first failing rank said, with its kind.
        TrainingFailed: a process ended without saying why, once more than ``training.restarts`` allows.
    """
    spec.work.mkdir(parents=True, exist_ok=True)
    for attempt in range(config.restarts + 1):
        log.info(
            "training_started",
            launcher=config.launcher,
            processes=spec.world_size,
            fits=len(spec.fits),
        )
        try:
            _launch_once(spec, config, spark)
            break
        except TrainingFailed as error:
            if attempt == config.restarts:
                raise
            log.warning(
                "training_restarted", restart=attempt + 1, of=config.restarts, reason=str(error)
            )
    return [FitResult.model_validate(r) for r in json.loads((spec.work / RESULTS).read_bytes())]


def _launch_once(spec: TrainingSpec, config: TrainingConfig, spark: SparkSession | None) -> None:
    for left in (*spec.work.glob("error-*.json"), *spec.work.glob("heartbeat-*.json")):
        left.unlink()
    started_by = {
        "spark": _by_spark, "horovodrun": _by_horovodrun, "torch": _by_torch, "local": _alone,
    }  # fmt: skip
    try:
        started_by[config.launcher](spec, config, spark)
    except Exception as error:
        raise _reason(spec, error) from error


def world_size(config: TrainingConfig) -> int:
    return 1 if config.launcher == "local" else config.num_processes


def interface_address(interface: str) -> str:
    """The IPv4 address of the interface that Horovod may use.

    Raises:
        ConfigError: no such interface, or none with an IPv4 address; the message lists them.
    """
    addresses = {
        name: address.address
        for name, found in psutil.net_if_addrs().items()
        for address in found
        if address.family.name == "AF_INET"
    }
    if interface not in addresses:
        raise ConfigError(
            f"training.network_interface={interface!r} has no IPv4 address here; "
            f"interfaces that do: {', '.join(sorted(addresses))}"
        )
    return str(addresses[interface])


def process_environment(config: TrainingConfig) -> dict[str, str]:
    """Variables of the training processes: where they listen, how long they wait, how many threads."""
    # The ranks' own heartbeat knows who is behind, and where: Horovod's clock comes after it.
    stall = str(2 * config.stall_timeout_seconds)
    return {
        "HOROVOD_LISTEN_ADDRESS": interface_address(config.network_interface),
        "HOROVOD_GLOO_TIMEOUT_SECONDS": stall,
        "HOROVOD_STALL_CHECK_TIME_SECONDS": str(config.stall_timeout_seconds),
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": stall,
        "OMP_NUM_THREADS": str(config.threads_per_process),
        "MKL_NUM_THREADS": str(config.threads_per_process),
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it products on a GPU differ from run to run
    }


def _by_spark(spec: TrainingSpec, config: TrainingConfig, spark: SparkSession | None) -> None:
    # Heavy, and needed by this launcher alone.
    import horovod.spark  # noqa: PLC0415

    if spark is None:
        raise ConfigError("training.launcher=spark needs a Spark session")
    slots = spark.sparkContext.defaultParallelism
    if str(spark.sparkContext.master).startswith("local") and slots < spec.world_size:
        raise ConfigError(
            f"training.num_processes={spec.world_size} needs as many Spark slots, and master "
            f"{spark.sparkContext.master} has {slots}: raise spark.master or use training.launcher=horovodrun"
        )
    variables = process_environment(config)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    listen = "HOROVOD_LISTEN_ADDRESS"
    os.environ[listen] = variables[listen]  # the driver listens too
    with open(spec.work / OUTPUT, "a", encoding="utf-8") as output:
        horovod.spark.run(
            horovod_main,
            args=(spec.model_dump_json(),),
            num_proc=spec.world_size,
            start_timeout=config.start_timeout_seconds,
            use_gloo=True,
            nics={config.network_interface},
            env={**_inherited(), **variables},
            stdout=output,
            stderr=output,
            verbose=0,
        )


def _by_horovodrun(spec: TrainingSpec, config: TrainingConfig, spark: SparkSession | None) -> None:
    horovodrun = Path(sys.executable).parent / "horovodrun"
    command = [
        sys.executable, str(horovodrun), "-np", str(spec.world_size), "--gloo",
        "--network-interfaces", config.network_interface,
        "--start-timeout", str(config.start_timeout_seconds),
        sys.executable, "-m", "recsys.training.worker", str(_spec_file(spec)),
    ]  # fmt: skip
    _run(command, spec, process_environment(config))


def _alone(spec: TrainingSpec, config: TrainingConfig, spark: SparkSession | None) -> None:
    command = [sys.executable, "-m", "recsys.training.worker", str(_spec_file(spec)), "--local"]
    _run(command, spec, process_environment(config))


def _by_torch(spec: TrainingSpec, config: TrainingConfig, spark: SparkSession | None) -> None:
    """As many processes on this machine; the first that fails ends the others.

    On several machines the cluster starts them: ``python -m recsys.training.worker SPEC --torch RANK MEETING``.
    """
    meeting = spec.work / "meeting"
    meeting.unlink(missing_ok=True)
    command = [sys.executable, "-m", "recsys.training.worker", str(_spec_file(spec)), "--torch"]
    with open(spec.work / OUTPUT, "ab") as output, ExitStack() as ended:
        ranks = []
        for rank in range(spec.world_size):
            ranks.append(
                subprocess.Popen(
                    [*command, str(rank), str(meeting)], stdout=output, stderr=output,
                    env={**_inherited(), **process_environment(config)},
                    preexec_fn=_die_with_parent,  # noqa: PLW1509  (one system call)
                )
            )  # fmt: skip
            ended.callback(ranks[-1].wait)
            ended.callback(ranks[-1].kill)
        while any(rank.poll() is None for rank in ranks):
            if failed := [rank for rank in ranks if rank.poll()]:
                raise subprocess.CalledProcessError(failed[0].returncode, failed[0].args)
            time.sleep(POLL_SECONDS)
    if failed := [rank for rank in ranks if rank.returncode]:
        raise subprocess.CalledProcessError(failed[0].returncode, failed[0].args)


def _run(command: list[str], spec: TrainingSpec, variables: Mapping[str, str]) -> None:
    with open(spec.work / OUTPUT, "ab") as output:
        subprocess.run(
            command, env={**_inherited(), **variables}, stdout=output, stderr=output, check=True,
            preexec_fn=_die_with_parent,
        )  # fmt: skip


def _die_with_parent() -> None:
    """A job that is killed takes its training processes with it."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _inherited() -> dict[str, str]:
    """Our environment, with the package found by processes that start elsewhere."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _spec_file(spec: TrainingSpec) -> Path:
    path = spec.work / "spec.json"
    path.write_text(spec.model_dump_json(indent=1), encoding="utf-8")
    return path


def _reason(spec: TrainingSpec, error: Exception) -> RecsysError:
    """What the ranks said; an error of ours before the others' complaint that it had gone."""
    if isinstance(error, RecsysError):
        return error
    said = []
    for rank in range(spec.world_size):
        if fact := _left_by(spec.work / f"error-{rank}.json"):
            if fact["kind"]:
                kind = getattr(errors, fact["kind"], TrainingFailed)
                return kind(fact["message"])
            said.append(f"rank {rank}: {fact['message']}")
        elif fact := _left_by(spec.work / f"heartbeat-{rank}.json"):
            # Killed; or ended by the launcher because another one was.
            said.append(f"rank {rank} left no word, last at step {fact['step']}, {fact['doing']}")
    # A launcher's own error may carry the stack trace of a JVM.
    first_line = str(error).partition("\n")[0]
    text = "; ".join(each[:600] for each in said) or f"{type(error).__name__}: {first_line}"
    return TrainingFailed(
        f"training processes ended with an error: {text[:1500]}. Their output is in {spec.work / OUTPUT}; "
        "run train again: it continues from the last checkpoint"
    )


def _left_by(path: Path) -> dict[str, Any] | None:
    """What a rank wrote there before it ended."""
    try:
        fact: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return fact
