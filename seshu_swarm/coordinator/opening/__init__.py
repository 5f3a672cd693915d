"""`coordinator open`: from text to a run.

command   splits, catalogue, running text, and what is said of them
place     the folder before that: no run in it, and nothing of an opening that failed
power     what a gate set can show, per language (pure)
standing  the same for the run as it is now
"""
