"""The rules of a job: standard library only, no I/O. Everything else in TaskFlow exists to apply them."""
