"""``python -m amplify_motion_tokenizer COMMAND``, and ``motion-tokenizer COMMAND`` after ``pip install``."""

import sys

from amplify_motion_tokenizer.commands import cli


def main() -> None:
    """Runs the command that the command line names, and exits with its status."""
    cli.choose(sys.argv[1:])


if __name__ == "__main__":
    main()
