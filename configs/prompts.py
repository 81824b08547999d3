"""Prompts: worked examples, question, answers; built and tokenised once for all models.

Text and boundaries are those of lm-evaluation-harness: description, examples joined by `fewshot_delimiter`, then the
question; an answer is `target_delimiter` + choice. All items of a task share the same worked examples.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from configs.chat import ChatTokenizer
from configs.seams import Seams
from configs.store import digest_bytes, hashed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from configs.items import Item
    from configs.task import Task


class Branch(NamedTuple):
    """A context and what may follow it, as token ids. What follows is scored given the context."""

    context: list[int]
    followers: list[list[int]]


class Prompt(NamedTuple):
    """An item as the model sees it."""

    item: Item
    branches: list[Branch]
    """One with a follower per choice; one with none for generation; one per window for a rolling likelihood."""
    truncated: bool
    """The context lost its beginning to fit."""
    digest: str
    """sha256 of the item and the token ids."""


def unasked(pool: Sequence[Item], test: Sequence[Item]) -> list[Item]:
    """The rows of a split for examples that are no test question."""
    asked = {(item.text, item.choices) for item in test}
    return [item for item in pool if (item.text, item.choices) not in asked]


def examples(task: Task, pool: Sequence[Item], shots: int, seed: int) -> list[Item]:
    """The worked examples of a task, the same for every question."""
    if task.fewshot_config.sampler == "first_n":
        return list(pool[:shots])
    return sorted(pool, key=lambda item: hashed(seed, f"shots {task.task}", item.digest))[:shots]


def block(task: Task, shown: Sequence[Item]) -> str:
    """Everything before the question: description and worked examples."""
    solved = [f"{item.text}{task.target_delimiter if item.text else ''}{item.target}" for item in shown]
    return task.description + "".join(example + task.fewshot_delimiter for example in solved)


def prompts(
    task: Task, items: Sequence[Item], before: str, tokenizer: PreTrainedTokenizerBase, room: int, *, chat: bool = False
) -> list[Prompt]:
    """Tokenise all items of a task for a model with a context of `room` tokens; with `chat` as a user's turn.

    What is too long loses the beginning of its context and is counted; an item whose answer alone does not fit gets
    no branch, and so an invalid answer.
    """
    encode = Encoder(tokenizer, before)
    asked = [before + item.text for item in items]
    generates = task.output_type == "generate_until"
    spare = task.max_gen_toks if generates else 0
    choices = [() if generates else item.choices for item in items]
    if task.output_type == "loglikelihood_rolling":
        passages = encode.plain([item.text for item in items])
        found = [(windows(ids, encode.start, room), False) for ids in passages]
    elif chat and any(item.text for item in items):  # two sentences side by side are no conversation
        found = [fitted(turn, room - spare) for turn in encode.turns(asked, choices)]
    elif generates:
        contexts = [encode.front + ids or [encode.start] for ids in encode.begun(asked)]
        found = [fitted(Branch(ids, []), room - spare) for ids in contexts]
    else:
        answers = [[task.target_delimiter + choice for choice in several] for several in choices]
        found = [fitted(pair, room) for pair in encode.pairs(asked, answers)]
    return [
        Prompt(item, branches, truncated, prompt_digest(item, branches))
        for item, (branches, truncated) in zip(items, found, strict=True)
    ]


class Encoder:
    """A tokenizer as lm-evaluation-harness uses it: only a start mark is added, and only where it adds one itself.

    One thing differs: a control token's name that stands in a question stays text, as it does in training. What texts
    begin alike with (`before`), and a question before its answers, is tokenised once, up to its last seam
    (configs/seams.py): the tokens are those of the whole text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, before: str = "") -> None:
        self.chat = ChatTokenizer(tokenizer, str(tokenizer.name_or_path))
        self.plain = self.chat.ids
        self.seams = Seams(self.chat)
        self.cut = self.seams.last(before)
        """Where the last seam of `before` stands; 0 for none."""
        self.before = before[: self.cut]
        bare, marked = (list(tokenizer.encode("a", add_special_tokens=marks)) for marks in (False, True))
        marks = next((at for at in range(len(marked)) if marked[at : at + len(bare)] == bare), 0)
        self.front: list[int] = marked[:marks]
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self.start = int(start)
        """Stands before a text that has nothing before it."""

    def turns(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> list[Branch]:
        """Questions as a user's turn and answers as the assistant's, with the very tokens of a training conversation."""
        pieces = self.chat.pieces(("user", "assistant"))
        user, assistant = (next(at for at, piece in enumerate(pieces) if piece.message == turn) for turn in (0, 1))
        before, between = (
            [token for piece in some for token in piece.tokens]
            for some in (pieces[:user], pieces[user + 1 : assistant])
        )
        question_ids = self.begun([question.strip() for question in questions], after=True)
        answer_ids = iter(self.chat.ids_after([answer.strip() for several in answers for answer in several]))
        return [
            Branch([*before, *ids, *between], [next(answer_ids) for _ in several])
            for ids, several in zip(question_ids, answers, strict=True)
        ]

    def pairs(self, contexts: Sequence[str], answers: Sequence[Sequence[str]]) -> list[Branch]:
        """Context and answers, cut where the context's own tokens end.

        Spaces at the end of a context go to the answer, and an answer's tokens are those of context + answer from the
        length of the context's on (lm-evaluation-harness, `_encode_pair`). Where an answer melts wholly into the
        context's last token, the cut moves back to the tokens that all of them share.
        """
        bare = [context.rstrip() for context in contexts]
        [head] = self.plain([self.before]) if self.cut else [[]]
        seams = [self.seams.last(context, self.cut) for context in bare]
        cuts = list(zip(contexts, bare, seams, answers, strict=True))
        firsts = iter(self._rest([text[self.cut : seam] for _, text, seam, _ in cuts], [self.cut] * len(cuts)))
        lasts = iter(self._rest([text[seam:] for _, text, seam, _ in cuts], seams))
        ends = [(context[seam:] + answer, seam) for context, _, seam, several in cuts for answer in several]
        joined = iter(self._rest([text for text, _ in ends], [seam for _, seam in ends]))
        branches = []
        for several in answers:
            first, ids = next(firsts), next(lasts)
            wholes, shared = [next(joined) for _ in several], ids
            if any(len(whole) <= len(ids) for whole in wholes):
                shared = _common([ids, *(whole[:-1] for whole in wholes)])
            followers = [whole[len(shared) :] for whole in wholes]
            branches.append(Branch([*self.front, *head, *first, *shared] or [self.start], followers))
        return branches

    def begun(self, texts: Sequence[str], *, after: bool = False) -> list[list[int]]:
        """Ids of texts that all begin with `before`; `after` where other text stands in front of them."""
        encode = self.chat.ids_after if after else self.chat.ids
        if not self.cut or not all(text.startswith(self.before) for text in texts):
            return encode(texts)
        [head] = encode([self.before])
        return [head + rest for rest in self.chat.ids_after([text[self.cut :] for text in texts])]

    def _rest(self, texts: list[str], cuts: list[int]) -> list[list[int]]:
        """Ids of texts that begin at the given places of a longer one; what comes again is tokenised once."""
        distinct: dict[tuple[str, bool], list[int]] = {
            (text, cut > 0): [] for text, cut in zip(texts, cuts, strict=True)
        }
        for after, encode in ((False, self.chat.ids), (True, self.chat.ids_after)):
            mine = [key for key in distinct if key[1] == after]
            distinct.update(zip(mine, encode([text for text, _ in mine]), strict=True))
        return [distinct[text, cut > 0] for text, cut in zip(texts, cuts, strict=True)]


def prompt_digest(item: Item, branches: list[Branch]) -> str:
    """sha256 of an item and its token ids, each run of ids with its length."""
    runs = [run for branch in branches for run in ([len(branch.followers)], branch.context, *branch.followers)]
    return digest_bytes(b"".join([item.digest.encode(), *(array("q", [len(run), *run]).tobytes() for run in runs)]))


def _common(rows: list[list[int]]) -> list[int]:
    """The longest beginning that all rows share."""
    width = next((at for at, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1), None)
    return rows[0][: min(map(len, rows)) if width is None else width]


def fitted(branch: Branch, room: int) -> tuple[list[Branch], bool]:
    """The branch within `room` tokens, the last one of which need not be read, and whether its context was cut."""
    longest = max((len(follower) for follower in branch.followers), default=1)
    left = room + 1 - longest
    if left < 1:
        return [], True
    if len(branch.context) <= left:
        return [branch], False
    return [Branch(branch.context[-left:], branch.followers)], True


def windows(ids: list[int], start: int, room: int) -> list[Branch]:
    """A passage cut into pieces of at most `room` tokens, each token scored once with one or more before it.

    The pieces of lm-evaluation-harness' `get_rolling_token_windows` with a context of one token, made disjoint: the
    last piece takes as much context as fits.
    """
    found = [Branch([start], [ids[:room]])]
    for first in range(room, len(ids), room):
        end = min(first + room, len(ids))
        found.append(Branch(ids[max(0, end - room - 1) : first], [ids[first:end]]))
    return found
