"""Held-out accuracy of `chainrule train digits` for the seeds 0-4; the median must reach .97.

python dev.py bench digits
"""

from __future__ import annotations

import statistics
import sys

from chainrule.recipes.digits import choose, load, train

SEEDS = range(5)
REQUIRED = 0.97


def main() -> int:
    """Print each figure and the median; 1 if that is too low."""
    found = []
    for seed in SEEDS:
        settings = choose(seed=seed)
        found.append(train(settings, load(settings)).accuracy)
        print(f"seed {seed}: held-out accuracy {found[-1]:.4f}", flush=True)
    median = statistics.median(found)
    print(f"median: {median:.4f} (at least {REQUIRED:.4f} is required)")
    return int(median < REQUIRED)


if __name__ == "__main__":
    sys.exit(main())
