"""The first half of `sectorlm prepare`: every shard read, mended, judged and sketched, duplicates settled; no tokens.

python -m benchmarks.until_settled RECIPE RUNS WORKERS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from configs.spread import How
from configs.stages import open_job


def main() -> None:
    """Do it, and print how many documents stay as one line of JSON."""
    from data_prep.passes import leak_index, read_pass
    from data_prep.prepare import fingerprint
    from data_prep.settle import settle
    from data_prep.shards import plan_shards

    job = open_job(Path(sys.argv[1]), (), Path(sys.argv[2]))
    index = leak_index(job, fingerprint(job)[1])
    shards = plan_shards(job.recipe.corpora, job.roots)
    library = read_pass(job, shards, How(int(sys.argv[3])), leaks=index is not None)
    settled = settle(job.recipe, library, index)
    print(json.dumps({"documents": sum(int((part.reason_D == 0).sum()) for part in settled.shards), "tokens": 0}))


if __name__ == "__main__":
    main()
