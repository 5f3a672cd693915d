"""`coordinator open`: from text to a run.

command  splits, catalogue, running text, and what is said of them
"""
