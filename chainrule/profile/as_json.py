"""A profile as JSON."""

from __future__ import annotations

import json

from chainrule.profile.record import Profile


def render(profile: Profile) -> str:
    """An object with the facts of the run, and a list of rows."""
    facts = {name: value for name, value in vars(profile).items() if name != "rows"}
    rows = [
        {
            **vars(row),
            "layer": ".".join(row.layer),
            "source": row.source and {"file": row.source.file, "line": row.source.line},
        }
        for row in profile.rows
    ]
    return json.dumps({**facts, "rows": rows}, indent=1, ensure_ascii=False)
