"""The comparison as Markdown and as LaTeX, with the numbers of the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "–": "--", "±": r"$\pm$", "−": "$-$", "…": r"\dots{}",
}  # fmt: skip
_TEX = re.compile("|".join(map(re.escape, _SPECIAL)))
_MARKDOWN = re.compile(r"([\\|*_`<>\[\]])")


def to_markdown(sections: Sequence[Mapping[str, Any]], left_out: Sequence[Sequence[str]]) -> str:
    """Tables in GitHub's dialect, one per stream; then the runs that are not in them.

    Args:
        sections: as `sweep.html` gets them: stream, sentence, caveats, header, rows of label, seeds and cells, and what
            the marks of `significance` mean.
        left_out: name, status, progress, score, last written, why.
    """
    parts = []
    for section in sections:
        parts += [f"## Stream {_md(section['stream'])}", _md(section["sentence"])]
        parts += [f"> {_md(caveat)}" for caveat in section["caveats"]]
        parts.append(
            _md_table(
                section["header"], [[_md(row["label"]), *_texts(row, _bold_md)] for row in section["rows"]]
            )
        )
        parts.append(_md(section["significance"]["legend"]))
    if left_out:
        rows = [list(map(_md, row)) for row in left_out]
        parts += ["## Not in the comparison", _md_table(LEFT_OUT, rows)]
    return "\n\n".join(parts) + "\n"


def to_latex(sections: Sequence[Mapping[str, Any]]) -> str:
    r"""A `tabular` per stream, for `\input`; needs the package booktabs."""
    parts = ["% \\usepackage{booktabs}"]
    for section in sections:
        header = " & ".join(map(_tex, section["header"]))
        parts.append(f"% {section['stream']}: {section['sentence']}".replace("\n", " "))
        parts += [f"% {text}" for text in (*section["caveats"], section["significance"]["legend"])]
        parts.append(
            f"\\begin{{tabular}}{{l{'r' * (len(section['header']) - 1)}}}\n\\toprule\n{header} \\\\\n\\midrule"
        )
        parts += [
            " & ".join([_tex(row["label"]), *_texts(row, _bold_tex)]) + " \\\\" for row in section["rows"]
        ]
        parts.append("\\bottomrule\n\\end{tabular}\n")
    return "\n".join(parts)


LEFT_OUT = ("run", "status", "progress", "Dice so far", "last written", "why")


def _texts(row: Mapping[str, Any], shown: Any) -> list[str]:
    return [str(row["seeds"]), *(shown(cell) for cell in row["cells"])]


def _bold_md(cell: Mapping[str, Any]) -> str:
    text = f"**{_md(cell['mean'])}**" if cell["best"] else _md(cell["mean"])
    return text + (f" ± {_md(cell['sd'])}" if cell["sd"] else "") + _md(cell.get("mark", ""))


def _bold_tex(cell: Mapping[str, Any]) -> str:
    text = _tex(cell["mean"])
    text = f"\\textbf{{{text}}}" if cell["best"] else text
    spread = f" $\\pm$ {_tex(cell['sd'])}" if cell["sd"] else ""
    return text + spread + (f"$^{{\\mathrm{{{_tex(cell['mark'])}}}}}$" if cell.get("mark") else "")


def _md_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(header), [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _md(text: Any) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def _tex(text: Any) -> str:
    """Signs of numbers as mathematics, or a minus would be a hyphen."""
    escaped = _TEX.sub(lambda match: _SPECIAL[match[0]], str(text))
    return re.sub(r"^([+-])(?=[\d.])", r"$\1$", escaped)
