"""Decodes messages published with `format = "columns"`: `mosquitto_sub -t TOPIC | python3 decode_columns.py`."""
import json
import sys
from datetime import datetime, timedelta
from itertools import accumulate, repeat


def decode(batch):
    """Returns the standard records of a message, given as parsed JSON."""
    ids = [f"{start}-{seq}" for start, *steps in batch["seq"]
           for seq in accumulate(n for step in steps for n in ([1] * -step if step < 0 else [step]))]
    energy, rr = iter(batch.get("energy_kj", ())), iter(batch.get("rr", ()))
    last, records = [(batch["time"], 0, 0, 0)] * len(batch["series"]), []
    for seq, at, ms, value in zip(ids, batch.get("index", repeat(0)), batch["ms"], batch["value"]):
        time, step, number, decimals = last[at]
        record = {"seq": seq, **batch["series"][at]}
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


def handler(event, _context):
    """Is the Lambda of an AWS IoT rule: `SELECT *, topic(2) AS thing FROM 'pulsegate/+/readings'`."""
    return [{"thing": event["thing"], **record} for record in decode(event)]


if __name__ == "__main__":
    for message in sys.stdin:
        print(json.dumps(decode(json.loads(message))), flush=True)
