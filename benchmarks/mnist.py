"""Held-out accuracy on MNIST of 784-128-10 after 5 epochs; at least 97.5% is required.

    python dev.py bench mnist

MNIST is looked for where `chainrule train digits --data mnist` looks: $CHAINRULE_DATA first.
"""

from __future__ import annotations

import sys

from chainrule.recipes.digits import choose, load, train
from chainrule.train import Progress

REQUIRED = 0.975
SETTINGS = choose("mnist", hidden=128, epochs=5)


def main() -> int:
    """Print the figure; 1 if it is too low."""
    accuracy = train(SETTINGS, load(SETTINGS), callbacks=[Progress()]).accuracy
    print(f"held-out accuracy: {accuracy:.4f} (at least {REQUIRED:.4f} is required)")
    return int(accuracy < REQUIRED)


if __name__ == "__main__":
    sys.exit(main())
