"""What prompts have in common, and rows in which it is read once: a beginning, a trunk, questions, answers.

beginning (worked examples; kept by the scorer) -> trunk (a passage that several questions are about) -> question -> its
answers. A row holds one trunk with all that grows from it; each token sees its own ancestors and nothing of its
neighbours, at the positions that it would have in a prompt of its own.
"""

# B rows, T tokens, U scored positions, S scored tokens

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from configs.prompts import Branch

LEAST = 32
"""Tokens that a trunk must have to be worth a row of its own: below, padding costs what it saves."""
PART = 0.5
"""Least part of a question, counted after the kept beginning, that the trunk must be."""
WIDE = 2
"""What grows from a trunk is at most so many times as long: all tokens of a row are compared with one another."""


PADDING, ENOUGH = 0.05, 1024
"""A forward pass of so many tokens ends where padding would be a greater part of them: it is wide enough to be fast."""
KEPT_PARTS = 16
"""Forward passes of a call whose rows are kept for the second model: a batch of evaluation is a few."""


class Group(NamedTuple):
    """Branches that go into one row."""

    members: tuple[int, ...]
    trunk: int
    """Tokens after the kept beginning that all of them share; 0 for a branch by itself."""


@dataclass
class Rows:
    """Padded rows of one forward pass, and which of their positions are scored for which next tokens."""

    groups: list[Group]
    ids_BT: Tensor
    positions_BT: Tensor
    seen_BTT: Tensor | None
    """Whether a token sees another of its row; None where it sees all before it."""
    real_BT: Tensor
    """1 where a token is real, 0 where it is padding."""
    row_U: list[int]
    at_U: list[int]
    place_S: list[int]
    """Position among the U."""
    target_S: list[int]
    owner_S: list[int]
    """The follower that a scored token belongs to, counted over all branches of the call."""

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return int(self.real_BT.sum())


class _Segment(NamedTuple):
    """A run of tokens in a row: it sees itself causally, the trunk, and the question that it follows."""

    row: int
    start: int
    ids: list[int]
    position: int
    trunk: int
    question: tuple[int, int]


def beginning(contexts: Sequence[list[int]]) -> int:
    """How many first tokens all contexts share, so that each has at least one more.

    >>> beginning([[1, 2, 3], [1, 2, 4, 5]]), beginning([[1, 2], [1, 2, 3]])
    (2, 1)
    """
    if not contexts:
        return 0
    first, last = min(contexts), max(contexts)
    return min(_alike(first, last), min(map(len, contexts)) - 1)


def groups_of(branches: Sequence[Branch], shared: int) -> list[Group]:
    """Branches about the same passage together, each group to be one row, by the width of the row."""
    rests = [branch.context[shared:] for branch in branches]
    answers = [sum(len(follower) - 1 for follower in branch.followers) for branch in branches]

    def grown(members: Sequence[int], trunk: int) -> int:
        return sum(len(rests[member]) - trunk + answers[member] for member in members)

    found, members, trunk = list[Group](), list[int](), 0
    for here in sorted(range(len(rests)), key=rests.__getitem__):
        joined = [*members, here]
        alike = min(trunk, _alike(rests[members[0]], rests[here]), len(rests[here]) - 1) if members else 0
        enough = max(LEAST, PART * max(len(rests[member]) for member in joined))
        if alike >= enough and grown(joined, alike) <= WIDE * alike:
            members, trunk = joined, alike
            continue
        if members:
            found.append(Group(tuple(members), trunk if len(members) > 1 else 0))
        members, trunk = [here], len(rests[here]) - 1
    if members:
        found.append(Group(tuple(members), trunk if len(members) > 1 else 0))
    widths = {group: group.trunk + grown(group.members, group.trunk) for group in found}
    return sorted(found, key=lambda group: (widths[group], group.members))


def width(branches: Sequence[Branch], group: Group, shared: int) -> int:
    """Tokens of a group's row."""
    grown = [
        len(branches[member].context) - shared - group.trunk + sum(len(one) - 1 for one in branches[member].followers)
        for member in group.members
    ]
    return group.trunk + sum(grown)


def _alike(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(left), len(right)))


def by_budget(costs: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions in groups, in order, so that a group's size times its largest cost stays within the budget.

    >>> list(by_budget([3, 3, 5, 9], 10))
    [[0, 1], [2], [3]]
    """
    group, largest = list[int](), 0
    for position, cost in enumerate(costs):
        if group and (len(group) + 1) * max(largest, cost) > budget:
            yield group
            group, largest = [], 0
        group.append(position)
        largest = max(largest, cost)
    if group:
        yield group


def by_width(costs: Sequence[int], budget: int) -> list[list[int]]:
    """The same, and with little padding, for costs in order of their size.

    >>> by_width([600, 600, 1500], 9000)
    [[0, 1], [2]]
    """
    found = []
    for part in by_budget(costs, budget):
        start, total = 0, 0
        for at, position in enumerate(part):
            wide = (at - start + 1) * costs[position]
            if total >= ENOUGH and wide > (1 + PADDING) * (total + costs[position]):
                found.append(part[start:at])
                start, total = at, 0
            total += costs[position]
        found.append(part[start:])
    return found


# ---------------------------------------------------------------- rows


class Plan:
    """The forward passes of one call: made once, and taken again when the second model is asked the same."""

    def __init__(self, branches: Sequence[Branch], budget: int, shared: int, *, together: bool) -> None:
        self.branches, self.wish, self.together = branches, (budget, shared), together
        if together:
            groups = groups_of(branches, shared)
            costs = [width(branches, group, shared) for group in groups]
        else:
            of_each = [sum(len(one.context) + len(follower) for follower in one.followers) for one in branches]
            order = sorted(range(len(branches)), key=lambda member: (of_each[member], member))
            groups, costs = [Group((member,), 0) for member in order], [of_each[member] for member in order]
        room = max(1, budget - shared) if together else budget
        self.parts = [[groups[at] for at in part] for part in by_width(costs, room)]
        self.made: dict[tuple[Group, ...], Rows] = {}

    def holds(self, branches: Sequence[Branch], budget: int, shared: int, *, together: bool) -> bool:
        """Whether it is the plan of the very same branches."""
        return self.branches is branches and self.wish == (budget, shared) and self.together == together

    def rows(self, groups: list[Group]) -> Rows:
        """The rows of one part, or of a half of it."""
        key = tuple(groups)
        if key not in self.made:
            if len(self.made) >= KEPT_PARTS:
                self.made.clear()
            shared = self.wish[1]
            self.made[key] = packed(self.branches, groups, shared) if self.together else whole(self.branches, groups)
        return self.made[key]


def packed(branches: Sequence[Branch], groups: list[Group], shared: int) -> Rows:
    """The rows of some groups after `shared` tokens that are kept."""
    segments, scored, owners = list[_Segment](), list[tuple[int, int, int, int]](), _owners(branches)
    for row, group in enumerate(groups):
        at = group.trunk
        if group.trunk:
            ids = branches[group.members[0]].context[shared : shared + group.trunk]
            segments.append(_Segment(row, 0, ids, shared, 0, (0, 0)))
        for member in group.members:
            at = _grow(branches[member], owners[member], (row, at, shared, group.trunk), segments, scored)
    return _filled(groups, segments, scored)


def columns_of(groups: list[Group], contexts: Sequence[list[int]], shared: int) -> list[tuple[int, int, list[int]]]:
    """Member, row, and columns of each context's own tokens in the rows of `packed`, where nothing follows them."""
    found = []
    for row, (members, trunk) in enumerate(groups):
        at = trunk
        for member in members:
            end = at + len(contexts[member]) - shared - trunk
            found.append((member, row, [*range(trunk), *range(at, end)]))
            at = end
    return found


def whole(branches: Sequence[Branch], groups: list[Group]) -> Rows:
    """The same with a row of its own for every answer; answers that differ in their last token alone share one."""
    segments, scored, owners = list[_Segment](), list[tuple[int, int, int, int]](), _owners(branches)
    rows: dict[tuple[int, ...], int] = {}
    for member in (member for group in groups for member in group.members):
        context = branches[member].context
        for owner, follower in enumerate(branches[member].followers, owners[member]):
            ids = context + follower[:-1]
            row = rows.setdefault(tuple(ids), len(rows))
            if row == len(rows) - 1 and (not segments or segments[-1].row != row):
                segments.append(_Segment(row, 0, ids, 0, 0, (0, 0)))
            scored += [(row, len(context) - 1 + step, token, owner) for step, token in enumerate(follower)]
    return _filled(groups, segments, scored)


def _owners(branches: Sequence[Branch]) -> list[int]:
    """The number of each branch's first follower, counted over all branches."""
    return [0, *np.cumsum([len(branch.followers) for branch in branches]).tolist()]


def _grow(
    branch: Branch,
    owner: int,
    place: tuple[int, int, int, int],
    segments: list[_Segment],
    scored: list[tuple[int, int, int, int]],
) -> int:
    """Append a question and its answers at `place` (row, column, kept tokens, trunk); returns the column after them."""
    row, at, shared, trunk = place
    question = branch.context[shared + trunk :]
    end = at + len(question)
    if len(branch.followers) == 1:  # an only answer goes on in its question's own segment
        [follower] = branch.followers
        segments.append(_Segment(row, at, question + follower[:-1], shared + trunk, trunk, (0, 0)))
        scored += [(row, end - 1 + step, token, owner) for step, token in enumerate(follower)]
        return end + len(follower) - 1
    segments.append(_Segment(row, at, question, shared + trunk, trunk, (0, 0)))
    here = end
    for number, follower in enumerate(branch.followers, owner):
        scored.append((row, end - 1, follower[0], number))
        scored += [(row, here + step, token, number) for step, token in enumerate(follower[1:])]
        if len(follower) > 1:
            segments.append(_Segment(row, here, follower[:-1], len(branch.context), trunk, (at, end)))
            here += len(follower) - 1
    return here


def _filled(groups: list[Group], segments: list[_Segment], scored: list[tuple[int, int, int, int]]) -> Rows:
    """Segments as tensors."""
    rows = segments[-1].row + 1
    wide = max(segment.start + len(segment.ids) for segment in segments)
    ids_BT, positions_BT, real_BT = (np.zeros((rows, wide), dtype=np.int64) for _ in range(3))
    sees_4BT = np.zeros((4, rows, wide), dtype=np.int64)
    sees_4BT[0] = np.arange(wide)  # padding sees itself, or its softmax would be over nothing
    for segment in segments:
        where = np.s_[segment.row, segment.start : segment.start + len(segment.ids)]
        ids_BT[where], real_BT[where] = segment.ids, 1
        positions_BT[where] = np.arange(segment.position, segment.position + len(segment.ids))
        bounds = (segment.start, segment.trunk, *segment.question)
        for axis, bound in enumerate(bounds):
            sees_4BT[axis][where] = bound
    places = {place: number for number, place in enumerate(dict.fromkeys((row, at) for row, at, _, _ in scored))}
    return Rows(
        groups,
        torch.from_numpy(ids_BT),
        torch.from_numpy(positions_BT),
        _seen(torch.from_numpy(sees_4BT)) if len(segments) > rows else None,
        torch.from_numpy(real_BT),
        [row for row, _ in places],
        [at for _, at in places],
        [places[row, at] for row, at, _, _ in scored],
        [target for _, _, target, _ in scored],
        [owner for *_, owner in scored],
    )


def _seen(sees_4BT: Tensor) -> Tensor:
    """Which tokens of a row a token sees: its own segment up to itself, its trunk, and the question before it."""
    own_BT1, trunk_BT1, first_BT1, end_BT1 = sees_4BT[..., None]
    columns_T = torch.arange(sees_4BT.shape[-1])
    before_TT = columns_T <= columns_T[:, None]
    question_BTT = (columns_T >= first_BT1) & (columns_T < end_BT1)
    seen_BTT: Tensor = ((columns_T >= own_BT1) | (columns_T < trunk_BT1) | question_BTT) & before_TT
    return seen_BTT
