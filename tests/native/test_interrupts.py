"""Ctrl-C: a run stops before it writes state, or after the step; nothing is left half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
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

if COMPILED:
    step = cr.compile(step)
start = time.perf_counter()
step(x).item()
step(x).item()
print("ready", flush=True)
before = w.numpy()
steps = optimizer.param_groups[0].step.item()
try:
    while True:
        step(x).item()
        before = w.numpy()
        steps = optimizer.param_groups[0].step.item()
except KeyboardInterrupt:
    pass
same = bool((w.numpy() == before).all())
advanced = optimizer.param_groups[0].step.item() - steps
print("weights", "same" if same else "new", "steps", advanced, flush=True)
step(x).item()
print("goes on", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent the Unix way")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("repeats", [2, 30])
def test_ctrl_c(tmp_path: Path, compiled: bool, repeats: int) -> None:
    """A long step is stopped in the middle; a short one may be over. Neither is torn."""
    program = PROGRAM.replace("COMPILED", str(compiled)).replace("REPEATS", str(repeats))
    environment = {**os.environ, "CHAINRULE_CACHE": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stdout=subprocess.PIPE, text=True, env=environment,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            child.wait(0.2)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
        said, *rest = child.stdout.read().splitlines()
    assert said in ("weights same steps 0", *["weights new steps 1"] * (repeats == 2))
    assert rest == ["goes on"]
    assert child.returncode == 0
