"""The ranking model as a task: what was taken at a place of a history, told from what was not, by logistic loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.config.ranking import RankingConfig
from recsys.data import Batch, Examples, generator
from recsys.embeddings import (
    Bags,
    Comm,
    EmbeddingTable,
    LazyAdam,
    RowwiseAdagrad,
    Sgd,
    ShardedEmbeddings,
)
from recsys.embeddings.tables import RowRule
from recsys.models.places import Predictions, prediction_places
from recsys.models.ranking import INITIAL_STD, RankingTower, ranking_loss
from recsys.models.ranking_fields import (
    CANDIDATE_FIELDS,
    HISTORY,
    USER_FIELDS,
    Attributes,
    Moments,
    candidate_numbers,
    candidate_rows,
    events_known,
    moments_of,
    user_rows,
)
from recsys.training.negatives import ItemDraw
from recsys.training.seeded import seeded
from recsys.training.task import Asked
from recsys.training.validation import ValidationUsers

# Shape suffixes in this file:
#   B examples of the batch   W places of an example   Q query places   P positives   M items shown for each
#   H newest items of a history   T targets of validation   S items shown in validation, flat
VALIDATION = 4
"""Part of the seed of the negatives of validation: no stream of training is the same."""

TARGETS_PER_BATCH = 2048
BINS_PER_LOGIT, LARGEST_LOGIT = 512, 16
"""The AUC of all ranks together is counted in bins: no rank has to see the others' scores."""


@dataclass(frozen=True)
class Context:
    """What the loss needs of a batch beside the vectors."""

    query_of_P: Tensor
    numbers_PM1: Tensor
    weights_PM: Tensor


@dataclass(frozen=True)
class Answers:
    """What the model says of items shown to validation users: this rank's share."""

    user_S: NDArray[np.int64]
    """Row among all validation users."""
    taken_S: NDArray[np.bool_]
    logits_S: NDArray[np.float32]
    item_nums_S: NDArray[np.int64]


class RankingTask:
    """Each target event is a positive at the newest place that is at least ``quiet_days`` before it.

    Places that know fewer events than scoring would are left out, unless the user had no more (``events_known``).
    """

    metric = "auc"

    def __init__(
        self,
        config: RankingConfig,
        attributes: Attributes,
        *,
        as_of: date,
        max_length: int,
        quiet_days: float,
        seed: int,
        users: ValidationUsers | None = None,
    ) -> None:
        """``attributes`` and ``users`` are those of ``as_of``, as the examples of ``max_length`` + 1 places are."""
        self.config, self.attributes, self.as_of = config, attributes, as_of
        self.events_known = events_known(max_length)
        self.quiet_days, self.seed, self.users = quiet_days, seed, users
        self.draw_items = ItemDraw(attributes.num_events_I, config.num_negatives)
        with seeded(seed):
            self.tower = tower_of(config)
        self.dense: nn.Module = nn.ModuleDict({"tower": self.tower})
        self.tables = tables_of(config, attributes)

    def keep(self, examples: Examples) -> Examples:
        found = self._predictions(
            examples.user_num_E, examples.item_nums_EW, examples.ages_days_EW, examples.targets_EW
        )
        is_kept_E = torch.zeros(len(examples), dtype=torch.bool)
        is_kept_E[found.example_Q] = True
        return examples.kept(is_kept_E)

    def ask(self, batch: Batch, draw: torch.Generator) -> Asked:
        found = self._predictions(
            batch.user_num_B, batch.item_nums_BW, batch.ages_days_BW, batch.targets_BW
        )
        moments = self._moments(batch.user_num_B, batch.item_nums_BW, batch.ages_days_BW, found)
        items_PM, weights_PM = self.draw_items.shown(found.query_of_P, found.item_nums_P, draw)
        return self._asked(moments, found.query_of_P, items_PM, weights_PM, learns=True)

    def loss(self, asked: Asked, vectors: Mapping[str, Tensor]) -> Tensor:
        logits_PM = self._logits(asked, vectors)
        return ranking_loss(logits_PM, asked.context.weights_PM.to(logits_PM.device))

    def validate(
        self,
        embeddings: ShardedEmbeddings,
        comm: Comm,
        each_batch: Callable[[], None] = lambda: None,
    ) -> float | None:
        """AUC over what all users took and were shown, in bins of 1/512 of a logit."""
        if self.users is None:
            return None
        answers = self.answers(embeddings, comm, each_batch)
        place = (answers.logits_S.astype(np.float64) + LARGEST_LOGIT) * BINS_PER_LOGIT
        bins = 2 * LARGEST_LOGIT * BINS_PER_LOGIT
        bin_S = np.clip(np.nan_to_num(place), 0, bins - 1).astype(np.int64)
        mine = [np.bincount(bin_S[answers.taken_S == taken], minlength=bins) for taken in (1, 0)]
        total = np.array(comm.sum(np.concatenate(mine).astype(np.float64).tolist(), "validation"))
        taken, not_taken = total[:bins], total[bins:]
        pairs = taken.sum() * not_taken.sum()
        below = np.cumsum(not_taken) - 0.5 * not_taken
        return float((taken * below).sum() / pairs) if pairs else 0.5

    @torch.no_grad()
    def answers(
        self,
        embeddings: ShardedEmbeddings,
        comm: Comm,
        each_batch: Callable[[], None] = lambda: None,
    ) -> Answers:
        """The logits of every known target and of negatives that the seed alone decides. Collective.

        A target that the vocabulary does not have yet cannot be scored and is left out.
        """
        assert self.users is not None, "validation users are needed"
        known_T = self.users.target_item_nums_T > 0
        user_T, item_nums_T = self.users.user_T[known_T], self.users.target_item_nums_T[known_T]
        draw = generator(self.seed, VALIDATION)
        items_TM, weights_TM = self.draw_items.shown(user_T, item_nums_T, draw)
        moments = self._newest_moments(self.users)
        parts = []
        for start in range(0, max(1, len(user_T)), TARGETS_PER_BATCH):
            each_batch()
            # The same number of batches on every rank, whatever its share: look_up is collective.
            mine = slice(start + comm.rank, start + TARGETS_PER_BATCH, comm.size)
            user_P, items_PM, shown_PM = user_T[mine], items_TM[mine], weights_TM[mine] > 0
            asked = self._asked(
                moments.at(user_P.numpy()), torch.arange(len(user_P)), items_PM, shown_PM
            )
            logits_PM = self._logits(asked, embeddings.look_up(asked.ids, learn=False))
            taken_PM = torch.zeros_like(shown_PM)
            taken_PM[:, :1] = True
            owner_PM = user_P.unsqueeze(1).expand_as(items_PM)
            parts.append([
                column[shown_PM].numpy()
                for column in (owner_PM, taken_PM, logits_PM.float().cpu(), items_PM)
            ])  # fmt: skip
        return Answers(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _predictions(
        self, user_num_B: Tensor, item_nums_BW: Tensor, ages_BW: Tensor, targets_BW: Tensor
    ) -> Predictions:
        """A window that begins with padding begins with the user's first event, if their history was not cut.

        One that is full may do so too; it is taken for a later one.
        """
        is_cut_B = torch.from_numpy(self.attributes.is_cut_U)[user_num_B.long()]
        is_whole_B = (item_nums_BW[:, 0] == 0) & ~is_cut_B
        num_known_BW = (item_nums_BW != 0).cumsum(dim=1)
        return prediction_places(
            item_nums_BW, ages_BW, targets_BW, quiet_days=self.quiet_days,
            may_predict_BH=is_whole_B.unsqueeze(1) | (num_known_BW >= self.events_known),
        )  # fmt: skip

    def _asked(
        self,
        moments: Moments,
        query_of_P: Tensor,
        items_PM: Tensor,
        weights_PM: Tensor,
        *,
        learns: bool = False,
    ) -> Asked:
        items, shown_to = items_PM.numpy(), moments.at(query_of_P.numpy())
        of_users = user_rows(moments, history_bag=self.config.history_bag)
        history_QH = of_users.pop(HISTORY)
        of_candidates = candidate_rows(
            self.attributes, shown_to, items, cross_rows=self.config.cross_rows
        )
        ids: dict[str, Tensor | Bags] = {
            name: torch.from_numpy(rows) for name, rows in {**of_users, **of_candidates}.items()
        }
        ids[HISTORY] = bags(torch.from_numpy(history_QH))
        numbers_PM1 = torch.from_numpy(
            candidate_numbers(self.attributes, items, first_is_counted=learns)
        )
        return Asked(ids, Context(query_of_P, numbers_PM1, weights_PM))

    def _logits(self, asked: Asked, vectors: Mapping[str, Tensor]) -> Tensor:
        context: Context = asked.context
        users_QUD = torch.stack([vectors[name] for name in USER_FIELDS], dim=1)
        candidates_PMCD = torch.stack([vectors[name] for name in CANDIDATE_FIELDS], dim=2)
        device = candidates_PMCD.device
        logits_PM: Tensor = self.tower(
            users_QUD[context.query_of_P.to(device)],
            candidates_PMCD,
            context.numbers_PM1.to(device),
        )
        return logits_PM

    def _moments(
        self, user_num_B: Tensor, item_nums_BW: Tensor, ages_BW: Tensor, found: Predictions
    ) -> Moments:
        """What was known at each place that predicts: its own event and those before it, as scoring knows them."""
        back_H = torch.arange(1 - self.events_known, 1)
        place_QH = found.place_Q.unsqueeze(1) + back_H
        example_Q1, real_QH = found.example_Q.unsqueeze(1), place_QH >= 0
        history_QH = item_nums_BW[example_Q1, place_QH.clamp(min=0)] * real_QH
        ages_QH = ages_BW[example_Q1, place_QH.clamp(min=0)] * real_QH
        return moments_of(
            self.attributes, user_num_B[found.example_Q].long().numpy(),
            history_QH.long().numpy(), ages_QH.numpy(), self.as_of,
        )  # fmt: skip

    def _newest_moments(self, users: ValidationUsers) -> Moments:
        """Every user at the newest place of their history: as scoring sees them."""
        size, length = users.item_nums_UH.shape
        newest = Predictions(
            torch.arange(size), torch.full((size,), length - 1), torch.arange(0), torch.arange(0)
        )
        return self._moments(users.user_num_U, users.item_nums_UH, users.ages_days_UH, newest)


def tower_of(config: RankingConfig) -> RankingTower:
    """The architecture that ``config`` names, its weights drawn from torch's own generator."""
    return RankingTower(
        interaction=config.interaction,
        embedding_dim=config.embedding_dim,
        num_negatives=config.num_negatives,
        hidden=config.hidden,
        num_cross_layers=config.num_cross_layers,
        cross_rank=config.cross_rank,
        dropout=config.dropout,
        field_dropout=config.field_dropout,
    )


def tables_of(config: RankingConfig, attributes: Attributes) -> tuple[EmbeddingTable, ...]:
    """A table per field; row 0 of each is zeros and stays so."""
    rule = _rule(config)
    return tuple(
        EmbeddingTable(
            name, rows, config.embedding_dim, rule, padding=True, initial_std=INITIAL_STD,
            pooling="mean" if name == HISTORY else "none",
        )
        for name, rows in attributes.table_rows(config.cross_rows).items()
    )  # fmt: skip


def bags(history_QH: Tensor) -> Bags:
    """The items of each row; a row of zeros is an empty bag."""
    real_QH = history_QH != 0
    lengths_Q = real_QH.sum(dim=1)
    return Bags(history_QH[real_QH], lengths_Q.cumsum(0) - lengths_Q)


def _rule(config: RankingConfig) -> RowRule:
    match config.update_rule:
        case "adagrad":
            return RowwiseAdagrad(config.embedding_learning_rate)
        case "adam":
            return LazyAdam(config.embedding_learning_rate)
        case "sgd":
            return Sgd(config.embedding_learning_rate)
