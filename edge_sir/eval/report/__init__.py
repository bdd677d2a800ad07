"""Reporting: rows become figures with their intervals, tables and pictures."""
