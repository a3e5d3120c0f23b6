"""What others do with the same jobs on the same servers, and the seed's own design: `python -m bench.peers`."""
