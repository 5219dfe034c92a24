"""Plug-ins by name: one visible table a family, third parties as "module:Factory"."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from controlloop.errors import UnknownPluginError, error_in_words

T = TypeVar("T")


class Registry(Generic[T]):
    """The plug-ins of one family: name -> factory.

    Args:
        family: what they are, in the singular, for messages ("solver").
        protocol: what each of them must be; a runtime-checkable protocol.

    """

    def __init__(self, family: str, protocol: type) -> None:
        self.family = family
        self._protocol = protocol
        self._factories: dict[str, Callable[..., T]] = {}

    def add(self, name: str, factory: Callable[..., T]) -> None:
        """Register `factory` under `name`.

        Raises:
            ValueError: the name is taken.

        """
        if name in self._factories:
            raise ValueError(f"{self.family} {name!r} is registered already")
        self._factories[name] = factory

    @property
    def names(self) -> tuple[str, ...]:
        """Registered names, in the order of registration."""
        return tuple(self._factories)

    def factory(self, name: str) -> Callable[..., T]:
        """The factory of a registered name, or of a third party's "module:Factory".

        Raises:
            UnknownPluginError: nothing of that name can be had; the message says why.

        """
        if name in self._factories:
            return self._factories[name]
        if ":" in name:
            return self._imported(name)
        known = ", ".join(self.names)
        raise UnknownPluginError(
            f"unknown {self.family} {name!r}: known are {known}, or your own as 'module:Factory'"
        )

    def create(self, name: str, *args: Any, **kwargs: Any) -> T:
        """Build the plug-in called `name` with the arguments of its factory.

        Raises:
            UnknownPluginError: no such plug-in, or a third party's factory failed.

        """
        factory = self.factory(name)
        if name in self._factories:
            return factory(*args, **kwargs)
        try:
            built = factory(*args, **kwargs)
        except Exception as error:
            why = f"{self.family} {name!r} cannot be built: {type(error).__name__}: {error}"
            raise UnknownPluginError(why) from error
        if not isinstance(built, self._protocol):
            why = f"{self.family} {name!r} gives a {type(built).__name__}, which is none"
            raise UnknownPluginError(why)
        return built

    def _imported(self, name: str) -> Callable[..., T]:
        module_name, _, attribute = name.partition(":")
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UnknownPluginError(f"{self.family} {name!r} cannot be loaded: {error}") from error
        except Exception as error:  # the module runs when it is imported
            why = f"{self.family} {name!r} cannot be loaded: {error_in_words(error)}"
            raise UnknownPluginError(why) from error
        if not callable(factory):
            raise UnknownPluginError(f"{self.family} {name!r} is not a factory: it is {factory!r}")
        return cast("Callable[..., T]", factory)
