"""vLLM as an engine for texts, at scale: extra `vllm`, on a GPU.

Written against vLLM's documented interface (`LLM.generate`, `TokensPrompt`, `SamplingParams`, `LoRARequest`; "Offline Inference"
and "LoRA Adapters" of docs.vllm.ai) and not run here: no machine that this project was tested on had it. What can be held
without it is: that its absence says which extra is missing, and which adapters it can serve.

It only writes. Its log-likelihoods are in the number format of its kernels and were not compared with ours, so multiple choice
and passages are refused; a vLLM server can be asked those too (eval/endpoint.py), and its answers are kept apart from ours.
"""

from __future__ import annotations

import importlib.util
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from configs.base import load_tokenizer
from configs.errors import DataError, RecipeError, StorageError
from configs.records import packages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from configs.prompts import Branch

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `max_lora_rank` that vLLM takes (vllm.config.lora, `MaxLoRARanks`)."""
UNSERVED = ("modules_to_save", "trainable_token_indices")
"""Parts of an adapter that are no low-rank factors: vLLM does not serve them."""


def check_installed() -> None:
    """See that vLLM is there, before anything is loaded.

    Raises:
        StorageError: it is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise StorageError("vLLM is not installed", where="--engine vllm", hint="pip install -e '.[vllm]'")


def lora_rank(adapter: Path) -> int:
    """The `max_lora_rank` under which vLLM serves this adapter.

    Raises:
        DataError: it cannot serve it (DoRA, new tokens, other layers kept whole, or a rank above 512), or its config is damaged.
    """
    path = adapter / "adapter_config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        rank = max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not the config of a LoRA adapter ({error})", where=str(path)) from error
    unserved = ["DoRA"] * bool(config.get("use_dora")) + [name for name in UNSERVED if config.get(name)]
    fitting = next((one for one in RANKS if one >= rank), None)
    if unserved or fitting is None:
        reason = unserved[0] if unserved else f"rank {rank}, at most {RANKS[-1]}"
        raise DataError(
            f"vLLM does not serve this adapter ({reason})",
            where=str(adapter),
            hint="Merge it (publish.merged: true) and score the merged weights, or leave --engine out.",
        )
    return fitting


class VllmEngine:
    """A model in vLLM as `eval.engine.Engine`, with an adapter as a LoRA request."""

    def __init__(self, folder: Path, adapter: Path | None = None, rank: int = 0) -> None:
        from vllm import LLM  # type: ignore[import-not-found]

        lora: dict[str, Any] = {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank} if adapter else {}
        self.model: Any = LLM(model=str(folder), seed=0, trust_remote_code=False, enable_prefix_caching=True, **lora)
        self.tokenizer, self.adapter, self.tokens = load_tokenizer(folder), adapter, 0
        self.room = int(self.model.llm_engine.model_config.max_model_len) - 1
        self.dtype = str(self.model.llm_engine.model_config.dtype).removeprefix("torch.")
        self.tuned = adapter is not None

    @property
    def engine(self) -> str:
        """vLLM with its version and number format."""
        return f"vllm {packages(['vllm'])['vllm']}, {self.dtype}"

    def may_share(self, longest: int) -> bool:
        """No beginning is handed over apart: it is kept over there."""
        return False

    @contextmanager
    def using(self, which: str) -> Iterator[VllmEngine]:
        """Answer as `base`, without the adapter, or as `tuned`."""
        self.tuned = self.adapter is not None and which != "base"
        yield self

    def loglikelihoods(self, branches: Sequence[Branch], budget: int = 0, shared: int = 0) -> list[list[float]]:
        """Refused: see above.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            "vLLM is asked for texts only", where="--engine vllm", hint="Leave --engine out for these tasks."
        )

    def texts(
        self, contexts: Sequence[list[int]], until: Sequence[str], most: int, shared: int = 0, budget: int = 0
    ) -> list[str]:
        """The greedy continuation of every context; vLLM schedules them itself and keeps what they share."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.lora.request import LoRARequest  # type: ignore[import-not-found]

        settings = SamplingParams(temperature=0, max_tokens=most, stop=list(until) or None, skip_special_tokens=True)
        lora = LoRARequest("tuned", 1, str(self.adapter)) if self.tuned else None
        prompts = [TokensPrompt(prompt_token_ids=context) for context in contexts]
        found = self.model.generate(prompts, settings, use_tqdm=False, lora_request=lora)
        self.tokens += sum(
            len(context) + len(one.outputs[0].token_ids) for context, one in zip(contexts, found, strict=True)
        )
        texts = [str(one.outputs[0].text) for one in found]
        return [text[: min((text.find(stop) for stop in until if stop in text), default=len(text))] for text in texts]
