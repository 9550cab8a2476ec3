"""`recsys release …`: see which releases there are, and change by hand which one is live."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from recsys.cli.shared import EnvOption, ReasonOption, SetOption, exiting
from recsys.config import RecsysConfig, load_config
from recsys.errors import FIRST_NIGHT, ConfigError, CorruptArtifact

app = typer.Typer(
    help="Releases: list them, pin one, roll back, announce what is live.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_command(env: EnvOption = "local", set_: SetOption = []) -> None:  # noqa: B006
    """Every release on disk, the newest first, and which one is live."""
    with exiting():
        from recsys.release.pointer import read_pointer
        from recsys.release.pull_state import read_pull_state
        from recsys.release.shelf import shelved_releases

        paths = load_config(env, set_).paths
        releases = shelved_releases(paths)
        try:
            pointer = read_pointer(paths)
        except CorruptArtifact as error:
            # Its own advice is to choose from this list.
            pointer = None
            typer.echo(f"error: {error}", err=True)
        if not releases:
            typer.echo(f"no releases in {paths.releases}: {FIRST_NIGHT}")
        for one in releases:
            marks = []
            if pointer and one.release_id == pointer.release_id:
                marks.append("live, pinned" if pointer.pinned else "live")
            if pointer and one.release_id == pointer.previous:
                marks.append("previous")
            if one.manifest is None:
                facts = "manifest missing or damaged"
            else:
                model, users = one.manifest.model, one.manifest.counts.get("users", 0)
                facts = f"{users:>9,} users   model {model.version} of {model.as_of}"
            typer.echo(f"{one.release_id}  {', '.join(marks):<12}  {facts}".rstrip())
        if pointer and pointer.pinned and pointer.reason:
            typer.echo(f"pinned: {pointer.reason}")
        if state := read_pull_state(paths):
            typer.echo(
                f"follows {state.url}" + (f"; {state.last_error}" if state.last_error else "")
            )


@app.command("pin")
def pin_command(
    release: Annotated[str | None, typer.Argument(help="Default: what is live.")] = None,
    reason: ReasonOption = "",
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Keep a release live: later publishes are built, but do not go live until unpin."""
    with exiting():
        from recsys.release.pins import pin

        config = load_config(env, set_)
        pointer = pin(config.paths, release, reason=reason, now=datetime.now(UTC))
        typer.echo(f"{pointer.release_id} is live and pinned")
        _announce(config)


@app.command("unpin")
def unpin_command(
    reason: ReasonOption = "",
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Let the next publish go live again."""
    with exiting():
        from recsys.release.pins import unpin

        config = load_config(env, set_)
        pointer = unpin(config.paths, reason=reason, now=datetime.now(UTC))
        typer.echo(f"{pointer.release_id} is live; the next publish replaces it")
        _announce(config)


@app.command("roll-back")
def roll_back_command(
    to: Annotated[
        str | None, typer.Option("--to", metavar="RELEASE", help="Default: what was live before.")
    ] = None,
    reason: ReasonOption = "",
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Make an earlier release live, and pin it. Services follow within serving.poll_seconds."""
    with exiting():
        from recsys.release.pins import roll_back

        config = load_config(env, set_)
        pointer = roll_back(config.paths, to, reason=reason, now=datetime.now(UTC))
        typer.echo(f"{pointer.release_id} is live and pinned; unpin when a good release is due")
        _announce(config)


@app.command("announce")
def announce_command(
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Also where another publisher has announced a newer one."),
    ] = False,
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Say at publish.url what is live here; publish, pin, unpin and roll-back do so by themselves."""
    with exiting():
        config = load_config(env, set_)
        if not config.publish.url:
            raise ConfigError(
                "nowhere to announce: publish.url is empty; set it in conf, or with --set publish.url=…"
            )
        _announce(config, take_over)


def _announce(config: RecsysConfig, take_over: bool = False) -> None:
    if not config.publish.url:
        return
    from recsys.release.announcement import announce
    from recsys.release.remote import open_target

    target = open_target(config.publish.url)
    done = announce(config.paths, target, keep=config.publish.keep, take_over=take_over)
    typer.echo(f"announced at {target.url}, epoch {done.pointer.epoch}; hosts follow by themselves")
