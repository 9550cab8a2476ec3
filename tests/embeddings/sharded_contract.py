"""What the sharded tables promise. Each check runs on every rank, over every Comm and number of ranks.

``python -m tests.embeddings.sharded_contract FOLDER`` is one rank (tests/embeddings/ranks.py).
It passes the contract of its Comm, too.
"""

from __future__ import annotations

from itertools import product
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
from recsys.embeddings.routing import padded
from recsys.embeddings.sharded import ReadRows
from recsys.embeddings.tables import RowRule, fill_fresh
from recsys.errors import ContractError, Refused
from tests.embeddings.comm_contract import CHECKS as COMM_CHECKS
from tests.embeddings.gathered import gathered
from tests.embeddings.ranks import Check, run_checks

EXAMPLES = 12  # divides over one, two and three ranks
RULES: dict[str, RowRule] = {
    "sgd": Sgd(0.1),
    "adagrad": RowwiseAdagrad(0.1),
    "adam": LazyAdam(0.05),
}
Rows = NDArray[np.float64]
DTYPES = (torch.float64, torch.float32)  # the second is the compiled kernel's


def fresh_rows(
    table: EmbeddingTable, place: tuple[int, ...], wanted: slice, dtype: torch.dtype
) -> Tensor:
    rows = torch.empty(
        len(range(wanted.start, table.num_rows, wanted.step)), table.dim, dtype=dtype
    )
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


def reference(start: dict[str, Rows], rule: RowRule, steps: range) -> dict[str, Rows]:
    """One process, example by example, the update rules written out."""
    rows = {name: table.copy() for name, table in start.items()}
    state: dict[str, list[Rows]] = {
        name: [np.zeros_like(table), np.zeros_like(table)] for name, table in rows.items()
    }
    for number, step in enumerate(steps, 1):
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
                table[id_] += change(rule, grads[name][id_], state[name], id_, number)
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
    return {name: gathered(made, name).double().numpy() for name in made.tables}


def fresh_tables_do_not_depend_on_the_ranks(comm: Comm, folder: Path) -> None:
    found = whole(collection(comm, RULES["sgd"]))
    for number, table in enumerate(tables(RULES["sgd"])):
        alone = fresh_rows(table, (7, number), slice(0, None, 1), torch.float64)
        np.testing.assert_array_equal(found[table.name], alone.numpy())
        assert found[table.name].std() > 0.3


def fifty_steps_are_those_of_one_process(comm: Comm, folder: Path) -> None:
    for name, rule in RULES.items():
        start = whole(collection(comm, rule))
        wanted = reference(start, rule, range(50))
        found = whole(train(comm, rule, 50, torch.float64))
        for table, rows in wanted.items():
            assert not np.array_equal(rows, start[table]), f"{name}: {table} has learned"
            np.testing.assert_allclose(
                found[table], rows, rtol=0, atol=1e-9, err_msg=f"{name} {table}"
            )


def one_step_in_float32_is_within_a_millionth_of_each_row(comm: Comm, folder: Path) -> None:
    for name, rule in RULES.items():
        for step in range(1, 8):  # step 3 has all examples on one rank, step 5 one item alone
            made = collection(comm, rule, torch.float32)
            start = whole(made)
            wanted = reference(start, rule, range(step, step + 1))
            go_on(made, comm, range(step, step + 1))
            for table, found in whole(made).items():
                assert not np.array_equal(found, start[table]), f"{name}: {table} has learned"
                off = np.linalg.norm(found - wanted[table], axis=1)
                most = 1e-6 * np.linalg.norm(wanted[table], axis=1)
                assert (off <= most).all(), f"{name}, step {step}, {table}: {off / most}"


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
    for (name, id_), dtype in product((("item", 7), ("weekday", 2)), DTYPES):
        made = collection(comm, RULES["adagrad"], dtype)
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


def gradients_are_never_lost_nor_made_up(comm: Comm, folder: Path) -> None:
    """Adam's moments would move the rows of a step without a gradient."""
    last = comm.size - 1
    made = train(comm, RULES["adam"], 2, torch.float32)
    before = whole(made)
    with pytest.raises(ContractError, match=r"update without a look_up\(learn=True\)"):
        made.update()
    ids = {"item": torch.tensor([1, 2])}
    loss = loss_of(made.look_up(ids))
    with pytest.raises(ContractError, match=r"look_up\(learn=True\) twice without an update"):
        made.look_up(ids)
    made.look_up(ids, learn=False)
    if comm.rank != last:
        loss.backward()  # type: ignore[no-untyped-call]
    with pytest.raises(Refused, match=rf"rank {last}: no gradient has come for what look_up gave"):
        made.update()
    assert all(np.array_equal(rows, before[table]) for table, rows in whole(made).items())
    loss_of(made.look_up(ids)).backward()  # type: ignore[no-untyped-call]
    made.update()
    assert not np.array_equal(whole(made)["item"], before["item"])


def ranks_that_hold_other_tables_are_refused(comm: Comm, folder: Path) -> None:
    """As a file of attributes that is older on one rank makes them."""
    last = comm.size - 1
    other = comm.rank == last

    def make(num_rows: int, seed: int = 7, plan: Plan | None = None) -> None:
        table = EmbeddingTable("item", num_rows, 4, RULES["sgd"])
        ShardedEmbeddings([table], comm, seed=seed, plan=plan)

    if comm.size > 1:
        found = (
            rf"rank {last} has EmbeddingTable\(name='item', num_rows=12.*rank 0 has .*num_rows=11"
        )
        with pytest.raises(ContractError, match=found):
            make(12 if other else 11)
        with pytest.raises(ContractError, match=rf"rank {last} has .*seed 8"):
            make(11, 8 if other else 7)
    table = EmbeddingTable("item", 12, 4, RULES["sgd"])
    with pytest.raises(ContractError, match=f"is for 9 ranks, there are {comm.size}"):
        make(12, plan=Plan(9, (Placement(table, "row_wise"),)))
    with pytest.raises(ContractError, match="places other embedding tables than item"):
        make(11, plan=Plan(comm.size, (Placement(table, "row_wise"),)))


def padding_is_zeros_and_never_learns(comm: Comm, folder: Path) -> None:
    """Two padded tables in one shard, one of them in bags, and one that is replicated."""
    for rule, dtype in product(RULES.values(), DTYPES):
        with_padding = [
            EmbeddingTable("item", 6, 4, rule, initial_std=1.0, padding=True),
            EmbeddingTable("history", 5, 4, rule, "mean", initial_std=1.0, padding=True),
            EmbeddingTable("weekday", 3, 4, rule, initial_std=1.0, padding=True),
        ]
        kinds = ("row_wise", "row_wise", "replicated")
        plan = Plan(
            comm.size,
            tuple(Placement(t, k) for t, k in zip(with_padding, kinds, strict=True)),  # type: ignore[arg-type]
        )
        made = ShardedEmbeddings(with_padding, comm, seed=7, plan=plan, dtype=dtype)
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
    for (name, rule), dtype in product(RULES.items(), DTYPES):
        straight = train(comm, rule, 6, dtype)
        half = train(comm, rule, 3, dtype)
        saved = {
            (table, array): gathered(half, table, array)
            for table, of_table in half.state().items()
            for array in of_table
        }
        again = collection(comm, rule, dtype)
        again.load_state(reader(saved), half.step)
        go_on(again, comm, range(3, 6))
        assert again.step == straight.step == 6
        for table, rows in whole(straight).items():
            np.testing.assert_array_equal(whole(again)[table], rows, err_msg=f"{name} {table}")


def reader(saved: dict[tuple[str, str], Tensor]) -> ReadRows:
    """Gives what was saved: every second array where it belongs, the others as arrays of their own."""
    numbers = {place: number for number, place in enumerate(saved)}

    def read(
        table: str, array: str, rank: int, spread: int, /, *, into: NDArray[Any] | None
    ) -> NDArray[Any]:
        found = saved[table, array][rank::spread].numpy()
        assert into is not None
        if numbers[table, array] % 2:
            return found
        into[:] = found
        return into

    return read


def a_state_is_views_of_this_ranks_rows(comm: Comm, folder: Path) -> None:
    made = collection(comm, RULES["adam"])
    state = made.state()
    assert [made.spread(name) for name in state] == [comm.size] * 3 + [1]
    assert all(set(arrays) == {"weight", "mean", "square"} for arrays in state.values())
    assert list(state) == list(made.tables)
    state["item"]["weight"][-1] = 5.0
    last = range(comm.rank, 11, comm.size)[-1]
    assert (gathered(made, "item")[last] == 5.0).all()
    with pytest.raises(ContractError, match=r"'item', weight: rank \d of \d has .* \(99, 4\)"):
        made.load_state(lambda *place, into: torch.zeros(99, 4), 1)


def the_best_rows_are_those_of_the_whole_table(comm: Comm, folder: Path) -> None:
    """Small whole numbers, so that equal scores are real ties; ranks bring different numbers of queries."""
    for padding in (False, True):
        for kind in ("row_wise", "replicated"):
            table = EmbeddingTable("item", 23, 3, RULES["sgd"], padding=padding)
            plan = Plan(comm.size, (Placement(table, kind),))
            made = ShardedEmbeddings([table], comm, seed=1, plan=plan, dtype=torch.float32)
            rows = np.random.default_rng(5).integers(-1, 2, (23, 3)).astype(np.float32)
            rows[0] = 0.0 if padding else 9.0
            made.load_state(reader({("item", "weight"): torch.from_numpy(rows)}), 0)
            num_queries = 7 * max(
                comm.size - 1 - comm.rank, comm.size == 1
            )  # none on the last of several
            queries = np.random.default_rng(comm.rank).integers(-1, 2, (num_queries, 3))
            for n in (1, 4, 22):
                ids, scores = made.best("item", torch.tensor(queries, dtype=torch.float32), n)
                assert ids.shape == scores.shape == (num_queries, n)
                for query, found, given in zip(queries, ids.tolist(), scores.tolist(), strict=True):
                    score = {i: float(query @ rows[i]) for i in range(int(padding), 23)}
                    wanted = sorted(score, key=lambda i: (-score[i], i))[:n]
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
    assert (taken.sent_bytes > 0) == (comm.size > 1)
    assert taken.route_seconds > 0
    assert taken.look_up_seconds > 0
    assert taken.update_seconds > 0
    assert made.take_figures() == type(taken)()


def what_a_step_sends_is_what_its_ids_make_it(comm: Comm, folder: Path) -> None:
    """Rank r asks for the first 100 (r + 1) rows of a spread table, and for one of a table that all have."""
    spread = EmbeddingTable("item", 400, 4, RULES["sgd"])
    everywhere = EmbeddingTable("weekday", 6, 4, RULES["sgd"])
    plan = Plan(comm.size, (Placement(spread, "row_wise"), Placement(everywhere, "replicated")))
    made = ShardedEmbeddings([spread, everywhere], comm, seed=7, plan=plan)
    ids = {"item": torch.arange(100 * (comm.rank + 1)), "weekday": torch.tensor([2])}
    loss_of(made.look_up(ids)).backward()  # type: ignore[no-untyped-call]
    made.update()
    sent = 0
    for other in range(comm.size):
        if other == comm.rank:
            continue
        asked_of_it = len(range(other, 100 * (comm.rank + 1), comm.size))
        asked_of_me = len(range(comm.rank, 100 * (other + 1), comm.size))
        sent += 8 * padded(2 + asked_of_it)  # whether all is well, how many ids, the ids
        sent += 4 * padded(4 * asked_of_me)
        sent += 4 * padded(1 + 4 * asked_of_it)
    if comm.size > 1:  # of the replicated table rows and a mark for each, round the ring
        sent += 4 * 6 * (4 + 1) * 2 * (comm.size - 1) // comm.size
    assert made.take_figures().sent_bytes == sent


CHECKS: tuple[Check, ...] = (
    fresh_tables_do_not_depend_on_the_ranks,
    fifty_steps_are_those_of_one_process,
    one_step_in_float32_is_within_a_millionth_of_each_row,
    rows_that_nobody_asked_for_stay_as_they_are,
    looking_without_learning_leaves_no_trace,
    a_bad_id_of_one_rank_is_an_error_on_all,
    a_gradient_that_is_not_finite_changes_nothing,
    gradients_are_never_lost_nor_made_up,
    ranks_that_hold_other_tables_are_refused,
    padding_is_zeros_and_never_learns,
    a_state_that_is_loaded_goes_on_as_if_nothing_had_been,
    a_state_is_views_of_this_ranks_rows,
    the_best_rows_are_those_of_the_whole_table,
    the_figures_say_what_was_sent_and_start_again,
    what_a_step_sends_is_what_its_ids_make_it,
)


if __name__ == "__main__":
    run_checks((*COMM_CHECKS, *CHECKS))
