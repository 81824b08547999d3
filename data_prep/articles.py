"""Laws and rules as questions on their articles: what an article says, and which article says it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from data_prep.sentences import language_of, sentences_of
from data_prep.wordings import ARTICLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_prep.sentences import Language

NUMERAL = "[一二三四五六七八九十百千零〇两0-9]"
LABELS: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(rf"^[ \t\u3000#*]*(?P<label>第{NUMERAL}+条(?:之{NUMERAL}+)?)(?:\*\*)?[ \t\u3000:：]+(?=\S)", re.M),
    "en": re.compile(
        r"^(?:#+ *|\*\*)?(?P<label>(?:Article|Section|Sec\.|Rule|Clause|ARTICLE|SECTION|§) ?"
        r"(?:\d+(?:\.\d+)*[A-Za-z]?|[IVXLC]+))(?:\*\*)?(?:[.:][ \t]+(?=\S)|\.?[ \t]*\n)",
        re.M,
    ),
}
"""How an article begins: at the beginning of a line, with its number, apart from what follows."""
HEADING = re.compile(r"^#{1,6} |^\S[^\n]*\n(?:={3,}|-{3,}) *$", re.M)
TITLE = re.compile(r"^# +(?P<atx>\S[^\n]*)$|^(?P<setext>\S[^\n]*)\n={3,} *$", re.M)
BEGINNING = 500
"""Characters within which a title begins: further on, `# ` may be a comment in a program."""
CHAPTER = re.compile(rf"^[ \t\u3000]*第{NUMERAL}+[编章节][ \t\u3000]|^附[ 　]*[则則录錄件]", re.M)
MADE = re.compile(
    r"(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})日(?:《[^》\n]*》|(?!\d{4}年\d)[^《\n])*?(?P<how>通过|修订|修正|公布|发布|批准)"
)
"""What a law's head says about when this version was made; titles of decisions on changes are passed over."""
SIZES: dict[Language, tuple[int, int]] = {"en": (30, 3000), "zh": (10, 1000)}
"""Characters of an article that is asked for."""
QUOTE: dict[Language, tuple[int, int]] = {"en": (40, 300), "zh": (16, 120)}
"""Characters of the sentence by which an article is looked for."""
MARKUP = re.compile(r"!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>|^\|", re.M)


class Question(NamedTuple):
    """A question as its possible wordings, and the answer."""

    kind: str
    wordings: tuple[str, ...]
    answer: str


def questions_on_articles(text: str) -> Iterator[Question]:
    """Questions on the articles of a law, in their order; none for a text without a title or without articles.

    An article whose number stands twice (in an annex, say) is passed over, and so is one with mark-up in it.

    >>> law = "# 水法\\n\\n第一条 为了合理利用水资源，制定本法。\\n\\n第二条 国家厉行节约用水，保护水资源。\\n"
    >>> [it.answer for it in questions_on_articles(law) if it.kind == "text"]
    ['为了合理利用水资源，制定本法。', '国家厉行节约用水，保护水资源。']
    """
    language, (title, head) = language_of(text), title_of(text)
    found = list(LABELS[language].finditer(text, head)) if language and title else []
    if not (language and found):
        return
    law = _name(title, text[head : found[0].start()], language)
    often = Counter(label["label"] for label in found)
    shortest, longest = SIZES[language]
    for label, after in zip(found, [*found[1:], None], strict=True):
        words = _body(text, label.end(), after.start() if after else len(text), language)
        if often[label["label"]] > 1 or not shortest <= len(words) <= longest or MARKUP.search(words):
            continue
        named = {"law": law, "label": label["label"]}
        wordings = ARTICLES[language]
        yield Question("text", tuple(it.format(**named) for it in wordings["text"]), words)
        if quote := _quote(words, text, language):
            asked = tuple(it.format(quote=quote, **named) for it in wordings["number"])
            yield Question("number", asked, label["label"])


def title_of(text: str) -> tuple[str, int]:
    """The heading of the first level near a text's beginning, and where it ends; empty where there is none.

    >>> title_of("# Water law\\n\\nArticle 1"), title_of("No heading.")
    (('Water law', 11), ('', 0))
    """
    found = TITLE.search(text)
    if found is None or found.start() > BEGINNING:
        return "", 0
    return (found["atx"] or found["setext"]).strip("# "), found.end()


def _name(title: str, head: str, language: Language) -> str:
    """What the questions call the law; where its head says so, with the date of this version, for others differ."""
    if language == "en":
        return f"“{title}”"
    named = f"《{''.join(title.split()).strip('《》')}》"
    versions = [(int(it["y"]), int(it["m"]), int(it["d"]), it["how"]) for it in MADE.finditer(head)]
    return "{}（{}年{}月{}日{}）".format(named, *max(versions)) if versions else named


def _body(text: str, start: int, end: int, language: Language) -> str:
    """The words of an article: up to the next heading."""
    body = text[start:end]
    ends = [
        found.start() for found in (HEADING.search(body), CHAPTER.search(body) if language == "zh" else None) if found
    ]
    return body[: min(ends, default=len(body))].strip()


def _quote(words: str, text: str, language: Language) -> str:
    """The first sentence of an article that stands only once in the law; nothing where there is none."""
    shortest, longest = QUOTE[language]
    for sentence in sentences_of(words, language):
        if sentence.quotable and shortest <= len(sentence.text) <= longest and text.count(sentence.text) == 1:
            return sentence.text
    return ""
