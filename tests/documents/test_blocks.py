"""Blocks are found with what they print, and a block that prints something else is told."""

from __future__ import annotations

import pytest

from tests.documents.blocks import MARK, Block, commands, complaints, program, read_blocks

PAGE = """# A page
```bash
curl one
```
```json
{"result": 1, "time": 0.2}
```
```python
print(1)
```
text between
```js
console.log(1);
```
```text
1
```
## A heading
```python
x = 1
```
# Another
```text
no program prints this
```
"""


def test_outputs_belong_to_the_programs_before() -> None:
    bash, shown, python, js, text, silent, lonely = read_blocks("a.md", PAGE)
    assert (bash.prints, python.prints, js.prints, silent.prints) == (shown, text, text, None)
    assert (bash.place, bash.text, bash.language) == ("a.md:2", "curl one\n", "bash")
    assert (text.text, lonely.text) == ("1\n", "no program prints this\n")


def test_an_open_fence_is_told() -> None:
    with pytest.raises(ValueError, match=r"a\.md:2: this fence is never closed"):
        read_blocks("a.md", "\n```bash\ncurl\n")


def test_a_program_is_judged_block_by_block() -> None:
    blocks = [block for block in read_blocks("a.md", PAGE) if block.language == "python"]
    assert program(blocks) == f"print(1)\nprint('{MARK}', flush=True)\nx = 1\nprint('{MARK}', flush=True)\n"
    assert complaints(blocks, f"1\n{MARK}\n{MARK}\n") == []
    (said,) = complaints(blocks, f"1\n{MARK}\nloud\n{MARK}\n")
    assert said.startswith("a.md:19 has to print\n\nand printed\nloud")
    assert complaints(blocks, f"1\n{MARK}\n") == ["a.md:19: the program ended in this block"]


@pytest.mark.parametrize(
    ("printed", "is_right"),
    [
        ('{"result": {"score": 0.99449307, "id": 1}, "time": 17.5}{"id":2}', True),
        ('{"result": {"score": 0.9945, "id": 1}, "time": 0}\n{"id":2}', True),
        ('{"result": {"score": 0.9946, "id": 1}, "time": 0}\n{"id":2}', False),
        ('{"result": {"score": 0.99449, "id": 1}, "time": 0}\n{"id":3}', False),
        ('{"result": {"score": 0.99449, "id": 1}, "time": 0}\n{"id":true}', False),
        ('{"result": {"score": 0.99449, "id": 1}, "time": "no"}\n{"id":2}', False),
        ('{"result": {"score": 0.99449, "id": 1}}\n{"id":2}', False),
        ('{"result": {"score": 0.99449, "id": 1}, "time": 0}', False),
        ("no JSON", False),
    ],
)
def test_json_is_compared_by_value(printed: str, is_right: bool) -> None:
    shown = Block("a.md", 5, "json", '{"result": {"score": 0.99449, "id": 1}, "time": 0.003}\n{"id": 2}\n')
    block = Block("a.md", 1, "bash", "curl\n", prints=shown)
    assert (complaints([block], f"{printed}\n{MARK}\n") == []) is is_right


def test_commands_are_what_is_typed() -> None:
    block = Block("a.md", 1, "console", "$ shoal up  # now\nit answers\n$ curl \\\n    there\nthat\n$ shoal down\n")
    assert commands(block, left_out=["shoal down"]) == "shoal up  # now\ncurl \\\n    there\n"
    assert commands(block, left_out=["curl", "shoal"]) == "\n"
