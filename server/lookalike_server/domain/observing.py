"""Several observers as one, and observers that say which events they want, so that no event is made for nobody."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lookalike_server.domain.events import Event, Observer

E = TypeVar("E", bound=Event)


class SelectiveObserver(ABC):
    """An observer that does not want every kind of event."""

    @abstractmethod
    def receiver(self, kind: type[E]) -> Callable[[E], None] | None:
        """Return what receives events of this kind; None where they are not wanted."""

    @abstractmethod
    def __call__(self, event: Event) -> None:
        """Receive an event of any kind."""


def receiver(observer: Observer, kind: type[E]) -> Callable[[E], None] | None:
    """Return what receives events of this kind, or None: then none need be made.

    For events of every call: a stage asks once, when it is built.
    """
    return observer.receiver(kind) if isinstance(observer, SelectiveObserver) else observer


class Observers(SelectiveObserver):
    """Passes events on to several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        self._receivers: dict[type[Any], Sequence[Observer]] = {}

    def receiver(self, kind: type[E]) -> Callable[[E], None] | None:
        """Return the only observer that wants such events, this where several do, or None."""
        wanting = self._wanting(kind)
        if len(wanting) < 2:
            return wanting[0] if wanting else None
        return self

    def __call__(self, event: Event) -> None:
        """Pass it on to those who want it."""
        for receive in self._receivers.get(type(event)) or self._wanting(type(event)):
            receive(event)

    def _wanting(self, kind: type[Any]) -> Sequence[Observer]:
        found = self._receivers.get(kind)
        if found is None:
            each = [receiver(observer, kind) for observer in self._observers]
            found = self._receivers[kind] = [receive for receive in each if receive is not None]
        return found
