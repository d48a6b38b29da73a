"""Networking under a policy for hyperlight sandboxes."""

from hl_net.configuration import Budgets, Credential, NetConfiguration
from hl_net.policy import Decision, Policy
from hl_net.rules import DenyRule, ListenRule, Rule
from hl_net.urls import Url, parse_url

__all__ = [
    "Budgets",
    "Credential",
    "Decision",
    "DenyRule",
    "ListenRule",
    "NetConfiguration",
    "Policy",
    "Rule",
    "Url",
    "parse_url",
]
