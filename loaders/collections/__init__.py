"""Reads one tensor of all members at a time: checkpoint folders, adapters, rows of zoos."""

from .collection import Conflict, ModelCollection, find_conflicts, open_collection
from .members import AdapterMember, FolderMember, Member, ZooMember

__all__ = [
    "AdapterMember",
    "Conflict",
    "FolderMember",
    "Member",
    "ModelCollection",
    "ZooMember",
    "find_conflicts",
    "open_collection",
]
