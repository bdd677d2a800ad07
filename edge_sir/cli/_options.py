"""The options of the command line: those of the library, and what only a program has."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import Field

from edge_sir.options import Options

__all__ = ["CliOptions"]


class CliOptions(Options):
    """`Options`, and where a run's figures go and how lines are read and printed."""

    stats: Path | None = Field(default=None, description="file that gets the run's figures as JSON at exit")
    commands: bool = Field(default=False, description="piped lines that begin with / are commands, as on a terminal")
    json_output: bool = Field(default=False, alias="json", description="print one JSON object per turn")

    def for_loading(self, without: Collection[str]) -> dict[str, Any]:
        """What `load` takes of them: those that were given. without: fields that the command does not have."""
        given = self.model_dump(by_alias=True, exclude_unset=True)
        return {name: value for name, value in given.items() if self.names()[name] not in without}
