"""What computes the scan, the convolution and the norm, for each kind of device.

inputs   what every implementation is given, checked
choose   which one runs, by device; logged once
plain    torch operations: runs everywhere
"""
