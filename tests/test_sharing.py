"""What prompts share is read once, and the scores are those of whole prompts, one at a time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch

from configs.base import load_tokenizer
from configs.errors import MemoryExhaustedError
from configs.prompts import Branch
from configs.store import HOUSE
from eval.scorer import Scorer
from eval.sharing import Group, beginning, by_budget, groups_of, packed, whole
from eval.weights import load_scorer
from eval.writing import write_alone
from tests.families import FAMILIES, tiny
from tests.test_scorer import plainly

if TYPE_CHECKING:
    from pathlib import Path

DRAWN = random.Random(0)


def drawn(count: int) -> list[int]:
    return [DRAWN.randrange(3, 320) for _ in range(count)]


START, PASSAGE = drawn(10), drawn(40)
"""Ten tokens of worked examples, forty of a passage."""
ABOUT_IT = [
    Branch([*START, *PASSAGE, *drawn(5)], [drawn(1), drawn(3)]),
    Branch([*START, *PASSAGE, *drawn(7)], [drawn(2), drawn(1)]),
]
ALONE = [Branch([*START, *drawn(6)], [drawn(1), drawn(1), drawn(1)]), Branch([*START, *drawn(3)], [drawn(4)])]
ALL = [*ABOUT_IT, *ALONE]


@pytest.fixture(scope="module")
def scorer(tiny_base: Path) -> Scorer:
    return load_scorer(tiny_base)


def values(scorer: Scorer, branches: list[Branch], shared: int = 0, budget: int = 16384) -> list[float]:
    with scorer.using("base"):
        return [value for found in scorer.loglikelihoods(branches, budget, shared) for value in found]


def test_a_beginning_is_what_all_share_but_for_one_token_of_each() -> None:
    assert beginning([branch.context for branch in ALL]) == 10
    assert beginning([[1, 2, 3], [1, 2, 3]]) == 2
    assert beginning([]) == 0


def test_questions_about_one_passage_stand_in_one_row() -> None:
    """3 and 6 tokens alone; 40 of the passage, 5 and 7 of questions, 2 and 1 of answers but their last tokens: 55."""
    groups = groups_of(ALL, 10)
    assert groups == [Group((2,), 0), Group((3,), 0), Group((0, 1), 40)]
    rows = packed(ALL, groups, 10)
    assert rows.real_BT.sum(dim=1).tolist() == [6, 3 + 3, 40 + 5 + 2 + 7 + 1]
    assert rows.ids_BT.shape == (3, 55)


def test_positions_are_those_of_a_prompt_of_its_own() -> None:
    rows = packed(ALL, groups_of(ALL, 10), 10)
    passage, first, answer, second, last = (rows.positions_BT[2, at].tolist() for at in (39, 40, 45, 47, 54))
    assert (passage, first, answer, second, last) == (49, 50, 55, 50, 57)


def test_a_token_sees_its_passage_its_question_and_itself() -> None:
    """Column 45 is the second answer's first token, after the question in 40 to 44 and the passage in 0 to 39; column 47
    begins the second question."""
    seen = packed(ALL, groups_of(ALL, 10), 10).seen_BTT
    assert seen is not None
    assert seen[2, 46].nonzero()[:, 0].tolist() == list(range(47))
    assert seen[2, 48].nonzero()[:, 0].tolist() == [*range(40), 47, 48]
    assert seen[2, 54].nonzero()[:, 0].tolist() == [*range(40), *range(47, 55)]


def test_answers_that_differ_in_their_last_token_alone_share_a_row() -> None:
    """Without sharing: three single letters after six tokens are one row of 16, an answer of 4 tokens one of 16."""
    rows = whole(ALONE, [Group((0,), 0), Group((1,), 0)])
    assert rows.real_BT.sum(dim=1).tolist() == [16, 16]


def test_shared_rows_score_as_whole_prompts_do_to_1e_5(scorer: Scorer) -> None:
    expected = [value for branch in ALL for value in plainly(scorer.model, branch)]
    assert values(scorer, ALL, 10) == pytest.approx(expected, abs=1e-5)
    assert values(scorer, ALL, 0) == pytest.approx(expected, abs=1e-5)
    assert values(scorer, ALL, 10, budget=1) == pytest.approx(expected, abs=1e-5)


def test_the_beginning_is_read_once_and_its_tokens_are_told_apart(scorer: Scorer) -> None:
    """67 tokens after the beginning go through, the second time as the first; single letters add none."""
    before = scorer.tokens
    values(scorer, ALL, 10)
    kept = scorer.kept["base"].layers
    assert scorer.tokens - before == 55 + 6 + 6
    values(scorer, ALL, 10)
    assert scorer.kept["base"].layers is kept
    assert scorer.tokens - before == 2 * 67
    values(scorer, [Branch([*START, *drawn(6)], [[5], [6], [7]])], 10)
    assert scorer.tokens - before == 2 * 67 + 6


def test_scores_do_not_depend_on_what_was_asked_before(scorer: Scorer) -> None:
    first = values(scorer, ALL, 10)
    values(scorer, [Branch(drawn(30), [[4], [5, 6]])], 20)
    assert values(scorer, ALL, 10) == first


def test_texts_after_a_shared_beginning_and_passage_are_those_of_plain_greedy_search(scorer: Scorer) -> None:
    contexts = [branch.context for branch in ALL]
    with scorer.using("base"):
        alone = write_alone(scorer, contexts, (), 10)
        assert scorer.texts(contexts, (), 10, 10) == alone
        assert scorer.texts(contexts, (), 10, 0, 30) == alone


def test_finished_texts_leave_the_batch(scorer: Scorer) -> None:
    """Four texts of up to 30 tokens; three end at once, since what they write first is a stop."""
    contexts = [drawn(5) for _ in range(4)]
    with scorer.using("base"):
        firsts = scorer.texts(contexts, (), 1)
        before = scorer.tokens
        stops = [first for first in firsts[:3] if first and first != firsts[3]]
        long = scorer.texts(contexts, (), 30)[3]
        spent = scorer.tokens - before
        before = scorer.tokens
        texts = scorer.texts(contexts, stops, 30)
    assert spent == 4 * (5 + 29)
    assert scorer.tokens - before <= 4 * 5 + 29 + 3 * (3 - len(stops)) * 29
    assert long.startswith(texts[3])


@pytest.mark.parametrize("family", ["llama-biased", "qwen3", "gpt2", "cohere", "granite-moe", "opt", "phi"])
def test_families_share_and_score_as_their_plain_pass(family: str) -> None:
    scorer = Scorer(tiny(*FAMILIES[family], "sdpa"), load_tokenizer(HOUSE / "assets" / "base"))
    assert scorer.may_share(100) and scorer.fused
    expected = [value for branch in ALL for value in plainly(scorer.model, branch)]
    assert values(scorer, ALL, 10) == pytest.approx(expected, abs=1e-4)


def test_prompts_longer_than_a_window_are_read_whole_and_that_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Gemma 2 with a window of 64 tokens in one of its layers: prompts of up to 57 tokens share, one of 90 does not."""
    kind, settings = FAMILIES["gemma2"]
    scorer = Scorer(tiny(kind, settings | {"sliding_window": 64}, "eager"), load_tokenizer(HOUSE / "assets" / "base"))
    assert values(scorer, ALL, 10) == pytest.approx([one for b in ALL for one in plainly(scorer.model, b)], abs=1e-4)
    assert "base" in scorer.kept
    assert not capsys.readouterr().err
    longer = [*ALL, Branch([*START, *drawn(80)], [[5], [6, 7]])]
    expected = [value for branch in longer for value in plainly(scorer.model, branch)]
    assert values(scorer, longer, 10) == pytest.approx(expected, abs=1e-4)
    assert values(scorer, longer, 10) == pytest.approx(expected, abs=1e-4)
    assert capsys.readouterr().err.count("every answer is read with its whole prompt (its layers see 64 tokens") == 1


def test_where_memory_does_not_suffice_batches_are_halved_down_to_one_question(scorer: Scorer) -> None:
    """A model that refuses more than 12 tokens at once, as a small GPU would: six rows of 6 pass in twos, the passage
    with its questions not even by itself."""
    expected, most = values(scorer, ALONE, 10), 12

    def full(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if named["input_ids"].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = scorer.decoder.register_forward_pre_hook(full, with_kwargs=True)
    try:
        scorer.plan = None
        assert values(scorer, ALONE * 3, 10) == pytest.approx(expected * 3, abs=1e-5)
        with pytest.raises(MemoryExhaustedError, match="a single item"):
            values(scorer, ALL, 10)
    finally:
        handle.remove()
        scorer.plan = None


def test_groups_are_cut_so_that_size_times_largest_cost_fits() -> None:
    assert list(by_budget([3, 3, 5, 9], 10)) == [[0, 1], [2], [3]]
