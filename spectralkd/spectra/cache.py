"""What is made once for each size of maps, bounded by its bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

from torch import Tensor, nn

P = ParamSpec("P")
T = TypeVar("T")

CACHE_BYTES = 128 * 2**20


def cached(make: Callable[P, T]) -> Callable[P, T]:
    """As ``functools.lru_cache``, but what stays takes at most ``CACHE_BYTES``.

    Args:
        make: returns a module or a tuple of tensors.
    """
    kept: OrderedDict[object, tuple[T, int]] = OrderedDict()
    lock = Lock()

    @wraps(make)
    def find(*args: P.args, **kwargs: P.kwargs) -> T:
        key = args, tuple(sorted(kwargs.items()))
        with lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key][0]
        made = make(*args, **kwargs)
        size = _bytes(made)
        with lock:
            if size <= CACHE_BYTES:
                kept[key] = made, size
            while sum(size for _, size in kept.values()) > CACHE_BYTES:
                kept.popitem(last=False)
        return made

    find.kept = kept  # type: ignore[attr-defined]
    return find


def _bytes(made: object) -> int:
    if isinstance(made, Tensor):
        parts = (made.indices(), made.values()) if made.is_sparse else (made,)
        return sum(part.numel() * part.element_size() for part in parts)
    parts = tuple(made.buffers()) if isinstance(made, nn.Module) else tuple(made)  # type: ignore
    return sum(map(_bytes, parts))
