"""Slots, in the cluster's words: the hash itself is shards/slots.py, since shards count their changes by it too."""

from shards.slots import SLOT_COUNT, Slots, slot_of_name, slots_of

__all__ = ["SLOT_COUNT", "Slots", "slot_of_name", "slots_of"]
