"""A network over packed histories as a task: every event is told from a sample of the catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from recsys.data import Batch, Examples
from recsys.embeddings import Bags, Comm, EmbeddingTable, LazyAdam, ShardedEmbeddings
from recsys.models.losses import sampled_softmax_loss
from recsys.models.packed import Packed, PackedTransformer, predictions, segments
from recsys.models.places import Predictions
from recsys.models.recurrent import PackedRecurrent
from recsys.training.checkpoint import read_arrays
from recsys.training.histories_config import HistoriesConfig
from recsys.training.item_attributes import ItemAttributes
from recsys.training.sampled_items import ItemSample, chances_of
from recsys.training.seeded import seeded
from recsys.training.spec import Fit
from recsys.training.task import Asked
from recsys.training.validation import USERS_PER_BATCH, ValidationUsers, read_users

# Shape suffixes in this file:
#   B rows of the batch   W places of a row   Q query places   P predictions   S negatives   D embedding width
#   N catalogue (num_items + 1)   U users   H newest events   G users of one length
ITEMS = "items"
"""The table of what was bought and what is offered; row 0 is padding."""

ATTRIBUTES = "attributes"
"""The table of what items are."""

K = 10
EVENTS_AT_ONCE = 512
"""Vectors are computed for about so many events of users of one length at a time, never for fewer: products of other
shapes may round otherwise, and a user's vector must not depend on who else is asked about."""


@dataclass(frozen=True)
class FadingAdam(LazyAdam):
    """Adam on rows, its rate as the section's other rates rise and fall."""

    pace: HistoriesConfig | None = None

    def rate(self, step: int) -> float:
        share = self.pace.share_of_rate(step) if self.pace else 1.0
        return super().rate(step) * share


@dataclass
class Context:
    """What the loss needs of a batch beside the vectors."""

    packed: Packed
    predictions: Predictions
    negatives_S: Tensor
    chances_S: Tensor
    distinct_of: Tensor | None = None
    """Which of the distinct items each id is, where their attributes are asked for."""

    def to(self, device: torch.device) -> Context:
        return Context(
            Packed(*(column.to(device) for column in self.packed)),
            Predictions(*(column.to(device) for column in self.predictions)),
            self.negatives_S.to(device),
            self.chances_S.to(device),
            None if self.distinct_of is None else self.distinct_of.to(device),
        )


class HistoriesTask:
    """Rows of ``histories_files.packed_rows`` in, sampled softmax over what came next."""

    metric = "ndcg_at_10"

    def __init__(self, fit: Fit, config: HistoriesConfig) -> None:
        self.config, self.num_items = config, fit.num_items
        facts = read_arrays(Path(fit.attributes))
        self.attributes = ItemAttributes.of(facts) if config.attributes else None
        self.sample = ItemSample(
            chances_of(
                facts["num_events_I"], config.num_negatives, power=config.popularity_power,
                popular_share=config.popular_share,
            )
        )  # fmt: skip
        self.users: ValidationUsers | None = None
        if fit.validation:
            self.users = read_users(Path(fit.validation), history_length=config.max_length)
        with seeded(fit.training.seed):
            self.network = network_of(config)
        self.dense: nn.Module = nn.ModuleDict({"network": self.network})
        self.tables = tables_of(config, fit.num_items, self.attributes)

    def keep(self, examples: Examples) -> Examples:
        """All: every row holds histories of two events or more."""
        return examples

    def ask(self, batch: Batch, draw: torch.Generator) -> Asked:
        nums_BW = batch.item_nums_BW
        packed = Packed(segments(nums_BW, batch.targets_BW), batch.ages_days_BW)
        found = predictions(nums_BW, packed, quiet_days=self.config.quiet_days)
        negatives_S, chances_S = self.sample.draw(draw)
        # What a row predicts, it also reads, but for what comes last: one look-up of each place serves both.
        ids = torch.cat([nums_BW.flatten(), found.item_nums_P, negatives_S])
        context = Context(packed, found, negatives_S, chances_S)
        if self.attributes is None:
            return Asked({ITEMS: ids}, context)
        distinct, context.distinct_of = torch.unique(ids, return_inverse=True)
        return Asked({ITEMS: ids, ATTRIBUTES: self.attributes.bags(distinct)}, context)

    def loss(self, asked: Asked, vectors: Mapping[str, Tensor]) -> Tensor:
        """Mean over the places that predict; the lines of one visit share the weight of one prediction."""
        context: Context = asked.context.to(vectors[ITEMS].device)
        found = context.predictions
        segment_BW = context.packed.segment_RW
        all_vectors = vectors[ITEMS]
        if context.distinct_of is not None:
            all_vectors = all_vectors + vectors[ATTRIBUTES][context.distinct_of]
        history, positives_PD, negatives_SD = all_vectors.split_with_sizes(
            [segment_BW.numel(), len(found.item_nums_P), len(context.negatives_S)]
        )
        x_BWD = self.network(history.view(*segment_BW.shape, -1), context.packed)
        users_QD = x_BWD[found.example_Q, found.place_Q]
        num_predicted_Q = torch.bincount(found.query_of_P, minlength=len(users_QD))
        return sampled_softmax_loss(
            users_QD, positives_PD, negatives_SD,
            query_of_P=found.query_of_P, item_nums_P=found.item_nums_P,
            negatives_S=context.negatives_S, chances_S=context.chances_S,
            weights_P=1.0 / num_predicted_Q[found.query_of_P],
        )  # fmt: skip

    @torch.no_grad()
    def validate(
        self, embeddings: ShardedEmbeddings, comm: Comm, each_batch: Callable[[], None] = lambda: None
    ) -> float | None:  # fmt: skip
        """NDCG@10 of one target a user, over the full catalogue; ties go to the smaller item number.

        Where the lists leave out what the user had, so does this, as far as the network looks back.
        """
        if self.users is None:
            return None
        catalogue = torch.arange(self.num_items + 1)
        asked: dict[str, Tensor | Bags] = {ITEMS: catalogue}
        if self.attributes is not None:
            asked[ATTRIBUTES] = self.attributes.bags(catalogue)
        items_ND = torch.stack(list(embeddings.look_up(asked, learn=False).values())).sum(dim=0)
        mine = self.users.share(comm.rank, comm.size)
        gain = 0.0
        for start in range(0, len(mine), USERS_PER_BATCH):
            each_batch()
            rows = slice(start, start + USERS_PER_BATCH)
            nums_UH, targets_U = mine.item_nums_UH[rows], mine.target_item_nums_T[rows]
            users_UD = user_vectors(self.network, items_ND, nums_UH, mine.ages_days_UH[rows])
            scores_UN = (users_UD @ items_ND.T).cpu()
            if self.config.exclude_seen:
                scores_UN.scatter_(1, nums_UH, -math.inf)
            scores_UN[:, 0] = -math.inf
            scores_UN.nan_to_num_(nan=-math.inf, neginf=-math.inf)
            of_target_U1 = scores_UN.gather(1, targets_U.unsqueeze(1))
            before_UN = scores_UN > of_target_U1
            before_UN |= (scores_UN == of_target_U1) & (catalogue < targets_U.unsqueeze(1))
            rank_U = before_UN.sum(dim=1)
            is_listed_U = (rank_U < K) & (of_target_U1.squeeze(1) > -math.inf)
            gains = torch.where(is_listed_U, 1.0 / torch.log2(rank_U.double() + 2.0), 0.0)
            gain += math.fsum(gains.tolist())
        total, num_users = comm.sum([gain, float(len(mine))], "validation")
        return total / num_users if num_users else 0.0


def tables_of(
    config: HistoriesConfig, num_items: int, attributes: ItemAttributes | None
) -> tuple[EmbeddingTable, ...]:
    """Items, and where they count, attributes; both of ``config.initial_norm``."""
    width, std = config.embedding_dim, config.initial_norm * config.embedding_dim**-0.5
    rule = FadingAdam(config.table_learning_rate, pace=config)
    items = EmbeddingTable(ITEMS, num_items + 1, width, rule, initial_std=std, padding=True)
    if attributes is None:
        return (items,)
    rows = max(1, attributes.num_attributes)
    return items, EmbeddingTable(ATTRIBUTES, rows, width, rule, pooling="mean", initial_std=std)


def network_of(config: HistoriesConfig) -> nn.Module:
    """The network that ``config`` names, its weights drawn from torch's own generator."""
    if config.network == "recurrent":
        return PackedRecurrent(
            embedding_dim=config.embedding_dim, num_places=config.max_length + 1, num_layers=config.num_blocks,
            num_heads=config.num_heads, dropout=config.dropout, days=config.days,
        )  # fmt: skip
    return PackedTransformer(
        embedding_dim=config.embedding_dim, num_places=config.max_length + 1, num_blocks=config.num_blocks,
        num_heads=config.num_heads, dropout=config.dropout, days=config.days,
    )  # fmt: skip


def users_at_once(length: int) -> int:
    """By the length alone."""
    return 8 * min(8, max(1, EVENTS_AT_ONCE // (8 * length)))


@torch.no_grad()
def user_vectors(
    network: nn.Module, items_ND: Tensor, item_nums_UH: Tensor, ages_UH: Tensor
) -> Tensor:
    """(U, D) users as of the cut-off; zeros for an empty history. Histories of one length go together, unpadded.

    Shape:
        item_nums_UH   (U, H) int64, left-padded with 0
        ages_UH        (U, H) float32, days
    """
    lengths_U = (item_nums_UH != 0).sum(dim=1)
    found_UD = items_ND.new_zeros(len(item_nums_UH), items_ND.shape[1])
    for length in torch.unique(lengths_U[lengths_U > 0]).tolist():
        at_once = users_at_once(length)
        for users_G in (lengths_U == length).nonzero().squeeze(1).split(at_once):
            filled_G = users_G[torch.arange(at_once) % len(users_G)]
            nums = item_nums_UH[filled_G, -length:].to(items_ND.device)
            ages = ages_UH[filled_G, -length:].to(items_ND.device)
            x = network(items_ND[nums], Packed(torch.ones_like(nums), ages))
            found_UD[users_G.to(items_ND.device)] = x[: len(users_G), -1]
    return found_UD
