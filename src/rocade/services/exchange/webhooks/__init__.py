"""Webhooks: a party's news at an address of its own, signed as Standard Webhooks has it."""

from rocade.services.exchange.webhooks.service import EVENTS, Webhooks

__all__ = ["EVENTS", "Webhooks"]
