"""What the sharded tables promise. Each check runs on every rank, over every Comm and number of ranks.

``python -m tests.embeddings.sharded_contract FOLDER`` is one rank under Horovod; it leaves what it passed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.embeddings import (
    Bags,
    Comm,
    EmbeddingTable,
    HorovodComm,
    LazyAdam,
    Plan,
    RowwiseAdagrad,
    Sgd,
    ShardedEmbeddings,
)
from recsys.embeddings.plan import Placement
from recsys.embeddings.tables import RowRule, fresh_rows
from recsys.errors import ContractError, Refused

EXAMPLES = 12  # divides over one, two and three ranks
RULES: dict[str, RowRule] = {
    "sgd": Sgd(0.1),
    "adagrad": RowwiseAdagrad(0.1),
    "adam": LazyAdam(0.05),
}
Rows = NDArray[np.float64]


def tables(rule: RowRule) -> list[EmbeddingTable]:
    """Two that share a shard, one of another width, one that is replicated."""
    return [
        EmbeddingTable("item", 11, 4, rule, initial_std=1.0),
        EmbeddingTable("brand", 5, 4, rule, pooling="mean", initial_std=1.0),
        EmbeddingTable("history", 7, 3, rule, pooling="sum", initial_std=1.0),
        EmbeddingTable("weekday", 3, 4, rule, initial_std=1.0),
    ]


def collection(comm: Comm, rule: RowRule, dtype: torch.dtype = torch.float64) -> ShardedEmbeddings:
    kinds = ("row_wise", "row_wise", "row_wise", "replicated")
    placed = tuple(Placement(t, k) for t, k in zip(tables(rule), kinds, strict=True))  # type: ignore[arg-type]
    plan = Plan(comm.size, placed)
    return ShardedEmbeddings(tables(rule), comm, seed=7, plan=plan, dtype=dtype)


def examples_of_step(step: int) -> list[dict[str, list[int]]]:
    """What each example asks for; ids repeat, bags may be empty, and some steps ask for one item alone."""
    draw = np.random.default_rng(step)
    made = []
    for _ in range(EXAMPLES):
        one = {
            "item": draw.integers(0, 1 if step % 5 == 0 else 11, 2).tolist(),
            "brand": draw.integers(0, 5, draw.integers(0, 4)).tolist(),
            "history": draw.integers(0, 7, draw.integers(0, 4)).tolist(),
            "weekday": draw.integers(0, 3, 1).tolist(),
        }
        made.append(one)
    return made


def ids_of(examples: list[dict[str, list[int]]]) -> dict[str, Tensor | Bags]:
    def bags(name: str) -> Bags:
        sizes = [len(one[name]) for one in examples]
        starts = np.cumsum([0, *sizes])[: len(sizes)]
        flat = [id_ for one in examples for id_ in one[name]]
        return Bags(
            torch.tensor(flat, dtype=torch.int64),
            torch.tensor(starts, dtype=torch.int64),
        )

    def plain(name: str) -> Tensor:
        width = {"item": 2, "weekday": 1}[name]
        return torch.tensor([one[name] for one in examples], dtype=torch.int64).view(-1, width)

    return {
        "item": plain("item"), "brand": bags("brand"), "history": bags("history"),
        "weekday": plain("weekday"),
    }  # fmt: skip


def loss_of(vectors: dict[str, Tensor]) -> Tensor:
    """Half the squared distance of each vector from ones: its gradient is the vector less one."""
    return sum((0.5 * (v - 1.0).square().sum() for v in vectors.values()), torch.zeros(()))


def train(comm: Comm, rule: RowRule, steps: int, dtype: torch.dtype) -> ShardedEmbeddings:
    made = collection(comm, rule, dtype)
    for step in range(steps):
        mine = examples_of_step(step)[comm.rank :: comm.size]
        if step % 7 == 3:  # all examples on the last rank: the others come with empty batches
            mine = examples_of_step(step) if comm.rank == comm.size - 1 else []
        loss = loss_of(made.look_up(ids_of(mine))) * comm.size / EXAMPLES
        loss.backward()  # type: ignore[no-untyped-call]
        made.update()
    return made


def reference(start: dict[str, Rows], rule: RowRule, steps: int) -> dict[str, Rows]:
    """One process, example by example, the update rules written out."""
    rows = {name: table.copy() for name, table in start.items()}
    state: dict[str, list[Rows]] = {
        name: [np.zeros_like(table), np.zeros_like(table)] for name, table in rows.items()
    }
    for step in range(steps):
        grads = {name: np.zeros_like(table) for name, table in rows.items()}
        touched: dict[str, set[int]] = {name: set() for name in rows}
        for one in examples_of_step(step):
            for name, ids in one.items():
                touched[name] |= set(ids)
                if name in {"item", "weekday"}:
                    for id_ in ids:
                        grads[name][id_] += (rows[name][id_] - 1) / EXAMPLES
                    continue
                share = 1.0 if name == "history" else 1.0 / max(len(ids), 1)
                pooled = sum(
                    (rows[name][id_] * share for id_ in ids), np.zeros(rows[name].shape[1])
                )
                for id_ in ids:
                    grads[name][id_] += (pooled - 1) * share / EXAMPLES
        for name, table in rows.items():
            for id_ in touched[name]:
                table[id_] += change(rule, grads[name][id_], state[name], id_, step + 1)
    return rows


def change(rule: RowRule, g: Rows, state: list[Rows], id_: int, step: int) -> Any:
    first, second = state
    match rule:
        case Sgd(lr):
            return -lr * g
        case RowwiseAdagrad(lr, epsilon):
            second[id_] += np.mean(g**2)
            return -lr * g / (np.sqrt(second[id_]) + epsilon)
        case LazyAdam(lr, beta1, beta2, epsilon):
            first[id_] = beta1 * first[id_] + (1 - beta1) * g
            second[id_] = beta2 * second[id_] + (1 - beta2) * g**2
            scale = np.sqrt(1 - beta2**step) / (1 - beta1**step)
            return -lr * scale * first[id_] / (np.sqrt(second[id_]) + epsilon)
    raise AssertionError(rule)


def whole(made: ShardedEmbeddings) -> dict[str, Rows]:
    return {name: made.table(name).double().numpy().copy() for name in made.tables}


def fresh_tables_do_not_depend_on_the_ranks(comm: Comm) -> None:
    found = whole(collection(comm, RULES["sgd"]))
    for number, table in enumerate(tables(RULES["sgd"])):
        alone = fresh_rows(table, (7, number), slice(0, None, 1), torch.float64)
        np.testing.assert_array_equal(found[table.name], alone.numpy())
        assert found[table.name].std() > 0.3


def fifty_steps_are_those_of_one_process(comm: Comm) -> None:
    for name, rule in RULES.items():
        start = whole(collection(comm, rule))
        wanted = reference(start, rule, 50)
        found = whole(train(comm, rule, 50, torch.float64))
        for table, rows in wanted.items():
            assert not np.array_equal(rows, start[table]), f"{name}: {table} has learned"
            np.testing.assert_allclose(
                found[table], rows, rtol=0, atol=1e-9, err_msg=f"{name} {table}"
            )


def one_step_in_float32_is_within_a_millionth(comm: Comm) -> None:
    for name, rule in RULES.items():
        start = whole(collection(comm, rule, torch.float32))
        wanted = reference(start, rule, 1)
        found = whole(train(comm, rule, 1, torch.float32))
        for table, rows in wanted.items():
            np.testing.assert_allclose(
                found[table], rows, rtol=1e-6, atol=1e-7, err_msg=f"{name} {table}"
            )


def rows_that_nobody_asked_for_stay_as_they_are(comm: Comm) -> None:
    made = collection(comm, RULES["adam"])
    before = whole(made)
    ids = torch.tensor([4] if comm.rank == 0 else [], dtype=torch.int64)
    loss_of(made.look_up({"item": ids})).backward()  # type: ignore[no-untyped-call]
    made.update()
    after = whole(made)
    changed = np.flatnonzero((before["item"] != after["item"]).any(axis=1))
    assert changed.tolist() == [4]
    assert all(np.array_equal(before[n], after[n]) for n in ("brand", "history", "weekday"))


def looking_without_learning_leaves_no_trace(comm: Comm) -> None:
    made = collection(comm, RULES["sgd"])
    found = made.look_up({"item": torch.tensor([[3, 3], [10, 0]])}, learn=False)["item"]
    assert not found.requires_grad
    assert found.shape == (2, 2, 4)
    np.testing.assert_array_equal(found.numpy(), whole(made)["item"][[[3, 3], [10, 0]]])


def a_bad_id_of_one_rank_is_an_error_on_all(comm: Comm) -> None:
    last = comm.size - 1
    bad: list[tuple[Tensor, str]] = [
        (torch.tensor([2, 11]), rf"rank {last}: table 'item' has ids 0 to 10, got 11 \(place 1 of 2\)"),
        (torch.tensor([-1]), rf"rank {last}: table 'item' has ids 0 to 10, got -1"),
        (torch.tensor([float("nan")]), rf"rank {last}: table 'item' takes whole numbers as ids, got torch.float32"),
    ]  # fmt: skip
    for ids, message in bad:
        made = collection(comm, RULES["sgd"])
        before = whole(made)
        with pytest.raises(ContractError, match=message):
            made.look_up({"item": ids if comm.rank == last else torch.tensor([1])})
        found = made.look_up({"item": torch.tensor([1])}, learn=False)["item"]
        np.testing.assert_array_equal(found[0].numpy(), before["item"][1])


def a_gradient_that_is_not_finite_changes_nothing(comm: Comm) -> None:
    last = comm.size - 1
    for name, id_ in (("item", 7), ("weekday", 2)):
        made = collection(comm, RULES["adagrad"])
        before = whole(made)
        vectors = made.look_up({name: torch.tensor([1, id_])})[name]
        factor = torch.ones_like(vectors)
        if comm.rank == last:
            factor[1, 0] = float("nan")
        (vectors * factor).sum().backward()  # type: ignore[no-untyped-call]
        with pytest.raises(
            Refused, match=rf"rank {last}: gradient of table '{name}', id {id_} is not finite"
        ):
            made.update()
        after = whole(made)
        assert all(np.array_equal(before[table], after[table]) for table in before)


CHECKS: tuple[Callable[[Comm], None], ...] = (
    fresh_tables_do_not_depend_on_the_ranks,
    fifty_steps_are_those_of_one_process,
    one_step_in_float32_is_within_a_millionth,
    rows_that_nobody_asked_for_stay_as_they_are,
    looking_without_learning_leaves_no_trace,
    a_bad_id_of_one_rank_is_an_error_on_all,
    a_gradient_that_is_not_finite_changes_nothing,
)


def main(folder: Path) -> None:
    comm = HorovodComm()
    passed = []
    for check in CHECKS:
        check(comm)
        comm.barrier()
        passed.append(check.__name__)
    (folder / f"passed-{comm.rank}.json").write_text(json.dumps([comm.size, passed]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
