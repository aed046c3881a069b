"""Decodes messages published with `format = "columns"`: `mosquitto_sub -t TOPIC | python3 decode_columns.py`."""
import json
import sys
from datetime import datetime, timedelta
from itertools import accumulate


def decode(batch):
    """Returns the records of a message, given as parsed JSON; records that are not in columns stay as they are."""
    if not isinstance(batch, dict) or "columns" not in batch:
        return batch if isinstance(batch, list) else [batch]
    if batch["columns"] != 1:
        raise ValueError(f"cannot decode version {batch['columns']!r} of the columns: only version 1 is known")
    ids = [f"{start}-{seq}" for start, *steps in batch["seq"]
           for seq in accumulate(n for step in steps for n in ([1] * -step if step < 0 else [step]))]
    series, index = batch["series"], batch.get("index", [0] * len(ids))
    energy, rr = batch.get("energy_kj", []), batch.get("rr", [])
    lengths = [len(column) for column in (index, batch["ms"], batch["value"], energy, rr)]
    if lengths != [len(ids)] * 3 + [sum(key in series[at] for at in index) for key in ("energy_kj", "rr_ms")]:
        raise ValueError("cannot decode the message: its columns differ in length")
    energy, rr = iter(energy), iter(rr)
    last, records = [(batch["time"], 0, 0, 0)] * len(series), []
    for seq, at, ms, value in zip(ids, index, batch["ms"], batch["value"]):
        time, step, number, decimals = last[at]
        record = {"seq": seq, **series[at]}
        if isinstance(value, list):
            number, decimals = value
        elif isinstance(value, int):
            number += value
        last[at] = (time + step + ms, step + ms, number, decimals)
        if isinstance(value, (list, int)):
            value = number / 10**decimals if number % 10**decimals else number // 10**decimals
        key = "state" if isinstance(value, str) else "bpm" if record["kind"] == "heart_rate" else "value"
        moment = datetime(1970, 1, 1) + timedelta(milliseconds=last[at][0])
        record |= {"time": moment.isoformat(timespec="milliseconds") + "Z", key: value}
        if "energy_kj" in record:
            record["energy_kj"] = next(energy)
        if "rr_ms" in record:
            record["rr_ms"] = " ".join(f"{n * 1000 / 1024:.2f}" for n in next(rr))
        records.append(record)
    return records


def store(records):
    """Stores records. To be filled in: prints them as JSON, one a line, into the log of the function."""
    for record in records:
        print(json.dumps(record))


def handler(event, _context):
    """Is the Lambda of a rule: `SELECT *, topic(2) AS thing FROM 'pulsegate/+/readings' WHERE columns = 1`."""
    store([{**record, "thing": event["thing"]} for record in decode(event)])


if __name__ == "__main__":
    for message in sys.stdin:
        print(json.dumps(decode(json.loads(message))), flush=True)
