"""The table of errors of the functions of one number: writes docs/accuracy.md.

    python dev.py bench accuracy

Every 389th bit pattern of float32, but the subnormal ones, is given to the native engine; PyTorch
in float64 says what is right. Kernels are made for each kind of processor that this one can play.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "native"))

from curves import CURVES, STEP, TINY, Sweep, patterns, sweep
from forced import TARGETS, forced, runs_here

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"

HEAD = f"""# Accuracy of the native engine

Functions of one number in float32, held against float64 over every {STEP}th bit pattern:
{len(patterns()):,} arguments of either sign and every magnitude, but no subnormal ones. An error
is given in units in the last place of the result (ulp), with the argument where it is largest;
half a unit is what rounding the exact result costs. Where digits cancel it is given as a share of
the argument's size instead: 6e-8 is half a unit of 1. NaN and infinity are exact everywhere.
Numbers under {TINY:.3g} count as 0, as arguments, as results or on the way; so much is not
counted as an error.

This page is written by `python3 dev.py bench accuracy`; tests hold every bound, those of ARM's
kernels (NEON) under an emulator.

"""
NAMES = {"sse2": "SSE2", "avx2": "AVX2", "avx512": "AVX-512"}


def cell(name: str, found: Sweep) -> str:
    """What one sweep found, in words."""
    if found.broken:
        return f"WRONG at {found.broken[0]:.9g}"
    if CURVES[name].units is None:
        return f"{found.share:.2g} abs(x)"
    return f"{found.units:.2f} at {found.at:.6g}" if found.units else "exact"


def main() -> int:
    """Write the page; 1 if a function is less exact than it says."""
    targets = [name for name in NAMES if runs_here(TARGETS[name])]
    lines = [
        f"| function | bound | {' | '.join(NAMES[target] for target in targets)} |",
        f"|---|---|{'---|' * len(targets)}",
    ]
    wrong = False
    columns = {}
    for target in targets:
        with forced(TARGETS[target]):
            columns[target] = {name: sweep(curve) for name, curve in CURVES.items()}
    for name, curve in CURVES.items():
        found = [columns[target][name] for target in targets]
        lines.append(f"| {name} | {curve.bound} | {' | '.join(cell(name, x) for x in found)} |")
        wrong |= any(
            x.broken or x.units > (curve.units if curve.units is not None else x.units)
            or x.share > (curve.share if curve.share is not None else x.share)
            for x in found
        )  # fmt: skip
    PAGE.write_text(HEAD + "\n".join(lines) + "\n", "utf-8", newline="\n")
    print("\n".join(lines))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
