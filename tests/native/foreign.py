"""Plans made for another processor: their kernels, and their tables and tensors as bytes.

A small driver, linked with the kernels, reads the bytes on that processor, puts the addresses in,
and runs the table with the engine's own runner.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from forced import forced

from chainrule.core.arrays import Array, address, aligned
from chainrule.core.graph import Graph, TensorType
from chainrule.run.native import jit
from chainrule.run.native import plan as plan_module
from chainrule.run.native import runner as words
from chainrule.run.native.kernels.calling import THREAD_BYTES
from chainrule.run.native.plan import Plan
from chainrule.run.native.table import FIRST_INPUT
from chainrule.run.native.target import Target

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"

# Addresses that nothing has: they stand for kernels, by number.
_KERNELS = 1 << 60
_LINE = 64

DRIVER = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int64_t runner_one(void *head, void *scratch);
extern void *const kernels[];

static int64_t *words(FILE *in, int64_t count) {
    int64_t *found = malloc(8 * count + 8);
    if (fread(found, 8, count, in) != (size_t)count) exit(2);
    return found;
}

int main(int count, char **names) {
    FILE *in = fopen(names[1], "rb"), *out = fopen(names[2], "wb");
    char *scratch = aligned_alloc(64, THREAD_BYTES);
    if (count != 3 || !in || !out) return 2;
    for (int64_t left = *words(in, 1); left; left--) {
        int64_t *sizes = words(in, 5);  /* bytes, addresses, results, heads of prologue and table */
        int64_t *moved = words(in, 3 * sizes[1]), *results = words(in, 2 * sizes[2]);
        char *memory = aligned_alloc(64, sizes[0] + 64);
        if (fread(memory, 1, sizes[0], in) != (size_t)sizes[0]) return 2;
        for (int64_t i = 0; i < sizes[1]; i++) {
            int64_t *m = moved + 3 * i;  /* where, what */
            void *value = m[1] ? kernels[m[2]] : memory + m[2];
            memcpy(memory + m[0], &value, 8);
        }
        memset(scratch, 0xFF, THREAD_BYTES);
        runner_one(memory + sizes[3], scratch);
        if (runner_one(memory + sizes[4], scratch)) return 3;
        for (int64_t i = 0; i < sizes[2]; i++)
            fwrite(memory + results[2 * i], 1, results[2 * i + 1], out);
        free(memory), free(moved), free(results), free(sizes);
    }
    return fclose(out);
}
"""


@lru_cache(maxsize=1)
def initialize() -> None:
    """Make LLVM ready for every family of processors."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def emulated() -> None:
    """Skip the test where programs for ARM can't be made or run."""
    for program in (COMPILER, EMULATOR):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")


class Foreign:
    """Plans for a target that is not this processor.

    Attributes:
        specs: the kernels of all of them, by number.
        plans: some of them.
    """

    def __init__(self, target: Target) -> None:
        initialize()
        self.target = target
        self.specs: dict[jit.Spec, int] = {}
        self.plans: list[Plan] = []
        self._objects: list[bytes] = []

    def plan(self, graph: Graph) -> Plan:
        """A plan whose kernels are numbers."""
        library = plan_module.Library
        plan_module.Library = self._library  # type: ignore[misc, assignment]
        try:
            with forced(self.target):
                return Plan(graph)
        finally:
            plan_module.Library = library  # type: ignore[misc]

    def _library(self, specs: Sequence[jit.Spec]) -> Any:
        numbers = {spec: self.specs.setdefault(spec, len(self.specs)) for spec in specs}
        addresses = {(spec, ""): _KERNELS + number for spec, number in numbers.items()}
        return SimpleNamespace(addresses=addresses)

    def objects(self) -> list[bytes]:
        """Machine code of all kernels; kernel n is the function ``kernel<n>``."""
        for number, spec in list(enumerate(self.specs))[len(self._objects) :]:
            text = jit.text_of(spec, f"kernel{number}", self.target)
            self._objects.append(jit.compile_object(text, self.target))
        return self._objects

    def executable(self, folder: Path) -> Path:
        """The kernels, the runner and the driver, linked."""
        spec = ("runner", words.RunnerSpec(self.target.triple.startswith("aarch64")))
        images = [
            *self.objects(),
            jit.compile_object(jit.text_of(spec, "runner", self.target), self.target),
        ]
        files = []
        for number, image in enumerate(images):
            files.append(folder / f"{number}.o")
            files[-1].write_bytes(image)
        names = [f"kernel{number}" for number in range(len(self.specs))]
        text = DRIVER.replace("THREAD_BYTES", str(THREAD_BYTES))
        text += "\n".join(f"extern void {name}(void);" for name in names)
        text += f"\nvoid *const kernels[] = {{{', '.join(names)}}};\n"
        source, program = folder / "driver.c", folder / "driver"
        source.write_text(text)
        subprocess.run(
            [COMPILER, "-O1", "-static", "-o", program, source, *files], check=True
        )  # fmt: skip
        return program


def _result_types(plan: Plan) -> list[TensorType]:
    """Of the outputs, then of what is written."""
    return [*plan._output_types, *(variable.type for variable in plan._writes)]


def packed(plan: Plan, arrays: Sequence[Array], variables: Sequence[Array]) -> bytes:
    """One run of a plan as the driver reads it."""
    outputs = [aligned(type.shape, type.dtype) for type in _result_types(plan)]
    inputs = [np.ascontiguousarray(array) for array in arrays]
    reads = [np.ascontiguousarray(array) for array in variables]
    for first, group in (
        (FIRST_INPUT, inputs), (plan._first_read, reads),
        (plan._first_output, outputs),
    ):  # fmt: skip
        for slot, array in enumerate(group, first):
            plan._slots[slot] = address(array)
    tables = (plan._first_table, plan._table)
    pointing = [plan._slots]
    plain = [plan._arena, plan._errors, plan._results, *plan._constants, *inputs, *reads, *outputs]
    for table in tables:
        pointing += [table.head, table.entries, table._args]
        plain.append(table._progress)
    places: dict[int, tuple[int, int]] = {}
    blob = b""
    for array in (*pointing, *plain):
        places[address(array)] = (len(blob), array.nbytes)
        blob += array.tobytes()
        blob += bytes(-len(blob) % _LINE + _LINE)

    def meant(word: int) -> tuple[int, int] | None:
        """What a word points at: a kernel, or a place among the bytes."""
        if word >= _KERNELS:
            return 1, word - _KERNELS
        if word in places:
            return 0, places[word][0]
        for start, (offset, nbytes) in places.items():
            if start <= word < start + nbytes:
                return 0, offset + word - start
        return None

    moved = []
    for array in pointing:
        offset = places[address(array)][0]
        for index in np.flatnonzero(np.abs(array) > 1 << 32):
            found = meant(int(array[index]))
            if found is not None:
                moved.append((offset + 8 * int(index), *found))
    results = [(places[address(array)][0], array.nbytes) for array in outputs]
    heads = [places[address(table.head)][0] for table in tables]
    numbers = [len(blob), len(moved), len(results), *heads]
    for each in (*moved, *results):
        numbers += each
    return struct.pack(f"<{len(numbers)}q", *numbers) + blob


def run(
    program: Path, folder: Path,
    runs: Sequence[tuple[Plan, Sequence[Array], Sequence[Array]]],
) -> list[list[Array]]:  # fmt: skip
    """The outputs of all runs."""
    data, out = folder / "data", folder / "out"
    data.write_bytes(struct.pack("<q", len(runs)) + b"".join(packed(*each) for each in runs))
    subprocess.run([EMULATOR, program, data, out], check=True)
    left = out.read_bytes()
    found = []
    for plan, _, _ in runs:
        arrays = []
        for type in _result_types(plan):
            size = type.size * type.dtype.itemsize
            arrays.append(np.frombuffer(left[:size], type.dtype).reshape(type.shape))
            left = left[size:]
        found.append(arrays)
    return found
