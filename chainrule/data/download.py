"""Fetch a file once, and believe it only if its content has the expected hash."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from chainrule.data.idx import damaged, opened
from chainrule.errors import DataError

_CHUNK = 1 << 18
_SECONDS = 30


def download(url: str, path: Path, *, size: int, sha256: str) -> Path:
    """Fetch a file, gzipped or not, to a path that holds either the right content or nothing.

    The data is written under a temporary name, checked, and only then renamed. A progress bar is
    drawn on standard error.

    Args:
        url: where it is.
        path: where to put it; its folder is made.
        size: bytes of its content, unpacked.
        sha256: hash of its content, unpacked: mirrors may pack the same content differently.

    Returns:
        ``path``.

    Raises:
        DataError: the server can't be reached, or sends something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _fetch(url, file.write, most=size + _CHUNK, shown=path.name)
            file.flush()
            os.fsync(file.fileno())
        verify(part, size=size, sha256=sha256, shown=url)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _fetch(url: str, write: Callable[[bytes], object], *, most: int, shown: str) -> None:
    """Hand the bytes at an address to ``write``, under a progress bar."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    try:
        with (
            urlopen(Request(url, headers={"User-Agent": "chainrule"}), timeout=_SECONDS) as answer,
            Progress(
                "{task.description}",
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            ) as progress,
        ):
            announced = int(answer.headers.get("Content-Length") or 0)
            task = progress.add_task(shown, total=announced or None)
            count = 0
            while piece := answer.read(_CHUNK):
                count += len(piece)
                if count > most:
                    raise damaged(
                        url,
                        f"the server sends more than {most} bytes",
                        f"服务器发送的数据超过 {most} 字节",
                    )
                write(piece)
                progress.update(task, advance=len(piece))
    except DataError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        reason: object = error
        if isinstance(error, HTTPError):
            error.close()  # it is the server's answer too
        elif isinstance(error, URLError):
            reason = error.reason
        raise DataError(
            path=url,
            problem=f"the download failed: {reason}",
            problem_zh=f"下载失败:{reason}",
            mend="check the connection and try again",
            mend_zh="请检查网络连接后重试",
        ) from error


def verify(path: Path, *, size: int, sha256: str, shown: str = "") -> None:
    """Raise unless the unpacked content has this size and hash; never unpacks more than that."""
    digest, count = hashlib.sha256(), 0
    with opened(path) as stream:
        while count <= size and (piece := stream.read(_CHUNK)):
            digest.update(piece)
            count += len(piece)
    if count != size or digest.hexdigest() != sha256:
        found = f"{count} bytes, SHA-256 {digest.hexdigest()}"
        raise damaged(
            shown or path,
            f"the content should be {size} bytes, SHA-256 {sha256}, but is {found}",
            f"内容应为 {size} 字节、SHA-256 {sha256},实际为 {found}",
        )
