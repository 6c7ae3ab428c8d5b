"""Speed of Shoal beside what it is built on. Run as `make bench` or `python -m benchmarks.run`; read
docs/benchmarks.md.
"""
