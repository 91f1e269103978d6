"""Writing files whole or not at all, and the one error for files that can't be read."""

from __future__ import annotations

import os
from pathlib import Path

from chainrule.errors import CheckpointError


def write_safely(path: Path, content: bytes) -> None:
    """Write a file so that its name always stands for the whole old or the whole new content.

    It is written under a temporary name, and renamed when it has reached the disk.
    """
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    if os.name == "posix":  # the new name, too, must reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Malformed(ValueError):
    """What is wrong with the content of a file, said in both languages."""

    def __init__(self, problem: str, problem_zh: str, mend: str = "", mend_zh: str = "") -> None:
        super().__init__(problem)
        self.facts = {
            "problem": problem, "problem_zh": problem_zh, "mend": mend, "mend_zh": mend_zh
        }  # fmt: skip


def refusal(path: Path, error: Exception) -> CheckpointError:
    """The error that says why a file of weights can't be read."""
    if isinstance(error, Malformed):
        return CheckpointError(path=path, **error.facts)
    if isinstance(error, FileNotFoundError):
        return CheckpointError(
            path=path,
            problem="there is no such file",
            problem_zh="没有这个文件",
            mend=f"the current folder is {Path.cwd()}",
            mend_zh=f"当前文件夹是 {Path.cwd()}",
        )
    return CheckpointError(
        path=path,
        problem=f"damaged, or cut off ({error or type(error).__name__})",
        problem_zh=f"文件损坏或不完整({error or type(error).__name__})",
        mend="copy or download it again",
        mend_zh="请重新复制或下载",
    )
