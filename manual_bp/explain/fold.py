"""A deep model by its modules: as much unfolded as fits."""

from __future__ import annotations

from dataclasses import dataclass

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.operation import Operation

__all__ = ["Group", "folded"]


@dataclass
class Group:
    """Operations in a row that one module called, shown as one.

    Attributes:
        path: Of the module.
        kind: Its class.
        operations: In forward order.
    """

    path: str
    kind: str
    operations: list[Operation]

    @property
    def title(self) -> str:
        """``blocks.block1: Block``."""
        return f"{self.path}: {self.kind}" if self.kind else self.path


def folded(explanation: Explanation, limit: int) -> list[Operation | Group]:
    """The operations in order, with groups for modules where there are too many to show.

    Unfolded is always the group with the most operations, as long as no more than ``limit`` pieces
    come of it; so shallow modules open before the deep ones inside them.
    """
    kinds = explanation.modules
    pieces: list[Operation | Group] = [*_split(explanation.operations, "", kinds)]
    while True:
        groups = [p for p in pieces if isinstance(p, Group)]
        for group in sorted(groups, key=lambda g: -len(g.operations)):
            parts = _split(group.operations, group.path, kinds)
            if len(pieces) - 1 + len(parts) <= limit:
                at = pieces.index(group)
                pieces[at : at + 1] = parts
                break
        else:
            return pieces


def _split(
    operations: list[Operation], path: str, kinds: dict[str, str]
) -> list[Operation | Group]:
    """One step further in: operations of the module itself, groups for those of its children."""
    pieces: list[Operation | Group] = []
    for operation in operations:
        child = _child(operation.module, path)
        last = pieces[-1] if pieces else None
        if child is None:
            pieces.append(operation)
        elif isinstance(last, Group) and last.path == child:
            last.operations.append(operation)
        else:
            pieces.append(Group(child, kinds.get(child, ""), [operation]))
    return [p.operations[0] if isinstance(p, Group) and _is_one(p) else p for p in pieces]


def _is_one(piece: Group) -> bool:
    return len(piece.operations) == 1


def _child(module: str, path: str) -> str | None:
    """The child of the module at ``path`` in which ``module`` stands; None for itself."""
    if path and not module.startswith(f"{path}."):
        return None
    inside = module[len(path) + 1 :] if path else module
    first = inside.split(".")[0]
    if not first:
        return None
    return f"{path}.{first}" if path else first
