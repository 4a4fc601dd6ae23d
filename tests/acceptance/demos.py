"""The demo at a size for tests: every stage is the real one, with fewer units, steps and tasks.

As a program it runs the demo in a folder and prints what came out: ``python demos.py DIR``.
"""

import re
import sys
from pathlib import Path

from crowd_imi.rehearsal.demo.network import Phase
from crowd_imi.rehearsal.demo.run import Scale, run_demo
from crowd_imi.study_templates import TemplateName, template

ARMS = """\
[[arms]]
model = "trained"
condition = "natural"
units = 8
null = 8
responses = 3

[[arms]]
model = "random"
condition = "natural"
units = 8
responses = 3

[[arms]]
model = "trained"
condition = "synthetic"
units = 4
null = 4
responses = 2

[[arms]]
model = "random"
condition = "synthetic"
units = 4
null = 4
responses = 2

"""
# (16 × 3 + 8 × 3 + 8 × 2 + 8 × 2) / 8 = 13 tasks.


def small_scale() -> Scale:
    """About a minute of two cores."""
    toml = re.sub(r"\[\[arms\]\].*?(?=\[panels\])", ARMS, template(TemplateName.DEMO), flags=re.DOTALL)
    # Visualisations of four steps explain little, so synthetic catch trials are hard: few are asked for.
    less = {"batches": 5, "steps": 4, "trials": 8, "min_total_seconds": 60, "min_catch_ratio": 0.2}
    for key, value in less.items():
        toml, replaced = re.subn(rf"^{key} = [\d.]+", f"{key} = {value}", toml, count=1, flags=re.MULTILINE)
        assert replaced == 1, key
    return Scale(toml, phases=(Phase(steps=40, batch=32, crop=32),))


if __name__ == "__main__":
    print(run_demo(Path(sys.argv[1]), 1, lambda _: None, scale=small_scale()).model_dump_json())
