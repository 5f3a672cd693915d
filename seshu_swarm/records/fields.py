"""Types of single fields, shared by records and messages: what is not one of these is refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
TaskName = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9-]{0,39})?$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
ShortText = Annotated[str, StringConstraints(max_length=300)]
BlockIndex = Annotated[int, Field(ge=0, le=1_000)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PlanId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Reference = Annotated[str, StringConstraints(max_length=500)]
