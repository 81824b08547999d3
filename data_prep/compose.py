"""Exercises from raw text: what a source's `compose` asks for, made by rules from each document.

Instruction pairs from question-and-answer sets need none of this: `prompt` and `answer` of the source are templates.

    reading    the text with exercises on it (data_prep/reading_tasks.py), in place of the text alone
    articles   beside a law: questions on its articles (data_prep/articles.py)
    table      beside a record: questions on its columns (data_prep/cells.py)

A text and the questions beside it share a group, so that no question stands on the other side of the split from its
text. Every choice is drawn from (seed, purpose, id): the same document gives the same exercises everywhere.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from configs.chat import Message
from configs.store import digest_bytes, hashed
from data_prep.articles import questions_on_articles, title_of
from data_prep.cells import cells_of
from data_prep.documents import Document
from data_prep.reading_tasks import Exercise, exercises_of
from data_prep.sentences import language_of, sentences_of
from data_prep.wordings import CHOICES, JOINTS, LAYOUTS, QUESTIONS, RELATIONS, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from configs.recipe import Source
    from data_prep.sentences import Language, Sentence

T = TypeVar("T")

PORTION: dict[Language, int] = {"en": 6000, "zh": 2000}
"""Characters after which a long text is interrupted for exercises: about 1,400 tokens, so that both fit into a row."""
PER_KIND = {"completion": 1, "words": 1}
MOST = 2
"""Exercises of one kind per portion."""
TITLE_LENGTH = 150


def compose(
    document: Document,
    fields: Mapping[str, Any],
    source: Source,
    seed: int,
    beside: Counter[str] | None = None,
    exercises: Counter[str] | None = None,
) -> list[Document]:
    """What stands in the corpus for a document: itself first, with `reading` exercises in its text, and then the pairs.

    `fields` is the record that the document was rendered from. `beside` is told the documents beyond the first by form
    (`articles`, `table`), `exercises` the exercises by kind (`reading:cause`, `articles:number`, `table`). Conversations
    have no text to read, but their record may be a table.
    """
    exercises = Counter() if exercises is None else exercises
    pairs: list[tuple[str, list[tuple[str, str]]]] = []
    if "articles" in source.compose and document.text:
        pairs.append(("articles", list(_article_pairs(document, seed, exercises))))
    if "table" in source.compose:
        pairs.append(("table", list(_cell_pairs(document, fields, seed, exercises))))
    if any(made for _, made in pairs):
        document = document._replace(group=document.group or document.id)
    made = [document]
    if "reading" in source.compose and document.text and (text := _reading(document, seed, exercises)):
        made = [document._replace(where=f"{document.where}~reading", text=text)]
    for form, asked in pairs:
        made += [_pair(document, form, number, turns) for number, turns in enumerate(asked, 1)]
        if beside is not None and asked:
            beside[form] += len(asked)
    return made


def _pair(parent: Document, form: str, number: int, turns: tuple[str, str]) -> Document:
    """A question and its answer as a document of its own; its id is made from its parent's."""
    identity = digest_bytes(f"{parent.id}\x1d{form}\x1d{number}".encode())[:16]
    question, answer = turns
    messages = Message("user", question), Message("assistant", answer)
    return Document(identity, parent.source, f"{parent.where}~{form}:{number}", messages=messages, group=parent.group)


def _choose(options: Sequence[T], seed: int, purpose: str, name: str) -> T:
    return options[hashed(seed, purpose, name) % len(options)]


def _article_pairs(document: Document, seed: int, exercises: Counter[str]) -> Iterator[tuple[str, str]]:
    for number, (kind, wordings, answer) in enumerate(questions_on_articles(document.text)):
        exercises[f"articles:{kind}"] += 1
        yield _choose(wordings, seed, "articles", f"{document.id} {number}"), answer


def _cell_pairs(
    document: Document, fields: Mapping[str, Any], seed: int, exercises: Counter[str]
) -> Iterator[tuple[str, str]]:
    key, cells = cells_of(fields)
    language: Language = "zh" if language_of(key + "".join(column for column, _ in cells)) == "zh" else "en"
    for column, value in cells:
        exercises["table"] += 1
        wording = _choose(TABLES[language], seed, "table", f"{document.id} {column}")
        yield wording.format(column=column, key=key), value


# ---------------------------------------------------------------- reading


def _reading(document: Document, seed: int, exercises: Counter[str]) -> str:
    """The text, interrupted at the ends of sentences by exercises on what was just read; nothing where there are none."""
    text, language = document.text, language_of(document.text)
    if language is None:
        return ""
    layout = _choose(LAYOUTS[language], seed, "reading layout", document.id)
    parts, cursor, composed = [], 0, 0
    for number, sentences in enumerate(_portions(text, language)):
        end = sentences[-1].end
        found = [*exercises_of(sentences, language), *([] if number else _title(text))]
        chosen = _chosen(found, seed, f"{document.id} {number}")
        blocks = []
        for place, exercise in enumerate(chosen):
            exercises[f"reading:{exercise.kind}"] += 1
            question, answer = _worded(exercise, language, seed, f"{document.id} {number} {place}")
            blocks.append(layout.format(question=question, answer=answer))
        parts += [text[cursor:end].strip(), *blocks]
        cursor, composed = end, composed + len(chosen)
    return "\n\n".join(part for part in (*parts, text[cursor:].strip()) if part) if composed else ""


def _portions(text: str, language: Language) -> Iterator[list[Sentence]]:
    """Sentences up to PORTION characters, and on to the end of their paragraph if that is near."""
    portion: list[Sentence] = []
    for sentence in sentences_of(text, language):
        if portion:
            length = portion[-1].end - portion[0].start
            new_paragraph = sentence.paragraph != portion[-1].paragraph
            if length >= PORTION[language] * (1 if new_paragraph else 1.5):
                yield portion
                portion = []
        portion.append(sentence)
    if portion:
        yield portion


def _title(text: str) -> Iterator[Exercise]:
    """The heading that the text begins with."""
    title, _ = title_of(text)
    if 0 < len(title) <= TITLE_LENGTH:
        yield Exercise("title", (), title, 0)


def _chosen(found: Sequence[Exercise], seed: int, name: str) -> list[Exercise]:
    """A few of each kind by their hash, and in its order; no sentence is asked about twice."""
    kinds: Counter[str] = Counter()
    places: set[int] = set()
    chosen = []
    for exercise in sorted(found, key=lambda it: hashed(seed, "reading choice", f"{name} {it.kind} {it.place}")):
        taken = exercise.place in places and exercise.kind != "title"
        if taken or kinds[exercise.kind] >= PER_KIND.get(exercise.kind, MOST):
            continue
        kinds[exercise.kind] += 1
        places.add(exercise.place)
        chosen.append(exercise)
    return chosen


def _worded(exercise: Exercise, language: Language, seed: int, name: str) -> tuple[str, str]:
    """Question and answer in words."""
    wording = _choose(QUESTIONS[language][exercise.kind], seed, "reading question", name)
    if exercise.kind == "relation":
        frame, choices = CHOICES[language]
        order = sorted(choices, key=lambda key: hashed(seed, "reading order", f"{name} {key}"))
        offered = frame.format(JOINTS[language].join(choices[key] for key in order))
        answer = _choose(RELATIONS[language][exercise.answer], seed, "reading answer", name)
        return wording.format(*exercise.given, choices=offered), answer
    answer = exercise.answer[0].upper() + exercise.answer[1:]
    stop = "。" if language == "zh" else "."
    bare = exercise.kind == "title" or answer.endswith((".", "!", "?", "。", "！", "？"))
    return wording.format(*exercise.given), answer if bare else answer + stop
