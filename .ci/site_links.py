"""Links of the documentation that leave its folder (README, experiments, notebooks) work in a checkout; the site names the file instead."""

import re

OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    return OUTSIDE.sub(lambda m: f"{m[1]} (`{m[2]}`)" if m[1].strip("`") != m[2] and m[1] != f"../{m[2]}" else f"`{m[2]}`", markdown)
