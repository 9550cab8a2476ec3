"""Turn `spark-submit.sh JOB …` into the command it runs: master, memory, JARs, packaged code, conf."""

from __future__ import annotations

import ast
import difflib
import hashlib
import itertools
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import typer

from recsys.config.loading import environments, load_config
from recsys.config.places import CHECKOUT
from recsys.config.root import RecsysConfig
from recsys.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, ConfigError, RecsysError
from recsys.logs import FOR_PEOPLE

JOBS = CHECKOUT / "jobs"
FIND_JAVA = CHECKOUT / "deploy" / "setup" / "find-java.sh"


def jobs() -> dict[str, str]:
    """Every job and the first line of its docstring."""
    found = {}
    for path in sorted(JOBS.glob("[a-z]*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = doc.partition("\n")[0]
    return found


def usage() -> str:
    lines = [f"  {name:<20} {line}" for name, line in jobs().items()]
    return (
        "usage: ./spark-submit.sh JOB [--env ENV] [--run-date YYYY-MM-DD] [--set KEY=VALUE]… [--dry-run]\n"
        "       ./spark-submit.sh JOB --help\n\njobs:\n" + "\n".join(lines)
        + f"\n\nenvironments: {', '.join(environments())}\n"
        "exit codes: 0 done, 1 failed, 2 bad usage or config, 3 refused by a check or gate, 75 conflict, try again"
    )  # fmt: skip


def submit_command(job: str, arguments: list[str], config: RecsysConfig) -> list[str]:
    """The full spark-submit command for ``job``.

    Raises:
        ConfigError: the environment lacks settings; the message names them.
        MissingInput: there are no JARs.
    """
    spark = config.spark
    missing = [
        name
        for name, value in (("spark.master", spark.master), ("paths.root", config.paths.root))
        if not value
    ]
    if missing:
        raise ConfigError(
            f"environment {config.env!r} is missing {', '.join(missing)}: set it in conf/private, "
            f"by variable (RECSYS_{missing[0].upper().replace('.', '__')}) or with --set"
        )
    command = [str(Path(sys.executable).parent / "spark-submit")]
    command += ["--master", spark.master, "--deploy-mode", spark.deploy_mode]
    command += ["--driver-memory", spark.driver_memory, "--name", f"recsys {job}"]
    for key, value in spark.settings.items():
        command += ["--conf", f"{key}={value}"]
    command += ["--jars", ",".join(str(jar) for jar in spark.delta_jars())]
    command += ["--conf", f"spark.pyspark.python={spark.python or sys.executable}"]
    log4j = CHECKOUT / "deploy" / "spark" / "log4j2.properties"
    options = [f"-Dlog4j.configurationFile={log4j}"]
    if spark.master.startswith("local"):
        # G1 finds no room for a sort's large arrays where the free parts of a small heap lie scattered.
        options.append("-XX:+UseParallelGC")
    command += ["--driver-java-options", " ".join(options)]
    if spark.packaged_code:
        command += ["--py-files", str(archive_path(config.paths.work))]
    return [*command, str(JOBS / f"{job}.py"), *arguments]


def archive_path(folder: Path) -> Path:
    """Where the zip of today's code lies: another content has another name, so none is ever rewritten."""
    digest = hashlib.sha256()
    for path in _code_files():
        digest.update(f"{path.relative_to(CHECKOUT)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return folder / f"recsys-{digest.hexdigest()[:12]}.zip"


def package_code(target: Path) -> None:
    """Zip the package and the jobs for workers that do not share the checkout.

    Whole or not at all: a submit at the same time, or an executor that starts late, may be reading ``target``.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _code_files():
            archive.write(path, path.relative_to(CHECKOUT))
    os.replace(partial, target)


def _code_files() -> list[Path]:
    return sorted(path for name in ("recsys", "jobs") for path in (CHECKOUT / name).rglob("*.py"))


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        typer.echo(usage(), err=not arguments)
        return EXIT_DONE if arguments else EXIT_USAGE
    job, rest = arguments[0], arguments[1:]
    known = jobs()
    if job not in known:
        near = difflib.get_close_matches(job, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        typer.echo(f"error: unknown job {job!r}{hint}\n\n{usage()}", err=True)
        return EXIT_USAGE
    # The job itself says its help and its plan; neither needs a JVM, and help needs no configuration.
    plain = [sys.executable, str(JOBS / f"{job}.py"), *rest]
    if "--help" in rest:
        return subprocess.run(plain, check=False).returncode
    try:
        config = load_config(_option(rest, "--env") or "local", _options(rest, "--set"))
        command = submit_command(job, rest, config)
    except RecsysError as error:
        typer.echo(f"error: {error}", err=True)
        return error.exit_code
    if "--dry-run" in rest:
        answer = subprocess.run(plain, check=False).returncode
        if answer == EXIT_DONE:
            command = [word for word in command if word != "--dry-run"]
            with_java = f'JAVA_HOME="$({shlex.quote(str(FIND_JAVA))})"'
            typer.echo(f"\n# submit command\n{with_java} {shlex.join(command)}")
        return answer
    java = subprocess.run([FIND_JAVA], stdout=subprocess.PIPE, text=True, check=False)
    if java.returncode:
        return EXIT_FAILED  # it has said what was found and what to do
    os.environ["JAVA_HOME"] = java.stdout.strip()
    if sys.stdout.isatty():
        os.environ[FOR_PEOPLE] = "1"
    if config.spark.packaged_code:
        package_code(archive_path(config.paths.work))
    os.execv(command[0], command)


def _options(arguments: list[str], name: str) -> list[str]:
    values = [b for a, b in itertools.pairwise(arguments) if a == name]
    return values + [a.partition("=")[2] for a in arguments if a.startswith(f"{name}=")]


def _option(arguments: list[str], name: str) -> str:
    values = _options(arguments, name)
    return values[-1] if values else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
