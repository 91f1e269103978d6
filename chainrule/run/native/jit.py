"""From LLVM text to addresses: compiled or found in the cache, linked as one library per plan."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from chainrule.run.native import cache
from chainrule.run.native.cores import usable_cores
from chainrule.run.native.ir import Module
from chainrule.run.native.target import Target, host

# A kernel: its function's name, and the key that it is made for.
Spec = tuple[str, Any]
Emitter = Callable[[Module, str, Any], None]

# How often kernels were written rather than found; tests of the cache look at it.
emitted = 0
_counting = threading.Lock()


@lru_cache(maxsize=1)
def emitters() -> Mapping[str, Emitter]:
    """Every kernel by name."""
    from chainrule.run.native import runner, ticks
    from chainrule.run.native.kernels import (
        attention,
        bins,
        columns,
        convolution,
        cumulative,
        gemm,
        index,
        interleave,
        matvec,
        packing,
        pooling,
        randomness,
        rows,
        sorting,
        tandem,
        weights,
        wide_convolution,
    )

    found: tuple[Emitter, ...] = (
        rows.rows, columns.columns, columns.argmax, gemm.gemm, packing.pack_a, packing.pack_b,
        matvec.matvec, interleave.interleave, index.take, index.scatter, index.gather,
        index.gather_add, randomness.random, attention.attention, attention.attention_gradient,
        convolution.convolution, weights.pack_weights, wide_convolution.wide_convolution,
        pooling.max_pool,
        pooling.max_unpool, bins.max_bins, sorting.sort, cumulative.cumsum, tandem.tandem,
        runner.runner, ticks.timed_runner, ticks.timed_tandem,
    )  # fmt: skip
    return {emit.__name__: emit for emit in found}


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of everything that writes kernels: other sources, other objects."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*here.glob("*.py"), *here.glob("kernels/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def key_of(spec: Spec, target: Target) -> str:
    """The name of a kernel's function and of its entry in the cache."""
    import llvmlite.binding as llvm

    text = repr((spec, target, llvm.llvm_version_info, _sources()))
    return f"{spec[0]}_{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def text_of(spec: Spec, name: str, target: Target) -> str:
    """The LLVM text of a kernel."""
    module = Module(target.has_fma, target.has_rounding, target.tune)
    emitters()[spec[0]](module, name, spec[1])
    return module.text()


def compile_object(text: str, target: Target) -> bytes:
    """Machine code for LLVM text: no optimiser, the code generator at level 1."""
    import llvmlite.binding as llvm

    initialize()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=1, jit=True, reloc="default"
    )
    module = llvm.parse_assembly(text, llvm.create_context())
    module.triple = target.triple
    return _emitted(machine, module)


def _emitted(machine: Any, module: Any) -> bytes:
    """As ``machine.emit_object(module)``, on several threads at once.

    llvmlite lets one thread in at a time, whatever it asks for. LLVM generates code on many, for
    modules with a context of their own.
    """
    from llvmlite.binding import ffi

    emit = getattr(ffi.lib.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
    if emit is None:  # a version without that lock
        image: bytes = machine.emit_object(module)
        return image
    with ffi.OutputString() as error:
        memory = emit(machine, module, 1, error)
        if not memory:
            raise RuntimeError(str(error))
    try:
        start, size = ffi.lib.LLVMPY_GetBufferStart(memory), ffi.lib.LLVMPY_GetBufferSize(memory)
        return ctypes.string_at(start, size)
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(memory)


@lru_cache(maxsize=1)
def initialize() -> None:
    """Make LLVM ready for this processor."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # the clock of the profile is an instruction of its own


@lru_cache(maxsize=4096)
def object_for(spec: Spec) -> tuple[str, bytes]:
    """Name and machine code of a kernel for this processor."""
    global emitted
    target = host()
    name = key_of(spec, target)
    image = cache.load(name)
    if image is None:
        with _counting:
            emitted += 1
        image = compile_object(text_of(spec, name, target), target)
        check_symbols(name, image)
        cache.store(name, image)
    return name, image


def _make_missing(specs: Sequence[Spec]) -> None:
    """Make the kernels that are in no cache, on all cores."""
    target = host()
    names = {spec: key_of(spec, target) for spec in specs}
    missing = [spec for spec in specs if names[spec] not in _linked and not cache.has(names[spec])]
    threads = min(len(missing), usable_cores()) if len(missing) > 1 else 1
    if threads == 1:
        return
    from concurrent.futures import ThreadPoolExecutor

    initialize()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(object_for, missing):
            pass  # an error is raised here


def check_symbols(name: str, image: bytes) -> None:
    """Raise if a kernel calls a library: the result would depend on which one is installed."""
    foreign = undefined_symbols(image)
    if foreign:
        raise RuntimeError(f"the kernel {name} needs {', '.join(sorted(foreign))}")


def undefined_symbols(image: bytes) -> set[str]:
    """Names that an ELF object takes from elsewhere; empty for other formats."""
    if image[:4] != b"\x7fELF":
        return set()

    def number(at: int, size: int) -> int:
        return int.from_bytes(image[at : at + size], "little")

    start, size, count = number(40, 8), number(58, 2), number(60, 2)
    found = set()
    for section in range(start, start + count * size, size):
        if number(section + 4, 4) != 2:  # a table of symbols
            continue
        table, length, link = (
            number(section + 24, 8),
            number(section + 32, 8),
            number(section + 40, 4),
        )
        names = number(start + link * size + 24, 8)
        for symbol in range(table + 24, table + length, 24):
            if number(symbol + 6, 2) == 0:
                begin = names + number(symbol, 4)
                found.add(image[begin : image.index(b"\0", begin)].decode())
    return found - {"_GLOBAL_OFFSET_TABLE_"}


_libraries = itertools.count(1)


@lru_cache(maxsize=1)
def _linker() -> Any:
    """LLVM's linker of this process; it lives as long as the process."""
    import llvmlite.binding as llvm

    initialize()
    target = host()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=1, jit=True
    )
    return llvm.create_lljit_compiler(machine)


class _Linked:
    """Objects that were linked as one library, freed with it."""

    def __init__(self, images: Mapping[str, bytes], exports: Sequence[str]) -> None:
        import llvmlite.binding as llvm

        builder = llvm.JITLibraryBuilder()
        for name, image in images.items():
            builder.add_object_img(image)
            for ending in exports:
                builder.export_symbol(name + ending)
        # A name can't be used twice, even after its library is gone.
        self._tracker = builder.link(_linker(), f"plan{next(_libraries)}")
        self.addresses = {
            name + ending: self._tracker[name + ending] for name in images for ending in exports
        }


# What is in memory, by the functions' names.
_linked: weakref.WeakValueDictionary[str, _Linked] = weakref.WeakValueDictionary()


class Library:
    """Kernels of one plan in memory, freed with the last plan that has one of them.

    Plans of other shapes share most kernels: only those that no plan has are linked.

    Attributes:
        addresses: where each kernel's function is.
    """

    def __init__(self, specs: Sequence[Spec], exports: Sequence[str] = ("",)) -> None:
        """``exports`` are endings of the functions' names, for kernels that are several."""
        specs = [*dict.fromkeys(specs)]
        _make_missing(specs)
        objects = {spec: object_for(spec) for spec in specs}
        names = {spec: name for spec, (name, _) in objects.items()}
        parts = {name: _linked.get(name + exports[0]) for name in names.values()}
        images = {name: image for name, image in objects.values() if parts[name] is None}
        if images:
            made = _Linked(images, exports)
            _linked.update(dict.fromkeys(made.addresses, made))
            parts |= dict.fromkeys(images, made)
        self._parts = {*parts.values()}  # they live as long as this does
        known = {spec: part.addresses for spec, name in names.items() if (part := parts[name])}
        self.addresses = {
            (spec, ending): known[spec][name + ending]
            for spec, name in names.items()
            for ending in exports
        }
