"""Quality: statistics that can be counted by hand, rules with their thresholds, good text kept and junk dropped."""

import base64
import gzip
import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from configs.chat import Message
from configs.errors import RecipeError
from configs.recipe import Prepare, Source
from data_prep.clean import REPAIRS, repair
from data_prep.documents import Document
from data_prep.lines import CHINESE_FUNCTION, LINE_BLOCK, LONGEST
from data_prep.quality import RULES, check_rules, limits, repairs_off, statistics_of, thresholds_of, unusable, verdicts
from data_prep.repetition import later_copies, repeated_runs, top_run
from data_prep.units import texts_of, units_of

SAMPLES = Path(__file__).resolve().parent.parent / "assets" / "samples"
PREPARE = Prepare()


def source(**rules):
    return Source(name="s", path="p", licence="MIT", text="{{ text }}", rules=rules)


def measured(said):
    texts = texts_of(said)
    return statistics_of(texts, units_of(texts))


def reasons(said, plain=True, prepare=PREPARE, **rules):
    """Why each text is left out, an empty reason where it stays."""
    columns = measured(said) | {"is_text": np.full(len(said), plain)}
    names = ["", *(rule.name for rule in RULES)]
    return [names[code] for code in verdicts(columns, thresholds_of(prepare, source(**rules)))]


def kept(said):
    """Part of the texts that stay, after the repairs, in batches as the stage has them."""
    mended = [repair(text)[0] for text in said]
    return np.mean([reason == "" for start in range(0, len(said), 200) for reason in reasons(mended[start:][:200])])


def articles(language):
    """24 articles about money in English or in Chinese."""
    rows = [json.loads(line) for line in (SAMPLES / "finance/articles_train.jsonl").open(encoding="utf-8")]
    return [row["text"] for row in rows if ("一" < row["text"][0] < "龥") == (language == "zh")]


def test_statistics_of_a_small_text_can_be_counted_by_hand():
    text = "# Rates\n\nThe rate of the loan ROSE by 5 % ...\n- a {b}\n- a {b}\nand so on"
    found = {name: column[0] for name, column in measured([text]).items()}
    words, visible, letters, lines = 21, 50, 38, 5
    assert (found["characters"], found["chars"], found["units"], found["script"]) == (71, visible, 16, 1)
    expected = {
        "mean_word_length": visible / words,
        "lettered_words": 15 / words,  # not # 5 % ... - -
        "letters": letters / visible,
        "capitals": 6 / letters,
        "digits": 1 / visible,
        "symbols": 1 / visible,  # the #; % and - are punctuation, braces count apart
        "braces": 4 / visible,
        "hash_signs": 1 / words,
        "function_words": 9 / 16,  # the of the by a a and so on
        "bullet_lines": 2 / lines,
        "ellipsis_lines": 1 / lines,
        "short_lines": 1.0,  # the longest has 29
        "unended_lines": 2 / 4,  # the heading and the last; "- a {b}" goes on in lower case
        "duplicate_lines": 5 / visible,  # the second "- a {b}"
        "duplicate_paragraphs": 0.0,
    }
    assert {name: found[name] for name in expected} == {name: np.float32(value) for name, value in expected.items()}


def test_a_chinese_character_is_two_wide_and_function_characters_are_counted():
    found = {name: column[0] for name, column in measured(["贷款的利率是 3%。\n贷款的利率是 3%。"]).items()}
    assert (found["chars"], found["units"], found["script"]) == (30, 14, 2)
    assert found["function_characters"] == np.float32(4 / 12)  # 的 是, twice
    assert found["duplicate_lines"] == 0.5
    assert found["unended_lines"] == 0


def test_a_text_has_the_same_statistics_alone_and_in_a_batch_with_lines_longer_than_a_block():
    draw = random.Random(3)
    said = ["".join(draw.choice("ab1.利的 \n-…") for _ in range(draw.choice([0, 1, 9, 400]))) for _ in range(60)]
    said += ["x" * (LINE_BLOCK + 5) + "\nthe end", "y " * LONGEST, "", "\n \n"]
    together, alone = measured(said), [measured([text]) for text in said]
    for name, column in together.items():
        assert column.tolist() == [row[name][0] for row in alone], name


def test_later_copies_are_those_that_a_set_finds():
    draw = random.Random(4)
    texts = [[draw.randrange(2**64) if draw.random() < 0.5 else draw.randrange(9) for _ in range(80)] for _ in range(9)]
    starts = np.cumsum([0, *map(len, texts)])
    expected = [value in text[:place] for text in texts for place, value in enumerate(text)]
    assert later_copies(np.array(texts, np.uint64).ravel(), starts).tolist() == expected


@pytest.mark.parametrize("length", [2, 5, 10])
def test_runs_are_those_that_plain_python_counts(length):
    draw = random.Random(length)
    said = [" ".join(draw.choice("abcd") for _ in range(draw.choice([0, 3, 60]))) for _ in range(20)]
    said += ["on and on and on and off " * 9, "one two three four five six seven eight nine ten " * 2]
    units = units_of(texts_of(said))
    for place, text in enumerate(said):
        words = text.split()
        runs = [tuple(words[n : n + length]) for n in range(len(words) - length + 1)]
        covered = {n + step for n, run in enumerate(runs) if run in runs[:n] for step in range(length)}
        assert repeated_runs(units, length)[place] == len(covered)
        most = max(map(runs.count, runs), default=0)
        assert top_run(units, length)[place] in (0, *(min(n * length, len(words)) for n in range(2, most + 1)))
    assert top_run(units, 2)[-2] == 54  # "on and", 27 times


def test_the_embedded_samples_pass_every_rule_to_the_last_one():
    files = sorted(SAMPLES.glob("*/*.jsonl"))
    assert len(files) == 11
    for file in files:
        rows = [json.loads(line) for line in file.open(encoding="utf-8")]
        assert kept([row.get("text") or row["good"] for row in rows]) == 1, file.name


def junk():
    """Fifty texts of each kind of junk, in English and Chinese; words and paragraphs are those of the samples."""
    draw = random.Random(5)
    english, chinese = articles("en"), articles("zh")
    words = sorted({word for text in english for word in text.split() if word.isalpha() and len(word) > 4})
    pairs = {text[n : n + 2] for text in chinese for n in range(len(text) - 1)}
    terms = sorted(pair for pair in pairs if pair.isalpha() and not set(pair) & set(CHINESE_FUNCTION))
    marks = "!@#$%^&*()_+-=[]|;:,.<>/?~★☆■□◆●→←↑↓※§"
    lorem = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore. "
    kinds = {}
    for name, stock, glue, texts in (("en", words, " ", english), ("zh", terms, "", chinese)):
        kinds |= {
            f"menu {name}": lambda s=stock, g=glue: "\n".join(g.join(draw.sample(s, 2)).title() for _ in range(40)),
            f"bar {name}": lambda s=stock, g=glue: " | ".join(g.join(draw.sample(s, 2)).title() for _ in range(40)),
            f"keywords {name}": lambda s=stock: ", ".join(draw.choice(s) for _ in range(120)),
            f"paragraph {name}": lambda t=texts: "\n\n".join([draw.choice(t)[:200]] * 6),
            f"sentence {name}": lambda t=texts: " ".join([draw.choice(t)[:50]] * 12),
            f"symbols {name}": lambda s=stock: "".join(
                draw.choice(marks) * draw.randint(1, 4) + draw.choice(["", "", "", "", " ", draw.choice(s)])
                for _ in range(200)
            ),
            f"bullets {name}": lambda s=stock: "\n".join("- " + draw.choice(s).title() for _ in range(60)),
            f"teasers {name}": lambda s=stock, g=glue: "\n".join(g.join(draw.sample(s, 4)) + "..." for _ in range(30)),
            f"lorem ipsum {name}": lambda t=texts: draw.choice(t)[:60] + "\n" + lorem * 4,
            f"hashtags {name}": lambda s=stock: " ".join("#" + draw.choice(s) for _ in range(90)),
            f"damaged {name}": lambda t=texts: "".join(draw.choice([*[c] * 15, "\ufffd"]) for c in draw.choice(t)),
        }
    kinds["base64"] = lambda: base64.encodebytes(draw.randbytes(900)).decode()
    kinds["numbers"] = lambda: "\n".join(" ".join(f"{draw.random() * 1e4:.2f}" for _ in range(8)) for _ in range(30))
    return {name: [make() for _ in range(50)] for name, make in kinds.items()}


@pytest.mark.parametrize(("name", "said"), junk().items())
def test_planted_junk_is_dropped(name, said):
    """At least 49 of 50 of each of 24 kinds."""
    assert sum(reason != "" for reason in reasons(said)) >= 49, name


def test_a_conversation_is_no_prose_and_its_question_may_repeat_runs_of_words_but_not_lines():
    listed = "\n".join(f"{number}. {word}" for number, word in enumerate("abcdefghijklmnopqrstuvwxyz" * 3))
    assert reasons([listed], plain=False) == [""]
    assert reasons([listed]) == ["few letters"]
    again = "The rate rose again in the spring of that year. "
    assert reasons([again * 20, f"{again}\n" * 20], plain=False) == ["", "repeated lines"]
    assert reasons([again * 20]) == ["one run of three words"]
    assert reasons(["ok", "\ufffd" * 20], plain=False) == ["too short", "unreadable"]


def test_thresholds_come_from_the_recipe_then_from_the_source_and_false_turns_a_rule_off():
    word = "An interest rate is the price of money."
    assert reasons([word], prepare=Prepare(min_chars=33)) == ["too short"]
    assert reasons([word], prepare=Prepare(min_chars=32)) == [""]
    assert reasons([word], min_chars=40) == ["too short"]
    assert reasons(["x"], min_chars=False) == [""]
    strict = Prepare(rules={"min_function_words": 0.99})
    (text,) = articles("en")[:1]
    assert reasons([text]) == [""]
    assert reasons([text], prepare=strict) == ["few function words"]
    assert reasons([text], prepare=strict, min_function_words=True) == [""]
    assert reasons([text], max_capitals=0.0) == ["capitals"]  # off until a recipe gives a threshold
    shouted = text.upper()
    assert reasons([shouted]) == [""]
    assert reasons([shouted], max_capitals=0.5) == ["capitals"]


def test_unknown_names_of_rules_are_refused_with_the_nearest_one():
    check_rules([*limits(), *(row.name for row in REPAIRS)])
    with pytest.raises(RecipeError, match=r"max_simbols: .*\n  Did you mean max_symbols\?"):
        check_rules(["min_letters", "max_simbols"])
    with pytest.raises(RecipeError, match=r"Did you mean HTML remains\?"):
        check_rules(["HTML remain"])


def test_repairs_are_switched_by_recipe_and_source_and_take_no_number():
    prepare = Prepare(rules={"HTML remains": False, "page numbers": False, "max_symbols": 0.5})
    assert repairs_off(prepare, source()) == {"HTML remains", "page numbers"}
    assert repairs_off(prepare, source(**{"page numbers": True})) == {"HTML remains"}
    with pytest.raises(RecipeError, match=r"HTML remains: 0\.5 is no threshold"):
        repairs_off(PREPARE, source(**{"HTML remains": 0.5}))


def test_a_document_without_an_answer_or_with_a_lone_surrogate_can_be_no_sample():
    ask, answer = Message("user", "What is a rate?"), Message("assistant", "A price.")
    found = [
        unusable(Document("i", "s", "w", **shape))
        for shape in (
            {"text": "A rate."},
            {"text": "A \ud800 rate."},
            {"messages": (ask, answer)},
            {"messages": (ask, Message("assistant", " "))},
            {"messages": (ask,)},
        )
    ]
    assert found == ["", "lone surrogate", "", "no answer", "no answer"]


def test_every_rule_has_a_source_a_column_and_a_reason_of_its_own():
    columns = measured(["a"])
    assert all(rule.source and rule.statistic in columns for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES) == 27


def unpacked(path):
    """The text files of a tar, in UTF-8."""
    with (
        pa.input_stream(str(path), compression="zstd") as stream,
        tarfile.open(fileobj=io.BytesIO(stream.read())) as tar,
    ):
        return [tar.extractfile(member).read().decode("utf-8-sig") for member in tar if member.isfile()]


@pytest.mark.parametrize(
    ("name", "documents", "share"),
    [
        ("general/peps/peps.tar.zst", 751, 0.98),
        ("general/tidb-docs-zh/tidb-docs-zh.tar.zst", 1238, 0.92),
        ("general/linux-command-zh/linux-command-zh.tar.zst", 621, 0.96),
        ("general/cmrc2018/cmrc2018_dev.json.gz", 848, 0.98),
        ("general/drcd/DRCD_dev.json.gz", 1000, 0.99),
    ],
)
def test_good_documents_stay(shared, name, documents, share):
    path = shared / name
    if path.suffix == ".zst":
        said = unpacked(path)
    else:
        data = json.loads(gzip.decompress(path.read_bytes()))["data"]
        said = list({paragraph["context"]: None for article in data for paragraph in article["paragraphs"]})
    assert len(said) == documents
    assert kept(said) >= share
