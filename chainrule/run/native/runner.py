"""The one native loop that runs every plan: it walks the table of tasks, and threads claim tiles.

``_one`` runs a plan on the calling thread. ``_many`` runs it together with helpers: each thread
walks the table in order, waits for what a task needs, and claims the task's tiles by ticket. Which
thread does which tile is chance; what a tile computes is not (decision 11).

All memory that threads share is words of 64 bits, laid out below. A run has a generation; a ticket
is the generation and the next tile in one word, so that a helper that comes late from an earlier
run can claim nothing. The tiles of a task fall into a few parts, each with a ticket. A thread
begins with the part that is its own in every task: much of what it reads there it has written
itself, and need not fetch from another core's cache. Then it helps with the other parts.

Tasks that write state are guarded. The first thread that reaches one decides for the whole run
whether state is written: not if an index was out of range or the run was interrupted. The planner
sees to it that by then all indices have been looked at. Skipped tasks are claimed and counted like
others, so that a run always ends with no tile in flight.

A loop is an entry of the table without a kernel, followed by its body's entries. Each thread counts
the laps by itself. In a lap, *cursors* move: slots of the table of addresses that point at the
slice of this step; so every thread of a run has that table for itself. A lap begins when the one
before is done. Tickets count on over the laps: in lap p, tile k of a part has the ticket
p * tiles + k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chainrule.run.native.ir import Function, Module, Operand, Value
from chainrule.run.native.kernels.calling import SCRATCH_BYTES, SIGNATURE

# A plan's head.
# "Private": the size of the table of addresses if it has cursors, else 0.
TASKS, TABLE, PROGRESS, SLOTS, ERRORS, VERDICT, INTERRUPT, PRIVATE = range(8)
HEAD_WORDS = 8
# One task in the table. A loop has no kernel; ARGS is its record, TILES the length of its body.
# "Ticks": how long its calls took; counted by the runner of the profile alone (``ticks``).
KERNEL, ARGS, TILES, GUARDED, NEEDS, NEEDED, TICKS = range(7)
TASK_WORDS = 8
# A loop's record: how many laps, how many cursors, then the cursors. In lap t a cursor's slot has
# the address in the slot BASE, and OFFSET + (t & MASK) * STRIDE bytes.
LAPS, CURSORS, FIRST_CURSOR = range(3)
SLOT, BASE, OFFSET, STRIDE, MASK = range(5)
CURSOR_WORDS = 5
# One task's progress, a cache line of its own: a ticket for each part, and how many tiles are done.
PARTS = 4
TICKETS, DONE = 0, PARTS
PROGRESS_WORDS = 8
# The team's board: each on a cache line of its own, then one word per helper.
GENERATION, PLAN, STOP, PATIENCE, BUSY = (8 * i for i in range(5))
BOARD_WORDS = 256

ENDINGS = ("_one", "_many", "_help")
# A run's verdict, in the last bits of its word once it is over: state was written, or was not.
GO = _GO = 1
_SKIP = 2


class RunnerSpec(NamedTuple):
    """Key of the runner: the family of processors, for its words of control."""

    arm: bool


def runner(module: Module, name: str, spec: RunnerSpec) -> None:
    """The functions of the runner."""
    alone(module, name)
    run_alone(module, name, spec)
    _together(module, name, spec)
    _work(module, name, spec)
    _many(module, name, spec)
    _help(module, name, spec)


# ------------------------------------------------------------------------------ one thread


def alone(
    module: Module, name: str, timing: Callable[[Value], Callable[[], None]] | None = None
) -> None:
    """Some entries of the table on one thread: ``(head, scratch, slots, first, last, verdict)``.

    The result is the run's verdict, 0 while none is needed.

    Args:
        timing: called before the tiles of a task, and what it gives after them.
    """
    args = [
        ("ptr", "head"), ("ptr", "scratch"), ("ptr", "slots"), ("i64", "first"), ("i64", "last"),
        ("i64", "verdict"),
    ]  # fmt: skip
    fn = Function(module, f"{name}_alone", args, "i64", internal=True)
    head, scratch, slots, first, last, verdict = fn.args
    table = head.load("ptr", TABLE)

    def task(entry: Value, verdict: Value) -> Value:
        guarded = entry.load("i64", GUARDED).compare("ne", 0)
        undecided = guarded & verdict.compare("eq", 0)
        (verdict,) = fn.when(undecided, lambda: [_verdict(head)], lambda: [verdict])
        skipped = guarded & verdict.compare("eq", _SKIP)
        tiles = fn.select(skipped, 0, entry.load("i64", TILES))
        stop = timing(entry) if timing else None
        fn.loop(0, tiles, 1, (), lambda tile: _call(entry, slots, tile, scratch))
        if stop:
            stop()
        return verdict

    def lap(_: Value, start: Value, end: Value, verdict: Value) -> Value:
        return fn.call(fn.name, "i64", head, scratch, slots, start, end, verdict)

    fn.ret(_entries(table, slots, first, last, verdict, task, lap))


def _entries(
    table: Value, slots: Value, first: Value, last: Value, carried: Value,
    task: Callable[[Value, Value], Value], lap: Callable[[Value, Value, Value, Value], Value],
) -> Value:  # fmt: skip
    """Walk the entries from ``first`` to before ``last``.

    Args:
        task: what is done with a task: (entry, carried) to carried.
        lap: what is done with a lap: (its number, body's first, body's last, carried) to carried.
    """
    fn = table.fn

    def one(index: Value, resume: Value, carried: Value) -> list[Value]:
        entry = table.at(index * TASK_WORDS, "i64")

        def loop() -> list[Value]:
            end = index + 1 + entry.load("i64", TILES)
            record = entry.load("ptr", ARGS)

            def once(t: Value, carried: Value) -> list[Value]:
                _move_cursors(record, slots, t)
                return [lap(t, index + 1, end, carried)]

            return [end, *fn.loop(0, record.load("i64", LAPS), 1, [carried], once)]

        def visited() -> list[Value]:
            is_loop = entry.load("i64", KERNEL).compare("eq", 0)
            return fn.when(is_loop, loop, lambda: [resume, task(entry, carried)])

        return fn.when(index.compare("sge", resume), visited, lambda: [resume, carried])

    _, carried = fn.loop(first, last, 1, [first, carried], one)
    return carried


def _move_cursors(record: Value, slots: Value, t: Value) -> None:
    """Point the loop's cursors at the slices of lap ``t``."""

    def move(k: Value) -> None:
        cursor = record.at(FIRST_CURSOR + k * CURSOR_WORDS, "i64")
        steps = (t & cursor.load("i64", MASK)) * cursor.load("i64", STRIDE)
        place = slots.load("i64", cursor.load("i64", BASE)) + cursor.load("i64", OFFSET) + steps
        slots.store(place, cursor.load("i64", SLOT))

    t.fn.loop(0, record.load("i64", CURSORS), 1, (), move)


def run_alone(module: Module, name: str, spec: RunnerSpec) -> None:
    """Run a plan: ``(head, scratch) -> 0, or not 0 when no state was written``."""
    fn = Function(module, f"{name}_one", [("ptr", "head"), ("ptr", "scratch")], "i64")
    head, scratch = fn.args
    restore = _flush_subnormals(fn, spec)
    none = fn.value(0, "i64")
    args = head, scratch, head.load("ptr", SLOTS), none, head.load("i64", TASKS), none
    verdict = fn.call(f"{name}_alone", "i64", *args)
    (verdict,) = fn.when(verdict.compare("eq", 0), lambda: [_verdict(head)], lambda: [verdict])
    head.at(VERDICT, "i64").store(verdict)
    restore()
    fn.ret(verdict - _GO)


def _verdict(head: Value) -> Value:
    """Whether state is to be written: no index was out of range, nobody interrupted."""
    errors = head.load("ptr", ERRORS).load("i64")
    stopped = errors | head.load("i64", INTERRUPT)
    return head.fn.select(stopped.compare("eq", 0), head.fn.value(_GO, "i64"), _SKIP)


def _call(entry: Value, slots: Value, tile: Value, scratch: Value) -> None:
    kernel, args = entry.load("ptr", KERNEL), entry.load("ptr", ARGS)
    assert len(SIGNATURE) == 4
    entry.fn.call(kernel.name, "void", slots, args, tile, scratch)


# ------------------------------------------------------------------------------ many threads


def _together(module: Module, name: str, spec: RunnerSpec) -> None:
    """Some entries of the table, as one of several threads.

    ``(head, scratch, slots, generation, home, first, last, lap)``; they are done when it returns.
    The thread begins with the part ``home`` of each task.
    """
    args = [
        ("ptr", "head"), ("ptr", "scratch"), ("ptr", "slots"), ("i64", "generation"),
        ("i64", "home"), ("i64", "first"), ("i64", "last"), ("i64", "lap"),
    ]  # fmt: skip
    fn = Function(module, f"{name}_together", args, internal=True)
    head, scratch, slots, generation, home, first, last, this_lap = fn.args
    table, progress = head.load("ptr", TABLE), head.load("ptr", PROGRESS)
    mine = generation << 32

    def wait(entry: Value) -> None:
        """Until a task is done in this lap, or its run is over."""
        state = _progress_of(entry, table, progress)
        tiles = (this_lap + 1) * entry.load("i64", TILES)

        def done() -> Value:
            finished = _read(state.at(DONE, "i64")).compare("uge", tiles)
            stale = (_read(state) & -(1 << 32)).compare("ne", mine)
            return finished | stale

        _until(fn, spec, done)

    def needs(entry: Value) -> None:
        needed = entry.load("ptr", NEEDED)
        fn.loop(
            0, entry.load("i64", NEEDS), 1, (),
            lambda k: wait(table.at(needed.load("i64", k) * TASK_WORDS, "i64")),
        )  # fmt: skip

    def task(entry: Value, carried: Value) -> Value:
        state = _progress_of(entry, table, progress)
        tiles = entry.load("i64", TILES)
        needs(entry)
        guarded = entry.load("i64", GUARDED).compare("ne", 0)
        (verdict,) = fn.when(
            guarded, lambda: [_agree(head, generation)], lambda: [fn.value(_GO, "i64")]
        )

        def part(turn: Value) -> None:
            """The tiles of one part; each thread begins with its own."""
            number = (home + turn) & (PARTS - 1)
            begin, end = ((number + i) * tiles // PARTS for i in range(2))
            ticket, count = state.at(number + TICKETS, "i64"), end - begin
            _claim(fn, ticket, state, mine + this_lap * count, count, lambda k: fn.when(
                verdict.compare("eq", _GO), lambda: _call(entry, slots, begin + k, scratch)
            ))  # fmt: skip

        fn.loop(0, PARTS, 1, (), part)
        return carried

    def lap(t: Value, start: Value, end: Value, carried: Value) -> Value:
        entry = table.at((start - 1) * TASK_WORDS, "i64")
        fn.when(t.compare("eq", 0), lambda: needs(entry))
        number = this_lap * entry.load("ptr", ARGS).load("i64", LAPS) + t
        args = head, scratch, slots, generation, home, start, end, number
        fn.call(fn.name, "void", *args)
        return carried

    nothing = fn.value(0, "i64")
    _entries(table, slots, first, last, nothing, task, lap)

    def finished(index: Value, resume: Value) -> list[Value]:
        """Wait for a task; a loop was waited for when it ended."""
        entry = table.at(index * TASK_WORDS, "i64")
        beyond = index + 1 + entry.load("i64", TILES)
        is_loop = entry.load("i64", KERNEL).compare("eq", 0)

        def waited() -> list[Value]:
            wait(entry)
            return [resume]

        return fn.when(
            index.compare("slt", resume), lambda: [resume],
            lambda: fn.when(is_loop, lambda: [beyond], waited),
        )  # fmt: skip

    fn.loop(first, last, 1, [nothing], finished)
    fn.ret()


def _progress_of(entry: Value, table: Value, progress: Value) -> Value:
    """Where a task's ticket is: the progress is laid out as the table."""
    fn = entry.fn
    assert TASK_WORDS == PROGRESS_WORDS
    distance = fn.op("i64", f"ptrtoint ptr {entry} to i64")
    distance = distance - fn.op("i64", f"ptrtoint ptr {table} to i64")
    return progress.at(distance, "i8")


def _work(module: Module, name: str, spec: RunnerSpec) -> None:
    """What every thread of a run does: ``(head, scratch, generation, home)``."""
    args = [("ptr", "head"), ("ptr", "scratch"), ("i64", "generation"), ("i64", "home")]
    fn = Function(module, f"{name}_work", args, internal=True)
    head, scratch, generation, home = fn.args
    shared, count = head.load("ptr", SLOTS), head.load("i64", PRIVATE)
    own = scratch.at(SCRATCH_BYTES, "i8")
    fn.loop(0, count, 1, (), lambda k: own.store(shared.load("i64", k), k))
    slots = fn.select(count.compare("eq", 0), shared, own)
    none = fn.value(0, "i64")
    args_ = head, scratch, slots, generation, home, none, head.load("i64", TASKS), none
    fn.call(f"{name}_together", "void", *args_)
    fn.ret()


def _claim(
    fn: Function, place: Value, state: Value, mine: Value, tiles: Value,
    work: Callable[[Value], object],
) -> None:  # fmt: skip
    """Take tile after tile of a part until none is left; ``place``: where its ticket is."""
    look, attempt, found, out = (fn.label() for _ in range(4))
    fn.jump(look)
    fn.begin(look)
    ticket = _read(place)
    tile = ticket - mine  # huge when the ticket is of another generation
    fn.branch(tile.compare("ult", tiles), attempt, out)
    fn.begin(attempt)
    fn.branch(_exchange(place, ticket, ticket + 1), found, look)
    fn.begin(found)
    work(tile)
    _add_one(state.at(DONE, "i64"))
    fn.jump(look)
    fn.begin(out)


def _agree(head: Value, generation: Value) -> Value:
    """The run's one verdict; the word holds the generation too, so that late helpers can't."""
    fn = head.fn
    cell = head.at(VERDICT, "i64")
    open_ = generation << 2

    def decide() -> None:
        _exchange(cell, open_, open_ | _verdict(head))

    fn.when(_read(cell).compare("eq", open_), decide)
    return _read(cell) & 3


def _many(module: Module, name: str, spec: RunnerSpec) -> None:
    """Run a plan with the helpers: ``(board, head, scratch) -> 0, or not 0``."""
    args = [("ptr", "board"), ("ptr", "head"), ("ptr", "scratch")]
    fn = Function(module, f"{name}_many", args, "i64")
    board, head, scratch = fn.args
    restore = _flush_subnormals(fn, spec)
    generation = (board.load("i64", GENERATION) + 1) & 0x3FFFFFFF
    progress = head.load("ptr", PROGRESS)

    def reset(index: Value) -> None:
        state = progress.at(index * PROGRESS_WORDS, "i64")
        for part in range(PARTS):
            _write(state.at(TICKETS + part, "i64"), generation << 32)
        _write(state.at(DONE, "i64"), 0)

    _write(head.at(VERDICT, "i64"), generation << 2)
    fn.loop(0, head.load("i64", TASKS), 1, (), reset)
    fn.do(f"store atomic ptr {head}, ptr {board.at(PLAN, 'i64')} release, align 8")
    _write(board.at(GENERATION, "i64"), generation)
    fn.call(f"{name}_work", "void", head, scratch, generation, fn.value(0, "i64"))
    verdict = _agree(head, generation)
    restore()
    fn.ret(verdict - _GO)


def _help(module: Module, name: str, spec: RunnerSpec) -> None:
    """A helper: wait for runs and join them, until none came for a while or the team stops.

    ``(board, scratch, number, home, generation) -> generation of the run seen last``.
    """
    args = [
        ("ptr", "board"), ("ptr", "scratch"), ("i64", "number"), ("i64", "home"), ("i64", "seen")
    ]  # fmt: skip
    fn = Function(module, f"{name}_help", args, "i64")
    board, scratch, number, home, seen = fn.args
    restore = _flush_subnormals(fn, spec)
    busy = board.at(number + BUSY, "i64")
    memory = fn.op("ptr", "alloca i64")
    memory.store(seen)
    start, look, join, work, leave, out = (fn.label() for _ in range(6))
    patience = board.load("i64", PATIENCE)
    fn.jump(start)
    fn.begin(start)
    last = memory.load("i64")

    def news() -> Value:
        return _read(board.at(GENERATION, "i64")).compare("ne", last)

    (spins,) = _until(fn, spec, news, patience)
    fn.branch(spins.compare("ult", patience), look, out)
    fn.begin(look)
    generation = _read(board.at(GENERATION, "i64"))
    memory.store(generation)
    # Say "busy" first, then look again: whoever frees a plan waits for helpers that are busy.
    fn.do(f"store atomic i64 1, ptr {busy} seq_cst, align 8")
    same = fn.op("i64", f"load atomic i64, ptr {board.at(GENERATION, 'i64')} seq_cst, align 8")
    stop = _read(board.at(STOP, "i64"))
    fn.branch(same.compare("eq", generation) & stop.compare("eq", 0), join, leave)
    fn.begin(join)
    address = board.at(PLAN, "i64")
    head = fn.op("ptr", f"load atomic ptr, ptr {address} acquire, align 8")
    fn.branch(head.compare("ne", Value(fn, "ptr", "null")), work, leave)
    fn.begin(work)
    fn.call(f"{name}_work", "void", head, scratch, generation, home)
    fn.jump(leave)
    fn.begin(leave)
    _write(busy, 0)
    fn.branch(_read(board.at(STOP, "i64")).compare("eq", 0), start, out)
    fn.begin(out)
    restore()
    fn.ret(memory.load("i64"))


# ------------------------------------------------------------------------------ words of control


def _until(
    fn: Function, spec: RunnerSpec, done: Callable[[], Value], patience: Value | None = None
) -> list[Value]:
    """Spin until something is so; how many times it was looked at in vain."""
    before, look, again, out = fn.label(), fn.label(), fn.label(), fn.label()
    fn.jump(before)
    fn.begin(before)
    fn.jump(look)
    fn.begin(look)
    fn.do(f"%spins{look} = phi i64 [ 0, %{before} ], [ %more{look}, %{again} ]")
    spins = Value(fn, "i64", f"%spins{look}")
    finished = done()
    if patience is not None:
        finished = finished | spins.compare("uge", patience)
    fn.branch(finished, out, again)
    fn.begin(again)
    _pause(fn, spec)
    fn.do(f"%more{look} = add i64 {spins}, 1")
    fn.jump(look)
    fn.begin(out)
    return [spins]


def _read(address: Value) -> Value:
    return address.fn.op("i64", f"load atomic i64, ptr {address} acquire, align 8")


def _write(address: Value, value: Operand) -> None:
    address.fn.do(f"store atomic i64 {value}, ptr {address} release, align 8")


def _exchange(address: Value, old: Value, new: Value) -> Value:
    """Replace ``old`` by ``new``; false if something else stood there."""
    fn = address.fn
    text = f"cmpxchg ptr {address}, i64 {old}, i64 {new} acq_rel acquire"
    pair = fn.op("{ i64, i1 }", text)
    return fn.op("i1", f"extractvalue {{ i64, i1 }} {pair}, 1")


def _add_one(address: Value) -> None:
    address.fn.op("i64", f"atomicrmw add ptr {address}, i64 1 acq_rel")


def _pause(fn: Function, spec: RunnerSpec) -> None:
    """Tell the processor that this thread only waits."""
    if spec.arm:
        fn.module.declare("llvm.aarch64.hint", "void", ["i32"])
        fn.do("call void @llvm.aarch64.hint(i32 1)")
    else:
        fn.module.declare("llvm.x86.sse2.pause", "void", [])
        fn.do("call void @llvm.x86.sse2.pause()")


def _flush_subnormals(fn: Function, spec: RunnerSpec) -> Callable[[], None]:
    """Subnormal numbers count as 0 on this thread; the result puts it back as it was."""
    if spec.arm:
        fn.module.declare("llvm.aarch64.get.fpcr", "i64", [])
        fn.module.declare("llvm.aarch64.set.fpcr", "void", ["i64"])
        before = fn.op("i64", "call i64 @llvm.aarch64.get.fpcr()")
        fn.do(f"call void @llvm.aarch64.set.fpcr(i64 {before | (1 << 24)})")
        return lambda: fn.do(f"call void @llvm.aarch64.set.fpcr(i64 {before})")
    fn.module.declare("llvm.x86.sse.stmxcsr", "void", ["ptr"])
    fn.module.declare("llvm.x86.sse.ldmxcsr", "void", ["ptr"])
    old, new = fn.op("ptr", "alloca i32"), fn.op("ptr", "alloca i32")
    fn.do(f"call void @llvm.x86.sse.stmxcsr(ptr {old})")
    new.store(old.load("i32") | 0x8040)
    fn.do(f"call void @llvm.x86.sse.ldmxcsr(ptr {new})")
    return lambda: fn.do(f"call void @llvm.x86.sse.ldmxcsr(ptr {old})")
