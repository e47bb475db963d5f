"""Quality of service of every topic, what of it can be overridden, and what to say when two ends do
not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.qos import (
    DurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

Warn = Callable[[str], None]


def images() -> QoSProfile:
    """As cameras send: best effort, and only the newest frame matters."""
    return QoSProfile(
        depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE
    )


def commands() -> QoSProfile:
    """No word may be lost; a command published before this node was there is not in force."""
    return QoSProfile(
        depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
    )


def answers() -> QoSProfile:
    """No answer may be lost."""
    return QoSProfile(
        depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
    )


def calls() -> QoSProfile:
    """As ROS has services, with room for every call that the worker takes at once, and more."""
    return QoSProfile(depth=100)


def latched() -> QoSProfile:
    """The last value, for those who come later too."""
    return QoSProfile(
        depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
    )


def overrides() -> QoSOverridingOptions:
    """Parameters
    qos_overrides.TOPIC.{publisher,subscription}.{history,depth,reliability,durability}, read once.
    """
    kinds = (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
    return QoSOverridingOptions(kinds)


def subscription_events(topic: str, warn: Warn) -> SubscriptionEventCallbacks:
    """Warn, with the way out, when a publisher offers less than the subscription of ``topic`` asks
    for.
    """

    def incompatible(event: Any) -> None:
        policy = _policy(event)
        warn(
            f"A publisher on {topic} offers a {policy} that this node's subscription does not"
            " accept, so nothing comes"
            f" from it. Set the parameter qos_overrides.{topic}.subscription.{policy} to the"
            " publisher's"
            f" (see `ros2 topic info -v {topic}`)."
        )

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)


def publisher_events(topic: str, warn: Warn) -> PublisherEventCallbacks:
    """Warn, with the way out, when a subscription asks for more than the publisher of ``topic``
    offers.
    """

    def incompatible(event: Any) -> None:
        policy = _policy(event)
        warn(
            f"A subscription on {topic} asks for a {policy} that this node does not offer, so it"
            " gets nothing. Subscribe"
            f" with less, or set the parameter qos_overrides.{topic}.publisher.{policy}."
        )

    return PublisherEventCallbacks(incompatible_qos=incompatible)


def _policy(event: Any) -> str:
    return str(qos_policy_name_from_kind(event.last_policy_kind)).lower()
