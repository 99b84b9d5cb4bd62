"""What an experiment may say of tiles: how attention is cut and dealt to the cores, and how linear operators pad their rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Reorder = Literal["none", "first-free", "snake", "greedy", "ideal"]
Padding = Literal["none", "physical", "virtual"]
Rows = Annotated[int, Field(ge=1, le=4096)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskTable(_Section):
    """Attention of a step as tiles of (query rows x keys), each the work of one core; the step's attention ends with the slowest core.

    Source of the defaults: XY-Serve (arXiv 2412.18106): tiles of 128 rows for prompts and 16 for decodes, as many cores as the device has.
    """

    reorder: Reorder = Field(
        default="none",
        description="How tiles are dealt to cores. `none`: one after the other, in arrival order; `first-free`: in arrival order, each to"
        " the core that is free first (a GPU's block scheduler); `snake`: sorted by load, dealt to and fro (XY-Serve); `greedy`: sorted by"
        " load, each to the core with the least; `ideal`: all cores end together.",
    )
    cores: int | None = Field(default=None, ge=1, le=4096, description="Cores that work. Default: all that the device has.")
    prefill_tile_rows: Rows = Field(default=128, description="Tokens of the largest tile: longer chunks are cut into such tiles.")
    decode_tile_rows: Rows = Field(
        default=16,
        description="Rows of the smallest tile. Chunks and drafted tokens that need no full tile take the next power of two of it.",
    )
    key_tile_tokens: Rows = Field(
        default=1, description="Keys are multiplied in whole blocks of so many (FlashAttention-2: 128). Default: none."
    )
    head_units: Literal["kv-heads", "query-heads"] = Field(
        default="kv-heads",
        description="What a tile is a tile of: all query heads of one KV head, whose keys are then read once, or one query head.",
    )
    split_keys: bool = Field(
        default=True, description="Where there are fewer tiles than cores, the keys of each are split over the cores that would idle."
    )
    launches: Literal["together", "separate"] = Field(
        default="together",
        description="`separate`: prompts, verified and decoding sequences are kernels of their own, one after the other, with what"
        " splitting and merging their tensors costs (batch by batch).",
    )
    plain_mfu: float | None = Field(
        default=None, gt=0, le=1, description="`separate`: fraction of peak of prompts without a cached context (torch-npu: 0.53)."
    )
    prefix_mfu: float | None = Field(
        default=None, gt=0, le=1, description="`separate`: of slices after a context that is shorter than they are (torch-npu: 0.47)."
    )
    chunked_mfu: float | None = Field(
        default=None, gt=0, le=1, description="`separate`: of slices after a context at least as long as they are (torch-npu: 0.30)."
    )

    @model_validator(mode="after")
    def _whole_tiles(self) -> TaskTable:
        if self.prefill_tile_rows < self.decode_tile_rows:
            rows, smallest = self.prefill_tile_rows, self.decode_tile_rows
            raise ValueError(f"prefill_tile_rows {rows} is below decode_tile_rows {smallest}, which is the smallest tile")
        stated = [name for name in ("plain_mfu", "prefix_mfu", "chunked_mfu") if getattr(self, name) is not None]
        if stated and self.launches != "separate":
            raise ValueError(f"{stated[0]} is for launches: separate")
        if stated and len(stated) < 3:
            raise ValueError("plain_mfu, prefix_mfu and chunked_mfu are stated together")
        return self


class LinearTiles(_Section):
    """Rows of the output tiles of linear operators: what their rows are padded to. Columns and depth need no padding (multiples of 16).

    Defaults: XY-Serve's example (arXiv 2412.18106, 417 tokens): tiles of 32 rows for all four.
    """

    qkv: Rows = Field(default=32, description="Queries, keys and values.")
    output: Rows = Field(default=32, description="Attention's output projection.")
    gate_up: Rows = Field(default=32, description="Gate and up projection.")
    down: Rows = Field(default=32, description="Down projection.")
    other: Rows = Field(default=32, description="Every other matrix over a step's tokens.")

    def of(self, operator: str) -> int:
        """Rows of the tile of an operator, by its name in the model."""
        rows: int = getattr(self, _TILE_OF.get(operator, "other"))
        return rows


_TILE_OF = {"attn_pre_proj": "qkv", "attn_post_proj": "output", "mlp_up_proj": "gate_up", "mlp_down_proj": "down"}
