"""The compiled core and its torch operators, each beside a plain-torch twin."""
