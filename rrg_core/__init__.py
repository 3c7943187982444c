"""Radiology report generation: five papers explained, implemented, trained and measured side by side."""
__version__ = "0.1.0"
