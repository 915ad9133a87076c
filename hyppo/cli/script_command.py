"""A command that passes unknown options to the user's script, unless they look like a mistyped option of hyppo."""

from typing import Any

from typer.core import TyperCommand

from hyppo.errors import HyppoError
from hyppo.text import printable


class ScriptCommand(TyperCommand):
    """`hyppo run`: mistyped options are errors; unknown options, and everything after a `--`, go to the script."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raise an error for an option before the first `--` that nearly matches one of this command."""
        own = [name for p in self.params for name in (*p.opts, *p.secondary_opts) if name.startswith("--")]
        before = args[: args.index("--")] if "--" in args else args
        for argument in before:
            name = argument.partition("=")[0]
            if not name.startswith("--") or name in own:
                continue
            near = min(own, key=lambda one: distance(name, one))
            if distance(name, near) <= (1 if len(near) < 9 else 2):
                raise HyppoError(
                    f"there is no option {printable(name)}; did you mean {near}? An option of the script's own goes "
                    f"after a --: hyppo {ctx.info_name} SCRIPT -- {printable(name)}"
                )
        return super().parse_args(ctx, args)


def distance(a: str, b: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.

    >>> distance("--trails", "--trials"), distance("--epochs", "--trials")
    (1, 5)
    """
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            best = min(rows[-1][j] + 1, row[j - 1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
