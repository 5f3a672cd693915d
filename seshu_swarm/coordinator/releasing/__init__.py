"""The next checkpoint, and its way to those who use it.

publish   write it whole
release   papers beside it, all of it on the Hub in time (`__main__`: the process that pushes)
reports   what rounds left behind, read back and checked
papers    what lies beside it: card, verdicts, curves, data manifest
names     of those files
waiting   revisions that are not on the Hub yet
card      say how it was made
withdrawn say which releases nobody should use
data      say from what it was made
curves    bits per byte over the rounds, as a table
picture   the same as a picture
hub       one commit and one tag for each round
mirror    what the coordinator holds for others
"""
