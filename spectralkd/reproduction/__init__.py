"""The paper's tables and figures: the study, its records, and the demo."""
