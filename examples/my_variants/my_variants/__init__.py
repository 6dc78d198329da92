"""Variants of one's own: named in ABLATE_PLUGINS, this package adds its options to those of ablate."""
