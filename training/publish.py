"""Run -> Release: a folder that loads with plain transformers and peft, and a card that quotes the records."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from configs.base import public_name
from configs.errors import PolicyError, RecipeError
from configs.memorisation import told
from configs.progress import say
from configs.records import Comparison, Corpus, Release, Run, Scorecard, flat, made_by, stale
from configs.releasing import NO_WISHES, Spot, Wishes
from configs.store import crash_point, files_of, staged, verify_files, write_atomic
from configs.taint import taint_of, taint_told
from training.card import model_card
from training.gates import Evidence, Verdict, accepted_reasons, check_gates, needs_audit
from training.gguf_file import add_gguf, check_gguf
from training.layout import (
    add_records,
    add_sums,
    add_tokenizer,
    add_weights,
    check_vocabulary,
    refuse_unsafe,
    serving,
)
from training.memorised import audit
from training.papers import write_papers
from training.proof import try_release
from training.push import push_release
from training.signing import sign, signer
from training.terms import add_data, add_terms, base_licence

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from configs.job import Job
    from configs.records import Memorisation


class Sources(NamedTuple):
    """The records that a release is made from."""

    corpus: Corpus
    run: Run
    comparison: Comparison
    tuned: Scorecard


def publish(job: Job, wishes: Wishes = NO_WISHES) -> Release:
    """Make the release folder, verify that it loads, sign it and push it where asked to.

    Raises:
        RecipeError: a push was asked for, and the recipe names no repository; a gate is accepted that does not exist.
        DataError: a record that the card quotes is missing or does not fit its files.
        PolicyError: the run learnt from documents that must be forgotten.
        GateError: a gate of the recipe was not met, or the release does not reproduce the run.
        UnsafeArtefactError: something that could run code lies in the run.
        StorageError: the hub refused the push, and the local folder is complete; or the key cannot be used.
    """
    started = time.monotonic()
    if wishes.push and job.recipe.publish.push_to is None:
        raise RecipeError("no repository to push to", where="publish.push_to", hint="Set publish.push_to: ORG/NAME.")
    signing = signer(wishes.key) if wishes.key else None
    if job.recipe.publish.gguf != "no":
        check_gguf(job)
    _refuse_tainted(job)
    release = _kept(job, reasons := accepted_reasons(wishes.accept)) or _made(job, reasons, wishes.spot, started)
    if signing is not None:
        sign(job.folder.release, signing)
    if wishes.push:
        push_release(job.folder.release, release, str(job.recipe.publish.push_to))
    return release


def _refuse_tainted(job: Job) -> None:
    """No release is made, kept or pushed of a run that learnt what a removal request takes out.

    Raises:
        PolicyError: it did.
    """
    if taint := taint_of(job.folder.run):
        raise PolicyError(
            f"the release is refused: this run {taint_told(taint)}",
            where=str(job.folder.run),
            hint="Train again, `sectorlm run RECIPE`, with a recipe whose prepare.exclude has these requests.",
        )


def _sources(job: Job) -> Sources:
    return Sources(
        Corpus.read(job.folder.corpus / "corpus.json"),
        Run.read(job.folder.run / "run.json"),
        Comparison.read(job.folder.report / "comparison.json"),
        Scorecard.read(job.folder.scorecards / "tuned" / "scorecard.json"),
    )


def _made_from(job: Job, reasons: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and inputs of the release's record; reasons that were accepted are settings too."""
    settings = flat(job.recipe.publish, "publish") | flat(job.recipe.gates, "gates")
    settings.pop("publish.push_to")
    found = _sources(job)
    inputs = {name: getattr(found, name).content() for name in ("corpus", "run", "comparison")}
    return settings | {f"accept.{gate}": reason for gate, reason in reasons.items()}, inputs


def _kept(job: Job, reasons: dict[str, str]) -> Release | None:
    """The release that is there, where it is as it would be made; what was accepted once need not be said again."""
    release = Release.read_if_there(job.folder.release / "release.json")
    if release is None:
        return None
    reasons = reasons or {gate: it.reason for gate, it in release.accepted.items()}
    why = stale(release, job.folder.release, *_made_from(job, reasons))
    if why:
        say(f"publish again: {'; '.join(why)}")
        return None
    say("publish: unchanged, kept")
    return release


def _made(job: Job, reasons: dict[str, str], spot: Spot | None, started: float) -> Release:
    """A new release: judged first, then filled and verified beside its place, which it takes in one rename."""
    found = _sources(job)
    verify_files(job.folder.run, found.run.files)
    verify_files(job.folder.report, found.comparison.files)
    refuse_unsafe(job.folder.run)
    memorised = _audited(job, found, spot)
    evidence = Evidence(job.recipe, found.corpus, found.comparison, found.tuned, memorised, base_licence(job))
    verdict = check_gates(evidence, reasons)
    settings, inputs = _made_from(job, reasons)
    with staged(job.folder.release) as staging:
        checks = _fill(staging, job, found)
        release = Release(
            name=job.recipe.name,
            settings=settings,
            inputs=inputs,
            files={},
            made=made_by("training", started),
            sector=job.recipe.sector,
            base=public_name(job.recipe.base),
            checks=checks,
            gates=verdict.met,
            accepted=verdict.accepted,
            memorised=memorised,
        )
        told_of = (job, found.corpus, found.run.public(), found.comparison)
        write_papers(staging, *told_of)
        write_atomic(staging / "README.md", model_card(*told_of, release))
        add_sums(staging)
        crash_point("publish.before_record")
        release = release.model_copy(update={"files": files_of(staging), "made": made_by("training", started)})
        release.write(staging / "release.json")
    _tell(verdict, memorised)
    return release


def _audited(job: Job, found: Sources, spot: Spot | None) -> Memorisation | None:
    asked = job.recipe.publish.audit
    if not (asked.documents or asked.canaries or needs_audit(job.recipe.gates)):
        return None
    verify_files(job.folder.corpus, found.corpus.files)
    return audit(job, found.corpus, found.run, spot)


def _fill(staging: Path, job: Job, found: Sources) -> dict[str, str]:
    """Everything but the card and the record; returns what was verified."""
    checks: dict[str, str] = {}
    places = [staging]
    add_weights(staging, job, found.run)
    if found.run.weights == "adapter" and job.recipe.publish.merged:
        from training.batches import Rows
        from training.merge import merge

        verify_files(job.folder.corpus, found.corpus.files)
        places.append(staging / "merged")
        places[-1].mkdir()
        checks["merged against base + adapter"] = merge(job, Rows(job.folder.corpus, found.corpus), places[-1]).told()
    checks["stop tokens"] = add_tokenizer(job, places)
    whole = places[-1] if (places[-1] / "config.json").is_file() else None
    if whole is not None:
        checks["vocabulary"] = check_vocabulary(whole)
    if job.recipe.publish.gguf != "no":
        checks["GGUF"] = add_gguf(staging, job, places[-1], checks["stop tokens"].split(", "))
    add_records(staging, job, found.corpus, found.run, found.comparison)
    add_terms(staging, job, found.corpus)
    add_data(staging, found.corpus)
    checks |= try_release(staging, job, found.corpus, found.run)
    checks["vLLM"] = serving(staging, job, found.run)
    return checks


def _tell(verdict: Verdict, memorised: Memorisation | None) -> None:
    for line in told(memorised) if memorised else ():
        say(f"  {line}")
    for gate, it in verdict.accepted.items():
        say(f"  {gate} was not met and is accepted ({it.reason}): {it.found}")
