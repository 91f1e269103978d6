"""Programs written for PyTorch, made ours by changing their import lines and nothing else."""

from __future__ import annotations

import re

IMPORT_LINES = [
    (r"import torch", "import chainrule.like_torch as torch"),
    (r"import torch\.([\w.]+)", r"import chainrule.like_torch.\1"),
    (r"import torch\.([\w.]+) as (\w+)", r"import chainrule.like_torch.\1 as \2"),
    (r"from torch import (.+)", r"from chainrule.like_torch import \1"),
    (r"from torch\.([\w.]+) import (.+)", r"from chainrule.like_torch.\1 import \2"),
    (r"from torchvision import (.+)", r"from chainrule.like_torch.vision import \1"),
]


def with_our_imports(source: str) -> str:
    """The program with its import lines replaced, and nothing else."""
    for pattern, replacement in IMPORT_LINES:
        source = re.sub(rf"^{pattern}$", replacement, source, flags=re.MULTILINE)
    return source
