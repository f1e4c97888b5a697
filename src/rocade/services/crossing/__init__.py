"""What may leave a region: summaries of named topics, each export drafted by one person, seen whole, and let go by another.

Regions are walls. Nothing crosses by itself: there is no replication, no shared table, no remote query. A topic says what its
lines hold and that no person can be found in them; a draft holds the very bytes that would cross; a second person releases
exactly those with a fresh touch; the packet is signed for one region. There it is accepted by hand too, from regions whose root
was pinned. Source: docs/decisions/0062-walls.md.
"""

from rocade.services.crossing.model import TOPICS, Arrival, Content, Draft, Neighbour, Packet, Topic
from rocade.services.crossing.service import SIGNER, Crossing

__all__ = ["SIGNER", "TOPICS", "Arrival", "Content", "Crossing", "Draft", "Neighbour", "Packet", "Topic"]
