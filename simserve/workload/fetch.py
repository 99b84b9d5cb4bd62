"""Public traces from their publishers: pinned files, checked by sha256, resumed after an interruption."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simserve.errors import OutputError, TraceError, nearest

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, bytes in all or None)."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a publisher: `sha256` is of its bytes at `url`."""

    url: str
    name: str
    sha256: str


_AZURE = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/b469a113cedca53ddc3bdea71a143dc4b7d8700c/data"
_MOONCAKE = "https://raw.githubusercontent.com/kvcache-ai/Mooncake/3b5a594133958449a1feaf1c9e0fc1b553e34a28/FAST25-release/traces"
# BurstGPT (CC BY 4.0, doi 10.1145/3711896.3737413); Azure (CC BY 4.0, Splitwise, ISCA 2024); Mooncake (Apache-2.0, FAST 2025).
PUBLISHED: dict[str, tuple[RemoteFile, ...]] = {
    "burstgpt": (
        RemoteFile(
            "https://github.com/HPMLL/BurstGPT/releases/download/v1.1/BurstGPT_1.csv",
            "BurstGPT_1.csv",
            "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122",
        ),
    ),
    "azure": (
        RemoteFile(
            f"{_AZURE}/AzureLLMInferenceTrace_code.csv",
            "AzureLLMInferenceTrace_code.csv",
            "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        ),
        RemoteFile(
            f"{_AZURE}/AzureLLMInferenceTrace_conv.csv",
            "AzureLLMInferenceTrace_conv.csv",
            "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        ),
    ),
    "mooncake": (
        RemoteFile(
            f"{_MOONCAKE}/conversation_trace.jsonl",
            "conversation_trace.jsonl",
            "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        ),
        RemoteFile(
            f"{_MOONCAKE}/synthetic_trace.jsonl",
            "synthetic_trace.jsonl",
            "bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
        ),
    ),
}


class ResumingDownloader:
    """A pooch downloader that keeps what it has in `<name>.part` and asks the server only for the rest (HTTP Range)."""

    def __init__(self, part: Path, progress: Progress | None = None, timeout_s: float = 30.0) -> None:
        self.part, self.progress, self.timeout_s = part, progress, timeout_s

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> bool | None:
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        # Compressed transfer would make byte ranges meaningless.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout_s) as answer:
            complete = answer.status_code == 416  # nothing is left to send: the part is the whole file
            if not complete:
                answer.raise_for_status()
                resumed = answer.status_code == 206
                have = have if resumed else 0
                length = answer.headers.get("Content-Length")
                total = have + int(length) if length is not None else None
                with self.part.open("ab" if resumed else "wb") as sink:
                    for chunk in answer.iter_content(1 << 18):
                        sink.write(chunk)
                        have += len(chunk)
                        if self.progress is not None:
                            self.progress(self.part.name.removesuffix(".part"), have, total)
                if total is not None and have < total:
                    raise requests.ConnectionError(f"the connection ended after {have} of {total} bytes")
        os.replace(self.part, output_file)
        return None


def fetch_trace(
    name: str,
    folder: str | Path,
    *,
    mirror: str | None = None,
    progress: Progress | None = None,
    files: tuple[RemoteFile, ...] | None = None,
) -> list[Path]:
    """Downloads the files of a published trace into `folder` and returns their paths; files already there and right are kept.

    mirror   a base URL that is used instead of the publisher's, followed by the file's name.
    files    other files than the pinned ones.

    Raises TraceError for an unknown name, a failed download (what came stays in `.part` and the next call resumes) or a wrong sha256
    (nothing is left behind).
    """
    import pooch
    import requests

    if files is None:
        if name not in PUBLISHED:
            raise TraceError(f"unknown published trace '{name}'{nearest(name, PUBLISHED)}")
        files = PUBLISHED[name]
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"{folder}: cannot be made ({e.strerror})") from None
    pooch.get_logger().setLevel("ERROR")
    out = []
    for file in files:
        url = file.url if mirror is None else f"{mirror.rstrip('/')}/{file.name}"
        part = folder / f"{file.name}.part"
        target = folder / file.name
        if target.exists() and pooch.file_hash(str(target)) != file.sha256:
            raise TraceError(f"{target}: exists, but is not the published file (its sha256 differs); move it away to fetch again")
        try:
            got = pooch.retrieve(url, f"sha256:{file.sha256}", file.name, folder, downloader=ResumingDownloader(part, progress))
        except requests.RequestException as e:
            kept = f"; {part.stat().st_size} bytes are kept, run the same command again to resume" if part.exists() else ""
            raise TraceError(f"{url}: download failed ({e}){kept}") from None
        except ValueError:
            part.unlink(missing_ok=True)
            raise TraceError(f"{url}: the file's sha256 is not the pinned {file.sha256}; nothing was kept") from None
        except OSError as e:
            raise OutputError(f"{target}: cannot be written ({e.strerror or e})") from None
        out.append(Path(got))
    return out
