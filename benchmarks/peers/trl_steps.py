"""TRL's SFTTrainer with packing by best fit, its own default strategy, over the same tokens."""

from __future__ import annotations

from typing import Any

from lora import PEER, Ask, asked, lora, settings, telling, trained
from trl import SFTConfig, SFTTrainer


def build(ask: Ask, model: Any, tokenizer: Any, data: Any) -> SFTTrainer:
    """An SFTTrainer over tokens that it need not make; rows without padding, so that every position is a token.

    `max_length` is set, since TRL cuts what is longer than 1,024 tokens without a word.
    """
    arguments = SFTConfig(
        **settings(ask), packing=True, max_length=ask.row, include_num_input_tokens_seen="all", dataset_num_proc=None
    )
    return SFTTrainer(
        model,
        arguments,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora(ask),
        callbacks=[telling(ask)],
    )


if __name__ == "__main__" and (found := asked()):
    trained(found, build, (*PEER, "trl"))
