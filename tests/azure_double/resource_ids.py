"""Resource ids: parsed once, compared case-insensitively."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_SCOPE = re.compile(
    r"^/subscriptions/(?P<subscription>[^/]+)(?:/resourceGroups/(?P<group>[^/]+))?(?P<rest>/.*)?$", re.I
)


@dataclass(frozen=True)
class ResourceId:
    """A parsed resource id: subscription, group, namespace, and pairs of type and name.

    A collection has one type more than names, and so has an action: the router tells them apart.
    """

    subscription: str
    group: str | None = None
    namespace: str | None = None
    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, path: str) -> ResourceId | None:
        """Parse a path; return None if it is not under a subscription."""
        found = _SCOPE.match(unquote(path).rstrip("/"))
        if not found:
            return None
        parts = (found["rest"] or "").strip("/").split("/")
        if parts[0].lower() != "providers" or len(parts) < 2:
            return cls(found["subscription"], found["group"]) if parts == [""] else None
        rest = parts[2:]
        return cls(found["subscription"], found["group"], parts[1], tuple(rest[::2]), tuple(rest[1::2]))

    @classmethod
    def scope(cls, path: str) -> ResourceId:
        """The subscription and group that a path begins with, whatever follows."""
        found = _SCOPE.match(unquote(path))
        return cls(found["subscription"], found["group"]) if found else cls("")

    @property
    def type(self) -> str:
        """The full type, such as Microsoft.App/managedEnvironments/storages."""
        return "/".join([self.namespace or "", *self.types])

    @property
    def name(self) -> str:
        """The last name."""
        return self.names[-1]

    @property
    def is_collection(self) -> bool:
        return len(self.types) > len(self.names)

    @property
    def parent(self) -> ResourceId:
        """The parent resource; the group for a top-level resource."""
        if len(self.types) <= 1:
            return ResourceId(self.subscription, self.group)
        return ResourceId(
            self.subscription, self.group, self.namespace, self.types[:-1], self.names[: len(self.types) - 1]
        )

    @property
    def top(self) -> ResourceId:
        """The top-level resource above this one, or itself."""
        return ResourceId(self.subscription, self.group, self.namespace, self.types[:1], self.names[:1])

    def named(self, name: str) -> ResourceId:
        """For a collection: the resource of that name in it."""
        names = (*self.names[: len(self.types) - 1], name)
        return ResourceId(self.subscription, self.group, self.namespace, self.types, names)

    @property
    def owner(self) -> ResourceId:
        """For an action's path: the resource acted on."""
        return ResourceId(self.subscription, self.group, self.namespace, self.types[:-1], self.names)

    def child(self, type: str, name: str) -> ResourceId:
        """A resource below this one."""
        return ResourceId(
            self.subscription, self.group, self.namespace, (*self.types, type), (*self.names, name)
        )

    @property
    def group_id(self) -> ResourceId:
        return ResourceId(self.subscription, self.group)

    @property
    def key(self) -> str:
        """The id in lower case, the key of dictionaries."""
        return str(self).lower()

    def __str__(self) -> str:
        text = f"/subscriptions/{self.subscription}"
        if self.group is not None:
            text += f"/resourceGroups/{self.group}"
        if self.namespace:
            text += f"/providers/{self.namespace}"
        for index, type in enumerate(self.types):
            text += f"/{type}" + (f"/{self.names[index]}" if index < len(self.names) else "")
        return text
