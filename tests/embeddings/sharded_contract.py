"""What the sharded tables promise. Each check runs on every rank, over every Comm and number of ranks.

``python -m tests.embeddings.sharded_contract FOLDER`` is one rank (tests/embeddings/ranks.py).
It passes the contract of its Comm, too.
"""

from __future__ import annotations

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
    LazyAdam,
    Plan,
    RowwiseAdagrad,
    Sgd,
    ShardedEmbeddings,
)
from recsys.embeddings.plan import Placement
from recsys.embeddings.tables import RowRule, fill_fresh
from recsys.errors import ContractError, Refused
from tests.embeddings.comm_contract import CHECKS as COMM_CHECKS
from tests.embeddings.ranks import Check, run_checks

EXAMPLES = 12  # divides over one, two and three ranks
RULES: dict[str, RowRule] = {
    "sgd": Sgd(0.1),
    "adagrad": RowwiseAdagrad(0.1),
    "adam": LazyAdam(0.05),
}
Rows = NDArray[np.float64]


def fresh_rows(
    table: EmbeddingTable, place: tuple[int, ...], wanted: slice, dtype: torch.dtype
) -> Tensor:
    rows = torch.empty(len(range(wanted.start, table.rows, wanted.step)), table.dim, dtype=dtype)
    fill_fresh(rows, table, place, wanted)
    return rows


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
    go_on(made, comm, range(steps))
    return made


def go_on(made: ShardedEmbeddings, comm: Comm, steps: range) -> None:
    for step in steps:
        mine = examples_of_step(step)[comm.rank :: comm.size]
        if step % 7 == 3:  # all examples on the last rank: the others come with empty batches
            mine = examples_of_step(step) if comm.rank == comm.size - 1 else []
        loss = loss_of(made.look_up(ids_of(mine))) * comm.size / EXAMPLES
        loss.backward()  # type: ignore[no-untyped-call]
        made.update()


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


def fresh_tables_do_not_depend_on_the_ranks(comm: Comm, folder: Path) -> None:
    found = whole(collection(comm, RULES["sgd"]))
    for number, table in enumerate(tables(RULES["sgd"])):
        alone = fresh_rows(table, (7, number), slice(0, None, 1), torch.float64)
        np.testing.assert_array_equal(found[table.name], alone.numpy())
        assert found[table.name].std() > 0.3


def fifty_steps_are_those_of_one_process(comm: Comm, folder: Path) -> None:
    for name, rule in RULES.items():
        start = whole(collection(comm, rule))
        wanted = reference(start, rule, 50)
        found = whole(train(comm, rule, 50, torch.float64))
        for table, rows in wanted.items():
            assert not np.array_equal(rows, start[table]), f"{name}: {table} has learned"
            np.testing.assert_allclose(
                found[table], rows, rtol=0, atol=1e-9, err_msg=f"{name} {table}"
            )


def one_step_in_float32_is_within_a_millionth(comm: Comm, folder: Path) -> None:
    for name, rule in RULES.items():
        start = whole(collection(comm, rule, torch.float32))
        wanted = reference(start, rule, 1)
        found = whole(train(comm, rule, 1, torch.float32))
        for table, rows in wanted.items():
            np.testing.assert_allclose(
                found[table], rows, rtol=1e-6, atol=1e-7, err_msg=f"{name} {table}"
            )


def rows_that_nobody_asked_for_stay_as_they_are(comm: Comm, folder: Path) -> None:
    made = collection(comm, RULES["adam"])
    before = whole(made)
    ids = torch.tensor([4] if comm.rank == 0 else [], dtype=torch.int64)
    loss_of(made.look_up({"item": ids})).backward()  # type: ignore[no-untyped-call]
    made.update()
    after = whole(made)
    changed = np.flatnonzero((before["item"] != after["item"]).any(axis=1))
    assert changed.tolist() == [4]
    assert all(np.array_equal(before[n], after[n]) for n in ("brand", "history", "weekday"))


def looking_without_learning_leaves_no_trace(comm: Comm, folder: Path) -> None:
    made = collection(comm, RULES["sgd"])
    found = made.look_up({"item": torch.tensor([[3, 3], [10, 0]])}, learn=False)["item"]
    assert not found.requires_grad
    assert found.shape == (2, 2, 4)
    np.testing.assert_array_equal(found.numpy(), whole(made)["item"][[[3, 3], [10, 0]]])


def a_bad_id_of_one_rank_is_an_error_on_all(comm: Comm, folder: Path) -> None:
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


def a_gradient_that_is_not_finite_changes_nothing(comm: Comm, folder: Path) -> None:
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


def padding_is_zeros_and_never_learns(comm: Comm, folder: Path) -> None:
    """Two padded tables in one shard, one of them in bags, and one that is replicated."""
    for rule in RULES.values():
        padded = [
            EmbeddingTable("item", 6, 4, rule, initial_std=1.0, padding=True),
            EmbeddingTable("history", 5, 4, rule, "mean", initial_std=1.0, padding=True),
            EmbeddingTable("weekday", 3, 4, rule, initial_std=1.0, padding=True),
        ]
        kinds = ("row_wise", "row_wise", "replicated")
        plan = Plan(
            comm.size,
            tuple(Placement(t, k) for t, k in zip(padded, kinds, strict=True)),  # type: ignore[arg-type]
        )
        made = ShardedEmbeddings(padded, comm, seed=7, plan=plan, dtype=torch.float64)
        before = whole(made)
        assert all((rows[0] == 0).all() and (rows[1:] != 0).all() for rows in before.values())
        for _ in range(2):
            bags = Bags(torch.tensor([0, 2, 0, 0]), torch.tensor([0, 3]))
            found = made.look_up(
                {"item": torch.tensor([0, 1]), "history": bags, "weekday": torch.tensor([2, 0])}
            )
            history = whole(made)["history"]
            np.testing.assert_allclose(
                found["history"].detach().numpy(), [history[2], 0 * history[0]]
            )
            assert (found["item"][0] == 0).all()
            assert (found["weekday"][1] == 0).all()
            loss_of(found).backward()  # type: ignore[no-untyped-call]
            made.update()
        after = whole(made)
        changed = {n: np.flatnonzero((before[n] != after[n]).any(axis=1)).tolist() for n in before}
        assert changed == {"item": [1], "history": [2], "weekday": [2]}


def a_state_that_is_loaded_goes_on_as_if_nothing_had_been(comm: Comm, folder: Path) -> None:
    """Also from ranks of another number: what is read is cut from whole arrays."""
    for name, rule in RULES.items():
        straight = train(comm, rule, 6, torch.float64)
        half = train(comm, rule, 3, torch.float64)
        arrays = {
            (table, array): gathered(comm, half, table, rows)
            for table, of_table in half.state().items()
            for array, rows in of_table.items()
        }
        again = collection(comm, rule)
        again.load_state(
            lambda table, array, rank, spread, saved=arrays: saved[table, array][rank::spread],  # type: ignore[misc]
            half.step,
        )
        go_on(again, comm, range(3, 6))
        assert again.step == straight.step == 6
        for table, rows in whole(straight).items():
            np.testing.assert_array_equal(whole(again)[table], rows, err_msg=f"{name} {table}")


def gathered(comm: Comm, made: ShardedEmbeddings, table: str, mine: Tensor) -> Tensor:
    """A whole array of the state from the ranks' views of it."""
    spread = made.spread(table)
    if spread == 1:
        return mine.clone()
    flat = mine.reshape(-1)
    came, splits = comm.exchange(flat.repeat(comm.size), [len(flat)] * comm.size, "state")
    all_rows = mine.new_empty(made.tables[table].rows, *mine.shape[1:])
    for rank, part in enumerate(came.split_with_sizes(splits)):
        all_rows[rank::spread] = part.view(-1, *mine.shape[1:])
    return all_rows


def a_state_is_views_of_this_ranks_rows(comm: Comm, folder: Path) -> None:
    made = collection(comm, RULES["adam"])
    state = made.state()
    assert [made.spread(name) for name in state] == [comm.size] * 3 + [1]
    assert all(set(arrays) == {"weight", "mean", "square"} for arrays in state.values())
    assert list(state) == list(made.tables)
    state["item"]["weight"][-1] = 5.0
    last = range(comm.rank, 11, comm.size)[-1]
    assert (made.table("item")[last] == 5.0).all()
    with pytest.raises(ContractError, match=r"'item', weight: rank \d of \d has .* \(99, 4\)"):
        made.load_state(lambda table, array, rank, spread: torch.zeros(99, 4), 1)


def the_best_rows_are_those_of_the_whole_table(comm: Comm, folder: Path) -> None:
    """Small whole numbers, so that equal scores are real ties; ranks bring different numbers of queries."""
    for padding in (False, True):
        for kind in ("row_wise", "replicated"):
            table = EmbeddingTable("item", 23, 3, RULES["sgd"], padding=padding)
            plan = Plan(comm.size, (Placement(table, kind),))
            made = ShardedEmbeddings([table], comm, seed=1, plan=plan, dtype=torch.float32)
            rows = np.random.default_rng(5).integers(-1, 2, (23, 3)).astype(np.float32)
            rows[0] = 0.0 if padding else 9.0
            made.load_state(lambda t, a, rank, spread, rows=rows: rows[rank::spread], 0)  # type: ignore[misc]
            num_queries = 7 * max(
                comm.size - 1 - comm.rank, comm.size == 1
            )  # none on the last of several
            queries = np.random.default_rng(comm.rank).integers(-1, 2, (num_queries, 3))
            for k in (1, 4, 22):
                ids, scores = made.best("item", torch.tensor(queries, dtype=torch.float32), k)
                assert ids.shape == scores.shape == (num_queries, k)
                for query, found, given in zip(queries, ids.tolist(), scores.tolist(), strict=True):
                    score = {i: float(query @ rows[i]) for i in range(int(padding), 23)}
                    wanted = sorted(score, key=lambda i: (-score[i], i))[:k]
                    assert found == wanted
                    assert given == [score[i] for i in wanted]
    with pytest.raises(
        ContractError, match="has 22 rows of width 3 to choose from; asked were the best 23"
    ):
        made.best("item", torch.zeros(1, 3), 23)


def the_figures_say_what_was_sent_and_start_again(comm: Comm, folder: Path) -> None:
    made = collection(comm, RULES["sgd"], torch.float32)
    go_on(made, comm, range(2))
    taken = made.take_figures()
    others = comm.size - 1
    assert taken.sent_bytes % max(others, 1) == 0
    assert (taken.sent_bytes > 0) == (others > 0)
    assert taken.route_seconds > 0
    assert taken.look_up_seconds > 0
    assert taken.update_seconds > 0
    assert made.take_figures() == type(taken)()


CHECKS: tuple[Check, ...] = (
    fresh_tables_do_not_depend_on_the_ranks,
    fifty_steps_are_those_of_one_process,
    one_step_in_float32_is_within_a_millionth,
    rows_that_nobody_asked_for_stay_as_they_are,
    looking_without_learning_leaves_no_trace,
    a_bad_id_of_one_rank_is_an_error_on_all,
    a_gradient_that_is_not_finite_changes_nothing,
    padding_is_zeros_and_never_learns,
    a_state_that_is_loaded_goes_on_as_if_nothing_had_been,
    a_state_is_views_of_this_ranks_rows,
    the_best_rows_are_those_of_the_whole_table,
    the_figures_say_what_was_sent_and_start_again,
)


if __name__ == "__main__":
    run_checks((*COMM_CHECKS, *CHECKS))
