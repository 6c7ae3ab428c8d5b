"""What every test shares: how Hypothesis looks for counterexamples.

A run is deterministic (the same examples each time) so that a red run can be repeated; set HYPOTHESIS_PROFILE=search
to look for new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: on a busy machine one slow example says nothing about the code.
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("search", deadline=None, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
