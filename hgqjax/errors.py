"""What an error says, as one line for people."""


def sentence(error: Exception) -> str:
    """All of it on one line; before it the kind of error where that is one that no user is meant to see.

    >>> sentence(ValueError("rows is 0;\\n1 is needed")), sentence(KeyError("a"))
    ('rows is 0; 1 is needed', "KeyError: 'a'")
    >>> sentence(MemoryError("cannot allocate 8 TB"))
    'memory is full (cannot allocate 8 TB); take fewer rows, members or a smaller network'
    """
    if isinstance(error, OSError) and error.filename:
        return f"cannot read or write {error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"memory is full ({text or 'no more was to be had'}); take fewer rows, members or a smaller network"
    if isinstance(error, RecursionError):
        return f"what was read is nested too deeply ({text})"
    if text and isinstance(error, ValueError | RuntimeError | ImportError | OSError):
        return text
    return f"{type(error).__name__}: {text or 'no reason given'}"


def first_line(error: BaseException) -> str:
    r"""The first line, or 200 signs of it, of libraries whose errors go on with advice or quote a file.

    >>> first_line(ValueError("no such column: a\n\nhint: rename it")), first_line(ValueError())
    ('no such column: a', 'ValueError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
