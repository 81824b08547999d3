"""Corpus -> Run, and Run -> Release."""
