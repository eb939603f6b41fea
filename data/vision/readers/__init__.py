"""Readers of recordings, one module for each family of files; `vision.formats` chooses."""
