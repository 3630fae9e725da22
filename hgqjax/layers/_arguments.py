"""Wrong arguments of a constructor as one sentence that names the layer and the legal ones."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any


def checked(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor `init`, whose TypeError names the class and its arguments where a call does not fit them."""
    signature = inspect.signature(init)
    legal = [name for name, p in list(signature.parameters.items())[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())

    @functools.wraps(init)
    def checking(self: Any, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        unknown = [] if takes_any else [key for key in kwargs if key not in legal]
        if unknown:
            near = difflib.get_close_matches(unknown[0], legal, 1)
            nearest = f" (did you mean {near[0]!r}?)" if near else ""
            raise TypeError(f"{name} has no argument {unknown[0]!r}{nearest}; legal are {', '.join(legal) or 'none'}")
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; its arguments are {', '.join(legal) or 'none'}") from None
        init(self, *args, **kwargs)

    return checking
