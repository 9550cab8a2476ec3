"""`recsys`: what needs no JVM. Releases, the lookup service, SQL on a laptop.

Each command imports its engine when it runs, so that the command works with whatever extras are there.
"""

from __future__ import annotations

import typer

from recsys.cli.blocked import block_item_command, unblock_item_command
from recsys.cli.demo_report import demo_report_command
from recsys.cli.pull import pull_command
from recsys.cli.release import app as release_app
from recsys.cli.serve import serve_command
from recsys.cli.sql import sql_command

app = typer.Typer(
    help="Recommendations for a shop: what needs no JVM. Jobs are run by ./spark-submit.sh.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(release_app, name="release")
app.command("serve")(serve_command)
app.command("pull")(pull_command)
app.command("block-item")(block_item_command)
app.command("unblock-item")(unblock_item_command)
app.command("sql")(sql_command)
app.command("demo-report")(demo_report_command)

__all__ = ["app"]
