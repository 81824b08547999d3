"""transformers.Trainer with peft, as its users write it: documents of a batch padded to the longest of them."""

from __future__ import annotations

from typing import Any

import peft
from lora import Ask, asked, lora, settings, telling, trained
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments


def build(ask: Ask, model: Any, tokenizer: Any, data: Any) -> Trainer:
    """A Trainer over `input_ids` with labels beside them: the language-model collator would unlearn the end mark, which
    is the padding token too."""
    labelled = data.map(lambda row: {"labels": row["input_ids"], "length": len(row["input_ids"])})
    arguments = TrainingArguments(
        **settings(ask),
        include_num_input_tokens_seen="non_padding",
        train_sampling_strategy="group_by_length" if ask.by_length else "random",
    )
    return Trainer(
        peft.get_peft_model(model, lora(ask)),
        arguments,
        train_dataset=labelled,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=[telling(ask)],
    )


if __name__ == "__main__" and (found := asked()):
    trained(found, build)
