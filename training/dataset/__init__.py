"""Datasets in the layout of gRefCOCO."""
