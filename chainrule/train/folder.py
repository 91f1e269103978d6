"""The run folder: what a run was, how it went, and where it can go on.

::

    runs/digits-20260131-154500/
      config.json                      the settings
      metrics.jsonl                    one line per epoch
      checkpoints/step-900.safetensors the state after a step; the last few are kept
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from chainrule.errors import CheckpointError, DataError
from chainrule.formats.files import write_safely
from chainrule.train.checkpoint import load_checkpoint, save_checkpoint

_CHECKPOINT = re.compile(r"step-(\d+)\.safetensors")


class RunFolder:
    """A folder that holds one run.

    Args:
        path: an existing run folder; :meth:`create` makes a new one.
        kept: how many checkpoints to keep.

    Raises:
        DataError: the folder is not there, or has no readable ``config.json``.
    """

    def __init__(self, path: str | os.PathLike[str], kept: int = 3) -> None:
        self.path = Path(path)
        self.kept = kept
        self.config: dict[str, Any] = self._read_config()

    @classmethod
    def create(
        cls, name: str, config: Mapping[str, Any], root: str | os.PathLike[str] = "runs"
    ) -> Self:
        """A new folder ``root/NAME-TIME``; a second run in the same second gets ``-2``."""
        stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        number = 1
        while True:
            path = Path(root) / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
        (path / "checkpoints").mkdir()
        text = json.dumps(dict(config), indent=2, ensure_ascii=False)
        write_safely(path / "config.json", text.encode() + b"\n")
        return cls(path)

    def _read_config(self) -> dict[str, Any]:
        path = self.path / "config.json"
        try:
            config = json.loads(path.read_bytes())
            if not isinstance(config, dict):
                raise ValueError("it holds no settings")
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            raise DataError(
                path=self.path if missing else path,
                problem="this is not a run folder" if missing else f"can't be read ({error})",
                problem_zh="这不是运行文件夹" if missing else f"无法读取({error})",
                mend="give a folder that a training run made, such as runs/digits-...",
                mend_zh="请给出训练时生成的文件夹,例如 runs/digits-...",
            ) from error
        return config

    # ------------------------------------------------------------------ metrics

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(dict(metrics)) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last line that was cut off is left out.

        Raises:
            DataError: another line is damaged; it is named.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                if number == len(lines) and not line.endswith(b"\n"):
                    break
                raise DataError(
                    path=path,
                    problem=f"line {number} is not a record ({error})",
                    problem_zh=f"第 {number} 行不是记录({error})",
                    mend="remove the line",
                    mend_zh="请删除该行",
                ) from error
        return found

    def forget_after(self, epoch: int) -> None:
        """Drop the lines of later epochs: a run that goes on from ``epoch`` writes them again."""
        lines = [json.dumps(record) + "\n" for record in self.metrics() if record["epoch"] <= epoch]
        write_safely(self.path / "metrics.jsonl", "".join(lines).encode())

    # ------------------------------------------------------------------ checkpoints

    def checkpoints(self) -> list[Path]:
        """The checkpoints, newest last."""
        found = [
            (int(match[1]), path)
            for path in (self.path / "checkpoints").glob("step-*.safetensors")
            if (match := _CHECKPOINT.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found)]

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write the state after ``step``; then drop all but the newest few."""
        path = self.path / "checkpoints" / f"step-{step}.safetensors"
        save_checkpoint(path, state)
        for old in self.checkpoints()[: -self.kept]:
            old.unlink()
        return path

    def load(self) -> dict[str, Any]:
        """The state in the newest checkpoint that is whole.

        Raises:
            CheckpointError: there is none.
        """
        failure: CheckpointError | None = None
        for path in reversed(self.checkpoints()):
            try:
                return load_checkpoint(path)
            except CheckpointError as error:
                failure = failure or error
        raise failure or CheckpointError(
            path=self.path,
            problem="no checkpoint was saved yet",
            problem_zh="还没有保存过检查点",
            mend="start the run anew",
            mend_zh="请重新开始训练",
        )
