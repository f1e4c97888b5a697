"""Backup and restore of a whole region: database, history, blobs, audit, and apart from them the keys.

    model.py      what a backup says of itself: the signed manifest
    place.py      where a backup lies: a folder or a bucket
    chunks.py     a stream cut into sealed chunks, and back
    trees.py      many files as one stream, and back
    frozen.py     the history's parts, held still while they are copied
    making.py     `rocade backup`: one instant of the region, while it runs
    keeping.py    the keys part: key tables, private files, configuration; short-lived
    restoring.py  `rocade restore`: check, fill, erase again, verify, and only then put in place

docs/backup.md, docs/decisions/0058-backup.md.
"""
