"""Exercises on a text: what its own connectives, definitions and words ask for, answered in its own words.

The kinds are those of Cheng et al. 2024, "Adapting Large Language Models via Reading Comprehension" (arXiv 2309.09530,
table 2): summary, word to text, inference, cause, paraphrase, completion. What two sentences have to do with each
other is what the connective between them says, so an answer is right by construction; where a sentence could be read
in two ways (a negation before `because`, two commas) it is passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from data_prep.sentences import Language, Sentence


class Exercise(NamedTuple):
    """One exercise: passages of the text that its question quotes, and the passage that answers it."""

    kind: str
    given: tuple[str, ...]
    answer: str
    """A passage of the text; of kind `relation`, a key of RELATIONS."""
    place: int
    """Number of the sentence that it was made from."""


class Rules(NamedTuple):
    """What marks exercises in one language."""

    joints: dict[str, re.Pattern[str]]
    """What stands before a sentence and says what it has to do with the one before."""
    inside: tuple[tuple[str, re.Pattern[str]], ...]
    """Kind and pattern of one sentence, with the groups `given` and `answer`."""
    doubtful: re.Pattern[str]
    """What `given` must not hold, or the sentence could be read in another way."""
    clause: re.Pattern[str]
    """What a clause that asks for its reason must hold."""


AUXILIARY = r"is|are|was|were|has|have|had|will|would|can|could|may|might|should|must|do|does|did"
CAUSE_EN = r"because of|due to|owing to|as a result of|on account of"
RULES: dict[Language, Rules] = {
    "en": Rules(
        {
            "follows": re.compile(
                r"(?:Therefore|Thus|Hence|Consequently|Accordingly|As a result|As a consequence|For this reason), "
            ),
            "contrasts": re.compile(
                r"(?:However|Nevertheless|Nonetheless|In contrast|By contrast|Conversely|On the other hand), "
            ),
            "adds": re.compile(r"(?:Moreover|Furthermore|In addition|Additionally|Similarly|Likewise), "),
            "restates": re.compile(r"(?:In other words|That is|Put differently|To put it another way), "),
        },
        (
            ("cause", re.compile(r"(?P<given>[A-Z][^,;:()]+?),? (?P<answer>because (?!of\b)[^,;:()?!]+)\.")),
            (
                "cause",
                re.compile(
                    rf"(?P<given>[A-Z][^,;:()]+?),? (?P<answer>(?:{CAUSE_EN}) "
                    rf"(?:(?!\b(?:{AUXILIARY}|remained|be|expire|mature|arrive|start|begin|end|to|or)\b)[^,;:()?!])+)\."
                ),
            ),
            ("cause", re.compile(r"(?P<answer>Because (?!of\b)[^,;:()]+), (?P<given>[^,;:()?!]+)\.")),
            ("purpose", re.compile(r"(?P<given>[A-Z][^,;:()]+?) (?P<answer>(?:in order|so as) to [^,;:()?!]+)\.")),
            (
                "definition",
                re.compile(r"(?:An?|The) (?P<given>[\w -]{3,60}?) (?:is|are) defined as (?P<answer>[^;:]+)\."),
            ),
            (
                "definition",
                re.compile(
                    r"The (?:term|word|phrase) (?P<given>[\w -]{3,60}?) (?:refers to|means) (?P<answer>[^;:]+)\."
                ),
            ),
        ),
        re.compile(
            r"\b(?:because|that|which|who|whom|whether|if|unless|when|while|although|though|since|as|than|not|no|nor|never|"
            r"neither|hardly|said|and|or|but|partly|part|largely|mainly|mostly|primarily|simply|only|perhaps|probably|"
            r"possibly|just|precisely|especially|But|And|Yet|So|Then|There|Here|What|Why|How)\b|"
            r"^(?i:it|this|that|these|those|they|such|he|she)\b|\b(?:\w+ly|often|always|sometimes|either|also)$|"
            rf"n['’]t\b|\b(?:{AUXILIARY}|be|been|being)$"
        ),
        re.compile(rf"\b(?:{AUXILIARY}|\w{{3,}}ed|rose|fell|grew|began|became|led|came|went|took|made|kept)\b.* .*"),
    ),
    "zh": Rules(
        {
            "follows": re.compile(r"(?:因此|所以|因而|由此可[见見]|[为為]此)，?"),
            "contrasts": re.compile(r"(?:但是|然而|可是|不[过過]|但)，?"),
            "adds": re.compile(r"(?:此外|另外|而且|[与與]此同[时時])，?"),
            "restates": re.compile(r"(?:[换換]句[话話][说說]|[换換]言之|也就是[说說])，?"),
        },
        (
            (
                "cause",
                re.compile(
                    r"(?P<answer>由[于於][^，；：。？]+(?<![的时時下后人者])，)(?:因此|所以|因而|故)?，?(?P<given>[^；：。？！]+)。"
                ),
            ),
            (
                "cause",
                re.compile(r"(?P<answer>因[为為][^，；：。？]+，)(?:因此|所以|因而|故)，?(?P<given>[^；：。？！]+)。"),
            ),
            (
                "cause",
                re.compile(
                    r"(?P<given>[^，；：。]{4,})，(?:[这這])?(?:主要)?是(?P<answer>(?:因[为為]|由[于於])[^；：。？！]+)。"
                ),
            ),
            (
                "purpose",
                re.compile(
                    r"(?P<answer>[为為]了?[^；：。]{6,}?)，(?:(?:根据|依据|依照)[^，。]+，)?(?:特)?(?P<given>制定[本这]\w{1,4})。"
                ),
            ),
            (
                "definition",
                re.compile(
                    r"(?:本\w{1,3}|前款)?所[称稱]的?(?P<given>[^，；：。]{2,20}?)，?(?:是)?指(?P<answer>[^：。]{6,})。"
                ),
            ),
        ),
        re.compile(
            r"[不未没沒無无非]|(?:他|她|它|其|[这這]|那|此|上述|前款|如果|若|除|虽然|雖然|什么|怎)|^(?:[应應][当當]|可以|由|按|经|从|並|并)"
        ),
        re.compile(r".{4,}"),
    ),
}
TERM_EN = re.compile(r"\b[a-z][a-z-]{6,}[a-z]\b")
TERM_ZH = re.compile(r"(?<=、)[\u3400-\u4dbf\u4e00-\u9fff]{3,8}(?=、)")
"""Inner members of an enumeration: the only words of a Chinese text whose borders are certain without a dictionary."""
MANY = 3
"""Terms that a sentence must share with the rest of the text in English."""


def exercises_of(sentences: Sequence[Sentence], language: Language) -> Iterator[Exercise]:
    """Every exercise that some neighbouring sentences of a text give rise to, but for the title.

    >>> from data_prep.sentences import sentences_of
    >>> text = "Growth in the northern region slowed down. As a result, the bank lowered its rates by a point."
    >>> [it for it in exercises_of(list(sentences_of(text, "en")), "en") if it.kind == "effect"][0].answer
    'the bank lowered its rates by a point.'
    """
    rules = RULES[language]
    often = Counter(sentence.text for sentence in sentences)
    for place, sentence in enumerate(sentences):
        if sentence.quotable:
            yield from _inside(sentence.text, place, rules)
    for place, (before, after) in enumerate(pairwise(sentences), 1):
        if before.quotable and after.quotable and before.paragraph == after.paragraph:
            yield from _between(before.text, after.text, place, rules)
            if often[before.text] == 1:
                yield Exercise("completion", (before.text,), after.text, place)
    yield from _words(sentences, language)


def _inside(sentence: str, place: int, rules: Rules) -> Iterator[Exercise]:
    """Causes, purposes and definitions."""
    for kind, pattern in rules.inside:
        found = pattern.fullmatch(sentence)
        if found is None:
            continue
        given, answer = found["given"].strip(), found["answer"].rstrip("，")
        whole = kind == "definition" or given.startswith("制定")
        if whole or (rules.clause.search(given) and not rules.doubtful.search(given)):
            yield Exercise(kind, (given,), answer, place)


def _between(before: str, after: str, place: int, rules: Rules) -> Iterator[Exercise]:
    """What the connective at the beginning of a sentence says of the sentence before."""
    for relation, pattern in rules.joints.items():
        found = pattern.match(after)
        if found is None:
            continue
        rest = after[found.end() :]
        if relation == "restates":
            yield Exercise("restatement", (before,), rest, place)
            continue
        yield Exercise("relation", (before, rest), relation, place)
        if relation == "follows":
            yield Exercise("effect", (before,), rest, place)


def _words(sentences: Sequence[Sentence], language: Language) -> Iterator[Exercise]:
    """Sentences that are the only ones to hold certain terms: repeated long words, or inner members of a Chinese list."""
    found = [dict.fromkeys((TERM_EN if language == "en" else TERM_ZH).findall(it.text)) for it in sentences]
    spread = Counter(term for terms in found for term in terms)
    for place, sentence in enumerate(sentences):
        if not sentence.quotable:
            continue
        if language == "en":
            terms = sorted((term for term in found[place] if spread[term] > 1), key=len, reverse=True)[:MANY]
            enough = len(terms) == MANY
        else:
            terms = list(found[place])[:2]
            enough = len(terms) == 2
        if enough and sum(all(term in it.text for term in terms) for it in sentences) == 1:
            yield Exercise("words", tuple(terms), sentence.text, place)
