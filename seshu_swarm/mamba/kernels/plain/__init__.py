"""The operators in plain torch: the implementation that runs everywhere.

scan   chunked, computed again in backward     conv   shifted multiply-adds     norm   as written
"""
