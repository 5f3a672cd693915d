"""What an evaluation shows.

table      bits per byte of all columns, one row a language (rich)
numbers    the same and more for programs (JSON)
picture    the same as a PNG (matplotlib)
"""
