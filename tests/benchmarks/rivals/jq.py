"""jq, which reads and writes every value: `jq.py SOURCE TARGET`."""

import subprocess
import sys
from pathlib import Path

source, target = map(Path, sys.argv[1:3])
with source.open("rb") as lines, target.open("wb") as output:
    program = ".review_score = .stars * .review_count"
    subprocess.run(["jq", "--compact-output", program], stdin=lines, stdout=output, check=True)
