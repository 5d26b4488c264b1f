"""How dense the code is: syntax nodes a line, conditional expressions, comprehensions, comments.

Usage, from the checkout: python tests/benchmarks/code_density.py [FOLDER...] [--before COMMIT]
[--files N]

Nodes are those of the syntax tree without Load, Store and Del; lines are those of code, without
docstrings, comments and blank ones; comments count where a line holds one, alone or behind code.
With `--before` the same folders of an older commit stand beside them; with `--files` the densest
files follow.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tempfile
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("automl_sr", "plugins")
UNCOUNTED = (ast.Load, ast.Store, ast.Del)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SKIPPED_TOKENS = (
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.COMMENT,
)
LONG = 100


@dataclass(frozen=True)
class Counts:
    """What is counted in a file, or in many."""

    lines: int = 0
    nodes: int = 0
    conditionals: int = 0
    comprehensions: int = 0
    comments: int = 0
    long_lines: int = 0
    all_lines: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def rows(self) -> dict[str, str]:
        """Return what people read, by name."""
        thousands = self.lines / 1000
        return {
            "lines of code": f"{self.lines:,}",
            "nodes a line": f"{self.nodes / self.lines:.2f}",
            "conditional expressions / 1,000 lines": f"{self.conditionals / thousands:.1f}",
            "comprehensions / 1,000 lines": f"{self.comprehensions / thousands:.1f}",
            "lines with a comment, %": f"{100 * self.comments / self.lines:.1f}",
            f"lines over {LONG} characters, %": f"{100 * self.long_lines / self.all_lines:.1f}",
        }


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the lines of all strings that stand alone as statements."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and _is_docstring(node):
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def count(text: str) -> Counts:
    """Count one file."""
    tree = ast.parse(text)
    strings = docstring_lines(tree)
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        lines = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            comments.update(lines)
        elif token.type not in SKIPPED_TOKENS:
            code.update(lines)
    docstrings = sum(1 for node in ast.walk(tree) if _is_docstring(node))
    nodes = [node for node in ast.walk(tree) if not isinstance(node, UNCOUNTED)]
    written = text.splitlines()
    return Counts(
        lines=len(code - strings),
        nodes=len(nodes) - 2 * docstrings,  # an expression and its constant
        conditionals=sum(isinstance(node, ast.IfExp) for node in nodes),
        comprehensions=sum(isinstance(node, COMPREHENSIONS) for node in nodes),
        comments=len(comments),
        long_lines=sum(len(line) > LONG for line in written),
        all_lines=len(written),
    )


def _is_docstring(node: ast.AST) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)


def count_files(root: Path, folders: Iterable[str]) -> dict[str, Counts]:
    """Count all files of some folders, by path."""
    found = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "plugin_template" not in path.parts and text.strip():
                found[str(path.relative_to(root))] = count(text)
    return found


def count_commit(commit: str, folders: Iterable[str]) -> dict[str, Counts]:
    """Count the files of an older commit."""
    made = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, *folders], check=True, capture_output=True
    )
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
            archive.extractall(scratch, filter="data")
        return count_files(Path(scratch), folders)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="*", default=list(FOLDERS))
    parser.add_argument("--before", metavar="COMMIT")
    parser.add_argument("--files", type=int, default=0, metavar="N")
    asked = parser.parse_args()
    now = count_files(ROOT, asked.folders)
    columns = {"now": sum(now.values(), Counts())}
    if asked.before:
        before = count_commit(asked.before, asked.folders)
        columns = {"before": sum(before.values(), Counts()), **columns}
    tables = {name: counts.rows() for name, counts in columns.items()}
    print("| " + " | ".join(["what", *tables]) + " |")
    print("|---|" + "---|" * len(tables))
    for name in next(iter(tables.values())):
        print("| " + " | ".join([name, *(table[name] for table in tables.values())]) + " |")
    densest = sorted(now.items(), key=lambda item: -item[1].nodes / max(1, item[1].lines))
    for path, counts in densest[: asked.files]:
        print(f"{counts.nodes / max(1, counts.lines):5.2f} {counts.lines:5d} {path}")


if __name__ == "__main__":
    main()
