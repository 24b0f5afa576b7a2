"""`python -m runtime.serve`: every subject as a model that OpenAI's clients know.

python -m runtime.serve --port 8000
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime.common import command
from runtime.serve import options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return command.run(_serve, options.parse(arguments), stopped="stopped", terminated=0)


def _serve(chosen: options.Options) -> int:
    from runtime.serve import server

    return server.run(chosen)


if __name__ == "__main__":
    sys.exit(main())
