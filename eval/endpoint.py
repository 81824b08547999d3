"""A model behind an OpenAI-compatible server: texts, and log-likelihoods where the server gives those of a prompt.

    POST URL/completions        prompt (token ids where the tokenizer is here, else text), echo and logprobs
    POST URL/chat/completions   in the chat form without a tokenizer, and where there are no plain completions

One prompt goes with one request, `CONCURRENCY` of them at a time; the server batches and keeps what prompts share. The key is
read from SECTORLM_API_KEY, goes into a header and nowhere else. Sources: OpenAI's API reference ("Completions", "Chat"),
vLLM's "OpenAI-Compatible Server"; positions as lm-evaluation-harness takes them from `echo`.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from configs.base import base_folder, load_tokenizer, tokenizer_digest
from configs.errors import DataError, RecipeError
from configs.store import digest_json
from eval.characters import byte_tokenizer, messages_of, plain_text
from eval.http_json import Server, server_at
from eval.models import Given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from configs.prompts import Branch

CONCURRENCY = 8
"""Requests at a time."""
STOPS = 4
"""Ends of a text that the API takes; others are looked for here."""
UNLIMITED = 1_000_000
"""Room of a server that does not say its context's length: nothing is cut, and what is too long it refuses."""
SAID = ("id", "owned_by", "root", "parent", "max_model_len", "quantization")
"""What a server's list of models says that names the weights; `created` is the time of asking in some."""


def endpoint(word: str, roots: tuple[Path, ...], tokenizer: str = "", *, chat: bool = False) -> Given:
    """The model that `http://HOST:PORT/v1#NAME` means; asked once what it is and what it can do.

    Raises:
        RecipeError: the name is missing, or the URL holds a password.
        StorageError: the server cannot be reached.
        DataError: it has no such model, or answers in another form.
    """
    url, _, model = word.partition("#")
    server = server_at(url)
    folder = base_folder(tokenizer, roots, weights=False) if tokenizer else None
    found = Endpoint(server, model, load_tokenizer(folder) if folder else None, chat=chat)
    own = {"tokenizer": tokenizer_digest(folder)} if folder else {}
    digest = digest_json([server.url, found.said, own, found.form])
    name = re.sub(r"[^A-Za-z0-9._@-]", "-", f"{server.host}--{model}")
    return Given(name, digest, {"server": digest, **own}, lambda: found, found.likely)


class Endpoint:
    """A server's model as `eval.engine.Engine`."""

    def __init__(
        self, server: Server, model: str, tokenizer: PreTrainedTokenizerBase | None, *, chat: bool = False
    ) -> None:
        self.server, self.model, self.tokens = server, model, 0
        self.tokenizer = tokenizer if tokenizer is not None else byte_tokenizer()
        self.ids = tokenizer is not None
        """Whether prompts go as token ids."""
        self.said = self._listed()
        self.form = "chat" if chat and not self.ids else "completions"
        self.likely = self.form == "completions" and self._probe()
        self.room = self._room()

    @property
    def engine(self) -> str:
        """The server, the model, what it says of itself, and the form that it is asked in."""
        version = f", {self.said['version']}" if self.said.get("version") else ""
        return f"{self.server.url}#{self.model}{version}, {self.form}{' by token ids' if self.ids else ''}"

    def may_share(self, longest: int) -> bool:
        """No beginning is handed over apart: it is kept over there."""
        return False

    @contextmanager
    def using(self, which: str) -> Iterator[Endpoint]:
        """Behind a name there is one model; an adapter on a server has a name of its own."""
        yield self

    def loglikelihoods(self, branches: Sequence[Branch], budget: int = 0, shared: int = 0) -> list[list[float]]:
        """As `eval.engine.Engine`: one request for each follower, of its context and itself.

        Raises:
            RecipeError: the server gives none, or a text has no beginning and no tokenizer is here.
            DataError: it answers in another form.
            StorageError: it cannot be reached.
        """
        if not self.likely:
            raise RecipeError(
                f"{self.model} gives no log-likelihoods of prompts (completions with echo and logprobs)",
                where=self.server.url,
                hint="Use tasks whose output_type is generate_until.",
            )
        pairs = [(branch.context, follower) for branch in branches for follower in branch.followers]
        values = iter(self._together(self._likelihood, pairs))
        return [[next(values) for _ in branch.followers] for branch in branches]

    def texts(
        self, contexts: Sequence[list[int]], until: Sequence[str], most: int, shared: int = 0, budget: int = 0
    ) -> list[str]:
        """As `eval.engine.Engine`: one request for each context, at temperature 0.

        Raises:
            DataError: the server answers in another form.
            StorageError: it cannot be reached.
        """
        more: dict[str, Any] = {"max_tokens": most, "stop": list(until[:STOPS])} if until else {"max_tokens": most}
        written = self._together(lambda context: self._text(context, more), contexts)
        return [text[: min((text.find(stop) for stop in until if stop in text), default=len(text))] for text in written]

    # ------------------------------------------------------------ requests

    def _together(self, work: Callable[[Any], tuple[Any, int]], prompts: Sequence[Any]) -> list[Any]:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            found = list(pool.map(work, prompts))
        self.tokens += sum(tokens for _, tokens in found)
        return [value for value, _ in found]

    def _ask(self, path: str, asked: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The first choice of an answer, and how many tokens the server counts."""
        answer = self.server.ask(path, {"model": self.model, "temperature": 0, "seed": 0, **asked})
        choices, usage = answer.get("choices"), answer.get("usage") or {}
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise DataError(f"an answer without choices: {str(answer)[:200]}", where=f"{self.server.url}/{path}")
        return choices[0], int(usage.get("total_tokens") or 0)

    def _prompt(self, ids: list[int]) -> list[int] | str:
        return ids if self.ids else plain_text(self.tokenizer, ids)

    def _text(self, context: list[int], more: dict[str, Any]) -> tuple[str, int]:
        if self.form == "chat":
            messages = messages_of(self.tokenizer, context)
            choice, tokens = self._ask("chat/completions", {"messages": messages, **more})
            text = (choice.get("message") or {}).get("content")
        else:
            choice, tokens = self._ask("completions", {"prompt": self._prompt(context), **more})
            text = choice.get("text")
        if text is not None and not isinstance(text, str):
            raise DataError(f"a text that is none: {str(text)[:200]}", where=self.server.url)
        return text or "", tokens

    def _likelihood(self, pair: tuple[list[int], list[int]]) -> tuple[float, int]:
        context, follower = pair
        prompt = self._prompt(context + follower)
        choice, tokens = self._ask("completions", {"prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": 1})
        found = choice.get("logprobs") or {}
        values = found.get("token_logprobs") or []
        if self.ids:
            wanted = values[len(context) : len(context) + len(follower)]
            whole = len(values) >= len(context) + len(follower)
        else:
            before = len(str(self._prompt(context)))
            wanted = [
                value for value, end in zip(values, _ends(found), strict=True) if before < end <= len(str(prompt))
            ]
            whole = bool(wanted)
        if not whole or any(not isinstance(value, int | float) for value in wanted):
            raise DataError(
                f"log-likelihoods of {len(values)} tokens do not cover a prompt of {len(context) + len(follower)}"
                + ("" if self.ids else ", or the text has no beginning that they could be given"),
                where=self.server.url,
                hint="" if self.ids else "Give the model's tokenizer: --tokenizer FOLDER or its hub id.",
            )
        return float(sum(wanted)), tokens

    # ------------------------------------------------------------ what it is

    def _listed(self) -> dict[str, Any]:
        """What the server says of the model, and its version where it has one."""
        models = self.server.ask("models").get("data")
        names = [str(one.get("id")) for one in models] if isinstance(models, list) else []
        if self.model not in names:
            known = ", ".join(names[:10]) or "none"
            raise RecipeError(
                f"the server has no model {self.model!r}" if self.model else "the name of the model is missing",
                where=self.server.url,
                hint=f"Write it after a #: {self.server.url}#NAME. There are: {known}.",
            )
        entry: dict[str, Any] = next(one for one in models or () if str(one.get("id")) == self.model)
        return {key: entry[key] for key in SAID if entry.get(key) is not None} | self.server.version()

    def _probe(self) -> bool:
        """Whether plain completions give the log-likelihoods of a prompt; without plain completions it is asked to chat."""
        text = "One two three four."
        prompt = self.tokenizer.encode(text, add_special_tokens=False) if self.ids else text
        asked = {"model": self.model, "temperature": 0, "prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": 1}
        answer = self.server.ask_if_there("completions", asked)
        if answer is None:
            answer = self.server.ask_if_there("completions", {key: asked[key] for key in list(asked)[:4]})
            if answer is None and self.ids:
                raise DataError(
                    "the server takes no token ids as a prompt", where=self.server.url, hint="Leave --tokenizer out."
                )
            self.form = "chat" if answer is None else "completions"
            return False
        if print_ := answer.get("system_fingerprint"):
            self.said["system_fingerprint"] = print_
        choices = answer.get("choices") or [{}]
        values = (choices[0].get("logprobs") or {}).get("token_logprobs") or []
        least = len(prompt) if self.ids else 3
        return len(values) >= least and all(isinstance(value, int | float) for value in values[1:least])

    def _room(self) -> int:
        """Tokens of context: what the server says, else what the tokenizer does, else no end."""
        said = self.said.get("max_model_len")
        if not self.ids:
            return UNLIMITED
        own = self.tokenizer.model_max_length
        return int(said) - 1 if said else own if own < UNLIMITED else UNLIMITED  # one more token is asked for each time


def _ends(found: dict[str, Any]) -> list[int]:
    """Where each token ends in the text, by the server's offsets or by the lengths of its tokens."""
    tokens = [str(token) for token in found.get("tokens") or []]
    starts = found.get("text_offset") or [sum(map(len, tokens[:at])) for at in range(len(tokens))]
    return [start + len(token) for start, token in zip(starts, tokens, strict=True)]
