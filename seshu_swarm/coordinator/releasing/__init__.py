"""The next checkpoint.

publish  write it whole, with a card that says how it was made
"""
