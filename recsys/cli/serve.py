"""`recsys serve`: the lookup service."""

from __future__ import annotations

import typer

from recsys.cli.shared import EnvOption, SetOption, exiting
from recsys.config import load_config
from recsys.logs import configure_logs


def serve_command(env: EnvOption = "local", set_: SetOption = []) -> None:  # noqa: B006
    """Serve the live release over HTTP; host and port are serving.host and serving.port."""
    with exiting():
        from recsys.serving.server import serve

        config = load_config(env, set_)
        configure_logs(job="serve")
        serve(config, typer.echo)
