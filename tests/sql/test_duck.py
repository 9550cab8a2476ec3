"""SQL on a laptop: the views, time travel, and what is said when a question cannot be answered."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from recsys.cli import app
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, MissingInput
from recsys.records import write_atomically
from recsys.release.manifest import TableVersion
from recsys.release.pointer import release_folder
from recsys.release.snapshot import MANIFEST_FILE
from recsys.sql.duck import open_lake
from recsys.sql.output import aligned
from tests.release.making import make_release
from tests.release.shop import LISTS, RUN_DATE, write_lists, write_shop

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs" / "sql.md"


def ask(paths: PathsConfig, sql: str, release_id: str = "") -> list[tuple[Any, ...]]:
    with open_lake(paths, release_id) as lake:
        _, rows = lake.query(sql)
        return [tuple(row) for row in rows]


def recsys(paths: PathsConfig, *arguments: str, input: str = "") -> Result:
    command = ["sql", *arguments, "--set", f"paths.root={paths.root}"]
    return CliRunner().invoke(app, command, input=input)


def test_every_table_is_a_view_by_its_name(asked_shop: PathsConfig) -> None:
    with open_lake(asked_shop) as lake:
        assert lake.tables == [
            "events", "items", "users", "quarantine", "item_features", "histories", "popularity", "item_vectors",
            "top_n_lists", "similar_items", "also_bought", "popular_items", "rules", "scored_days",
            "blocked_items", "top_n", "top_n_today", "quarantine_reasons", "rule_items",
        ]  # fmt: skip
        for name in lake.tables:
            assert len(list(lake.query(f"SELECT * FROM {name}")[1])) > 0


def test_top_n_today_has_a_row_per_place_with_the_title_of_that_day(
    asked_shop: PathsConfig,
) -> None:
    rows = ask(asked_shop, "SELECT * EXCLUDE (score) FROM top_n_today ORDER BY user_id, rank")
    assert rows == [
        ("ana", RUN_DATE, 1, "pot", "TEAPOT, RED", "model", "m1"),  # BLUE only from RUN_DATE on
        ("ana", RUN_DATE, 2, "tea", "GREEN TEA", "repeat", "m1"),
        ("ana", RUN_DATE, 3, "cup", "WHITE CUP", "similar", "m1"),
        ("bob", RUN_DATE, 1, "cup", "WHITE CUP", "similar", "m1"),
        ("bob", RUN_DATE, 2, "tea", "GREEN TEA", "popular", "m1"),
        ("eve 1/2", RUN_DATE, 1, "tea", "GREEN TEA", "popular", "m1"),
    ]


def test_top_n_keeps_every_night(asked_shop: PathsConfig) -> None:
    nights = "SELECT as_of, count(*) FROM top_n GROUP BY as_of ORDER BY as_of"
    assert ask(asked_shop, nights) == [(RUN_DATE - timedelta(days=1), 3), (RUN_DATE, 6)]


def test_values_are_no_part_of_the_sql(asked_shop: PathsConfig) -> None:
    with open_lake(asked_shop) as lake:
        sql = "SELECT count(*) FROM top_n WHERE user_id = $user AND as_of = $day"
        for user, places in (("ana", 3), ("O'Brien", 0), ("' OR 1=1 --", 0)):
            values = {"user": user, "day": RUN_DATE}
            assert list(lake.query(sql, values)[1]) == [(places,)]


def test_a_release_is_asked_at_the_versions_it_names(tmp_path: Path) -> None:
    paths = PathsConfig(root=str(tmp_path))
    write_shop(Path(paths.lake_uri))
    manifest = make_release(paths)
    named = {"top_n_lists": TableVersion(version=0, content_hash="h", rows=3)}
    manifest = manifest.model_copy(update={"tables": named})
    folder = release_folder(paths, manifest.release_id)
    write_atomically(folder / MANIFEST_FILE, manifest.to_json().encode())
    write_lists(Path(paths.lake_uri), {"ana": LISTS["ana"]})  # version 1: bob and eve are gone

    count = "SELECT count(DISTINCT user_id) FROM top_n"
    assert ask(paths, count) == [(1,)]
    assert ask(paths, count, manifest.release_id) == [(3,)]
    with pytest.raises(ConfigError, match=f"no release 'x'; there are: {manifest.release_id}"):
        ask(paths, count, "x")


def test_an_unknown_table_names_those_there_are(asked_shop: PathsConfig) -> None:
    with pytest.raises(ConfigError, match=r"no table 'orders'; there are: events, items, users"):
        ask(asked_shop, "SELECT * FROM orders")
    with pytest.raises(
        ConfigError, match=r"no table 'top_n_todya'; did you mean 'top_n_today'\? There are: events"
    ):
        ask(asked_shop, "SELECT * FROM top_n_todya")
    with pytest.raises(ConfigError, match="did you mean 'consistency'"):
        ask(asked_shop, "SELECT * FROM Consistancy")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Consistency", "no table 'consistency' yet, or it cannot be read: What an audit found"),
        ("why_not", "no table 'vocabularies' yet for 'why_not', or it cannot be read: "),
    ],
)
def test_a_table_that_is_not_there_yet_is_said_to_be_so(
    asked_shop: PathsConfig, asked: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        ask(asked_shop, f"SELECT * FROM {asked}")


def test_without_a_lake_the_way_to_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="run `make demo`, or of another environment"):
        ask(PathsConfig(root=str(tmp_path)), "SELECT 1")


def test_the_command_prints_a_table_or_csv(asked_shop: PathsConfig) -> None:
    query = "SELECT item_id, title, length(title) AS size FROM items WHERE title LIKE '%RED'"
    result = recsys(asked_shop, query)
    assert result.stdout.splitlines() == [
        "item_id  title        size",
        "-------  -----------  ----",
        "pot      TEAPOT, RED    11",
        "(1 row)",
    ]
    assert recsys(asked_shop, "--csv", query).stdout == 'item_id,title,size\npot,"TEAPOT, RED",11\n'


@pytest.mark.parametrize(
    ("query", "message"),
    [("SELEC 1", "syntax error"), ("SELECT nix FROM items", "nix"), ("SELECT 1/0 + 'x'::INT", "x")],
)
def test_what_duckdb_refuses_is_an_error_with_its_words(
    asked_shop: PathsConfig, query: str, message: str
) -> None:
    result = recsys(asked_shop, query)
    assert (result.exit_code, message in result.stderr, "Traceback" in result.stderr) == (
        2,
        True,
        False,
    )


def test_the_prompt_takes_statements_until_the_end_of_input(asked_shop: PathsConfig) -> None:
    typed = "SELECT count(*) AS n\nFROM items;\nSELECT * FROM orders;\n\nSELECT 7 AS seven"
    result = recsys(asked_shop, input=typed)
    assert result.exit_code == 0
    said = result.stdout.splitlines()
    assert said[:4] == ["n", "-", "6", "(1 row)"]
    assert said[4].startswith("error: no table 'orders'")
    assert said[5:] == ["seven", "-----", "    7", "(1 row)"]


def test_a_table_is_aligned_and_bounded() -> None:
    text = aligned(["name", "n"], [("a\nb", 1.5), ("x" * 99, None), (None, 12)])
    assert text.splitlines() == [
        "name" + " " * 60 + "n",
        "-" * 60 + "  ---",
        "a b" + " " * 59 + "1.5",
        "x" * 59 + "…",
        " " * 63 + "12",
        "(3 rows; cells end at 60 characters, recsys sql --csv has them whole)",
    ]
    assert aligned(["n"], []) == "n\n-\n(0 rows)\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(5170342.0, "5170342"), (1234567.891, "1234567.89"), (0.1930372, "0.193037"), (-100000.5, "-100000.5"),
     (1e20, "1e+20"), (1e-7, "1e-07"), (float("nan"), "nan")],
)  # fmt: skip
def test_a_large_number_keeps_its_digits(value: float, text: str) -> None:
    assert aligned(["n"], [(value,)]).splitlines()[2].strip() == text


def questions() -> list[str]:
    """The SQL blocks of docs/sql.md."""
    return re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def questions_of_the_readme() -> list[str]:
    """What the README tells an analyst to type."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    return re.findall(r'^make sql Q="(.*?)"', text, re.MULTILINE)


ANSWERS: list[list[tuple[Any, ...]]] = [
    # places of ranks 1 to 10 by source, and how many of them were bought before
    [("popular", 2, 0.0), ("similar", 2, 100.0), ("model", 1, 0.0), ("repeat", 1, 100.0)],
    [
        ("tea", "GREEN TEA", 3, 1.7, 1, 0.0),
        ("cup", "WHITE CUP", 2, 2.0, 1, 1.0),
        ("pot", "TEAPOT, RED", 1, 1.0, None, None),  # no features: never sold to anyone we know
    ],
    [("price_not_positive", 2, 1, "x"), ("not_a_product", 1, 1, "x")],
    [("tea", "pot", 3.25, 2), ("cup", "tea", 2.5, None)],  # nothing is similar to a cup
]
ANSWERS_OF_THE_README: list[list[tuple[Any, ...]]] = [
    [],  # the demo's customer 13085 is none of this shop
    [("model", 1), ("popular", 2), ("repeat", 1), ("similar", 2)],
    [("not_a_product", 1), ("price_not_positive", 2)],
    [("GREEN TEA", 3), ("TEAPOT, RED", 1), ("WHITE CUP", 2)],
]


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_the_questions_of_the_documentation_have_answers(
    asked_shop: PathsConfig, number: int
) -> None:
    assert ask(asked_shop, questions()[number]) == ANSWERS[number]
    assert date(2024, 6, 1) == RUN_DATE  # what the answers are counted against


def test_the_questions_of_the_readme_have_the_answers_of_today(asked_shop: PathsConfig) -> None:
    found = [sorted(ask(asked_shop, question)) for question in questions_of_the_readme()]
    assert found == ANSWERS_OF_THE_README
    assert "'13085'" in questions_of_the_readme()[0]


@pytest.mark.spark
def test_spark_sql_gives_the_same_views_and_answers(asked_shop: PathsConfig, spark: Any) -> None:
    from recsys.lake import Lake
    from recsys.sql.spark import register_views

    names = register_views(Lake(spark, asked_shop))
    with open_lake(asked_shop) as lake:
        assert names == lake.tables
    for question, answer in zip(questions(), ANSWERS, strict=False):
        rows = [tuple(row) for row in spark.sql(question).collect()]
        assert [
            tuple(float(v) if hasattr(v, "quantize") else v for v in row) for row in rows
        ] == answer
    top_n = "SELECT user_id, as_of, rank, item_id, title, source FROM top_n ORDER BY user_id, as_of, rank"
    assert [tuple(row) for row in spark.sql(top_n).collect()] == ask(asked_shop, top_n)
    for question, answer in zip(questions_of_the_readme(), ANSWERS_OF_THE_README, strict=True):
        assert sorted(tuple(row) for row in spark.sql(question).collect()) == answer
