"""Demonstrations that run offline in a minute, each a function that returns what it measured."""
