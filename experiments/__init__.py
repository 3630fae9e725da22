"""The HGQ paper's configurations, run from a checkout: ``python -m experiments NAME``."""
