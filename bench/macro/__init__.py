"""The way of many jobs through whole systems, beside what their parts can do: `pytest bench/macro`."""
