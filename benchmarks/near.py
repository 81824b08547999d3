"""Near-duplicates: megabytes for a CPU second beside other projects, and what is found of planted pairs.

    python -m benchmarks.near CORPUS.jsonl [MEGABYTES] [PYTHON]

CORPUS has lines of `{"text": ...}` (benchmarks/corpus.py writes one); the first MEGABYTES (6) of English and of Chinese
are taken. PYTHON is the interpreter of another environment in which datatrove, datasketch or py-data-juicer is installed.
All get the texts in memory, shingles of 5, 18 bands of 6 values, and the threshold 0.8, and give the number of documents
that they would drop. One process each, one thread, warmed up with one text; the time is that of its CPU.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HAN = re.compile(r"[\u4e00-\u9fff]")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
LANGUAGES = {"en": "English", "zh": "Chinese"}


def ours(texts: list[str], _: str) -> int:
    """Units, signatures and the search; texts are fetched where the signatures leave a pair open."""
    import numpy as np

    from data_prep.near import Overlap, Signatures, near_duplicates
    from data_prep.sketch import signatures_of
    from data_prep.units import texts_of, units_of

    with tempfile.NamedTemporaryFile() as file:
        batch: list[str] = []
        for text in [*texts, None]:
            if text is not None:
                batch.append(text)
            if batch and (text is None or sum(map(len, batch)) > 1 << 19):
                file.write(signatures_of(units_of(texts_of(batch))).tobytes())
                batch = []
        file.flush()
        signatures = Signatures([Path(file.name)])
        found = near_duplicates(signatures, np.ones(len(texts), bool), 0.8, Overlap(texts.__getitem__))
    return int((found >= 0).sum())


def datatrove(texts: list[str], language: str) -> int:
    """Its three minhash blocks, one after another, in this process."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.typeshelper import Languages

    config = minhash.MinhashConfig(n_grams=5, num_buckets=18, hashes_per_bucket=6)
    name = Languages.english if language == "en" else Languages.mandarin_chinese
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        minhash.MinhashDedupSignature(f"{folder}/signatures", config=config, language=name).run(iter(documents), 0, 1)
        for bucket in range(18):
            minhash.MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets", config=config).run(
                None, bucket, 18
            )
        minhash.MinhashDedupCluster(f"{folder}/buckets", f"{folder}/remove", config=config).run(None, 0, 1)
        return sum(path.stat().st_size // 4 for path in Path(folder, "remove").glob("*.remove"))


def datasketch(texts: list[str], language: str) -> int:
    """Its LSH index, each text looked up and then put in; shingles of words or characters."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=108, params=(18, 6))
    dropped = 0
    for number, text in enumerate(texts):
        parts = text.lower().split() if language == "en" else text
        joint = " " if language == "en" else ""
        sketch = MinHash(num_perm=108)
        sketch.update_batch([joint.join(parts[at : at + 5]).encode() for at in range(max(len(parts) - 4, 1))])
        if index.query(sketch):
            dropped += 1
        else:
            index.insert(number, sketch)
    return dropped


def data_juicer(texts: list[str], language: str) -> int:
    """Its DocumentMinhashDeduplicator on a data set in memory."""
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
    from datasets import Dataset

    judge = DocumentMinhashDeduplicator(
        tokenization="space" if language == "en" else "character",
        window_size=5,
        num_permutations=108,
        jaccard_threshold=0.8,
        num_bands=18,
        num_rows_per_band=6,
    )
    data = Dataset.from_list([judge.compute_hash({"text": text}) for text in texts])
    return len(texts) - len(judge.process(data)[0])


CONTENDERS: dict[str, tuple[Callable[[list[str], str], int], str]] = {
    "SectorLM, numba": (ours, ""),
    "SectorLM, numpy": (ours, ""),
    "datasketch": (datasketch, "datasketch"),
    "Data-Juicer": (data_juicer, "py-data-juicer"),
    "datatrove": (datatrove, "datatrove"),
}


def measure(name: str, language: str, path: str) -> dict[str, Any]:
    """What one contender does in this process: MB for a CPU second, documents dropped, version."""
    contender, package = CONTENDERS[name]
    texts = json.loads(Path(path).read_text("utf-8"))
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        contender(texts[:1], language)
        best = float("inf")
        for _ in range(1 if package else 3):
            start = time.process_time()
            dropped = contender(texts, language)
            best = min(best, time.process_time() - start)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    return {"speed": megabytes / best, "dropped": dropped, "version": version(package) if package else ""}


def corpora(path: Path, megabytes: float) -> dict[str, list[str]]:
    """The first texts of each language: Chinese where a fifth of the characters are."""
    found: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    sizes = dict.fromkeys(LANGUAGES, 0)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)["text"]
            language = "zh" if len(HAN.findall(text)) > len(text) / 5 else "en"
            if sizes[language] < megabytes * 1e6:
                found[language].append(text)
                sizes[language] += len(text.encode())
    return found


def speed_table(path: Path, megabytes: float, peers: str) -> None:
    """Print the table of speeds."""
    print("| | version | English MB/s | dropped | Chinese MB/s | dropped |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for language, texts in corpora(path, megabytes).items():
            Path(folder, language).write_text(json.dumps(texts), "utf-8")
        for name, (_, package) in CONTENDERS.items():
            switch = {"SECTORLM_FAST": "off" if name.endswith("numpy") else "auto"}
            cells = [name]
            for language in LANGUAGES:
                done = subprocess.run(
                    [peers if package else sys.executable, __file__, "--one", name, language, f"{folder}/{language}"],
                    env=os.environ | ONE_THREAD | switch | {"PYTHONPATH": str(Path(__file__).parent.parent)},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    cells += ["", done.stderr.strip().splitlines()[-1][:80], ""][len(cells) > 2 :]
                    continue
                found = json.loads(done.stdout.splitlines()[-1])
                cells += [found["version"]] * (len(cells) == 1) + [f"{found['speed']:.3g}", str(found["dropped"])]
            print("| " + " | ".join(cells) + " |", flush=True)


def planted_table(count: int) -> None:
    """Print recall and precision on planted pairs."""
    import numpy as np

    from benchmarks.planted import overlap, plant
    from data_prep.near import Overlap, Signatures, near_duplicates
    from data_prep.sketch import signatures_of
    from data_prep.units import texts_of, units_of

    print(
        "\n| | pairs | of them duplicates | found | recall | dropped | rightly | precision |\n|---|---|---|---|---|---|---|---|"
    )
    for language, name in LANGUAGES.items():
        planted = plant(language, count)
        with tempfile.NamedTemporaryFile() as file:
            file.write(signatures_of(units_of(texts_of(planted.texts))).tobytes())
            file.flush()
            signatures, texts = Signatures([Path(file.name)]), planted.texts
            found = near_duplicates(signatures, np.ones(len(texts), bool), 0.8, Overlap(texts.__getitem__)).tolist()
        wanted = [late for _, late, true in planted.pairs if true >= 0.8]
        hits = sum(found[late] >= 0 for late in wanted)
        dropped = [(late, early) for late, early in enumerate(found) if early >= 0]
        right = sum(overlap(texts[late], texts[early]) >= 0.8 for late, early in dropped)
        cells = [name, len(planted.pairs), len(wanted), hits, f"{hits / len(wanted):.4f}"]
        cells += [len(dropped), right, f"{right / len(dropped):.4f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    """Measure all."""
    if sys.argv[1] == "--one":
        print(json.dumps(measure(*sys.argv[2:5])))
        return
    megabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
    numpy, numba = (getattr(importlib.import_module(name), "__version__", "") for name in ("numpy", "numba"))
    print(
        f"python -m benchmarks.near {' '.join(sys.argv[1:])}\nPython {sys.version.split()[0]}, numpy {numpy}, numba {numba}\n"
    )
    speed_table(Path(sys.argv[1]), megabytes, sys.argv[3] if len(sys.argv) > 3 else sys.executable)
    planted_table(2000)


if __name__ == "__main__":
    main()
