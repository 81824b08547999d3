"""The Chinese section of a model card: what it is, the comparison, the data and the safety note, from the same records.

Only Chinese is said here, so that the sentences stand in the code; names of tasks, metrics and sources stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.base import public_name
from configs.datasheet import datasheet, findings
from configs.sector import load_sector
from configs.wording import wording

if TYPE_CHECKING:
    from collections.abc import Mapping

    from configs.job import Job
    from configs.records import Accepted, Comparison, Corpus, Difference, Run, SourceLedger
    from configs.wording import Wording

KIND = {
    "lora": "`{base}` 的 LoRA 适配器",
    "full": "`{base}` 的全参数微调权重",
    "scratch": "按 `{base}` 的结构从零训练的权重",
}
VERDICTS = {"better": "更好", "worse": "更差", "not distinguishable": "无法区分"}


def chinese_section(
    job: Job, corpus: Corpus, run: Run, comparison: Comparison, accepted: Mapping[str, Accepted]
) -> list[str]:
    """The section, where the recipe asks for Chinese; the card says the same and more in English.

    `accepted` are the gates that were not met, with the reason for which the release was made all the same.
    """
    if job.recipe.lang != "zh":
        return []
    tell, pack = wording("zh"), load_sector(job.recipe.sector)
    kind = KIND[run.method].format(base=public_name(run.base))
    pieces = [
        "## 中文说明",
        f"{kind}，用 SectorLM 在下列语料上训练，面向**{pack.zh}**行业。声明的用途：{tell.term('uses', job.recipe.use)}。",
        "微调后的模型与基座回答同一批题目，逐题比较：",
        _table((*comparison.differences, *comparison.general)),
        *_accepted(accepted),
        "数据：",
        _data(corpus, tell),
        f"使用限制：{pack.safety.zh}",
    ]
    return ["\n\n".join(pieces)]


def _table(rows: tuple[Difference, ...]) -> str:
    lines = ["| 任务 | 指标 | 基座 | 微调后 | 差值 | 95% 区间 | 题数 | 结论 |", "|---|---|---:|---:|---:|---|---:|---|"]
    lines += [
        f"| {row.task}{'（通用能力）' if row.sector == 'general' else ''} | {row.metric} | {row.base:.3f} | {row.tuned:.3f} "
        f"| {row.difference:+.3f} | [{row.low:+.3f}, {row.high:+.3f}] | {row.n} | {VERDICTS[row.verdict]} |"
        for row in rows
    ]
    return "\n".join(lines)


def _accepted(accepted: Mapping[str, Accepted]) -> list[str]:
    """The gates that were not met; what a gate found and why that was accepted are quoted as they were written."""
    if not accepted:
        return []
    lines = [f"- **{gate}**：{it.found}。放行理由：{it.reason}" for gate, it in accepted.items()]
    return ["\n".join(["以下发布门槛没有达到，发布者说明理由后放行：", "", *lines])]


def _data(corpus: Corpus, tell: Wording) -> str:
    lines = [f"- **{source.name}**：{_source(corpus, source, tell)}" for source in corpus.sources]
    lines += [f"- **{tell(name)}**：{told}" for name, told in datasheet(corpus, tell=tell).items()]
    return "\n".join(lines)


def _source(corpus: Corpus, source: SourceLedger, tell: Wording) -> str:
    """Licence and size of a source, what was left out of it and why, and what was met in it."""
    gone = sorted((source.refused | source.dropped).items(), key=lambda pair: -pair[1])
    parts = [
        f"许可 {source.licence}",
        f"读入 {source.rows:,} 条",
        f"保留文档 {source.documents:,} 篇（{source.tokens:,} 词元）",
    ]
    parts += [f"舍弃：{tell(', ').join(f'{tell.reason(reason)} {count:,}' for reason, count in gone)}"] if gone else []
    found = "".join(f"{tell(name)}：{told}。" for name, told in findings(corpus, source, tell).items())
    return f"{'，'.join(parts)}。{found}"
