"""Panels of SIA DC-09 by three implementations that are not ours.

    dc09.py dialler tcp|udp PORT ACCOUNT KEY STEPS   my-dc09-spt, a dialler: prints which of the messages it saw acknowledged
    dc09.py exchange tcp|udp PORT ACCOUNT KEY STEPS  siadc09 builds messages and reads the answers
    dc09.py frames ACCOUNT KEY STEPS                 siadc09 builds messages: prints them in hexadecimal
    dc09.py read ACCOUNT KEY STEPS                   pysiaalarm reads the frames that siadc09 builds for these steps
    dc09.py storm PORT ACCOUNT KEY COUNT             that many alarms by siadc09, each again until it is acknowledged

KEY is hexadecimal, or "-". STEPS is a JSON list.
"""
import datetime
import json
import socket
import sys

import siadc09
from siadc09 import account, message, xdata

TIMEOUT_S = 5.0


def key_of(text):
    return None if text == "-" else bytes.fromhex(text)


def place(name, key):
    return account.Account(acct=int(name, 16), key=key)


def stamp(step):
    """Seconds from now, or since 1970."""
    if "at" in step:
        return datetime.datetime.fromtimestamp(step["at"], datetime.UTC)
    seconds = step.get("off", 0)
    if seconds is None:
        return None
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=seconds)


def built(step, name, key, number):
    """A frame by siadc09."""
    if "raw" in step:
        return bytes.fromhex(step["raw"])
    where = place(step.get("account", name), bytes.fromhex(step["key"]) if "key" in step else key)
    kind = step.get("id", "NULL")
    extended = [xdata.parse_xdata(one.encode()) for one in step.get("xdata", [])]
    data = step.get("data")
    built = message.Message(
        where,
        config={
            "idtoken": kind,
            "seqno": step.get("seq", number),
            "data": xdata.Data(content=data.encode(step.get("encoding", "utf-8"))) if data else None,
            "xdata": extended,
            "timestamp": stamp(step),
        },
    )
    frame = built.encode(encrypt=where.key is not None and not step.get("clear", False))
    if step.get("counts_end"):
        # A panel that counts the CR in length and CRC.
        body = frame[9:]
        frame = b"\n%04X%04X" % (siadc09.util.crc(body), len(body)) + body
    if step.get("binary"):
        frame = b"\n" + int(frame[1:5], 16).to_bytes(2, "big") + frame[5:]
    if step.get("damaged"):
        frame = frame[:12] + bytes([frame[12] ^ 1]) + frame[13:]
    return frame


class Link:
    def __init__(self, protocol, port):
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(("127.0.0.1", port))
        self.bytes = b""

    def hear(self):
        while b"\r" not in self.bytes:
            try:
                more = self.socket.recv(4096)
            except (TimeoutError, ConnectionError):
                return None
            if not more:
                return None
            self.bytes += more
        found, self.bytes = self.bytes.split(b"\r", 1)
        return found + b"\r"


def understood(frame, key):
    """What siadc09 makes of an answer."""
    if frame is None:
        return None
    if b'"NAK"' in frame:
        # siadc09 wants a # before the account; the NAK of the standard's earlier editions has A0.
        body = frame[9:-1]
        assert siadc09.util.crc(body) == int(frame[1:5], 16) and len(body) == int(frame[5:9], 16), frame
        told = siadc09.util.fromtimestamp(body.split(b"_")[1].decode())
        off = abs((told - datetime.datetime.now(datetime.UTC)).total_seconds())
        return {"id": "NAK", "off_s": off}
    answer = message.parse_frame(frame, key)
    off = None
    if answer.timestamp is not None:
        off = abs((answer.timestamp - datetime.datetime.now(datetime.UTC)).total_seconds())
    return {
        "id": answer.idtoken,
        "seq": answer.seq,
        "account": "%X" % answer.account.acct,
        "sealed": answer.encrypted,
        "off_s": off,
    }


def exchange(protocol, port, name, key, steps):
    link = Link(protocol, port)
    heard = []
    for number, step in enumerate(steps, 1):
        link.socket.settimeout(step.get("wait", TIMEOUT_S))
        link.socket.sendall(bytes.fromhex(step.get("before", "")) + built(step, name, key, number))
        own = bytes.fromhex(step["key"]) if "key" in step else key
        heard.append(understood(link.hear(), own))
    print(json.dumps(heard))


def dialler(protocol, port, name, key, steps):
    """One dialler for all, so that its sequence goes on; each message is acknowledged or not."""
    from my_dc09_spt import dc09_spt

    panel = dc09_spt.dc09_spt(name)
    path = dc09_spt.TransPath("127.0.0.1", port, name, key=key, type=protocol)
    taken = []
    for number, step in enumerate(steps, 1):
        if step["type"] == "NULL":
            taken.append(panel.transfer_msg(number, "NULL", "]", path))
            continue
        kind = dc09_spt.dc03_msg.dc03event if step["type"] == "SIA-DCS" else dc09_spt.dc05_msg.dc05event
        taken.append(panel.transfer_msg(number, step["type"], kind(name, step), path))
    print(json.dumps(taken))


def read(name, key, steps):
    from pysiaalarm import SIAAccount
    from pysiaalarm.event import SIAEvent

    # pysiaalarm takes the key's text itself for the bytes of the key.
    accounts = {name: SIAAccount(name, key.decode() if key else None)}
    found = []
    for number, step in enumerate(steps, 1):
        line = built(step, name, key, number)[1:-1].decode()
        event = SIAEvent.from_line(line, accounts)
        found.append(
            {
                "valid": event.valid_message and event.valid_timestamp,
                "code": event.code,
                "event_type": event.event_type,
                "zone": event.ri,
                "message": event.message,
                "account": event.account,
                "sequence": event.sequence,
            }
        )
    print(json.dumps(found))


def storm(port, name, key, count):
    link = None
    for number in range(1, count + 1):
        sent = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        where = place(name, key)
        data = xdata.Data(content=b"#%s|NFA%d" % (name.encode(), number))
        alarm = message.Message(where, config={"idtoken": "SIA-DCS", "seqno": number, "data": data})
        while True:
            try:
                if link is None:
                    link = Link("tcp", port)
                    link.socket.settimeout(1.0)
                # Sealed anew each time, under the same sequence and time.
                link.socket.sendall(alarm.encode(seq=number, timestamp=sent))
                answer = understood(link.hear(), key)
            except OSError:
                answer = None
            if answer and answer["id"] == "ACK" and answer["seq"] == number:
                break
            if link:
                link.socket.close()
            link = None
        print(f"confirmed {number}", flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    mode, rest = sys.argv[1], sys.argv[2:]
    if mode == "frames":
        name, key = rest[0], key_of(rest[1])
        frames = [built(step, name, key, number).hex() for number, step in enumerate(json.loads(rest[2]), 1)]
        print(json.dumps(frames))
    elif mode == "read":
        read(rest[0], key_of(rest[1]), json.loads(rest[2]))
    elif mode == "storm":
        storm(int(rest[0]), rest[1], key_of(rest[2]), int(rest[3]))
    else:
        play = {"exchange": exchange, "dialler": dialler}[mode]
        play(rest[0], int(rest[1]), rest[2], key_of(rest[3]), json.loads(rest[4]))
