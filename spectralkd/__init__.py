"""Natural statistics of network activations, and knowledge distillation that uses them.

An implementation of Rotman & Wolf, *Natural Statistics of Network Activations and
Implications for Knowledge Distillation* (arXiv 2106.00368).

Each module is imported by its own name, so that ``import spectralkd`` stays cheap::

    spectrum   radial power spectra, ring correlations, correlation functions  (Eqs. 1, 2, 8, 9)
    powerlaw   power laws fitted to them                                       (Eqs. 1, 2)
    kernels    what a convolution does to a spectrum                           (Eqs. 3-7)
    features   named activations of any network, and their spectra             (Figs. 1, 2)
    models     the paper's networks                                            (Tables 1, 3)
    data       photographs, CIFAR, folders of images
    losses     the distillation methods                                 (Eqs. 8-10, Table 2)
    recipes    the paper's setups and what can be changed in them       (Section 5)
    train      one training loop for all of them, which loses nothing
    results    Tables 2 and 3 from finished runs, beside the paper's
    notebook   figures for notebooks and reports (needs plotly)
"""

__version__ = "0.1.0"
