"""The next checkpoint.

publish  write it whole
card     say how it was made
curves   bits per byte over the rounds, as a table
picture  the same as a picture
"""
