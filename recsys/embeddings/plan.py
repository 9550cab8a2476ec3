"""Which rank holds which rows, and what that costs; refused before training where it does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.embeddings.tables import EmbeddingTable
from recsys.errors import ConfigError

REPLICATED_BELOW_BYTES = 1 << 20
"""A smaller table costs less as one dense sum over the ranks than as messages for its rows."""

GIB = 1 << 30


@dataclass(frozen=True)
class Placement:
    """Where a table lies: whole on every rank, or row r on rank r mod world_size."""

    table: EmbeddingTable
    kind: Literal["replicated", "row_wise"]

    def bytes_on(self, rank: int, world_size: int) -> int:
        """Rows and their state on one rank, in float32."""
        rows = self.table.num_rows
        if self.kind == "row_wise":
            rows = len(range(rank, rows, world_size))
        return rows * self.table.bytes_per_row


@dataclass(frozen=True)
class Plan:
    world_size: int
    placements: tuple[Placement, ...]

    def bytes_on(self, rank: int) -> int:
        return sum(placement.bytes_on(rank, self.world_size) for placement in self.placements)

    def describe(self) -> str:
        """The plan as a table: a line per embedding table, then the bytes of each rank."""
        lines = [
            f"{p.table.name}: {p.table.num_rows:,} x {p.table.dim}, {p.kind}, "
            f"{p.bytes_on(0, self.world_size) / GIB:.3f} GiB on rank 0"
            for p in self.placements
        ]
        each = ", ".join(f"{self.bytes_on(r) / GIB:.3f}" for r in range(self.world_size))
        return "\n".join([*lines, f"GiB by rank, optimizer state included: {each}"])


def plan_tables(
    tables: Sequence[EmbeddingTable], world_size: int, *, bytes_per_rank: int | None = None
) -> Plan:
    """Replicate small tables and shard the rest by rows.

    Row r lies on rank r mod world_size: neighbours in the order of the vocabulary, which is that of their age
    and nearly that of their popularity, are spread, so no rank gets all the popular rows.

    Raises:
        ConfigError: two tables share a name, or a rank would hold more than ``bytes_per_rank``.
    """
    names = [table.name for table in tables]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"embedding tables need names of their own; given twice: {repeated}")
    plan = Plan(
        world_size,
        tuple(
            Placement(
                table,
                "replicated" if table.weight_bytes < REPLICATED_BELOW_BYTES else "row_wise",
            )
            for table in tables
        ),
    )
    most = max(range(world_size), key=plan.bytes_on)
    if bytes_per_rank is not None and plan.bytes_on(most) > bytes_per_rank:
        raise ConfigError(
            f"embedding tables need {plan.bytes_on(most) / GIB:.2f} GiB on rank {most}, "
            f"{bytes_per_rank / GIB:.2f} GiB are allowed: use more processes, a smaller width or a rule with "
            f"less state\n{plan.describe()}"
        )
    return plan
