"""The stand's fixtures for the tests of this folder."""

from tests.doors.mqtt.stand import a_call, a_door, a_yard, an_open_door

__all__ = ["a_call", "a_door", "a_yard", "an_open_door"]
