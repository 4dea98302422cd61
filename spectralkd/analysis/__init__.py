"""What is measured on networks and data sets: spectra, agreement, distances."""
