"""An instance group's speculation with nothing left open: its own words over the experiment's over the engine's flags, checked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.config.engine_speculation import METHODS, EngineSpeculation
from simserve.errors import SimserveError, nearest
from simserve.files import messages
from simserve.files.messages import Mistake
from simserve.files.yaml_text import Document, KeyPath
from simserve.model import ModelArchitecture
from simserve.workload.columns import COLUMNS

if TYPE_CHECKING:
    from simserve.config.speculation_section import RatesSection, SpeculationSection
    from simserve.speculation.acceptance import Conditional
    from simserve.speculation.schedule import Schedule

_VOCABULARY_PADDING = 128
"""Sizes of one vocabulary differ by unused entries that fill it up (Qwen2.5: 151,936 and 152,064); llama.cpp takes drafts within so many
(common/speculative.cpp, SPEC_VOCAB_MAX_SIZE_DIFFERENCE)."""

NUMBER_COLUMNS = {"acceptance_rate": "rate", "acceptance_length": "length"}
"""Columns of requests that tell their acceptance -> as which key of `acceptance`."""

_HELP = (
    "(state one, such as {rate: 0.7}: there is no default, since everything depends on it. Published mean lengths (tokens of a step):"
    " 1.7 to 3.5 for three EAGLE-3 tokens on Llama-3.1-8B by task, 1.7 to 1.8 for one MTP token of DeepSeek-R1; docs/speculation.md)"
)


@dataclass(frozen=True, slots=True)
class Stated:
    """A key and where it was written: in the experiment, or as a flag of the engine."""

    value: Any
    path: KeyPath
    flag: bool = False


def merged(raw: Mapping[str, Any], prefix: KeyPath, flags: Mapping[str, Stated], document: Document) -> dict[str, Stated]:
    """Every key of `speculation` that holds for the group at `prefix`, whose text is `raw`."""
    found = dict(flags)
    for section, path in ((document.data.get("speculation"), ()), (raw.get("speculation"), prefix)):
        if isinstance(section, Mapping):
            found |= {str(key): Stated(value, (*path, "speculation", str(key))) for key, value in section.items()}
    return found


def complete(
    stated: Mapping[str, Stated], profile: EngineSpeculation, engine: str, prefix: KeyPath, document: Document, folder: Path
) -> tuple[SpeculationSection | None, list[Mistake]]:
    """What holds, None where the group does not speculate, and the mistakes in it. `engine` is how messages name the engine."""
    if not stated:
        return None, []
    from simserve.config.speculation_section import SpeculationSection

    stated = _as_the_engine_reads(_with_method(stated, profile.methods))
    values = {key: one.value for key, one in stated.items()}
    view = Document(document.source, values)
    for key, one in stated.items():
        view.places[(key,)] = document.place(one.path)
        view.key_places[(key,)] = document.place(one.path, of_key=True)
    section, found = messages.check(SpeculationSection, values, view)
    if found:
        # What a section of the experiment says is complained of by the schema of the whole; what a flag says here.
        flags = [m for m in found if m.key.split(".")[0] in stated and stated[m.key.split(".")[0]].flag]
        return None, [Mistake(m.place, messages.dotted(_path(stated, m.key)), m.text) for m in flags]
    assert isinstance(section, SpeculationSection)
    if section.tokens == 0:
        return None, []

    def mistake(key: str, text: str) -> list[Mistake]:
        return [messages.at(document, _path(stated, key), text)]

    for key, what in (("method", f"who drafts: {', '.join(METHODS)}"), ("tokens", "how many tokens are drafted in a row")):
        if getattr(section, key) is None:
            return None, [_missing(stated, key, f"({what})", document)]
    assert section.method is not None and section.tokens is not None
    if not profile.methods:
        return None, mistake("method", f"{engine} has no speculative decoding; engines that have: simserve engines NAME")
    if section.method not in profile.methods:
        return None, mistake("method", f"{engine} does not have '{section.method}'. Allowed: {', '.join(profile.methods)}")
    mistakes = _of_draft(section, stated, mistake, folder)
    mistakes += _of_width(section, mistake)
    if section.acceptance is None:
        return None, [*mistakes, _missing(stated, "acceptance", _HELP, document)]
    mistakes += _of_acceptance(section, mistake)
    return (None if mistakes else section), mistakes


def _missing(stated: Mapping[str, Stated], key: str, help_: str, document: Document) -> Mistake:
    place = document.place(next(iter(stated.values())).path[:-1])
    return Mistake(place, messages.dotted((*_section(stated), key)), f"this key is required and missing {help_}")


def _path(stated: Mapping[str, Stated], key: str) -> KeyPath:
    """Where a key, or one below it, was written."""
    first, *rest = key.split(".")
    return (*stated[first].path, *rest) if first in stated else (*_section(stated), key)


def _section(stated: Mapping[str, Stated]) -> KeyPath:
    """The section that is written, the group's own if there is one; flags are not in it."""
    sections = [one.path[:-1] for one in stated.values() if not one.flag]
    return max(sections, key=len, default=("speculation",))


def _with_method(stated: Mapping[str, Stated], methods: Sequence[str]) -> Mapping[str, Stated]:
    """What flags leave unsaid where they can mean one thing only: an engine of one method; a draft's name where an engine has no heads
    (vLLM V0: `speculative_model`, of which "[ngram]" is no model; vllm/config.py, SpeculativeConfig.maybe_create_spec_config)."""
    flag = next((one for key, one in stated.items() if one.flag and key in ("draft", "tokens")), None)
    if flag is None or "method" in stated:
        return stated
    draft = stated.get("draft")
    if len(methods) == 1:
        return {**stated, "method": Stated(methods[0], flag.path, True)}
    if draft is not None and set(methods) == {"draft-model", "ngram"}:
        return {**stated, "method": Stated("ngram" if draft.value == "[ngram]" else "draft-model", draft.path, True)}
    return stated


def _as_the_engine_reads(stated: Mapping[str, Stated]) -> dict[str, Stated]:
    """Flags that say nothing new: the checkpoint of a head, whose size follows from the model; the width of a chain, which SGLang makes one
    more than its steps itself (server_args.py, _handle_speculative_decoding)."""
    method, top_k = (stated[key].value if key in stated else None for key in ("method", "top_k"))
    said = {"draft": method != "draft-model", "verify_tokens": top_k in (None, 1)}
    return {key: one for key, one in stated.items() if not (one.flag and said.get(key, False))}


def _of_draft(section: SpeculationSection, stated: Mapping[str, Stated], mistake: Any, folder: Path) -> list[Mistake]:
    from simserve.model import load_model

    if section.method != "draft-model":
        text = f"is for method draft-model; the size of what drafts for {section.method} follows from the model: leave this key out"
        return [] if section.draft is None else list(mistake("draft", text))
    if section.draft is None:
        return list(mistake("draft", "this key is required and missing: method draft-model needs a model (`simserve models`)"))
    try:
        load_model(section.draft, base_dir=folder)
    except SimserveError as error:
        return list(mistake("draft", str(error)))
    return []


def _of_width(section: SpeculationSection, mistake: Any) -> list[Mistake]:
    """Trees and schedules: what is computed must be at least what is drafted in a row, at most what a tree has."""
    tokens, top_k, width = section.tokens or 0, section.top_k, section.verify_tokens
    found: list[Mistake] = []
    if top_k == 1 and width not in (None, tokens + 1):
        found += mistake("verify_tokens", f"found {width}: a chain of {tokens} drafted tokens verifies {tokens + 1} (tokens + 1)")
    elif width is not None and width < tokens + 1:
        found += mistake("verify_tokens", f"found {width}, expected at least {tokens + 1} (tokens + 1): a branch of the whole depth")
    elif top_k > 1 and width is None:
        found += mistake("verify_tokens", "this key is required and missing: how many nodes of the tree a step verifies, the root included")
    elif width is not None and top_k > 1 and width > (most := 1 + top_k + (tokens - 1) * top_k**2):
        # EAGLE-2 keeps top_k nodes of each level and expands each to top_k (arXiv 2406.16858, section 4)
        found += mistake("verify_tokens", f"found {width}: a tree of depth {tokens} and top_k {top_k} has at most {most} nodes")
    rules = section.by_batch
    for number, (one, after) in enumerate(itertools.pairwise(rules), 1):
        if after.size <= one.size:
            found += mistake(f"by_batch.{number}.from", f"found {after.size} after {one.size}, expected sizes that increase")
    for number, rule in enumerate(rules):
        if rule.tokens > tokens:
            found += mistake(f"by_batch.{number}.tokens", f"found {rule.tokens}, expected at most tokens, which is {tokens}")
        elif top_k > 1 and rule.tokens not in (0, tokens):
            found += mistake(f"by_batch.{number}.tokens", f"found {rule.tokens}: a tree is drafted whole ({tokens}) or not at all (0)")
    return found


def _of_acceptance(section: SpeculationSection, mistake: Any) -> list[Mistake]:
    acceptance, tokens = section.acceptance, section.tokens
    assert acceptance is not None and tokens is not None
    found: list[Mistake] = []
    if acceptance.hit < 1 and section.method != "ngram":
        found += mistake("acceptance.hit", f"is for method ngram; {section.method} drafts in every step")
    if acceptance.by is not None:
        column = COLUMNS.get(acceptance.by)
        names = sorted(name for name, one in COLUMNS.items() if one.kind == "name")
        if column is None or column.kind != "name":
            found += mistake("acceptance.by", f"found '{acceptance.by}', expected a column of names{nearest(acceptance.by, names)}")
    if acceptance.column is not None and acceptance.column not in NUMBER_COLUMNS:
        found += mistake("acceptance.column", f"found '{acceptance.column}'{nearest(acceptance.column, NUMBER_COLUMNS)}")
    parts: list[tuple[str, RatesSection]] = [(f"acceptance.of.{name}", of) for name, of in acceptance.of.items()]
    parts += [("acceptance.otherwise", acceptance.otherwise)] if acceptance.otherwise is not None else []
    parts += [("acceptance", acceptance)] if acceptance.by is None and acceptance.column is None else []
    for key, part in parts:
        try:
            conditional(part, tokens)
        except ValueError as problem:
            found += mistake(f"{key}.{part.form}", str(problem))
    return found


def conditional(section: RatesSection, tokens: int) -> Conditional:
    """Its probabilities for so many drafted tokens. Raises ValueError for what they cannot be."""
    from simserve.speculation.acceptance import of_length, of_lengths, of_rate, of_rates

    if section.rate is not None:
        return of_rate(section.rate, tokens)
    if section.rates is not None:
        return of_rates(section.rates, tokens)
    if section.length is not None:
        return of_length(section.length, tokens)
    assert section.lengths is not None
    return of_lengths(section.lengths, tokens)


def schedule(section: SpeculationSection) -> Schedule:
    """Tokens in a row by batch size."""
    from simserve.speculation.schedule import Schedule

    assert section.tokens is not None
    return Schedule(section.tokens, tuple(rule.size for rule in section.by_batch), tuple(rule.tokens for rule in section.by_batch))


def refused(
    section: SpeculationSection,
    stated: Mapping[str, Stated],
    profile: EngineSpeculation,
    engine: str,
    resolved: Mapping[str, Any],
    prefix: KeyPath,
    document: Document,
) -> list[Mistake]:
    """What the engine does not do: each with its reason and source, where the key was written if it was."""
    mistakes = []
    whole = {**resolved, "speculation": section.model_dump()}
    for key, value, rule in profile.refusals(str(section.method), whole):
        first, _, rest = (key or "speculation.method").partition(".")
        path = _path(stated, rest) if first == "speculation" else (*prefix, *key.split("."))
        text = f"{engine} does not speculate with {key} {value}" if key else f"{engine} does not have '{value}'"
        mistakes.append(messages.at(document, path, f"{text}: {rule.reason} ({rule.source})"))
    return mistakes


def misfit(section: SpeculationSection, model: ModelArchitecture, max_model_len: int | None, folder: Path) -> tuple[str, str] | None:
    """(key, text) of what does not go with the model: more drafted tokens than a context has, a draft that writes other tokens."""
    from simserve.model import load_model

    longest = max_model_len or model.max_position_embeddings
    width = section.verify_tokens or (section.tokens or 0) + 1
    if width >= longest:
        key = "tokens" if section.verify_tokens is None else "verify_tokens"
        return key, f"found {getattr(section, key)}: with the token before them they do not fit into a context of {longest} tokens"
    if section.method == "draft-model" and section.draft is not None:
        draft = load_model(section.draft, base_dir=folder)
        if abs(draft.vocab_size - model.vocab_size) > _VOCABULARY_PADDING:
            sizes = f"it has a vocabulary of {draft.vocab_size:,} tokens and {model.name} one of {model.vocab_size:,}"
            return (
                "draft",
                f"found '{section.draft}': {sizes}; a draft must write the model's tokens (take a smaller model of the same family)",
            )
    return None
