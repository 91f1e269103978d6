"""Ctrl-C: a run stops before it writes state, or after the step; nothing is left half done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, threading, time
import numpy as np
import chainrule as cr
from chainrule import optim

cr.set_executor("native")
w = cr.tensor(np.eye(600, dtype=np.float32), requires_grad=True)
x = cr.tensor(np.ones((600, 600), np.float32))
optimizer = optim.SGD([w], lr=0.5)

def step(x):
    y = x
    for _ in range(REPEATS):
        y = (y @ w).tanh()
    loss = y.mean()
    loss.backward()
    optimizer.step()
    return loss

def state():
    return w.numpy(), optimizer.param_groups[0].step.item()

if COMPILED:
    step = cr.compile(step)
step(x).item()
start = time.perf_counter()
step(x).item()
early = (time.perf_counter() - start) / 8  # of a step as long as this one
weights, steps = state()
try:
    threading.Timer(early, os.kill, (os.getpid(), signal.SIGINT)).start()
    while True:
        step(x).item()
        weights, steps = state()
except KeyboardInterrupt:
    pass
weights_now, steps_now = state()
print("weights", "same" if (weights_now == weights).all() else "new", "steps", steps_now - steps)
step(x).item()
print("goes on")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent the Unix way")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("repeats", [2, 60])
def test_ctrl_c(tmp_path: Path, compiled: bool, repeats: int) -> None:
    """A long step is stopped in the middle; a short one may be over. Neither is torn."""
    program = PROGRAM.replace("COMPILED", str(compiled)).replace("REPEATS", str(repeats))
    environment = {**os.environ, "CHAINRULE_CACHE": str(tmp_path)}
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    said, *rest = child.stdout.splitlines()
    assert said in ("weights same steps 0", *["weights new steps 1"] * (repeats == 2))
    assert rest == ["goes on"]
