"""An epoch of the sequential model beside the same model with a padded full softmax in plain torch.

    make bench-sequence_epoch ARGS=--quick
    make bench-sequence_epoch                           # and NDCG@10 after equal epochs
    make bench-sequence_epoch ARGS="--file Beauty.txt"

The shop has the shape of Amazon Beauty, 5-core: 22,363 users, 12,101 items, 198,502 events; a line of
``--file`` is a user and their items, oldest first. Without one it is generated: items come in groups, and what
follows an item is mostly of the next group. Each user's newest event is left out and is the target of NDCG@10
over the full catalogue. Both sides have the same encoder, dim 64, 2 blocks, 2 heads, histories of 50, batches of
128 and two threads. Ours: logits at the places that predict, for 1,024 shared negatives and what is predicted;
item rows updated by lazy Adam. The other side: logits at every place for every item, cross-entropy that ignores
padding, dense Adam. Beside the time of an epoch: what the loss adds to the peak of resident memory.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.paired import Condition, alternately, arguments, ratios, show
from recsys.config.sections import TrainingConfig
from recsys.data import Batch, generator
from recsys.embeddings import LocalComm, ShardedEmbeddings
from recsys.models.losses import sampled_softmax_loss
from recsys.models.sequential import gaps_between
from recsys.training.sequential import ITEMS, SequentialTask, model_of
from recsys.training.spec import Fit
from recsys.training.validation import ValidationUsers, ndcg_of, top_k

# Shape suffixes in this file:
#   U users   W = H + 1 places of an example   B examples of a batch   N items   D embedding width
LENGTH, BATCH, NEGATIVES, THREADS = 50, 128, 1024, 2


@dataclass(frozen=True)
class Shop:
    item_nums_UW: NDArray[np.int64]
    """Left-padded with 0; the newest event is the target."""
    num_items: int

    def first(self, users: int) -> Shop:
        return replace(self, item_nums_UW=self.item_nums_UW[:users])


class Side(Protocol):
    def train(self, nums_BW: Tensor, step: int) -> None: ...

    def ndcg(self, users: ValidationUsers) -> float: ...

    def loss_memory(self, nums_BW: Tensor) -> int:
        """Bytes that loss and backward pass add to the peak, given the encoder's answers."""


def settings() -> TrainingConfig:
    return TrainingConfig(
        embedding_dim=64, num_blocks=2, num_heads=2, dropout=0.2, num_negatives=NEGATIVES,
        global_batch_size=BATCH, learning_rate=1e-3, quiet_days=0.0, warmup_steps=0,
    )  # fmt: skip


class Ours:
    def __init__(self, num_items: int) -> None:
        fit = Fit(
            name="benchmark", as_of="2024-06-01", training=settings(), files=(), examples_hash="",
            num_items=num_items, history_length=LENGTH,
        )  # fmt: skip
        self.task = SequentialTask(fit)
        self.embeddings = ShardedEmbeddings(self.task.tables, LocalComm(), seed=17)
        self.optimizer = torch.optim.AdamW(self.task.dense.parameters(), lr=1e-3, weight_decay=0.0)

    def train(self, nums_BW: Tensor, step: int) -> None:
        asked = self.task.ask(batch_of(nums_BW), generator(17, step))
        loss = self.task.loss(asked, self.embeddings.look_up(asked.ids))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.embeddings.update()

    @torch.no_grad()
    def ndcg(self, users: ValidationUsers) -> float:
        self.task.dense.eval()
        self.task.users = users
        found = self.task.validate(self.embeddings, LocalComm())
        self.task.dense.train()
        assert found is not None
        return found

    def loss_memory(self, nums_BW: Tensor) -> int:
        asked = self.task.ask(batch_of(nums_BW), generator(17, 1))
        found, negatives_S = asked.context.predictions, asked.context.negatives_S
        table = self.embeddings.state()[ITEMS]["weight"]
        users_QD = torch.randn(len(found.example_Q), 64, requires_grad=True)
        positives = table[found.item_nums_P].requires_grad_()
        negatives = table[negatives_S].requires_grad_()

        def loss() -> Tensor:
            return sampled_softmax_loss(
                users_QD, positives, negatives, query_of_P=found.query_of_P,
                item_nums_P=found.item_nums_P, negatives_S=negatives_S,
                chances_S=len(negatives_S) / (len(table) - 1),
            )  # fmt: skip

        return added_to_the_peak(loss)


class PaddedFullSoftmax:
    def __init__(self, num_items: int) -> None:
        torch.manual_seed(17)
        self.model = model_of(settings(), num_items=num_items, history_length=LENGTH)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def train(self, nums_BW: Tensor, step: int) -> None:
        users = self._every_place(nums_BW[:, :-1])
        loss = full_softmax(users, self.model.items.weight, nums_BW)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @torch.no_grad()
    def ndcg(self, users: ValidationUsers) -> float:
        self.model.eval()
        items_ND = self.model.items.weight[1:]
        found = ndcg_of(
            users, self.model.user_vectors, lambda q, k: 1 + top_k(q @ items_ND.T, k), LocalComm()
        )
        self.model.train()
        return found

    def loss_memory(self, nums_BW: Tensor) -> int:
        users = torch.randn(len(nums_BW), LENGTH, 64, requires_grad=True)
        items_ND = self.model.items.weight.detach().clone().requires_grad_()
        return added_to_the_peak(lambda: full_softmax(users, items_ND, nums_BW))

    def _every_place(self, nums_BH: Tensor) -> Tensor:
        """(B, H, D): the encoder's answer at each place of each history, through every block."""
        encoder, mask_BH = self.model.encoder, (nums_BH != 0).float()
        gaps_BH = gaps_between(ages_of(nums_BH), mask_BH)
        vectors_BHD = self.model.items(nums_BH)
        asking = encoder._every(gaps_BH, mask_BH)
        x_BHD = encoder.dropout(vectors_BHD + encoder.gap_encoding(gaps_BH))
        for block in encoder.blocks:
            x_BHD = block(x_BHD, x_BHD, asking)
        found: Tensor = encoder.norm(x_BHD) + encoder.recall(vectors_BHD, asking)
        return found


def full_softmax(users_BHD: Tensor, items_ND: Tensor, nums_BW: Tensor) -> Tensor:
    logits = users_BHD.flatten(0, 1) @ items_ND.T
    # A place of padding predicts nothing, also not the first event.
    wanted = torch.where(nums_BW[:, :-1] != 0, nums_BW[:, 1:], 0)
    return nn.functional.cross_entropy(logits, wanted.flatten(), ignore_index=0)


def batch_of(nums_BW: Tensor) -> Batch:
    number = torch.arange(len(nums_BW))
    targets = nums_BW != 0
    targets[:, 0] = False
    return Batch(number, number + 1, nums_BW, ages_of(nums_BW), targets)


def ages_of(nums: Tensor) -> Tensor:
    """An event a day."""
    days = torch.arange(nums.shape[1], 0, -1, dtype=torch.float32).expand(nums.shape)
    return days * (nums != 0)


def added_to_the_peak(loss: Callable[[], Tensor]) -> int:
    """What computing ``loss`` and its gradients adds to this process's resident memory, at most."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work left free would hide what this one takes
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    loss().backward()  # type: ignore[no-untyped-call]
    return max(1, _memory("VmHWM") - before)


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise AssertionError(field)


def epoch(side: Side, shop: Shop, number: int) -> float:
    """One epoch over all users but their newest event; its seconds."""
    nums_UW = torch.from_numpy(shop.item_nums_UW[:, :-1])
    order = torch.randperm(len(nums_UW), generator=generator(number))
    started = time.perf_counter()
    for step, chosen in enumerate(torch.split(order, BATCH)):
        side.train(nums_UW[chosen], 100_000 * number + step)
    return time.perf_counter() - started


def left_out(shop: Shop) -> ValidationUsers:
    nums = torch.from_numpy(shop.item_nums_UW)
    history = nums[:, -LENGTH - 1 : -1]
    return ValidationUsers(history, ages_of(history), torch.arange(len(nums)), nums[:, -1])


def generated(users: int = 22_363, items: int = 12_101, *, seed: int = 17) -> Shop:
    """Histories of 5 events and more, 8.9 on average; the next item is of the next group seven times of ten."""
    random = np.random.default_rng(seed)
    lengths = 5 + np.minimum(random.geometric(1 / 4.88, users) - 1, LENGTH - 3)
    groups = max(2, items // 50)
    nums = np.zeros((users, LENGTH + 2), np.int64)
    group = random.integers(0, groups, users)
    size = items // groups
    for place in range(nums.shape[1]):
        follows = random.random(users) < 0.7
        group = np.where(follows, (group + 1) % groups, random.integers(0, groups, users))
        # Popular within the group: the smaller numbers.
        within = np.minimum(random.geometric(0.08, users) - 1, size - 1)
        real = place >= nums.shape[1] - lengths
        nums[real, place] = 1 + group[real] * size + within[real]
    return Shop(nums, items)


def read(path: Path) -> Shop:
    histories = [
        [int(num) for num in line.split()[1:]] for line in path.read_text().splitlines() if line
    ]
    nums = np.zeros((len(histories), LENGTH + 2), np.int64)
    for row, history in enumerate(histories):
        newest = history[-LENGTH - 2 :]
        nums[row, nums.shape[1] - len(newest) :] = newest
    return Shop(nums, int(nums.max()))


def main(words: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--file", type=Path, help="a user and their items a line; generated by default"
    )
    parser.add_argument("--users", type=int, default=22_363, help="of the generated shop")
    parser.add_argument("--items", type=int, default=12_101, help="of the generated shop")
    parser.add_argument(
        "--epochs", type=int, default=10, help="before NDCG is compared; full run alone"
    )
    asked = parser.parse_args(words)
    torch.set_num_threads(THREADS)
    shop = read(asked.file) if asked.file else generated(asked.users, asked.items)
    # A padded epoch takes most of a minute: it runs on a sample of users, and rates are compared.
    sample = shop.first(256 if asked.quick else 1280)
    facts = {
        "users": len(shop.item_nums_UW), "items": shop.num_items, "users_timed": len(sample.item_nums_UW),
    }  # fmt: skip
    ours, padded = Ours(shop.num_items), PaddedFullSoftmax(shop.num_items)
    taken = alternately(
        {"padded": lambda: epoch(padded, sample, 1), "ours": lambda: epoch(ours, sample, 1)},
        rounds=min(asked.rounds, 3) if asked.quick else asked.rounds,
    )
    show(taken)
    Condition("sequence_epoch", "padded full softmax in plain torch").report(
        ratios(taken, "padded", "ours"), **facts
    )
    batch = torch.from_numpy(shop.item_nums_UW[:BATCH, :-1])
    memory = [ours.loss_memory(batch) / padded.loss_memory(batch) for _ in range(asked.rounds)]
    Condition("sequence_epoch", "peak memory of the loss").report(memory, **facts)
    if not asked.quick:
        compare_quality(shop, asked.epochs, facts)


def compare_quality(shop: Shop, epochs: int, facts: dict[str, int]) -> None:
    users = left_out(shop)
    sides: dict[str, Side] = {
        "ours": Ours(shop.num_items),
        "padded": PaddedFullSoftmax(shop.num_items),
    }
    found = {}
    for name, side in sides.items():
        for number in range(1, epochs + 1):
            seconds = epoch(side, shop, number)
            print(f"{name}, epoch {number} of {epochs}: {seconds:.1f} s", flush=True)
        found[name] = side.ndcg(users)
    Condition("sequence_epoch", "NDCG after equal epochs").report(
        [found["ours"] / found["padded"]],
        epochs=epochs, seeds=1, ndcg_at_10={name: round(value, 5) for name, value in found.items()}, **facts,
    )  # fmt: skip


if __name__ == "__main__":
    main()
