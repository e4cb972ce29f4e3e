"""Errors that a user can act on. Scripts print them as one line, without a traceback."""


class TokenizerError(Exception):
    """Base of every error raised on bad input; its message says what was found and what to do.

    The message is one line, whatever names and texts of files are in it: what is no letter, such as a line's
    end or what steers a terminal, is shown as Python writes it.
    """

    def __str__(self) -> str:
        """The message."""
        text = super().__str__()
        if len(text) > _LONGEST:  # a library's message may hold a whole file
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 4 :]}"
        return text if text.isprintable() else "".join(map(_shown, text))


_LONGEST = 1600
"""Characters of a message of which none are left out; a path may have most of them."""


def _shown(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")


class ConfigError(TokenizerError):
    """A config key is unknown, has the wrong type, or holds an impossible value."""


class VideoError(TokenizerError):
    """A clip cannot be used; the message names the file and the reason."""


class TrackerError(TokenizerError):
    """A point tracker cannot start or run; the message says what to set."""


class TrackFileError(TokenizerError):
    """A track or velocity file is damaged, unfinished, or of another layout."""


class WorkerError(TokenizerError):
    """A worker process died; the message says what ended it."""


class UnexpectedError(TokenizerError):
    """Something that this package does not know went wrong with one clip, as a library's own exception."""


class CheckpointError(TokenizerError):
    """A checkpoint cannot be read or does not fit the config."""


class TrainingError(TokenizerError):
    """Training cannot start or go on."""


class UsageError(TokenizerError):
    """Paths or flags that cannot work together, such as an empty input folder."""


class FileNameError(UsageError):
    """A file cannot be made under its name, where others can: too long, or something is in its way."""


EXIT_OK = 0
EXIT_BAD_USAGE = 2
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
"""Exit status of the scripts: all done; nothing could start; some clips failed; stopped by Ctrl-C (SIGINT);
stopped by SIGTERM."""
