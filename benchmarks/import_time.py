"""How long `import chainrule` takes, against `import numpy`; at most twice is allowed.

Bytecode is written and read, as it is for a package that was installed: the first round, which does
not count, makes what is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from common import environment, medians

MOST = 2.0


def fresh(program: str) -> None:
    """Run a line of Python in a new process."""
    subprocess.run([sys.executable, "-c", program], check=True, env=environment())


def seconds(rounds: int) -> dict[str, float]:
    """How long Python takes to start, alone and with each import: medians."""
    programs = {"python alone": "pass", "numpy": "import numpy", "chainrule": "import chainrule"}
    return medians({name: partial(fresh, line) for name, line in programs.items()}, rounds=rounds)


def main() -> int:
    """Print the times and their ratio; 1 if it is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    took = seconds(parser.parse_args().rounds)
    for name, each in took.items():
        print(f"{name:14} {each * 1e3:7.1f} ms")
    # What the interpreter itself needs to start is part of neither import.
    start = took["python alone"]
    ratio = (took["chainrule"] - start) / (took["numpy"] - start)
    print(f"import chainrule / import numpy: {ratio:.2f} (at most {MOST:.0f})")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
