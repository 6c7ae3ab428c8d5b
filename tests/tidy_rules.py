"""The house rules that a program can check, as pure functions over parsed files.

Each rule takes files and yields findings; `tests/test_tidy.py` runs all of them over the repository, and each of
them over small samples. The lists below (which module is pure, which may import ray) are the architecture's own
statement: change them deliberately, with the reason in the commit.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500
PARAMETERS_MAX = 5
PUBLIC_METHODS_MAX = 12
UNDOCUMENTED_LINES_MAX = 5
TEXT_BYTES_MAX = 1_000_000
"""What is larger, or has a zero byte, is data; the lock has a quarter of this."""

LAYERS = ("shards", "cluster", "deployments")
"""The product, lowest layer first: a package imports itself and those before it."""

OUTSIDE_PRODUCT = frozenset({"tests", "benchmarks"})
CODE_FOLDERS = (*LAYERS, "tests", "benchmarks")
TEXT_FOLDERS = (*CODE_FOLDERS, "configs", "docs", ".ci")

PURE_MODULES = frozenset(
    {
        *("shards/batch.py", "shards/distance.py", "shards/errors.py", "shards/handshake.py", "shards/hits.py"),
        *(
            "shards/generations.py",
            "shards/index.py",
            "shards/log_frame.py",
            "shards/memory.py",
            "shards/memory_budget.py",
            "shards/nearest.py",
            "shards/op_history.py",
            "shards/point_ids.py",
            "shards/slots.py",
        ),
        *("shards/report.py", "shards/scan.py", "shards/schema.py", "shards/settings.py"),
        *("shards/filter_memo.py", "shards/filter_plan.py", "shards/filter_query.py", "shards/field_schema.py"),
        *("shards/point_change.py", "shards/tenant_names.py", "shards/vector_layout.py", "shards/wire.py"),
        *("cluster/aliases.py", "cluster/breaker.py", "cluster/collection_settings.py"),
        *(
            f"shards/filters/{name}.py"
            for name in (
                *(
                    "answers",
                    "conditions",
                    "dates",
                    "estimate",
                    "evaluation",
                    "flags",
                    "geometry",
                    "grammar",
                    "indexes",
                ),
                *("normal", "numbers", "parsing", "paths", "places", "postings", "presence", "rowsets", "sections"),
                *("semantics", "slices", "texts", "words"),
            )
        ),
        *("cluster/catalogue_model.py", "cluster/gather.py", "cluster/merge.py", "cluster/reconcile.py"),
        *(
            "cluster/coverage.py",
            "cluster/fetch_count.py",
            "cluster/gather_counts.py",
            "cluster/hedging.py",
            "cluster/latency.py",
        ),
        *(
            "cluster/api_keys.py",
            "cluster/requests.py",
            "cluster/scope.py",
            "cluster/shard_map.py",
            "cluster/slots.py",
            "cluster/snapshot_archive.py",
            "cluster/snapshot_model.py",
            "cluster/state.py",
            "cluster/tenant_guard.py",
        ),
        *("cluster/histogram.py", "cluster/search_times.py"),
        *(
            f"deployments/{name}.py"
            for name in (
                *("adaptive", "admission_settings", "cache_breaker", "cache_counts", "cache_key"),
                *("cache_policy", "cache_settings", "cost"),
                *("degradation", "openapi_words", "token_bucket", "waiting_line"),
            )
        ),
    }
)
PURE_THIRD_PARTY = frozenset({"google_crc32c", "numpy", "orjson", "pydantic", "pyroaring"})
IMPURE_STDLIB = frozenset(
    {
        *("asyncio", "concurrent", "multiprocessing", "queue", "sched", "signal", "subprocess", "threading"),
        *("time", "random", "secrets"),
        *("fcntl", "fileinput", "glob", "io", "logging", "mmap", "os", "pathlib", "shutil", "sqlite3", "tempfile"),
        *("http", "select", "selectors", "socket", "socketserver", "ssl", "urllib"),
    }
)
IMPURE_CALLS = frozenset({"open", "print", "input", "uuid1", "uuid4"})
IMPURE_ATTRIBUTES = frozenset(
    {
        *("np.random", "np.load", "np.save", "np.savez", "np.fromfile", "np.memmap", "np.loadtxt", "np.savetxt"),
        *("datetime.now", "datetime.today", "datetime.utcnow", "date.today", "uuid.uuid1", "uuid.uuid4"),
    }
)

HNSWLIB_FILE = "shards/hnsw.py"
RAY_FILES = frozenset(
    {
        "shards/actor.py",
        "cluster/control.py",
        "cluster/supervisor.py",
        "deployments/app.py",
        "deployments/local_ray.py",
        "deployments/serve_callbacks.py",
    }
)

UNPICKLERS = frozenset({"cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve"})
VAGUE_NAMES = frozenset({"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"})

# One letter of each in brackets, so that these lines don't find themselves.
UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b")
ADDRESSES = re.compile(
    r"(?<![\w-])(py[p]i\.|(files\.)?python[h]osted\.|ana[c]onda\.org|registry\.np[m]js|crates\.[i]o)"
    r"|(?<![\w-])--((extra-)?index-[u]rl|find-[l]inks)\b"
)
# The KubeRay images' own home folder is named after ray.
MACHINE_PATHS = re.compile(r"(?<![\w.~/-])/([w]ork/|[r]oot/|home/(?![r]ay\b)|Use[r]s/|tmp/[w]\b|opt/([p]ypi|wheels))")


@dataclass(frozen=True)
class Source:
    """One file: its path from the repository's root, with slashes, and its text."""

    path: str
    text: str

    @property
    def package(self) -> str:
        return self.path.split("/", 1)[0]

    @property
    def in_product(self) -> bool:
        return self.package in LAYERS

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """(line, dotted module) of every import, wherever it stands; `from a import b` gives `a.b`."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                # A relative import stays within its package, which has one level.
                module = node.module or "" if node.level == 0 else ".".join(filter(None, [self.package, node.module]))
                found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
        return found


@dataclass(frozen=True)
class Finding:
    """One broken rule, at one place."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


Rule = Callable[[list[Source]], Iterator[Finding]]
Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def read_sources(root: Path) -> list[Source]:
    """Every text file that belongs to the repository: the known folders and the files beside them."""
    paths = [path for path in root.iterdir() if path.name != ".git"]  # a file in a worktree, with a path in it
    for folder in TEXT_FOLDERS:
        paths += [path for path in (root / folder).rglob("*") if "__pycache__" not in path.parts]
    return [
        Source(path.relative_to(root).as_posix(), content.decode(errors="replace"))
        for path in sorted(paths)
        if path.is_file() and path.stat().st_size <= TEXT_BYTES_MAX and b"\0" not in (content := path.read_bytes())
    ]


def python_files(sources: Iterable[Source]) -> Iterator[Source]:
    """The Python files of the code folders."""
    return (source for source in sources if source.path.endswith(".py") and source.package in CODE_FOLDERS)


def product_files(sources: Iterable[Source]) -> Iterator[Source]:
    """The Python files of shards, cluster and deployments."""
    return (source for source in python_files(sources) if source.in_product)


def short_functions(sources: list[Source]) -> Iterator[Finding]:
    """A function has at most FUNCTION_LINES_MAX lines, from `def` to its end."""
    for source in python_files(sources):
        for node in source.nodes:
            if isinstance(node, FUNCTION) and (lines := _line_count(node)) > FUNCTION_LINES_MAX:
                message = f"function {node.name} has {lines} lines (limit {FUNCTION_LINES_MAX})"
                yield Finding(source.path, node.lineno, message)


def short_files(sources: list[Source]) -> Iterator[Finding]:
    """A Python file has at most FILE_LINES_MAX lines."""
    for source in python_files(sources):
        if (lines := len(source.text.splitlines())) > FILE_LINES_MAX:
            yield Finding(source.path, lines, f"the file has {lines} lines (limit {FILE_LINES_MAX})")


def few_parameters(sources: list[Source]) -> Iterator[Finding]:
    """At most PARAMETERS_MAX that may be given by position; self and cls, and keyword-only ones, don't count."""
    for source in python_files(sources):
        for node in source.nodes:
            if not isinstance(node, FUNCTION):
                continue
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > PARAMETERS_MAX:
                message = f"{node.name} has {count} parameters (limit {PARAMETERS_MAX}; make a dataclass)"
                yield Finding(source.path, node.lineno, message)


def few_public_methods(sources: list[Source]) -> Iterator[Finding]:
    """A class has at most PUBLIC_METHODS_MAX methods without a leading underscore; properties are not methods."""
    for source in python_files(sources):
        for node in source.nodes:
            if not isinstance(node, ast.ClassDef):
                continue
            methods = (child for child in node.body if isinstance(child, FUNCTION) and not _is_property(child))
            names = {method.name for method in methods if _is_public(method.name)}  # overloads are one
            if len(names) > PUBLIC_METHODS_MAX:
                message = f"class {node.name} has {len(names)} public methods (limit {PUBLIC_METHODS_MAX})"
                yield Finding(source.path, node.lineno, message)


def imports_go_left(sources: list[Source]) -> Iterator[Finding]:
    """shards <- cluster <- deployments, also inside functions and under TYPE_CHECKING."""
    for source in product_files(sources):
        later = set(LAYERS[LAYERS.index(source.package) + 1 :]) | OUTSIDE_PRODUCT
        for line, module in source.imports:
            if _top(module) in later:
                yield Finding(source.path, line, f"{source.package} must not import {module} (only to its left)")


def hnswlib_in_one_file(sources: list[Source]) -> Iterator[Finding]:
    """The product imports hnswlib in HNSWLIB_FILE and nowhere else, so its traps are guarded in one place."""
    for source in product_files(sources):
        for line, module in source.imports:
            if _top(module) == "hnswlib" and source.path != HNSWLIB_FILE:
                yield Finding(source.path, line, f"hnswlib is imported by {HNSWLIB_FILE} only")


def redis_in_one_file(sources: list[Source]) -> Iterator[Finding]:
    """At most one file of the product imports redis."""
    uses = [
        (source.path, line)
        for source in product_files(sources)
        for line, module in source.imports
        if _top(module) == "redis"
    ]
    files = sorted({path for path, _ in uses})
    if len(files) > 1:
        for path, line in uses:
            yield Finding(path, line, f"redis is imported by {len(files)} files, {', '.join(files)} (limit 1)")


def ray_in_shells(sources: list[Source]) -> Iterator[Finding]:
    """The product imports ray in RAY_FILES only."""
    for source in product_files(sources):
        for line, module in source.imports:
            if _top(module) == "ray" and source.path not in RAY_FILES:
                yield Finding(source.path, line, f"ray is imported by {', '.join(sorted(RAY_FILES))} only")


def pure_imports(sources: list[Source]) -> Iterator[Finding]:
    """A pure module imports the stdlib's pure part, PURE_THIRD_PARTY, and other pure modules."""
    for source in sources:
        if source.path not in PURE_MODULES:
            continue
        for line, module in source.imports:
            if reason := _impure_import(module):
                yield Finding(source.path, line, f"a pure module imports {module}, which {reason}")


def _impure_import(module: str) -> str | None:
    top = _top(module)
    if top in LAYERS:
        parts = module.split(".")
        if any("/".join(parts[:depth]) + ".py" in PURE_MODULES for depth in range(2, len(parts) + 1)):
            return None
        return "is not in PURE_MODULES"
    if top in IMPURE_STDLIB:
        return "reaches outside (clock, randomness, threads, disk or network)"
    return None if top in PURE_THIRD_PARTY or top in sys.stdlib_module_names else "is not in PURE_THIRD_PARTY"


def pure_calls(sources: list[Source]) -> Iterator[Finding]:
    """A pure module opens no file, prints nothing, and asks for no time or random number."""
    for source in sources:
        if source.path not in PURE_MODULES:
            continue
        for node in source.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                yield Finding(source.path, node.lineno, f"a pure module calls {node.func.id}()")
            elif isinstance(node, ast.Attribute) and ast.unparse(node) in IMPURE_ATTRIBUTES:
                yield Finding(source.path, node.lineno, f"a pure module uses {ast.unparse(node)}")


def telling_names(sources: list[Source]) -> Iterator[Finding]:
    """No file and no folder of code is called utils, common, helpers, manager, or alike."""
    for source in python_files(sources):
        for part in PurePosixPath(source.path).with_suffix("").parts:
            if part in VAGUE_NAMES:
                yield Finding(source.path, 1, f"{part!r} says nothing; name the file for what it decides")


def configs_are_yaml(sources: list[Source]) -> Iterator[Finding]:
    """configs/ holds YAML only."""
    for source in sources:
        if source.package == "configs" and not source.path.endswith(".yaml"):
            yield Finding(source.path, 1, "configs/ holds .yaml files only")


def modules_say_what(sources: list[Source]) -> Iterator[Finding]:
    """Every Python file has a docstring."""
    for source in python_files(sources):
        if not ast.get_docstring(source.tree):
            yield Finding(source.path, 1, "the module has no docstring")


def public_docstrings(sources: list[Source]) -> Iterator[Finding]:
    """Public functions and classes of the product have a docstring, unless their body is a few lines."""
    for source in product_files(sources):
        for node in _public_definitions(source.tree):
            lines = (node.body[-1].end_lineno or 0) - node.body[0].lineno + 1
            if lines > UNDOCUMENTED_LINES_MAX and not ast.get_docstring(node):
                message = f"{node.name} has no docstring and {lines} lines (limit {UNDOCUMENTED_LINES_MAX} without)"
                yield Finding(source.path, node.lineno, message)


def _public_definitions(parent: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    """Public functions, classes and their public methods; what stands inside a function is its own affair."""
    for node in parent.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and _is_public(node.name):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public_definitions(node)


def no_prints(sources: list[Source]) -> Iterator[Finding]:
    """shards and cluster don't print; they log, or tell their caller."""
    for source in python_files(sources):
        if source.package not in ("shards", "cluster"):
            continue
        for node in source.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield Finding(source.path, node.lineno, "print() in shards or cluster")


def no_unpickling(sources: list[Source]) -> Iterator[Finding]:
    """The product imports nothing that unpickles and never allows numpy to."""
    for source in product_files(sources):
        for line, module in source.imports:
            if UNPICKLERS.intersection(module.split(".")):
                yield Finding(source.path, line, f"{module} runs what it reads; nothing in Shoal unpickles")
        for node in source.nodes:
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and _is_not_false(node.value):
                yield Finding(source.path, node.value.lineno, "allow_pickle; nothing in Shoal unpickles")


def nothing_unfinished(sources: list[Source]) -> Iterator[Finding]:
    """No note of unfinished work in a tracked file: do it, or write it down where it is planned."""
    yield from _lines_that_match(sources, UNFINISHED, "a note of unfinished work")


def no_addresses(sources: list[Source]) -> Iterator[Finding]:
    """No package registry is named: the reader's own pip settings choose it."""
    yield from _lines_that_match(sources, ADDRESSES, "a package registry's address")


def no_machine_paths(sources: list[Source]) -> Iterator[Finding]:
    """No absolute path of somebody's machine."""
    yield from _lines_that_match(sources, MACHINE_PATHS, "an absolute path of one machine")


def _lines_that_match(sources: list[Source], pattern: re.Pattern[str], what: str) -> Iterator[Finding]:
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), start=1):
            if match := pattern.search(line):
                yield Finding(source.path, number, f"{what}: {match.group().strip()}")


def _line_count(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _is_property(node: Function) -> bool:
    names = (ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list)
    return any(name.endswith("property") or name == "setter" for name in names)


def _is_not_false(node: ast.expr) -> bool:
    return not (isinstance(node, ast.Constant) and node.value is False)


def _top(module: str) -> str:
    return module.split(".", 1)[0]


RULES: tuple[Rule, ...] = (
    short_functions,
    short_files,
    few_parameters,
    few_public_methods,
    imports_go_left,
    hnswlib_in_one_file,
    redis_in_one_file,
    ray_in_shells,
    pure_imports,
    pure_calls,
    telling_names,
    configs_are_yaml,
    modules_say_what,
    public_docstrings,
    no_prints,
    no_unpickling,
    nothing_unfinished,
    no_addresses,
    no_machine_paths,
)
