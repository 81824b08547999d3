"""Croissant metadata of the corpus: what its files are, by hash, and what the columns of its list of documents hold.

Format: MLCommons Croissant 1.0 with the vocabulary of its responsible-AI extension (mlcommons.org/croissant/1.0 and
/RAI/1.0), JSON-LD over schema.org. `mlcroissant validate --jsonld croissant.json` is its validator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.datasheet import datasheet, findings
from configs.governance import strictest, years
from configs.licences import PAGE, spdx_id

if TYPE_CHECKING:
    from configs.job import Job
    from configs.records import Corpus

TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject"),
    *("fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace"),
    *("samplingRate", "separator", "source", "subField", "transform"),
)
"""Words of the format that stand for themselves in its own namespace (Croissant 1.0, appendix 1)."""
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in TERMS},
}
KINDS = {
    ".parquet": "application/vnd.apache.parquet",
    ".jsonl": "application/jsonlines",
    ".npy": "application/octet-stream",
    ".bin": "application/octet-stream",
}
"""Ending of a corpus file to its media type."""
COLUMNS = {
    "id": ("sc:Text", "Identity of the document in its source."),
    "source": ("sc:Text", "Name of the source in the recipe."),
    "split": ("sc:Text", "train or validation."),
    "where": ("sc:Text", "File and line that it was read from."),
    "start": ("sc:Integer", "Its first token in tokens.bin."),
    "tokens": ("sc:Integer", "Its length in tokens."),
    "supervised": ("sc:Integer", "Tokens of it that are learnt."),
    "characters": ("sc:Integer", "Its length in characters."),
    "digest": ("sc:Text", "Hash of its normalised content."),
    "language": ("sc:Text", "The language it looks like."),
    "personal": ("sc:Integer", "Pieces of personal data met in it."),
}
"""Columns of documents.parquet: type and meaning."""


def croissant(job: Job, corpus: Corpus) -> dict[str, Any]:
    """The metadata of a corpus as a JSON-LD object; its files are named by hash and are not part of the release."""
    licences = sorted({source.licence for source in corpus.sources})
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"{corpus.name}-corpus",
        "description": (
            f"The prepared corpus that {corpus.name} was tuned on, for the sector {corpus.sector.replace('_', ' ')}: "
            f"{corpus.documents:,} documents and {corpus.tokens:,} tokens of {len(corpus.sources)} sources. Its files are not "
            "part of the release; their hashes say which they are."
        ),
        "url": _url(job),
        "version": "1.0.0",
        "datePublished": corpus.made.finished[:10],
        "license": [_licence(name) for name in licences],
        "citeAs": f"The sources of {corpus.name}: " + "; ".join(_origin(it.name, it.origin) for it in corpus.sources),
        "inLanguage": sorted({language for source in corpus.sources for language in source.language}),
        "rai:dataCollection": "; ".join(f"{it.name}: {it.origin or 'origin not stated'}" for it in corpus.sources),
        "rai:dataCollectionTimeframe": _timeframe(corpus),
        "rai:dataPreprocessingProtocol": [
            f"{source.name}: {name}: {told}"
            for source in corpus.sources
            for name, told in findings(corpus, source).items()
        ],
        "rai:dataLimitations": [f"{name}: {told}" for name, told in datasheet(corpus).items()],
        "rai:personalSensitiveInformation": [
            f"{source.name}: {count} {kind}"
            for source in corpus.sources
            for kind, count in sorted(source.personal.items())
        ],
        "rai:dataUseCases": " ".join(strictest(corpus.sources).sentences()),
        "distribution": [_file(name, digest) for name, digest in sorted(corpus.files.items())],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "documents",
                "name": "documents",
                "description": "One row for each document that was kept.",
                "field": [_field(name, *its) for name, its in COLUMNS.items()],
            }
        ],
    }


def _file(name: str, digest: str) -> dict[str, Any]:
    kind = KINDS[name[name.rindex(".") :]]
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": kind,
        "sha256": digest,
    }


def _field(name: str, kind: str, meaning: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": "documents.parquet"}, "extract": {"column": name}}
    whole = f"documents/{name}"
    return {
        "@type": "cr:Field",
        "@id": whole,
        "name": whole,
        "description": meaning,
        "dataType": kind,
        "source": source,
    }


def _url(job: Job) -> str:
    """Where the release will stand; a name that leads nowhere where it is not pushed."""
    target = job.recipe.publish.push_to
    return f"https://huggingface.co/{target}" if target else f"https://example.invalid/{job.recipe.name}"


def _licence(name: str) -> str:
    """The page of a licence with an identifier of SPDX, else its name."""
    return PAGE.format(known) if (known := spdx_id(name)) else name


def _origin(name: str, origin: str) -> str:
    return f"{name} ({origin})" if origin else name


def _timeframe(corpus: Corpus) -> list[str]:
    """First and last year of the sources that state one."""
    found = [(source.name, years(source.time)) for source in corpus.sources]
    return [f"{name}: {span[0]} to {span[1]}" for name, span in found if span]
