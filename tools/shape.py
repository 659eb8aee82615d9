"""What shape is the code in? Prints the numbers by which admired code bases differ from endured ones.

A trend to look at in review, not a wall: nothing fails here. Admired ones have a p90 function of <= 25 lines, a p90
file of <= 600, <= 35 exported names, few imports inside functions.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file, read once."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Lines, blank ones included."""
        return len(self.text.splitlines())


def main() -> None:
    """Measure src, and how much tests hold beside it."""
    sources = read("src")
    show_lengths("file", [(source.lines, str(source.path)) for source in sources])
    show_lengths("function", [length for source in sources for length in function_lengths(source)])
    print(f"comments   {percent(count_comments(sources), count_filled(sources))} of non-blank lines")
    promises = [ast.get_docstring(node) is not None for source in sources for node in public_functions(source.tree)]
    print(f"docstrings {percent(sum(promises), len(promises))} of {len(promises)} public functions")
    print(f"exports    {count_exports(sources)} names")
    hidden = [place for source in sources for place in hidden_imports(source)]
    print(f"imports inside functions {len(hidden)}" + "".join(f"\n  {place}" for place in hidden))
    test_lines = sum(source.lines for source in read("tests"))
    print(f"tests : code {test_lines / sum(source.lines for source in sources):.2f}")


def read(folder: str) -> list[Source]:
    """Every Python file in a folder of the project."""
    paths = [path.relative_to(PROJECT) for path in sorted((PROJECT / folder).rglob("*.py"))]
    texts = [(path, (PROJECT / path).read_text(encoding="utf-8")) for path in paths]
    return [Source(path, text, ast.parse(text, str(path))) for path, text in texts]


def show_lengths(noun: str, lengths: list[tuple[int, str]]) -> None:
    """Print how long the `noun`s are: (lines, where) each."""
    lengths = sorted(lengths)
    median, p90, longest = (quantile([lines for lines, _ in lengths], part) for part in (0.5, 0.9, 1.0))
    print(f"{noun + 's':<10} {len(lengths)}: median {median}, p90 {p90}, longest {longest} lines")
    for lines, where in reversed(lengths[-3:]):
        print(f"  {lines:>4} {where}")


def quantile(ordered: list[int], part: float) -> int:
    """The value below which `part` of the values lie; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0


def percent(part: int, whole: int) -> str:
    """`part` of `whole`, for people."""
    return f"{100 * part / max(whole, 1):.1f} %"


def function_lengths(source: Source) -> Iterator[tuple[int, str]]:
    """(lines without the docstring, where) of each function."""
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            first = node.body[0]
            docstring = span(first) if ast.get_docstring(node, clean=False) is not None else 0
            yield span(node) - docstring, f"{source.path}:{node.lineno} {node.name}"


def span(node: ast.stmt) -> int:
    """How many lines a statement covers."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def public_functions(node: ast.Module | ast.ClassDef) -> Iterator[Function]:
    """Functions of a module, and methods of its public classes, whose name has no underscore in front."""
    for child in node.body:
        if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_"):
            if isinstance(child, ast.ClassDef):
                yield from public_functions(child)
            else:
                yield child


def count_comments(sources: list[Source]) -> int:
    """Lines that carry a comment."""
    tokens = (token for source in sources for token in tokenize.generate_tokens(io.StringIO(source.text).readline))
    return sum(token.type == tokenize.COMMENT for token in tokens)


def count_filled(sources: list[Source]) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for source in sources for line in source.text.splitlines())


def count_exports(sources: list[Source]) -> int:
    """Names in `__all__` of the outermost package."""
    doors = [source for source in sources if source.path.name == "__init__.py"]
    outermost = min(doors, key=lambda source: len(source.path.parts)).tree.body if doors else []
    for node in outermost:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return len(ast.literal_eval(node.value))
    return 0


def hidden_imports(source: Source) -> Iterator[str]:
    """Where functions import: for a lazy command or an optional extra that is right, to dodge a cycle it is not."""
    functions = [node for node in ast.walk(source.tree) if isinstance(node, Function)]
    nodes = [node for function in functions for node in ast.walk(function)]
    lines = {node.lineno for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)}
    return (f"{source.path}:{line}" for line in sorted(lines))


if __name__ == "__main__":
    main()
