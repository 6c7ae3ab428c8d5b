"""The house rules hold over the whole repository, and each rule can fail.

A rule is tested on a sample that breaks it (at the named lines, and nowhere else) and on one that just doesn't:
a check that can't fail is worthless.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests import tidy_rules as rules
from tests.tidy_rules import RULES, Rule, Source, read_sources

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def repository() -> list[Source]:
    return read_sources(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_repository_follows(rule: Rule, repository: list[Source]) -> None:
    findings = [str(finding) for finding in rule(repository)]
    assert not findings, "\n".join([f"{len(findings)} x {rule.__doc__}", *findings])


def test_the_repository_is_read(repository: list[Source]) -> None:
    paths = {source.path for source in repository}
    assert {"Makefile", "pyproject.toml", "shards/errors.py", "cluster/slots.py", "tests/test_tidy.py"} <= paths
    assert not any("__pycache__" in path or path.startswith(".git/") for path in paths)


def test_the_lists_name_files_that_exist(repository: list[Source]) -> None:
    """A renamed file would leave its rule without anything to check."""
    named = {*rules.PURE_MODULES, *rules.RAY_FILES, rules.HNSWLIB_FILE}
    assert sorted(named - {source.path for source in repository}) == []


class Sample(NamedTuple):
    """Files that break one rule, and those that come close."""

    rule: Rule
    bad: dict[str, str]
    lines: list[int]
    good: dict[str, str]


def _function(line_count: int) -> str:
    return "def f():\n" + "    x = 1\n" * (line_count - 1)


def _methods(count: int) -> str:
    public = "".join(f"    def m{i}(self): ...\n" for i in range(count))
    return "class C:\n" + public + "    def _own(self): ...\n    @property\n    def p(self): ...\n"


SAMPLES = [
    Sample(
        rules.short_functions,
        {"shards/a.py": "X = 1\n\n" + _function(61), "tests/b.py": "if X:\n  async " + _function(61)},
        [3, 2],
        {"shards/a.py": _function(60)},
    ),
    Sample(rules.short_files, {"cluster/a.py": "x = 1\n" * 501}, [501], {"cluster/a.py": "x = 1\n" * 500}),
    Sample(
        rules.few_parameters,
        {"shards/a.py": "def f(a, b, c, d, e, g): ...\n\nclass C:\n    def m(self, a, b, c, d, /, e, f): ...\n"},
        [1, 4],
        {"shards/a.py": "class C:\n    def m(self, a, b, c, d, e, *rest, f, g): ...\n"},
    ),
    Sample(rules.few_public_methods, {"shards/a.py": _methods(13)}, [1], {"shards/a.py": _methods(12)}),
    Sample(
        rules.imports_go_left,
        {
            "shards/a.py": "from cluster.slots import slots_of\nimport deployments\n",
            "cluster/a.py": "def f():\n    from deployments import router\n    import tests.fakes\n",
            "deployments/a.py": "import benchmarks\n",
        },
        [1, 2, 2, 3, 1],
        {
            "cluster/a.py": "import shards.errors\nfrom . import slots\n",
            "deployments/a.py": "from cluster import slots\n",
        },
    ),
    Sample(
        rules.hnswlib_in_one_file,
        {"shards/b.py": "import numpy\nimport hnswlib\n", "deployments/a.py": "from hnswlib import Index\n"},
        [2, 1],
        {"shards/hnsw.py": "import hnswlib\n", "benchmarks/a.py": "import hnswlib\n"},
    ),
    Sample(
        rules.redis_in_one_file,
        {"deployments/a.py": "import redis\n", "deployments/b.py": "\nfrom redis import asyncio\n"},
        [1, 2],
        {"deployments/a.py": "import redis\nimport redis.asyncio\n", "tests/a.py": "import redis\n"},
    ),
    Sample(
        rules.ray_in_shells,
        {"deployments/router.py": "def f():\n    from ray import serve\n"},
        [2],
        {"shards/actor.py": "import ray\n", "deployments/router.py": "import rayon\n", "tests/a.py": "import ray\n"},
    ),
    Sample(
        rules.pure_imports,
        {
            "cluster/gather.py": "import time\nfrom os import path\nimport ray\n",
            "cluster/merge.py": "\n\n\nfrom shards import wal\nimport cluster\n",
        },
        [1, 2, 3, 4, 5],
        {
            "cluster/gather.py": "import numpy as np\nfrom enum import Enum\nfrom shards.errors import Corrupt\n",
            "shards/wal.py": "import os, time\n",
        },
    ),
    Sample(
        rules.pure_calls,
        {"shards/hits.py": "f = open('x')\nimport numpy as np\ny = np.random.rand()\nz = datetime.now()\nprint(1)\n"},
        [1, 3, 4, 5],
        {"shards/hits.py": "x = journal.open()\ny = np.zeros(3)\n", "shards/wal.py": "open('x')\n"},
    ),
    Sample(
        rules.telling_names,
        {"shards/utils.py": "", "tests/helpers/fakes.py": ""},
        [1, 1],
        {"shards/commonly.py": "", "docs/manager.md": ""},
    ),
    Sample(
        rules.configs_are_yaml,
        {"configs/a.json": "{}", "configs/__init__.py": ""},
        [1, 1],
        {"configs/kuberay/a.yaml": "", "shards/a.py": ""},
    ),
    Sample(
        rules.modules_say_what,
        {"tests/a.py": "x = 1\n", "shards/a.py": "# only a comment\n"},
        [1, 1],
        {"tests/a.py": '"""What it does."""\n'},
    ),
    Sample(
        rules.public_docstrings,
        {"shards/a.py": "class C:\n    'Doc.'\n    def m(self):\n" + "        x = 1\n" * 6 + _function(7)},
        [3, 10],
        {
            "shards/a.py": _function(6) + "def _f():\n    def inner():\n" + "        x = 1\n" * 9,
            "tests/a.py": _function(9),
        },
    ),
    Sample(
        rules.no_prints,
        {"cluster/a.py": "x = 1\nprint(x)\n"},
        [2],
        {"cluster/a.py": "blueprint(1)\n", "deployments/cli.py": "print(1)\n"},
    ),
    Sample(
        rules.no_unpickling,
        {"shards/a.py": "import pickle\nfrom ray import cloudpickle\nimport dill\nnp.load(f, allow_pickle=True)\n"},
        [1, 2, 3, 4],
        {"shards/a.py": "np.load(f, allow_pickle=False)\n", "tests/a.py": "import pickle\n"},
    ),
    Sample(
        rules.nothing_unfinished,
        {"docs/a.md": "done\nTO{}DO later\n".format(""), "shards/a.py": "x = 1  # FIX{}ME\n".format("")},
        [2, 1],
        {"docs/a.md": "A todo list, an XXXL shirt\n"},
    ),
    Sample(
        rules.no_addresses,
        {
            "requirements.lock": "a==1\n--index-{}url https://x\n".format(""),
            "docs/a.md": "see py{}pi.org\nhttps://files.python{}hosted.org/x\n".format("", ""),
        },
        [2, 1, 2],
        {"Makefile": "uv pip compile --no-emit-index-url\n", "docs/a.md": "a package index\n"},
    ),
    Sample(
        rules.no_machine_paths,
        {"docs/a.md": "x\nrun /{}work/x\n".format(""), ".ci/run": "cd /{}home/ann/shoal\n".format("")},
        [2, 1],
        {"docs/a.md": "/home/ray/shoal ~/work/ https://x.org/work/ ./root/x /tmp/shoal\n"},
    ),
]


def test_every_rule_has_a_sample() -> None:
    assert {sample.rule for sample in SAMPLES} == set(RULES)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.rule.__name__)
def test_rule_fails_on_bad_samples_only(sample: Sample) -> None:
    bad = [Source(path, text) for path, text in sample.bad.items()]
    findings = list(sample.rule(bad))
    assert sorted(finding.line for finding in findings) == sorted(sample.lines), [
        str(finding) for finding in findings
    ]
    assert all(str(finding).startswith(f"{finding.path}:{finding.line}: ") for finding in findings)
    assert list(sample.rule([Source(path, text) for path, text in sample.good.items()])) == []
