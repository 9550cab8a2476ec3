"""Re-order intervals by literal rows."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import MissingInput
from recsys.recommenders import Shop, Users
from recsys.recommenders.repeat_purchase import RepeatPurchase
from tests.recommenders.worlds import histories, unknown

MILK, SOAP, BOAT = 1, 2, 3


def shop() -> Shop:
    """Milk every 4 days, soap every 40, one boat each."""
    milk = [(day, MILK) for day in range(2, 100, 4)]
    soap = [(day, SOAP) for day in (10, 50, 90)]
    events = sorted([*milk, *soap, (30, BOAT)])
    rows = [[item for _, item in events]] * 20
    days = [[float(day) for day, _ in events]] * 20
    return Shop(3, histories(rows, days), as_of=100.0)


def asked(*events: tuple[int, float]) -> Users:
    nums, days = [item for item, _ in events], [day for _, day in events]
    return unknown(histories([nums], [days]))


def test_the_median_interval_of_an_item_is_learned() -> None:
    learned = RepeatPurchase().fit(shop()).learned

    assert np.exp(learned.log_days[MILK]) == pytest.approx(4, rel=0.05)
    assert np.exp(learned.log_days[SOAP]) == pytest.approx(40, rel=0.4)  # leans on the shop's
    assert learned.again[MILK] > learned.again[SOAP] > learned.again[BOAT]


def test_what_is_due_is_before_what_was_just_bought_and_what_is_bought_once() -> None:
    fitted = RepeatPurchase(horizon_days=5).fit(shop())

    [scores] = fitted.scores(asked((SOAP, 62.0), (BOAT, 70.0), (MILK, 99.9)))
    soap_long_ago = scores[SOAP]
    [scores] = fitted.scores(asked((BOAT, 70.0), (SOAP, 96.0), (MILK, 99.9)))
    soap_just_now = scores[SOAP]

    assert soap_long_ago > 4 * soap_just_now
    assert soap_long_ago > scores[BOAT]


def test_histories_without_days_are_refused_when_asked() -> None:
    fitted = RepeatPurchase().fit(shop())

    with pytest.raises(MissingInput, match=r"repeat_purchase.*no days"):
        fitted.scores(unknown(histories([[MILK]])))
