"""The options of the command line: those of the library, and what only a program has."""

from pathlib import Path

from pydantic import Field

from edge_sir.options import Options

__all__ = ["CliOptions"]


class CliOptions(Options):
    """`Options`, and where a run's figures go and how lines are read and printed."""

    stats: Path | None = Field(default=None, description="file that gets the run's figures as JSON at exit")
    commands: bool = Field(default=False, description="piped lines that begin with / are commands, as on a terminal")
    json_output: bool = Field(default=False, alias="json", description="print one JSON object per turn")
