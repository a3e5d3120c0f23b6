"""One verb a file, in reading order: admit, submit, publish, consume, claim, draw, execute, settle."""
