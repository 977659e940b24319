"""A transmission device of GB/T 26875.3-2011, written from the standard's text for the tests alone: it shares nothing
with the agent.

    gb26875.py exchange tcp|udp PORT ADDRESS STEPS   STEPS: a JSON list; prints what came back for each, as a JSON list
    gb26875.py frames ADDRESS STEPS                  the frames of these steps in hexadecimal, as a JSON list
    gb26875.py storm tcp|udp PORT ADDRESS COUNT      that many alarms, each again and again until it is confirmed
"""
import datetime
import json
import socket
import struct
import sys

CENTRE = 88888
TIMEOUT_S = 5.0
SHANGHAI = datetime.timezone(datetime.timedelta(hours=8))


def six(moment):
    """Clause 8.2.2: second, minute, hour, day, month, year of the century."""
    return bytes([moment.second, moment.minute, moment.hour, moment.day, moment.month, moment.year % 100])


def now():
    return datetime.datetime.now(SHANGHAI)


def moment(step):
    """Hexadecimal, or seconds from now."""
    told = step.get("time", 0)
    if isinstance(told, str):
        return bytes.fromhex(told)
    return six(now() + datetime.timedelta(seconds=told))


def frame(serial, address, command, unit, sent=None):
    """Clause 6.6."""
    control = struct.pack("<H", serial) + bytes([1, 1]) + (sent or six(now()))
    control += address.to_bytes(6, "little") + CENTRE.to_bytes(6, "little")
    control += struct.pack("<H", len(unit)) + bytes([command])
    total = sum(control + unit) & 0xFF
    return b"@@" + control + unit + bytes([total]) + b"##"


def part(step):
    """Clause 8.2.1.2."""
    body = bytes([step.get("system", 1), step.get("address", 1), step.get("kind", 40)])
    body += struct.pack("<HH", step.get("zone", 1), step["number"]) + struct.pack("<H", step["bits"])
    encoding = step.get("encoding", "gb18030")
    body += step.get("text", "").encode(encoding)[:31].ljust(31, b"\0")
    return body + moment(step)


def unit(step):
    """The command and the data unit of a step."""
    if "parts" in step:
        objects = [part(one) for one in step["parts"]]
        return 2, bytes([2, len(objects)]) + b"".join(objects)
    if "system_bits" in step:
        return 2, bytes([1, 1, 1, 1]) + struct.pack("<H", step["system_bits"]) + moment(step)
    if "device_bits" in step:
        return 2, bytes([21, 1, step["device_bits"]]) + moment(step)
    if "operation" in step:
        return 2, bytes([24, 1, step["operation"], step.get("operator", 0)]) + moment(step)
    if "clock" in step:
        return 4, bytes([90, 1, 0])
    if "unit" in step:
        return step.get("command", 2), bytes.fromhex(step["unit"])
    return 2, b""


class Link:
    def __init__(self, protocol, port):
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(("127.0.0.1", port))
        self.stream = protocol == "tcp"
        self.bytes = b""

    def say(self, data, pieces=1):
        size = max(1, -(-len(data) // pieces))
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])

    def hear(self):
        """One frame; None where none comes or the link ended."""
        while True:
            if len(self.bytes) >= 30:
                length = 30 + struct.unpack_from("<H", self.bytes, 24)[0]
                if len(self.bytes) >= length:
                    found, self.bytes = self.bytes[:length], self.bytes[length:]
                    return read(found)
            try:
                more = self.socket.recv(2048)
            except (TimeoutError, ConnectionError):
                return None
            if not more:
                return None
            self.bytes = self.bytes + more if self.stream else more


def read(found):
    assert found[:2] == b"@@" and found[-2:] == b"##", found.hex()
    assert sum(found[2:-3]) & 0xFF == found[-3], found.hex()
    serial, = struct.unpack_from("<H", found, 2)
    second, minute, hour, day, month, year = found[6:12]
    sent = datetime.datetime(2000 + year, month, day, hour, minute, second, tzinfo=SHANGHAI)
    return {
        "serial": serial,
        "command": found[26],
        "source": int.from_bytes(found[12:18], "little"),
        "destination": int.from_bytes(found[18:24], "little"),
        "unit": found[27:-3].hex(),
        "off_s": abs((sent - now()).total_seconds()),
    }


def built(step, address, number):
    """The frame of a step."""
    if "raw" in step:
        return bytes.fromhex(step["raw"])
    command, data = unit(step)
    sent = bytes.fromhex(step["sent"]) if "sent" in step else None
    return frame(step.get("serial", number), step.get("from", address), command, data, sent)


def exchange(protocol, port, address, steps):
    link = Link(protocol, port)
    heard = []
    for number, step in enumerate(steps, 1):
        data = built(step, address, number)
        if step.get("damaged"):
            data = data[:-3] + bytes([data[-3] ^ 0x55]) + data[-2:]
        link.say(bytes.fromhex(step.get("before", "")) + data, step.get("pieces", 1))
        heard.append([link.hear() for _ in range(step.get("answers", 1))])
    print(json.dumps(heard))


def storm(protocol, port, address, count):
    link = None
    for number in range(1, count + 1):
        # What is sent again has the same time: when it happened.
        step = {"parts": [{"number": number, "bits": 2, "time": six(now()).hex()}]}
        _, data = unit(step)
        while True:
            try:
                if link is None:
                    link = Link(protocol, port)
                    link.socket.settimeout(1.0)
                link.say(frame(number & 0xFFFF, address, 2, data))
                answer = link.hear()
            except OSError:
                answer = None
            if answer and answer["command"] == 3 and answer["serial"] == number & 0xFFFF:
                break
            if link:
                link.socket.close()
            link = None
        print(f"confirmed {number}", flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    mode, *rest, address, what = sys.argv[1:]
    protocol, port = rest or ("", 0)
    if mode == "frames":
        frames = [built(step, int(address), number).hex() for number, step in enumerate(json.loads(what), 1)]
        print(json.dumps(frames))
    elif mode == "exchange":
        exchange(protocol, int(port), int(address), json.loads(what))
    else:
        storm(protocol, int(port), int(address), int(what))
