"""How full the BIN ranges are, told long before one runs out.

Nothing is counted in the database. Numbers are drawn with equal chances, so the share of drawn
numbers that were taken already is the share of the range that is: a sample that costs nothing and
sees every number, live or retired, drawn here or registered by the issuer.
"""

from collections import OrderedDict
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge

_log = structlog.get_logger(__name__)

SAMPLE_DRAWN_MAX = 1_000
"""Numbers of a sample: it is right within 3 percent points 19 times out of 20."""
SAMPLE_DRAWN_MIN = 100
"""Fewer tell nothing; a range with so few numbers left to give is small anyway."""
RANGES_MAX = 10_000
"""Ranges that are watched at once; the one that was silent longest is forgotten."""
WARNED_AT = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Shares at which a warning is logged, once each."""

_fill = Gauge(
    "lifecycle_bin_range_fill_ratio",
    "Share of the card numbers of a BIN range that are or were in use, from a sample.",
    ["issuer_id", "bin"],
)


@dataclass(slots=True)
class _Sample:
    drawn: int = 0
    taken: int = 0
    warned_at: float = 0.0
    is_exhausted: bool = False


class Filling:
    """The samples of one worker. `RangeKey`: issuerId, BIN and length of the numbers."""

    def __init__(self) -> None:
        """Begin with no sample."""
        self._samples: OrderedDict[tuple[str, str, int], _Sample] = OrderedDict()

    def record(self, number_range: tuple[str, str, int], *, drawn: int, taken: int) -> None:
        """Of `drawn` numbers, `taken` were not free."""
        assert 0 <= taken <= drawn, "a part of them"
        sample = self._sample(number_range)
        sample.drawn += drawn
        sample.taken += taken
        if sample.drawn < SAMPLE_DRAWN_MIN:
            return
        self._tell(number_range, sample)
        if sample.drawn >= SAMPLE_DRAWN_MAX:
            # What was drawn long ago counts half as much each time, so that the sample follows.
            sample.drawn //= 2
            sample.taken //= 2

    def record_exhausted(self, number_range: tuple[str, str, int]) -> None:
        """No free number was found for a card, whose command fails."""
        sample = self._sample(number_range)
        if not sample.is_exhausted:
            sample.is_exhausted = True
            _log.error(
                "bin_range_exhausted",
                issuer_id=number_range[0],
                bin=number_range[1],
                advice="give the card product another BIN with PRODUCT_DEFINE",
            )

    def share(self, number_range: tuple[str, str, int]) -> float | None:
        """How full a range is, 0 to 1; None as long as too few numbers were drawn."""
        sample = self._samples.get(number_range)
        if sample is None or sample.drawn < SAMPLE_DRAWN_MIN:
            return None
        return sample.taken / sample.drawn

    def _sample(self, number_range: tuple[str, str, int]) -> _Sample:
        sample = self._samples.get(number_range)
        if sample is None:
            sample = self._samples[number_range] = _Sample()
            if len(self._samples) > RANGES_MAX:
                (issuer_id, bin_, _), _ = self._samples.popitem(last=False)
                _fill.remove(issuer_id, bin_)
        self._samples.move_to_end(number_range)
        return sample

    def _tell(self, number_range: tuple[str, str, int], sample: _Sample) -> None:
        issuer_id, bin_, _ = number_range
        share = sample.taken / sample.drawn
        _fill.labels(issuer_id, bin_).set(share)
        reached = max((mark for mark in WARNED_AT if share >= mark), default=0.0)
        if reached > sample.warned_at:
            sample.warned_at = reached
            _log.warning(
                "bin_range_filling",
                issuer_id=issuer_id,
                bin=bin_,
                share=round(share, 2),
                advice="give the card product another BIN with PRODUCT_DEFINE before it is full",
            )
