"""`recsys block-item` and `recsys unblock-item`: take an item off every list now, and put it back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.cli.shared import EnvOption, SetOption, exiting
from recsys.config import load_config
from recsys.errors import RecsysError

if TYPE_CHECKING:
    from recsys.blocked import Blocked
    from recsys.config import RecsysConfig

ItemArgument = Annotated[str, typer.Argument(metavar="ITEM", help="The item as the shop knows it.")]
_SHOWN = 20


def block_item_command(
    item_id: ItemArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in blocked.json.")],
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Take an item off: services follow within 10 s, the next release leaves it out."""
    with exiting():
        from recsys.blocked import block_item

        config = _of_publisher(env, set_)
        items = block_item(config.paths, item_id, reason=reason, now=datetime.now(UTC))
        _show(items)
        _tell_of_a_slip(config, item_id)  # first: where hosts cannot be told, that ends the command
        _tell_hosts(config)


def unblock_item_command(
    item_id: ItemArgument,
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Let an item be shown again: where the live release has it, at once; else from the next release on."""
    with exiting():
        from recsys.blocked import unblock_item

        config = _of_publisher(env, set_)
        items = unblock_item(config.paths, item_id)
        _show(items)
        _tell_hosts(config)


def _of_publisher(env: str, set_: list[str]) -> RecsysConfig:
    """Raises ConfigError on a host that pulls: its list is the publisher's."""
    from recsys.release.pull_state import refuse_where_pulled

    config = load_config(env, set_)
    refuse_where_pulled(config.paths, "a blocked item")
    return config


def _tell_hosts(config: RecsysConfig) -> None:
    """Raises RecsysError where that failed: who knows of it, who does not, and what tells them."""
    from recsys.release.announcement import announce_blocked
    from recsys.release.remote import open_target

    if not config.publish.url:
        return
    try:
        announce_blocked(config.paths, open_target(config.publish.url))
    except RecsysError as error:
        raise type(error)(
            f"{error}. What is listed above holds for services that read {config.paths.releases}; the hosts that pull, "
            "from where publish.url writes, do not know it yet. When that is mended, `recsys release announce`, or the "
            "next publish, tells them"
        ) from error


def _tell_of_a_slip(config: RecsysConfig, item_id: str) -> None:
    """An unknown id is blocked all the same, since its item may come yet; but one that was mistyped is on sale."""
    try:
        from recsys.sql.known_items import nearest_items
    except ModuleNotFoundError:  # a host without what asks tables: what matters is done
        return
    if near := nearest_items(config.paths, item_id):
        message = (
            f"warning: the catalogue has no item {item_id!r}; the nearest are: {', '.join(near)}"
        )
        typer.echo(message, err=True)


def _show(items: Mapping[str, Blocked]) -> None:
    typer.echo(f"{len(items)} items are blocked" + (":" if items else ""))
    newest_first = sorted(items.items(), key=lambda item: item[1].at, reverse=True)
    for item_id, blocked in newest_first[:_SHOWN]:
        typer.echo(f"{item_id}  since {blocked.at:%Y-%m-%d %H:%M} UTC  {blocked.reason}".rstrip())
    if len(items) > _SHOWN:
        typer.echo(f"and {len(items) - _SHOWN} more")
