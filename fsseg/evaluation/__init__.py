"""Segmentation metrics per case and structure, and their aggregation with intervals."""
