"""A recipe that says `lang: zh` gets its report in Chinese, and a Chinese section on its model card."""

from __future__ import annotations

import re
import shutil

import pytest

from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Accepted, Comparison, Corpus, Run
from configs.sector import load_sector
from configs.store import RunFolder
from eval.compare import compare
from training.card_zh import chinese_section
from training.publish import publish


@pytest.fixture
def job(finished, tmp_path) -> Job:
    """A copy of the finished run, under the same recipe in Chinese."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    recipe = load_recipe(finished / "story.yaml", ["lang=zh"])
    return Job(recipe, roots_of(recipe, finished / "story.yaml"), RunFolder(tmp_path / "runs" / "story"))


def section(job: Job, **accepted: Accepted) -> str:
    read = (Corpus.read(job.folder.corpus / "corpus.json"), Run.read(job.folder.run / "run.json"))
    return "".join(chinese_section(job, *read, Comparison.read(job.folder.report / "comparison.json"), accepted))


def test_another_language_makes_the_report_again_in_that_language(job, capsys):
    before = Comparison.read(job.folder.report / "comparison.json")
    found = compare(job)
    assert "compare again" in capsys.readouterr().err
    assert found.settings["lang"] == "zh" and found.differences == before.differences
    assert '<html lang="zh-Hans">' in (job.folder.report / "report.html").read_text("utf-8")
    assert "| 任务 | 指标 | 基座 |" in (job.folder.report / "report.md").read_text("utf-8")


def test_the_section_has_the_comparison_the_data_and_the_safety_note(job):
    told = section(job)
    [row, *_] = Comparison.read(job.folder.report / "comparison.json").differences
    assert f"| finance_topics | acc | {row.base:.3f} | {row.tuned:.3f} |" in told
    assert "| general_text（通用能力） | bits_per_byte |" in told
    assert "最严格的许可：公有领域。最高数据级别：一般数据（GB/T 43697-2024）。" in told
    assert "finance_topics：200 题中有 0 题；general_text：48 题中有 0 题。" in told
    assert "语言：英文 45、简体中文 27。个人信息：没有发现。" in told
    assert load_sector("finance").safety.zh in told


def test_a_gate_that_was_not_met_is_named_with_the_reason_it_was_accepted_for(job):
    assert "门槛" not in section(job)
    told = section(job, max_invalid=Accepted(found="4.0 % of moods", reason="见第 12 号问题"))
    assert "发布门槛没有达到" in told and "- **max_invalid**：4.0 % of moods。放行理由：见第 12 号问题" in told


def test_no_english_sentence_is_left_in_the_section(job):
    """What stays in English is a name: of a task, a metric, a source, a licence, a standard, a key of the recipe."""
    words = set(re.findall("[A-Za-z][A-Za-z_]+", re.sub("`[^`]+`|GB/T|CC0", "", section(job))))
    assert words <= {
        *("finance_topics", "general_text", "acc", "bits_per_byte", "SectorLM", "LoRA", "Jaccard", "max_documents"),
        *{name for it in job.recipe.corpora for name in it.name.split("-")},
    }


def test_the_card_in_english_has_no_chinese_section(job):
    english = Job(job.recipe.model_copy(update={"lang": "en"}), job.roots, job.folder)
    assert section(english) == ""


@pytest.mark.slow
def test_a_release_made_before_is_made_again_with_the_section(job):
    compare(job)
    publish(job)
    card = (job.folder.release / "README.md").read_text("utf-8")
    assert section(job) in card and card.index("## 中文说明") < card.index("## Use")
