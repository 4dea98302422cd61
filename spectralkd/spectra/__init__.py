"""Power spectra, ring correlations and power laws of maps (Eqs. 1-9)."""
