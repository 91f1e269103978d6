"""What the processor can do, and the kernel shapes that follow from it.

Everything here is a function of the processor's features: two machines with the same features run
the same code and get the same bits (decision 11).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Target:
    """A processor.

    Attributes:
        triple, cpu, features: LLVM's words for it.
        lanes: float32 numbers in a vector register.
        has_fma: it multiplies and adds in one rounding.
        has_rounding: floor, ceil and round are instructions.
        panel: vectors side by side in a block of a matrix product.
        blocks: rows of such a block, from the full one down to 1.
    """

    triple: str
    cpu: str
    features: str
    lanes: int
    has_fma: bool
    has_rounding: bool
    panel: int
    blocks: tuple[int, ...]

    @property
    def tune(self) -> str:
        """The processor whose latencies order the instructions; "" for ``cpu`` itself.

        With AVX-512, those of Intel's make LLVM read so far ahead that sums of a block go to the
        stack; Zen 4's do not.
        """
        return "znver4" if self.lanes == 16 else ""

    def window_panel(self, height: int) -> int:
        """As ``panel``, for convolutions in blocks of so many rows and in rows of whole vectors.

        Low blocks read more for a product; AVX-512 has the registers to make them wider.
        """
        return 3 if self.lanes == 16 and height <= 8 else self.panel

    @property
    def window_blocks(self) -> tuple[int, ...]:
        """As ``blocks``, for convolutions, which cut their channels evenly.

        So they may fill AVX-512's registers; of as many, NEON's and SSE2's code needs more.
        """
        full = 7 if self.panel == 3 else 14 if self.lanes == 16 else self.blocks[0]
        return (full if self.has_fma else full - 1, *self.blocks[1:])


def target_for(triple: str, cpu: str, features: dict[str, bool]) -> Target:
    """The target of a processor with these features."""
    words = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(features.items()))
    arm = triple.startswith(("aarch64", "arm64"))
    if arm:
        return Target(triple, cpu, words, 4, True, True, 3, (8, 4, 2, 1))
    rounding = features.get("sse4.1", False)
    fma = features.get("fma", False)
    if features.get("avx512f") and features.get("avx512vl") and features.get("avx512bw"):
        # 14 rows would fit, but a batch is seldom a multiple of 14, and 2 rows cost as much as 4.
        return Target(triple, cpu, words, 16, True, True, 2, (12, 8, 4, 2, 1))
    if features.get("avx2"):
        return Target(triple, cpu, words, 8, fma, True, 2, (6, 4, 2, 1))
    # Without FMA a product takes a register of its own before it is added.
    return Target(triple, cpu, words, 4, fma, rounding, 2, (6, 4, 2, 1) if fma else (4, 2, 1))


@lru_cache(maxsize=1)
def host() -> Target:
    """The processor this runs on."""
    import llvmlite.binding as llvm

    features = dict(llvm.get_host_cpu_features())
    return target_for(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)


@lru_cache(maxsize=1)
def obstacle() -> str:
    """Why no native code can be made here; empty where it can."""
    try:
        from chainrule.run.native.jit import initialize

        host()
        initialize()
    except (ImportError, OSError, RuntimeError) as error:  # llvmlite missing, or no such target
        return str(error) or type(error).__name__
    return ""
