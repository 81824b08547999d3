"""What this machine has, and the remedy for what it lacks."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

GB = 1e9
HUB_SECONDS = 3.0
"""How long the hub may take to answer."""
LEAST_DISK = 5.0
"""GB below which a run with a real base model is likely to fill the disk."""


class Finding(NamedTuple):
    """One thing that was looked at; `remedy` says what to do where it is not well."""

    what: str
    found: str
    well: bool = True
    remedy: str = ""


def examine(runs: Path) -> list[Finding]:
    """Look at Python, packages, devices, memory, disk and the hub; nothing is changed, nothing is installed."""
    findings = [_python(), *_packages(), *_devices(), _memory(), _disk(runs), _hub()]
    return [finding._replace(remedy="") if finding.well else finding for finding in findings]


def _python() -> Finding:
    well = sys.version_info >= (3, 11)
    return Finding(
        "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", well, "Use 3.11 or newer."
    )


def _packages() -> list[Finding]:
    """The core packages, and each extra as a whole."""
    if not _installed("sectorlm"):
        return [Finding("packages", "sectorlm runs from a clone and is not installed", False, "pip install -e .")]
    groups: dict[str, list[str]] = {}
    for line in requires("sectorlm") or []:
        requirement, _, marker = line.partition(";")
        name = re.split(r"[\s<>=!~\[(]", requirement.strip())[0]
        groups.setdefault(marker.partition("==")[2].strip(" '\"") or "core", []).append(name)
    findings = []
    for group, names in groups.items():
        absent = [name for name in names if not _installed(name)]
        title = "packages" if group == "core" else f"extra {group}"
        remedy = "pip install -e ." if group == "core" else f"pip install -e '.[{group}]'"
        findings.append(Finding(title, f"missing: {', '.join(absent)}" if absent else "all there", not absent, remedy))
    return findings


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _devices() -> list[Finding]:
    try:
        import torch
    except ImportError as error:
        return [Finding("torch", f"cannot be imported ({error})", False, "pip install torch")]
    findings = [Finding("torch", f"{version('torch')}, {torch.get_num_threads()} CPU threads")]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        findings.append(Finding(f"gpu {index}", f"{card.name}, {card.total_memory / GB:.0f} GB"))
    if len(findings) == 1:
        remedy = "Without one, tune small models only; with a card: check the driver and install a CUDA build of torch."
        findings.append(Finding("gpu", "none that torch can use", False, remedy))
    return findings


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    limit = Path("/sys/fs/cgroup/memory.max")
    bound = limit.read_text().strip() if limit.is_file() else "max"
    allowed = total if bound == "max" else min(total, int(bound) / GB)
    return Finding("memory", f"{allowed:.1f} GB", allowed >= 4, "Training the embedded sample needs about 2 GB.")


def _disk(runs: Path) -> Finding:
    there = next(folder for folder in (runs.resolve(), *runs.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free / GB
    writable = os.access(there, os.W_OK)
    found = f"{free:.1f} GB free in {there}{'' if writable else ', which cannot be written'}"
    return Finding(
        "disk", found, writable and free >= LEAST_DISK, "Free some space, or choose another place with --runs DIR."
    )


def _hub() -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return Finding("hub", f"{endpoint} is switched off by HF_HUB_OFFLINE", False, "Unset HF_HUB_OFFLINE to use it.")
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=HUB_SECONDS) as answer:
            return Finding("hub", f"{endpoint} answers {answer.status}")
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        remedy = "Use local folders, or set HF_ENDPOINT to a mirror. Everything embedded works without it."
        return Finding("hub", f"{endpoint} cannot be reached ({reason})", False, remedy)
