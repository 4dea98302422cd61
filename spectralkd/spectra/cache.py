"""What is made once for each size of maps, bounded by its bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

CACHE_BYTES = 128 * 2**20


def cached(tensors: Callable[[T], Iterable[Tensor | None]]) -> Callable[..., Callable[P, T]]:
    """As ``functools.lru_cache``, but at most ``CACHE_BYTES`` of each function's results stay.

    Args:
        tensors: what a result holds.
    """

    def decorate(make: Callable[P, T]) -> Callable[P, T]:
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
            size = sum(_bytes(t) for t in tensors(made) if t is not None)
            with lock:
                if size <= CACHE_BYTES:
                    kept[key] = made, size
                while sum(size for _, size in kept.values()) > CACHE_BYTES:
                    kept.popitem(last=False)
            return made

        find.kept = kept  # type: ignore[attr-defined]
        return find

    return decorate


def _bytes(tensor: Tensor) -> int:
    if tensor.is_sparse:
        return _bytes(tensor.indices()) + _bytes(tensor.values())
    return tensor.numel() * tensor.element_size()
