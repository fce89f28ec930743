"""Runs and folders of predictions side by side: what they are, their numbers, and the page."""
