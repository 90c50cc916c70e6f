"""All records of one kind, by id and in each order that a list can be asked for."""

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Literal

from .records import Kind, Record

Sort = Literal["CREATED_DATE", "UPDATED_DATE", "NAME", "SCHEDULED_DATE"]
Order = tuple[Any, ...]

SORT_KEYS: dict[Sort, Callable[[Record], Order]] = {
    "CREATED_DATE": lambda record: (record.created_on, record.seq),
    "UPDATED_DATE": lambda record: (record.updated_on, record.seq),
    "NAME": lambda record: (record.name, record.seq),
    "SCHEDULED_DATE": lambda record: (record.scheduled_on, record.seq),
}

# Enough for the windows that a reader asks for at once; each answer is a list of references.
MAX_ANSWERS = 64


class Collection:
    """Records by id, by creation, and, once asked for, by every other order."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.answers: dict[Hashable, list[Record]] = {}
        """Lists that were asked for, by what was asked; forgotten at any change."""
        self._by_id: dict[str, Record] = {}
        self._by_creation: list[Record] = []
        self._orders: dict[Sort, list[Record]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._by_creation)

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._by_id

    def __getitem__(self, record_id: str) -> Record:
        return self._by_id[record_id]

    def get(self, record_id: str) -> Record | None:
        return self._by_id.get(record_id)

    def add(self, record: Record) -> None:
        if record.id in self._by_id:
            raise ValueError(f"{self.kind} already holds {record.id}")
        self._by_id[record.id] = record
        insort(self._by_creation, record, key=SORT_KEYS["CREATED_DATE"])
        self._forget()

    def remove(self, record: Record) -> None:
        del self._by_id[record.id]
        del self._by_creation[self._position((record.created_on, record.seq))]
        self._forget()

    def changed(self, record: Record) -> None:
        record.rendered.clear()
        self._forget()

    def created_between(self, start: int | None, end: int | None) -> list[Record]:
        """The records with start <= created_on < end, oldest first."""
        low = 0 if start is None else self._position((start,))
        high = len(self._by_creation) if end is None else self._position((end,))
        return self._by_creation[low:high]

    def sorted_by(self, sort: Sort) -> list[Record]:
        """Every record, ascending. Not to be changed by the caller."""
        if sort == "CREATED_DATE":
            return self._by_creation
        if sort not in self._orders:
            self._orders[sort] = sorted(self._by_creation, key=SORT_KEYS[sort])
        return self._orders[sort]

    def remember(self, key: Hashable, answer: list[Record]) -> list[Record]:
        if len(self.answers) >= MAX_ANSWERS:
            self.answers.clear()
        self.answers[key] = answer
        return answer

    def _position(self, bound: tuple[int, ...]) -> int:
        return bisect_left(self._by_creation, bound, key=SORT_KEYS["CREATED_DATE"])

    def _forget(self) -> None:
        self.answers.clear()
        self._orders.clear()
