"""What `--dry-run` says of each job: the tables, files and raw patterns that a run would read and write."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys.contracts import TABLES
from recsys.runner.pipeline import STEPS


def dry_run(job: str, tmp_path: Path, *arguments: str) -> dict[str, list[str]]:
    """The lines after the configuration, by their first word."""
    app = importlib.import_module(f"jobs.{job}").app
    dated = [] if job == "generate_shop" else ["--run-date", "2010-12-10"]
    root = tmp_path / "var"
    answer = CliRunner().invoke(
        app, [*dated, "--set", f"paths.root={root}", "--dry-run", *arguments]
    )
    assert answer.exit_code == 0, answer.output
    assert not root.exists()
    said: dict[str, list[str]] = {}
    for line in answer.stdout.rpartition("\n# ")[2].splitlines()[1:]:
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest.strip())
    return said


@pytest.mark.parametrize("job", [*STEPS, "tune", "run_pipeline", "generate_shop"])
def test_a_job_names_something_on_both_sides_and_only_tables_and_paths(
    job: str, tmp_path: Path
) -> None:
    said = dry_run(job, tmp_path)
    assert all(said["reads"]) and all(said["writes"])
    for name in ", ".join([*said["reads"], *said["writes"]]).split(", "):
        known = {*TABLES, "mlflow.db", "nothing", "the raw files and tables of ingest.sources"}
        assert "/" in name or name in known, name


@pytest.mark.parametrize(
    ("env", "raw"),
    [
        ("local", ["online_retail: data/online_retail/*.csv.gz"]),
        (
            "generated_shop",
            [
                "shop_events: var/generated_shop/events/*.csv.gz",
                "shop_items: var/generated_shop/items.csv.gz",
                "shop_users: var/generated_shop/users.csv.gz",
            ],
        ),
    ],
)
def test_ingest_names_the_patterns_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, raw: list[str]
) -> None:
    monkeypatch.delenv("RECSYS_CONF", raising=False)
    found = dry_run("ingest", tmp_path, "--env", env)["raw"]
    assert [line.partition("  (")[0] for line in found] == raw  # and then how many files


@pytest.mark.parametrize(
    ("job", "written"),
    [
        (
            "train",
            "item_vectors, models/<model_version>/, models/trained-<run_date>.json, checkpoints/, mlflow.db",
        ),
        ("export_onnx", "models/<model_version>/"),
        (
            "score_top_n",
            "top_n_lists, similar_items, also_bought, popular_items, rules, models/scored-<run_date>.json",
        ),
        (
            "score_changes",
            "top_n_lists, similar_items, also_bought, popular_items, rules, models/scored-<run_date>.json",
        ),
        ("publish", "releases/<release_id>/, releases/current, releases, served_history"),
    ],
)
def test_files_are_named_beside_tables(job: str, written: str, tmp_path: Path) -> None:
    assert dry_run(job, tmp_path)["writes"] == [written]


def test_compare_writes_reports_and_no_table(tmp_path: Path) -> None:
    said = dry_run("compare", tmp_path, "--models", "popularity")
    assert not {name for names in said["writes"] for name in names.split(", ")} & set(TABLES)
    assert "reports/compare/<run_date>-<models>.md" in said["writes"][0]


def test_generate_shop_names_the_folder_of_its_files(tmp_path: Path) -> None:
    said = dry_run("generate_shop", tmp_path, "--set", "generate_shop.directory=/data/shop")
    assert said["files"] == ["/data/shop/"]


def test_a_night_reads_and_writes_what_its_steps_do(tmp_path: Path) -> None:
    whole = dry_run("run_pipeline", tmp_path)["writes"][0].split(", ")
    assert {"events", "histories", "models/<model_version>/", "top_n_lists", "releases"} <= set(
        whole
    )
    assert len(whole) == len(set(whole))
    assert "work/tuning/" in whole, "where the gate refuses"
    rest = dry_run("run_pipeline", tmp_path, "--from", "publish")
    assert rest == dry_run("publish", tmp_path)


@pytest.mark.parametrize("job", ["ingest", "run_pipeline"])
def test_what_is_wrong_with_a_source_is_said_before_anything_runs(job: str) -> None:
    app = importlib.import_module(f"jobs.{job}").app
    arguments = ["--run-date", "2010-12-10", "--set", "ingest.sources=[online_retial]", "--dry-run"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 2
    assert "no description of 'online_retial'" in answer.stderr
