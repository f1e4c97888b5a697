"""Topic names and filters: what is valid, and which name a filter matches.

Source: MQTT 5.0 and 3.1.1, section 4.7; shared subscriptions MQTT 5.0 section 4.8.2.
"""

from __future__ import annotations

from rocade.wire.mqtt.fields import malformed


def check_name(topic: str) -> str:
    """Return the topic of a PUBLISH, or raise `mqtt.malformed.topic`."""
    if not topic or "+" in topic or "#" in topic:
        raise malformed("topic", "a topic name is not empty and holds no wildcard", 0x90)
    return topic


def check_filter(pattern: str) -> str:
    """Return a SUBSCRIBE or UNSUBSCRIBE filter, or raise `mqtt.malformed.filter`."""
    levels = pattern.split("/")
    if not pattern:
        raise malformed("filter", "a topic filter is not empty", 0x8F)
    if levels[0] == "$share" and (len(levels) < 3 or not levels[1] or not pattern[7:].partition("/")[2]):
        raise malformed("filter", "a shared subscription is $share/<name>/<filter>", 0x8F)
    if levels[0] == "$share" and ("+" in levels[1] or "#" in levels[1]):
        raise malformed("filter", "a share name holds no wildcard", 0x8F)
    for number, level in enumerate(levels, 1):
        if "#" in level and (level != "#" or number != len(levels)):
            raise malformed("filter", "'#' stands alone on the last level", 0x8F)
        if "+" in level and level != "+":
            raise malformed("filter", "'+' stands alone on its level", 0x8F)
    return pattern


def matches(pattern: str, topic: str) -> bool:
    """Whether a valid filter (not a shared one) matches a topic name."""
    if topic.startswith("$") and pattern[:1] in "+#":
        return False
    wanted, given = pattern.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given) or level not in ("+", given[index]):
            return False
    return len(wanted) == len(given)
