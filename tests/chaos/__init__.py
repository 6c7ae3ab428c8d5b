"""Faults on purpose against a real cluster, and the proof that nothing acknowledged was lost by them. Run as
`make chaos` or `python -m tests.chaos`; read docs/chaos.md.
"""
