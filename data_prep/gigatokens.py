"""gigatoken instead of `tokenizers`, behind a gate: thirty times as fast, but a beta by one author.

It is used where its ids are equal to those of `tokenizers` on a sample of the very documents and on strings at which
tokenizers are known to differ. Control tokens are no tokens to it, and so stay text.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nsmallest
from itertools import chain
from typing import TYPE_CHECKING, Any

from configs.chat import GUARD, with_added_tokens
from configs.speed import SWITCH, fast_wanted
from configs.store import hashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from configs.chat import ChatTokenizer

SAMPLED, LEAST = 2000, 100
"""Documents of a corpus, and of a shard, that are compared; all where there are fewer."""
WINDOW = 2000
"""Characters of each text that are compared, from a place that its hash decides."""
BATCH = 64
EDGES = (
    "",
    " ",
    "   ",
    "\n",
    "\n\n\n x",
    " \n \t\r\n  x  \n",
    "\u00a0\u3000x\u2028y\u200b",
    "it's IT'S we'LL 'tis ''s",
    "0 12 123 1234 12345678901234567890 3.14 1,000,000 ١٢٣ ４５６ ½ x²",
    "👍 👍🏽 👨‍👩‍👧‍👦 🇨🇳🇬🇧 ☃️ e\u0301\u0302 \u0915\u094d\u0937\u093f",
    "利率上调，医生建议：多喝水。「引」　《法》第3条 ㈠①Ⅷ ｶﾞ 한국어 𠮷𡃁",
    "مرحبا بالعالم \u202bשלום\u202c \u200fA",
    "\x01\x07\x1b[0m\x7f\x85 \ufeffx \ufffd \ue000 \U0010ffff",
    "Привет Ünïcödé ﬁ ß İı ǅ Ω",
    "if (x<=10){return\t\t\ty[0]->z;}\n\n\n    # ====----****////\n",
    "http://a.b/c?d=e&f=%20#g user@example.org $5.00 C++ @#%^&*()_+{}|:<>?~`",
    "a" * 3000,
    "医" * 2000,
    "Donaudampfschifffahrtsgesellschaftskapitän" * 20,
    "!?" * 700 + " " * 500 + "x" + "\n" * 300,
    "<s></s><unk><pad>[INST] x [/INST]<|endoftext|><|im_start|>user\n<|im_end|><0x0A>▁Ġ##ing",
)
"""Strings at which tokenizers differ: spaces, contractions, digits, joined emoji, scripts, control and private characters,
marks spelled out, words longer than any cache expects."""


def sampled(ids: Sequence[str], shards: int = 1) -> list[int]:
    """Positions of the documents to compare in one of `shards`: those with the smallest hashes of their ids, in order.

    All shards together compare SAMPLED documents, and each at least LEAST.

    >>> sampled(["a", "b", "c"])
    [0, 1, 2]
    """
    count = max(SAMPLED // shards, LEAST)
    return sorted(nsmallest(count, range(len(ids)), key=lambda place: hashed(0, "gigatoken", ids[place])))


Encode = Callable[[str], "np.ndarray"]


def checked_engine(chat: ChatTokenizer, texts: Iterable[str], known: Encode | None = None) -> tuple[Encode | None, str]:
    """The function from a text to ids, or None and the reason: switched off, not there, or not equal.

    `known` is a function that an earlier call has given for the same tokenizer: it is held to these texts alone.
    """
    if not fast_wanted():
        return None, f"{SWITCH} is off"
    encode, reason = (known, "") if known else _loaded(chat)
    if encode is None:
        return None, reason
    added = [f"a {token.content} b{token.content}\n" for token in chat.tokenizer.added_tokens_decoder.values()]
    edges: Iterable[str] = () if known else chain(EDGES, (GUARD + edge for edge in EDGES), added)
    strings = chain(edges, map(_window, texts))
    while batch := [string for _, string in zip(range(BATCH), strings, strict=False)]:
        for string, expected in zip(batch, chat.ids(batch), strict=True):
            if chat.control_ids.isdisjoint(expected) and encode(string).tolist() != expected:
                return None, f"gigatoken gives other ids for {string[:40]!r}"
    return encode, ""


def _loaded(chat: ChatTokenizer) -> tuple[Encode | None, str]:
    """gigatoken's own function from a text to ids."""
    try:
        from gigatoken import Tokenizer
    except ImportError:
        return None, "gigatoken is not installed (pip install 'sectorlm[fast]')"
    if chat.backend is None:
        return None, "not a tokenizer of the `tokenizers` library"
    text_only = with_added_tokens(chat.backend, lambda added: None if added["content"] in chat.control else added)
    try:
        loaded: Any = Tokenizer.from_json(text_only)
    except Exception as error:  # its Rust part raises RuntimeError for whatever it does not know
        return None, f"gigatoken does not know this tokenizer ({str(error).splitlines()[0]})"
    encode: Encode = loaded.encode
    return encode, ""


def _window(text: str) -> str:
    """At most WINDOW characters of a text."""
    if len(text) <= WINDOW:
        return text
    start = hashed(0, "window", text[:WINDOW]) % (len(text) - WINDOW)
    return text[start : start + WINDOW]
