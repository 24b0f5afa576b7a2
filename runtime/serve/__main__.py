"""`python -m runtime.serve`: every subject as a model that OpenAI's clients know.

python -m runtime.serve --port 8000
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from runtime.common.errors import SetupError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        from runtime.serve import options, server
    except ModuleNotFoundError as error:
        print(
            f"error: the server needs {error.name}: pip install 'subject-lora-serve[server]'",
            file=sys.stderr,
        )
        return 1
    from runtime.engine import EngineError

    chosen = options.parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return server.run(chosen)
    except (SetupError, EngineError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
