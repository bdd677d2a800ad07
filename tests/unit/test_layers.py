"""The layer picture of the design, read off every module's imports."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import edge_sir

ROOT = Path(edge_sir.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}

# Module or package: what of edge_sir it may import, itself aside. A package stands for all that is in it.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "_owner": {"errors"},
    "_shield": set(),
    "core": {"errors"},
    "policies": {"core", "errors"},
    "grammar": {"errors"},
    "engine": {"core", "errors", "grammar"},
    "llama": {"_owner", "_shield", "core", "engine", "errors", "grammar"},
    "testing": {"core", "engine", "errors", "grammar"},
    "options": {"core", "engine", "errors", "policies"},
    "models": {"errors"},
    "session": {"_owner", "_shield", "core", "engine", "errors", "grammar", "policies"},
    "trace": {"core", "errors", "policies"},
    "text": {"core", "engine", "errors", "grammar", "session"},
    "memory": {"_shield", "core", "engine", "errors", "policies", "session", "text"},
    "recall": {"_shield", "core", "engine", "errors", "memory", "session", "text"},
    "store": {"_owner", "_shield", "core", "errors", "memory"},
    "chat": {
        "_owner",
        "_shield",
        "core",
        "engine",
        "errors",
        "grammar",
        "memory",
        "policies",
        "recall",
        "session",
        "store",
        "text",
        "trace",
    },
    "named": {"chat", "engine", "errors", "options", "store"},
}
MAY_IMPORT["batch"] = MAY_IMPORT["chat"] | {"chat", "options"}
# The composition root puts all of that together; layer 5 stands on top; `edge_sir` itself re-exports.
BELOW = set(MAY_IMPORT)
MAY_IMPORT["runtime"] = BELOW
MAY_IMPORT[""] = BELOW - {"llama"} | {"runtime"}
MAY_IMPORT["eval"] = BELOW | {"", "runtime"}
MAY_IMPORT["server"] = BELOW - {"llama"} | {"", "runtime"}
MAY_IMPORT["ray"] = BELOW | {"runtime"}
MAY_IMPORT["cli"] = BELOW | {"", "runtime", "eval", "server", "ray"}
MAY_IMPORT["__main__"] = {"cli"}


def imports_of(name: str, path: Path) -> set[str]:
    """Absolute names of all that a module imports, wherever in it."""
    package = ["edge_sir", *name.split(".")] if path.name == "__init__.py" else ["edge_sir", *name.split(".")[:-1]]
    package = [part for part in package if part]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from edge_sir import models` may name a module or a value of the package.
            submodules = {f"{origin}.{alias.name}" for alias in node.names} & {f"edge_sir.{m}" for m in MODULES}
            found |= submodules or {origin}
    return found


IMPORTS = {name: imports_of(name, path) for name, path in MODULES.items()}


def box(module: str) -> str:
    """The box of the picture that a module of edge_sir stands in."""
    return module.removeprefix("edge_sir").lstrip(".").partition(".")[0]


def ours(name: str) -> set[str]:
    """The boxes that a module imports from, its own aside."""
    return {box(i) for i in IMPORTS[name] if i.partition(".")[0] == "edge_sir"} - {box(name)}


def test_the_walk_sees_imports() -> None:
    """The control: names that must be found, at the top of a module, inside a function, and of a module."""
    assert "edge_sir.core.budget" in IMPORTS["session.session"]
    assert "edge_sir.llama.engine" in IMPORTS["runtime"]
    assert "edge_sir.models" in IMPORTS["runtime"]
    assert "llama_cpp" in {name.partition(".")[0] for name in IMPORTS["llama.native"]}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_lies_below_it(name: str) -> None:
    assert box(name) in MAY_IMPORT, "a new module: give it a place in the picture above"
    assert ours(name) <= MAY_IMPORT[box(name)]


@pytest.mark.parametrize("name", [m for m in MODULES if box(m) == "core"])
def test_the_core_needs_numpy_alone(name: str) -> None:
    foreign = {i.partition(".")[0] for i in IMPORTS[name]} - set(sys.stdlib_module_names)
    assert foreign <= {"numpy", "edge_sir"}
    assert not {"os", "pathlib", "io", "logging", "socket", "subprocess"} & IMPORTS[name]


@pytest.mark.parametrize("name", MODULES)
def test_only_the_llama_package_knows_llama_cpp(name: str) -> None:
    foreign = {i.partition(".")[0] for i in IMPORTS[name]}
    assert "llama_cpp" not in foreign or box(name) == "llama"


@pytest.mark.parametrize("name", MODULES)
def test_only_the_server_knows_http(name: str) -> None:
    """Its packages are an extra, and its own values, wire types included, need none of them."""
    foreign = {i.partition(".")[0] for i in IMPORTS[name]}
    knows = foreign & {"starlette", "uvicorn", "prometheus_client", "anyio"}
    assert not knows or (box(name) == "server" and not name.startswith("server.wire"))


@pytest.mark.parametrize("name", MODULES)
def test_only_the_ray_package_knows_ray(name: str) -> None:
    assert "ray" not in {i.partition(".")[0] for i in IMPORTS[name]} or box(name) == "ray"


def test_neither_llama_cpp_nor_ray_is_loaded_before_it_is_used() -> None:
    modules = [f"edge_sir.{name}".rstrip(".") for name in MODULES if box(name) not in ("llama", "__main__")]
    code = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    loaded = json.loads(run.stdout)
    assert set(modules) <= set(loaded) and not {"llama_cpp", "ray"} & set(loaded)


# ---- what is public ----------------------------------------------------------------------------


def public_definitions(path: Path) -> set[str]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")}


def declared(path: Path) -> list[str] | None:
    """The module's `__all__`, read without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_just_what_a_module_defines_for_others(name: str) -> None:
    names = declared(MODULES[name])
    definitions = public_definitions(MODULES[name])
    if names is None:
        assert not definitions
        return
    assert definitions <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", [m for m in MODULES if box(m) != "llama" and declared(MODULES[m]) is not None])
def test_every_listed_name_exists(name: str) -> None:
    module = importlib.import_module(f"edge_sir.{name}".rstrip("."))
    assert [n for n in module.__all__ if not hasattr(module, n)] == []


def test_the_package_exports_its_imports_sorted() -> None:
    exported = {
        alias.asname or alias.name
        for node in ast.parse(MODULES[""].read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(edge_sir.__all__) == exported
    # Constants, classes, functions: the order that ruff keeps.
    assert edge_sir.__all__ == sorted(edge_sir.__all__, key=lambda n: (not n.isupper(), n.islower(), n))
    assert all(hasattr(edge_sir, name) for name in edge_sir.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_unpickled(name: str) -> None:
    """What a pickle holds is run when it is read."""
    assert not {i.partition(".")[0] for i in IMPORTS[name]} & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
