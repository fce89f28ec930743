"""Adaptation methods: one contract, one file per method, one registry line each."""
