"""What is made once for each size of maps, bounded by its bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import wraps
from threading import Lock
from typing import Any, TypeVar, cast

from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])

CACHE_BYTES = 128 * 2**20


def cached(tensors: Callable[[Any], Iterable[Tensor | None]]) -> Callable[[F], F]:
    """As ``functools.lru_cache``, but at most ``CACHE_BYTES`` of each function's results stay.

    Args:
        tensors: what a result holds.
    """

    def decorate(make: F) -> F:
        kept: OrderedDict[object, tuple[Any, int]] = OrderedDict()
        lock = Lock()

        @wraps(make)
        def find(*args: Any, **kwargs: Any) -> Any:
            key = args, tuple(sorted(kwargs.items()))
            with lock:
                if key in kept:
                    kept.move_to_end(key)
                    return kept[key][0]
            made = make(*args, **kwargs)
            size = sum(_bytes(t) for t in tensors(made) if t is not None)
            with lock:
                if size <= CACHE_BYTES:
                    kept[key] = made, size
                while sum(size for _, size in kept.values()) > CACHE_BYTES:
                    kept.popitem(last=False)
            return made

        find.kept = kept  # type: ignore[attr-defined]
        return cast(F, find)

    return decorate


def _bytes(tensor: Tensor) -> int:
    if tensor.is_sparse:
        return _bytes(tensor.indices()) + _bytes(tensor.values())
    return tensor.numel() * tensor.element_size()
