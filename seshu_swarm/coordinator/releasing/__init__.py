"""The next checkpoint.

publish  write it whole
card     say how it was made
"""
