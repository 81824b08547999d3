"""Records of any stage as a person sees them; a comparison as its report has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.records import Comparison
from configs.view import record_view
from eval.report import difference_table
from eval.sentences import cost, headline, pooled

if TYPE_CHECKING:
    from configs.view import Found


def views(found: list[Found]) -> list[Any]:
    """Texts and tables for each record."""
    shown: list[Any] = []
    for it in found:
        if isinstance(it.record, Comparison):
            table = difference_table([*it.record.differences, *it.record.general])
            shown += [headline(it.record), table, *map(pooled, it.record.pooled), cost(it.record)]
        else:
            shown.append(record_view(it))
    return shown
