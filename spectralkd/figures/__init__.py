"""Plotly figures (which need the notebooks extra), tables and HTML pages."""
