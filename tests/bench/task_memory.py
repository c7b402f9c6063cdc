"""Peak memory of one task on one large WARC.gz, which is one part: `python -m tests.bench.task_memory [--quick]`.

The file is made by concatenating the real shards of TOKENMILL_REAL_DATA until it has 1 GB (10 MB with --quick): members
make any concatenation a WARC file. The whole part runs in one process of its own, whose maximum resident set, and
that of its largest child (the extraction host), the kernel reports.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tests.bench.shared.pages import crawl_shards

RECIPE = """
name: memory
output: {folder}/out
part_bytes: 8GiB
tokenizer: {train: {vocab_size: 1000, sample_bytes: 1MiB}}
sources:
  - name: web
    reader: warc
    paths: ["{folder}/raw/big.warc.gz"]
    language: {}
    filters:
      - gopher_repetition: {}
      - gopher_quality: {}
      - c4: {}
sequences: {length: 2048}
"""
LIMIT_BYTES = 3 << 29

_CHILD = """
import json, sys
from pathlib import Path
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tasks import PartItem, Shared, part_task
import resource
file = load_recipe(Path(sys.argv[1]).read_text(), sys.argv[1])
storage = Storage(file.recipe.output)
(part,) = prepare(file, storage)
report = part_task(Shared(file.recipe, storage), PartItem(part, {}, {}, {}))
own, child = (resource.getrusage(who).ru_maxrss << 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
ingest, select = report.receipts[0].balance, report.receipts[-1].balance
print(json.dumps({"own": own, "child": child, "seconds": dict(report.seconds), "records": ingest.taken.documents,
                  "raw_bytes": ingest.taken.bytes, "kept": select.out.documents}))
"""


def main() -> None:
    """Make the file, run the task, print what it took."""
    target = 10_000_000 if arguments(__doc__, "10 MB instead of 1 GB").parse_args().quick else 1_000_000_000
    shards = crawl_shards()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "raw").mkdir()
        big = folder / "raw" / "big.warc.gz"
        with big.open("wb") as out:
            for shard in itertools.cycle(shards):
                out.write(shard.read_bytes())
                if out.tell() >= target:
                    break
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.replace("{folder}", str(folder)))
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-c", _CHILD, str(recipe)], capture_output=True, text=True, check=True)
        took = time.monotonic() - started
        size = big.stat().st_size
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"one task on a WARC.gz of {size / 1e6:,.0f} MB, {took:,.0f} s")
    print(f"  {found['records']:,} records, {found['kept']:,} kept by the filters")
    print("  " + ", ".join(f"{step} {seconds:,.0f} s" for step, seconds in found["seconds"].items()))
    print(f"  maximum resident set: task {found['own'] >> 20} MiB, extraction host {found['child'] >> 20} MiB")
    peak = found["own"] + found["child"]
    figure = Figure("peak resident set of one task and its extraction host", peak, "bytes", LIMIT_BYTES, AT_MOST)
    print(figures_line("task_memory", [figure]))


if __name__ == "__main__":
    main()
