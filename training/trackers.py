"""Trackers are sinks: metrics.jsonl is the truth, and a tracker that fails is left out and never stops a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KINDS = {"tensorboard": "TensorBoardTracker", "mlflow": "MLflowTracker", "wandb": "WandBTracker"}
"""accelerate's trackers."""


class Trackers:
    """The trackers of a recipe that could be opened."""

    def __init__(self, names: Sequence[str], run: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self.open: dict[str, Any] = {}
        for name in names:
            try:
                self.open[name] = _opened(name, run, folder)
                self.open[name].store_init_configuration({key: _plain(value) for key, value in settings.items()})
            except Exception as error:  # each tracker has errors of its own, from imports to networks
                self._lose(name, error)

    def log(self, figures: Mapping[str, Any]) -> None:
        """Pass the numbers of one line on; `validation: {sector: 3.1}` becomes `validation/sector`."""
        if not self.open or "event" in figures:
            return
        values = {key: value for key, value in _flat(figures).items() if isinstance(value, int | float)}
        step = int(values.pop("step"))
        for name in list(self.open):
            try:
                self.open[name].log(values, step=step)
            except Exception as error:
                self._lose(name, error)

    def close(self) -> None:
        """Let every tracker finish what it sends."""
        for name in list(self.open):
            try:
                self.open[name].finish()
            except Exception as error:
                self._lose(name, error)

    def _lose(self, name: str, error: Exception) -> None:
        self.open.pop(name, None)
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        say(f"  {name} is left out ({told}); metrics.jsonl has everything")


def _opened(name: str, run: str, folder: Path) -> Any:
    import accelerate.tracking

    kind = getattr(accelerate.tracking, KINDS[name])
    tracker = kind(run, logging_dir=str(folder)) if kind.requires_logging_directory else kind(run)
    if hasattr(tracker, "start"):
        tracker.start()
    return tracker


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else str(value)


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": it for inner, it in value.items()}
        else:
            flat[name] = value
    return flat
