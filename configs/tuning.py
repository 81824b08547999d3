"""How the base model becomes the tuned one: the part `train` of a recipe.

Every field has a sentence with its meaning, unit and, where there is one, the evidence for its default.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.part import Part


class Phase(Part):
    """A stretch of training with an objective of its own; it goes on from the weights that the one before it left."""

    objective: Literal["all", "text", "answers", "preference"] = "all"
    """What is learnt: everything that is supervised; plain text; answers to prompts and in conversations; or `chosen` over
    `rejected` by direct preference optimisation (Rafailov et al. 2023, equation 7). Replay (`channel: general`) stays in
    every phase but the last kind."""
    sources: tuple[str, ...] = ()
    """Only these sources of the corpora."""
    epochs: float | None = Field(default=None, gt=0, le=100)
    """Passes over the phase's rows; left out: what `train.epochs` says."""
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    """Peak of the phase; left out: `train.learning_rate`."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop the phase after this many steps."""


class Train(Part):
    """How the base model becomes the tuned one."""

    method: Literal["lora", "full", "scratch"] = "lora"
    """`lora` trains low-rank factors on all linear layers, `full` all weights, `scratch` all weights from random ones."""
    phases: tuple[Phase, ...] = ()
    """Objectives one after another, such as text, then answers, then preference; left out: one over everything."""
    start: str | None = None
    """Folder of an adapter to start from instead of a fresh one: one that `sectorlm merge` made, or an earlier run's."""
    rank: int = Field(default=16, ge=1, le=512)
    """LoRA rank; 16 for instruction data up to 50k examples, 64 above and for continued pretraining
    (Biderman et al. 2024, "LoRA Learns Less and Forgets Less"; Thinking Machines 2025, "LoRA Without Regret")."""
    alpha: int = Field(default=32, ge=1)
    """LoRA scale; the factors' product is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """LoRA dropout; 0 loses nothing in short runs (Thinking Machines 2025)."""
    targets: tuple[str, ...] = ("all-linear",)
    """Layers that get factors, by the ends of their names (`q_proj`); `all-linear` is all but the head."""
    rslora: bool = False
    """Scale the factors' product by alpha / sqrt(rank), which keeps high ranks learning (Kalajdzievski 2023, rsLoRA)."""
    dora: bool = False
    """Learn each weight's norm apart from its direction (Liu et al. 2024, DoRA); slower, and vLLM does not serve it."""
    init: Literal["zero", "gaussian", "orthogonal", "pissa", "olora"] = "zero"
    """How the factors begin. `pissa` takes the weights' principal components (Meng et al. 2024), `olora` a QR of them
    (Büyükakyüz 2024); both are saved as a plain adapter of twice the rank, for the unchanged base."""
    lora_plus: float = Field(default=1.0, ge=1, le=64)
    """Learning rate of the factors B over that of A (Hayou et al. 2024, LoRA+, which proposes 16)."""
    quantise: Literal["none", "nf4"] = "none"
    """Number format of the frozen base: `nf4` is the 4-bit format of QLoRA (Dettmers et al. 2023); extra `quantised`."""
    new_tokens: tuple[str, ...] | str = ()
    """Words of the sector that become one token each, or a text file with one a line. Their rows begin as the mean of the
    pieces' rows and are trained whole beside the adapters. `sectorlm fitness` says what each would save."""
    beta: float = Field(default=0.1, gt=0, le=10)
    """How strongly a preference phase holds on to the weights it began with (Rafailov et al. 2023, section 4)."""
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    """Peak learning rate of AdamW; 2e-4 for LoRA, about a tenth of that for `full` (Thinking Machines 2025)."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Part of the steps with a linearly rising learning rate."""
    final: float = Field(default=0.1, ge=0, le=1)
    """Cosine decay ends at this part of the peak (Ibrahim et al. 2024 on continual pretraining)."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """AdamW's decoupled weight decay, on matrices only."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    epochs: float | None = Field(default=None, gt=0, le=100)
    """Passes over the training rows; left out: 3 / 2 / 1 below 10k / below 50k / above documents."""
    part: float | None = Field(default=None, gt=0, le=1)
    """Train on this part of the rows: those with the smallest hashes of (seed, "pilot", row), so that a smaller part lies
    in a larger one. `sectorlm pilot` sets it."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop each phase after this many steps, whatever `epochs` says."""
    batch_tokens: int = Field(default=32768, ge=32)
    """Tokens of one optimiser step, over all processes: the global batch."""
    micro_batch_tokens: int = Field(default=8192, ge=32)
    """Tokens of one forward pass per process; the result does not depend on it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the matrix products; `auto` is bfloat16 where the device multiplies it natively, else float32."""
    checkpoint_activations: Literal["auto", "on", "off"] = "auto"
    """Compute activations again in the backward pass instead of keeping them; `auto` does so where they would not fit."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """Several processes: `ddp` keeps all weights in each, `fsdp` parts the weights among them (FSDP2); `auto` is `ddp`."""
    on_spike: Literal["report", "skip"] = "report"
    """What happens to a step whose loss stands far above the last ones: named with its rows, or not applied either."""
    max_general_loss_increase: float | None = Field(default=None, ge=0)
    """The forgetting budget: how much the held-out loss of the general channel may rise above the base's, as a part of it
    (0.05 is 5 %). The run keeps the weights with the best sector loss within it, and stops early when it is spent."""
    probes: tuple[str, ...] = ()
    """Multiple-choice tasks to answer at every look, on items of their `fewshot_split`, never of the test."""
    probe_items: int = Field(default=64, ge=1, le=4096)
    """Items of each probe, chosen by the hash of (seed, task, item)."""
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Where metrics go besides metrics.jsonl (each an extra); a tracker that fails is left out, and never stops a run."""
    validate_every: int = Field(default=50, ge=1)
    """Steps between looks at the held-out rows of each channel."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between checkpoints; the last two are kept."""

    @model_validator(mode="after")
    def _adapter_keys_need_lora(self) -> Train:
        asked = {
            "start": self.start is not None,
            "rslora": self.rslora,
            "dora": self.dora,
            "init": self.init != "zero",
            "lora_plus": self.lora_plus != 1,
            "quantise": self.quantise != "none",
        }
        idle = [name for name, set_ in asked.items() if set_ and self.method != "lora"]
        if idle:
            raise ValueError(f"{idle[0]} is about adapters and has no effect with method: {self.method}")
        if self.method != "lora" and any(phase.objective == "preference" for phase in self.phases):
            raise ValueError(
                f"a preference phase needs method: lora, got {self.method}: all weights would be held three times"
            )
        if self.max_general_loss_increase is not None and any(it.objective == "preference" for it in self.phases):
            raise ValueError(
                "the forgetting budget chooses weights by the loss on the chosen answers, which preference training may raise: "
                "leave max_general_loss_increase out, or train the preference phase in a recipe of its own (train.start)"
            )
        if self.start is not None and (self.init != "zero" or self.dora):
            raise ValueError("start brings factors of its own: leave out init and dora")
        moved = self.init in ("pissa", "olora")
        if moved and self.quantise != "none":
            raise ValueError(f"init: {self.init} needs the base's own weights, not quantised ones")
        if moved and self.dora:
            raise ValueError(f"init: {self.init} and dora both take the base's weights apart: use one of them")
        return self

    @model_validator(mode="after")
    def _four_bits_stay_whole(self) -> Train:
        if self.quantise != "none" and self.parallel == "fsdp":
            raise ValueError("weights in four bits are not parted among processes: leave parallel out, or quantise")
        return self

    @model_validator(mode="after")
    def _new_tokens_are_words(self) -> Train:
        if self.new_tokens and self.method == "lora" and self.parallel == "fsdp":
            raise ValueError("new_tokens cannot be trained with parallel: fsdp; leave parallel out")
        listed = () if isinstance(self.new_tokens, str) else self.new_tokens
        for place, token in enumerate(listed):
            if not token or token != token.strip() or "\n" in token:
                raise ValueError(f"new_tokens[{place}] is {token!r}: give a word without spaces or line ends around it")
            if token in listed[:place]:
                raise ValueError(f"new_tokens names {token!r} twice")
        return self
