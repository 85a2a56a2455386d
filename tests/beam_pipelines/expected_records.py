"""The records that raw rows must give, written the slow and obvious way: one dict per event."""

import math
from collections import Counter
from typing import Any

from small_logs import Row

from twin_tf.features.encoders import hash_id
from twin_tf.features.schema import Feature, FeatureSchema


def _share(user: int) -> float:
    """Where in [0, 1) a user lies: SplitMix64, twice."""
    for _ in range(2):
        user = (user + 0x9E3779B97F4A7C15) % 2**64
        user = (user ^ (user >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        user = (user ^ (user >> 27)) * 0x94D049BB133111EB % 2**64
        user ^= user >> 31
    return user / 2**64


class Expected:
    """Vocabularies, catalogue and records of some logs."""

    def __init__(self, schema: FeatureSchema, logs: dict[str, list[Row]]) -> None:
        self.schema = schema
        events = [row for row in logs["events"] if self.is_behaviour(row) or self.is_target(row)]
        times = sorted(row["t"] for row in events if self.is_target(row))
        split = schema.split
        self.valid_from, self.test_from = (
            (split.valid_from, split.test_from)
            if split.valid_from is not None
            else (times[math.floor(split.train * len(times) + 1e-9)],
                  times[math.floor((split.train + split.valid) * len(times) + 1e-9)])
        )  # fmt: skip
        self.shown = {
            user: sorted(row["t"] for row in events if row["u"] == user and self.is_target(row))
            for user in {row["u"] for row in events}
        }
        training = [row for row in events if self._trains(row, events)]
        self.item_log: dict[Any, Row] = {}
        for row in sorted(logs["items"], key=lambda r: [(r[c] is None, r[c]) for c in schema.item_columns()]):
            self.item_log.setdefault(row["item"], row)
        self.item_ids = sorted({self.id(row["i"]) for row in events} | {self.id(item) for item in self.item_log})
        self.raw = {self.id(raw): raw for raw in [*(row["i"] for row in events), *self.item_log]}
        users = list(self._one_row_a_user(logs["users"]).values())
        self.fitted = {f.name: self._fit(f, training, users) for f in schema.features if f.encoding_or_fail.fitted}
        self.items = {self.id(item): self._item(item) for item in {*(row["i"] for row in events), *self.item_log}}
        self.users: dict[int, list[int]] = {}
        for user, row in self._one_row_a_user(logs["users"]).items():
            self.users[self.id(user)] = [self.encode(f, row[f.column]) for f in schema.user]
        self.records = self._records(events)

    def _one_row_a_user(self, rows: list[Row]) -> dict[Any, Row]:
        found: dict[Any, Row] = {}
        for row in sorted(rows, key=lambda r: [(r[c] is None, r[c]) for c in self.schema.user_columns()]):
            found.setdefault(row["user"], row)
        return found

    def _rank(self, feature: Feature, row: Row) -> Any:
        """What decides between rows that are equal so far: the values, of vocabularies too."""
        value = row[feature.column]
        return (
            ("" if value is None else value) if feature.encoding.kind == "vocabulary" else self.encode(feature, value)
        )

    def id(self, raw: Any) -> int:
        """A raw id as int64."""
        return hash_id(raw) if isinstance(raw, str) else raw

    def row(self, raw: Any) -> int:
        """An item's row."""
        return 2 + self.item_ids.index(self.id(raw))

    def is_behaviour(self, row: Row) -> bool:
        """True for a behaviour."""
        return all(row[column] in values for column, values in self.schema.history.where.items())

    def is_target(self, row: Row) -> bool:
        """True for a target."""
        return all(row[column] in values for column, values in self.schema.targets.where.items())

    def _item(self, item: Any) -> list[int]:
        return [self.encode(f, self._inherent(f, item)) for f in self.schema.inherent]

    def _inherent(self, feature: Feature, item: Any) -> Any:
        if feature.column == self.schema.items.column:
            return item
        return self.item_log.get(item, {}).get(feature.column)

    def _fit(self, feature: Feature, training: list[Row], users: list[Row]) -> list[Any]:
        encoding = feature.encoding_or_fail
        numeric = encoding.kind == "numeric"
        if feature.role == "user":
            values = [row[feature.column] for row in users]
        elif feature.role != "inherent":
            chosen = self.is_behaviour if feature.role == "cross" else self.is_target
            values = [row[feature.column] for row in training if not numeric or chosen(row)]
        elif encoding.source == "items":
            values = [row[feature.column] for row in self.item_log.values()]
        else:
            values = [self._inherent(feature, row["i"]) for row in training]
        values = sorted(value for value in values if value is not None)
        if numeric:
            parts = encoding.quantiles
            return sorted({values[n * len(values) // parts] for n in range(1, parts)}) if values else []
        counts = Counter(values)
        return [str(value) for value in sorted(counts) if counts[value] >= encoding.min_count]

    def encode(self, feature: Feature, value: Any) -> int:
        """The index of a raw value."""
        encoding = feature.encoding_or_fail
        if value is None:
            return 1
        if encoding.kind == "vocabulary":
            known = self.fitted[feature.name]
            return 2 + known.index(str(value)) if str(value) in known else 1
        if encoding.kind == "hash":
            return 2 + hash_id(str(value)) % encoding.buckets
        if encoding.kind == "identity":
            return 2 + value if 0 <= value < encoding.size else 1
        boundaries = self.fitted.get(feature.name, encoding.boundaries)
        return 2 + sum(boundary <= value for boundary in boundaries)

    def split_of(self, row: Row) -> str:
        """The split of a target."""
        rule = self.schema.split
        starts: tuple[float, ...] = (self.valid_from, self.test_from)
        place: float = row["t"]
        if rule.by == "column":
            return row[rule.column]
        if rule.by == "user":
            place, starts = _share(self.id(row["u"])), (rule.train, rule.train + rule.valid)
        elif rule.by == "user_time":
            times = self.shown[row["u"]]
            ranks = [max(1, math.floor(share * len(times) + 1e-9)) for share in (rule.train, rule.train + rule.valid)]
            starts = tuple(times[rank] if rank < len(times) else math.inf for rank in ranks)
            if starts[0] == times[0]:  # all at one moment, or as good as: somebody must train
                starts = (math.inf, math.inf)
        return ("train", "valid", "test")[sum(start <= place for start in starts)]

    def _trains(self, row: Row, events: list[Row]) -> bool:
        """Whether training sees an event."""
        if self.schema.split.by == "time":
            return bool(row["t"] < self.valid_from)
        mine = [r["t"] for r in events if r["u"] == row["u"] and self.is_target(r) and self.split_of(r) == "train"]
        earlier = self.is_behaviour(row) and row["t"] < max(mine, default=-1)
        return earlier or (self.is_target(row) and self.split_of(row) == "train")

    def _records(self, events: list[Row]) -> dict[str, dict[int, list[dict[str, Any]]]]:
        schema = self.schema
        found: dict[str, dict[int, list[dict[str, Any]]]] = {n: {} for n in ("train", "valid", "test", "histories")}
        vocabularies = [f for f in schema.stored_cross if f.encoding_or_fail.kind == "vocabulary"]
        for user in sorted({self.id(row["u"]) for row in events}):
            mine = [row for row in events if self.id(row["u"]) == user]
            behaviours = [
                (row["t"], self.row(row["i"]), *(self.encode(f, row[f.column]) for f in schema.stored_cross),
                 *(self._pending(f, row[f.column], events) for f in vocabularies))
                for row in sorted(mine, key=lambda row: self._place(row, schema.stored_cross))
                if self.is_behaviour(row)
            ]  # fmt: skip
            targets = [
                (row["t"], self.row(row["i"]), int(row["y"] in schema.events.label.positive),
                 *(self.encode(f, row[f.column]) for f in schema.stored_target), self.split_of(row))
                for row in sorted(mine, key=lambda row: self._target_place(row))
                if self.is_target(row)
            ]  # fmt: skip
            for name in ("train", "valid", "test"):
                rest = [target for target in targets if target[-1] == name]
                while rest:
                    part, rest = rest[: schema.targets.per_record], rest[schema.targets.per_record :]
                    ends = [sum(behaviour[0] < target[0] for behaviour in behaviours) for target in part]
                    start = max(0, ends[0] - schema.history.max_length)
                    record = self._record(user, behaviours[start : ends[-1]], part, [end - start for end in ends])
                    found[name].setdefault(user, []).append(record)
            latest = behaviours[-schema.history.max_length :]
            found["histories"][user] = [{**self._record(user, latest, [], []), "history/total": len(behaviours)}]
            for place, feature in enumerate(vocabularies, 2 + len(schema.stored_cross)):
                pending = [behaviour[place] for behaviour in latest]
                if any(pending):
                    found["histories"][user][0][f"pending/{feature.name}"] = pending
        return found

    def _place(self, row: Row, features: tuple[Feature, ...]) -> tuple[Any, ...]:
        return row["t"], self.id(row["i"]), *(self._rank(feature, row) for feature in features)

    def _target_place(self, row: Row) -> tuple[Any, ...]:
        label = row["y"] in self.schema.events.label.positive
        return row["t"], self.id(row["i"]), label, *self._place(row, self.schema.stored_target)

    def _pending(self, feature: Feature, value: Any, events: list[Row]) -> int:
        """The place, from 1, of a value that is too rare for the vocabulary among all such values."""
        seen = {row[feature.column] for row in events} - {None}
        rare = sorted(value for value in seen if str(value) not in self.fitted[feature.name])
        return 1 + rare.index(value) if value in rare else 0

    def _record(self, user: int, history: list[Any], targets: list[Any], ends: list[int]) -> dict[str, Any]:
        record = {
            "user/id": user,
            "history/length": len(history),
            "target/length": len(targets),
            "target/history_end": ends,
        }
        indices = self.users.get(user, [1] * len(self.schema.user))
        record.update({f"user/{f.name}": index for f, index in zip(self.schema.user, indices, strict=True)})
        for place, name in enumerate(["time", "item", *(f.name for f in self.schema.stored_cross)]):
            record[f"history/{name}"] = [behaviour[place] for behaviour in history]
        for place, name in enumerate(["time", "item", "label", *(f.name for f in self.schema.stored_target)]):
            record[f"target/{name}"] = [target[place] for target in targets]
        return record
