"""How exercises are worded: several ways for each kind, of which a hash chooses. {0}, {1}, {2} are passages of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_prep.sentences import Language

QUESTIONS: dict[Language, dict[str, tuple[str, ...]]] = {
    "en": {
        "title": (
            "What is the title of this text?",
            "Which title does this text carry?",
            "Sum the text up in one line, as its author does.",
            "Under which heading does this text stand?",
        ),
        "words": (
            "Which sentence of the text mentions “{0}”, “{1}” and “{2}” together?",
            "Find the sentence in which “{0}”, “{1}” and “{2}” all occur.",
            "Quote the sentence that brings “{0}”, “{1}” and “{2}” together.",
        ),
        "definition": (
            "How does the text define “{0}”?",
            "What is meant here by “{0}”?",
            "Give the definition of “{0}” that the text uses.",
        ),
        "relation": (
            "“{0}” How is the next statement tied to this one: “{1}” {choices}",
            "Here are two statements of the text. First: “{0}” Second: “{1}” How does the second relate to the first? {choices}",
            "The text says: “{0}” And then: “{1}” What links the two? {choices}",
        ),
        "cause": (
            "What reason does the text give for this: “{0}”?",
            "According to the text, why is this so: “{0}”?",
            "“{0}”: what, according to the text, is the cause?",
        ),
        "purpose": (
            "To what end, according to the text: “{0}”?",
            "What purpose does the text name for this: “{0}”?",
            "“{0}”: what is this meant to achieve?",
        ),
        "effect": (
            "What does the text conclude from this: “{0}”?",
            "“{0}” What follows, according to the text?",
            "Which consequence does the text draw from the statement “{0}”?",
        ),
        "restatement": (
            "How does the text put this in other words: “{0}”?",
            "“{0}” How is the same thing said again in the text?",
            "Which sentence restates “{0}”?",
        ),
        "completion": (
            "How does the text go on after this sentence: “{0}”?",
            "Which sentence follows this one in the text: “{0}”?",
            "Continue as the text does: “{0}”",
        ),
    },
    "zh": {
        "title": ("这篇文章的标题是什么？", "本文题为什么？", "请写出上文的标题。", "上文用什么标题概括全文？"),
        "words": (
            "文中哪一句话同时提到了“{0}”和“{1}”？",
            "请找出同时出现“{0}”和“{1}”的句子。",
            "请摘录文中把“{0}”和“{1}”放在一起说的那句话。",
        ),
        "definition": ("文中所说的“{0}”是指什么？", "根据上文，什么是“{0}”？", "请写出文中对“{0}”的定义。"),
        "relation": (
            "文中先说：“{0}”接着说：“{1}”后一句与前一句是什么关系？{choices}",
            "请判断下面两句话之间的关系。前一句：“{0}”后一句：“{1}”{choices}",
            "“{0}”与“{1}”这两句话在文中怎样联系起来？{choices}",
        ),
        "cause": ("根据上文，“{0}”的原因是什么？", "文中说“{0}”，这是为什么？", "文中认为是什么造成了“{0}”？"),
        "purpose": ("根据上文，{0}的目的是什么？", "文中说明了{0}是为了什么？", "为什么要{0}？"),
        "effect": (
            "文中由“{0}”得出了什么结论？",
            "“{0}”根据上文，结果怎样？",
            "根据上文，“{0}”带来了什么结果？",
        ),
        "restatement": ("“{0}”文中用别的话是怎么说的？", "文中怎样换一种说法表达“{0}”？"),
        "completion": (
            "文中“{0}”之后的一句是什么？",
            "请按原文接着写下一句：“{0}”",
            "紧接着“{0}”这句话，文中说了什么？",
        ),
    },
}
RELATIONS: dict[Language, dict[str, tuple[str, ...]]] = {
    "en": {
        "follows": ("It follows from it.", "The second follows from the first.", "It is a consequence of the first."),
        "contrasts": ("It stands in contrast to it.", "The second contrasts with the first.", "They contrast."),
        "adds": ("It adds a further point.", "The second adds to the first.", "It is a further point."),
    },
    "zh": {
        "follows": ("后一句是前一句的结论。", "因果关系：后一句由前一句得出。"),
        "contrasts": ("后一句与前一句相对，是转折关系。", "转折关系。"),
        "adds": ("后一句是对前一句的补充。", "递进或补充关系。"),
    },
}
"""What is answered about two statements, by what joins them in the text."""
CHOICES: dict[Language, tuple[str, dict[str, str]]] = {
    "en": ("({})", {"follows": "a consequence", "contrasts": "a contrast", "adds": "a further point"}),
    "zh": ("（{}）", {"follows": "因果", "contrasts": "转折", "adds": "补充"}),
}
"""The frame of what may be answered, and its parts; their order is chosen by a hash, so that none is the first always."""
JOINTS: dict[Language, str] = {"en": ", ", "zh": "、"}
LAYOUTS: dict[Language, tuple[str, ...]] = {
    "en": ("Question: {question}\nAnswer: {answer}", "Q: {question}\nA: {answer}", "{question}\n{answer}"),
    "zh": ("问题：{question}\n答案：{answer}", "问：{question}\n答：{answer}", "{question}\n{answer}"),
}
"""How question and answer stand on the page; one document keeps to one."""
ARTICLES: dict[Language, dict[str, tuple[str, ...]]] = {
    "en": {
        "text": ("What does {label} of {law} say?", "Give the text of {label} of {law}.", "Quote {label} of {law}."),
        "number": ("Which part of {law} says: “{quote}”?", "Where in {law} does it say “{quote}”?"),
    },
    "zh": {
        "text": ("{law}{label}规定了什么？", "{law}{label}的内容是什么？", "请写出{law}{label}的条文。"),
        "number": ("{law}的哪一条规定：“{quote}”？", "“{quote}”是{law}第几条的规定？"),
    },
}
TABLES: dict[Language, tuple[str, ...]] = {
    "en": ("What is the {column} of {key}?", "Give the {column} of {key}.", "{key}: what is its {column}?"),
    "zh": ("{key}的{column}是什么？", "请给出{key}的{column}。", "“{key}”一项的{column}是什么？"),
}
