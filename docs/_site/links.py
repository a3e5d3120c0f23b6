"""Links that leave the pages, to code mostly, are plain words on a site that has no code."""

from __future__ import annotations

import re
from typing import Any, Final

_LINK: Final = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[^)]+\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Keep a link where its page is one of the site's."""
    up = page.file.src_uri.count("/")

    def kept(match: re.Match[str]) -> str:
        levels = match[0].count("../", len(match[1]) + 2)
        return match[0] if levels <= up else match[1]

    return _LINK.sub(kept, markdown)
