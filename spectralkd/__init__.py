"""Natural statistics of network activations, and knowledge distillation that uses them.

An implementation of Rotman & Wolf, *Natural Statistics of Network Activations and
Implications for Knowledge Distillation* (arXiv 2106.00368)::

    import spectralkd as skd

    distiller = skd.Distiller(teacher, student, "spectral")
    loss = sum(distiller(images, labels).values())

The names below are imported when they are first used. Everything else is in the folders:
``spectra`` (Eqs. 1-9), ``models`` and ``data``, ``losses`` (Eq. 10, Table 2), ``analysis``,
``training``, ``figures`` and ``widgets``, ``reproduction`` (the paper's tables and figures),
``bench``.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"

# The names are those of the stub beside this file, which type checkers read.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
