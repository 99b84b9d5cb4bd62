"""Compiled templates of pages, kept between processes: compiling those of a report takes longer than filling them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from simserve.files.kept import Kept

if TYPE_CHECKING:
    from jinja2 import BytecodeCache

KEPT = Kept("templates", most_files=200)


def kept_templates(code: bytes) -> BytecodeCache:
    """What a template environment takes as its `bytecode_cache`. What a template is compiled to depends on its name and text, on Jinja, on
    Python, and on `code`, which says how the environment is made; the key has all of it."""
    import jinja2
    from jinja2.bccache import Bucket, bc_magic

    class Templates(jinja2.BytecodeCache):
        def load_bytecode(self, bucket: Bucket) -> None:
            known = KEPT.get(key(bucket))
            if known is not None:
                bucket.bytecode_from_string(known)

        def dump_bytecode(self, bucket: Bucket) -> None:
            KEPT.put(key(bucket), bucket.bytecode_to_string())

    def key(bucket: Bucket) -> str:
        return hashlib.sha256(f"{bucket.key} {bucket.checksum} {jinja2.__version__} {bc_magic!r} ".encode() + code).hexdigest()[:40]

    return Templates()
