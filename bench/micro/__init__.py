"""What single parts cost, each beside the least that could do the same: `pytest bench/micro`.

A part and its yardstick have the same `group`; the yardstick is named `raw`. Their ratio is what a change may not worsen.
"""
