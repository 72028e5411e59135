"""The table of exact edits on captioned shapes: each method, on drawn and on real sources.

    python -m benchmarks.edits --model RUN [-n 32] [--methods p2p,masactrl] [--objects 2]
        [--changes colour,add,remove] [--json FILE] [--picture FILE.png]

"again" is the baseline to beat: the target drawn anew from the source's own noise, without any of
the source's attention. Rates are per cent of the sources that show what their caption says.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

# As p2p, which then takes nothing from the source.
AGAIN = {"replace": "0", "self": "0", "sentence": 0.0}
DRAWN = ("steps", "guidance", "negative", "inversion")  # of all, "again" too
SHOWN = ("sources", "success", "kept", "both", "outside", "reconstruction")


def rows_of(
    use: Any,
    methods: list[str],
    options: list[str],
    count: int,
    changes: list[str] | None = None,
    objects: int = 1,
) -> Any:
    """Yields (source, change, method, numbers, edits, results).

    Args:
      options: NAME=VALUE; each for those of the methods that have it.
      changes, objects: as of `jaxgen.evaluation.editing.make_edits`; None: of one word.
    """
    from jaxgen.cli.common import read_options
    from jaxgen.evaluation.editing import WORDS, evaluate, make_edits

    def own(method: Any) -> dict[str, Any]:
        named = [text for text in options if text.partition("=")[0] in method.options]
        return read_options(named, method.options)

    for real in (False, True):
        for change in changes or WORDS:
            edits = make_edits(change, count, use.verb.size[0], real, objects)
            for name in ["again", *methods]:
                again = name == "again"
                method = use.method("p2p" if again else name)
                if (not real and not method.draws) or set(edits[0].options) - set(method.options):
                    continue
                given = own(method)
                if again:
                    given = {k: v for k, v in given.items() if k in DRAWN}
                    given |= {k: v for k, v in AGAIN.items() if k in method.options}
                found, results = evaluate(use, edits, "p2p" if again else name, given)
                yield "real" if real else "drawn", change, name, found, edits, results


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [f"| source | change | method | {' | '.join(SHOWN)} |", "|---" * (len(SHOWN) + 3) + "|"]
    for row in rows:
        cells = [
            f"{row[name] * (100 if name in ('success', 'kept', 'both') else 1):.4g}"
            if name in row else ""
            for name in SHOWN
        ]  # fmt: skip
        lines.append(
            f"| {row['source']} | {row['change']} | {row['method']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--methods", default="p2p,masactrl,pnp")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--changes", default="", help="of jaxgen.evaluation.editing.CHANGES, by commas"
    )
    parser.add_argument("--objects", type=int, default=1, help="of whose one a word is changed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()

    import numpy as np

    import jaxgen
    from jaxgen.data.picture_files import write_image
    from jaxgen.evaluation.editing import CHANGES
    from jaxgen.grid import captioned_grid, enlarge

    use = jaxgen.load(given.model).edit
    changes = given.changes.split(",") if given.changes else None
    if unknown := set(changes or ()) - set(CHANGES):
        parser.error(f"--changes: there is no {min(unknown)}; there are {', '.join(CHANGES)}")
    rows, shown = [], []
    for source, change, name, found, edits, results in rows_of(
        use, given.methods.split(","), given.option, given.n, changes, given.objects
    ):
        rows.append({"source": source, "change": change, "method": name, **found})
        print(rows[-1], flush=True)
        cells = []
        for edit, result in list(zip(edits, results, strict=True))[:4]:
            cells.append((edit.texts[0], enlarge(result.source, 96)))
            cells.append((edit.texts[1], enlarge(result.pictures[0], 96)))
        shown.append((f"{source}, {change}, {name}", cells))
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    if given.picture:
        sheet = captioned_grid([cells for _, cells in shown], titles=[title for title, _ in shown])
        write_image(given.picture, np.asarray(sheet), mark="sheet")


if __name__ == "__main__":
    main()
