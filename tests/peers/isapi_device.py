"""A device with an event stream for tests, as Hikvision's and Dahua's are: HTTP Digest (MD5, qop=auth), an endless multipart answer,
a search for events of doors, and what pyhik asks for at its start. Every device of 127.0.0.0/8 is this one, each by the
address that it is asked at. What it says is told to it over /control, byte for byte:

  POST /control/say[?device=127.0.1.7]   the body goes out on the streams as it is
  POST /control/greet                    the body goes out on each stream as it is opened from now on; empty: nothing
  POST /control/beat?seconds=S           heartbeats from now on; 0: none
  POST /control/end                      all streams are closed
  POST /control/events                   JSON: what AcsEvent finds, by device; "*" for all
  POST /control/refuse?status=N          every request is answered so from now on; 0: no more
  POST /control/hang?on=1                streams are accepted and then nothing comes, not even a head
  GET  /control/seen                     {"streams": n, "opened": n, "wrong": n, "asked": [conditions]}
"""
import argparse
import hashlib
import json
import queue
import re
import secrets
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--make", choices=["hikvision", "dahua"], default="hikvision")
parser.add_argument("--user", default="admin")
parser.add_argument("--password", required=True)
parser.add_argument("--beat", type=float, default=0)
# A nonce is good for so many requests; 0: for ever.
parser.add_argument("--nonce-uses", type=int, default=0)
arguments = parser.parse_args()

REALM = "IP Camera(C2345)"
lock = threading.Lock()
streams = {}
nonces = {}
state = {"beat": arguments.beat, "refuse": 0, "hang": False, "greet": b"", "events": {}, "opened": 0, "wrong": 0, "asked": []}

HIKVISION_BEAT = (
    '<EventNotificationAlert version="2.0" xmlns="http://www.hikvision.com/ver20/XMLSchema">\r\n<ipAddress>192.0.2.10</ipAddress>\r\n'
    "<channelID>1</channelID>\r\n<dateTime>%s</dateTime>\r\n<activePostCount>0</activePostCount>\r\n"
    "<eventType>videoloss</eventType>\r\n<eventState>inactive</eventState>\r\n<eventDescription>videoloss alarm</eventDescription>\r\n"
    "</EventNotificationAlert>\r\n"
)


def heartbeat():
    if arguments.make == "dahua":
        return b"--myboundary\r\nContent-Type: text/plain\r\nContent-Length:9\r\n\r\nHeartbeat\r\n\r\n"
    body = HIKVISION_BEAT % time.strftime("%Y-%m-%dT%H:%M:%S+08:00", time.gmtime(time.time() + 8 * 3600))
    head = f'--boundary\r\nContent-Type: application/xml; charset="UTF-8"\r\nContent-Length: {len(body)}\r\n\r\n'
    return (head + body).encode()


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", content_type="application/json", headers=()):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def allowed(self):
        """Whether the digest is right; else it has been answered."""
        fields = dict(re.findall(r'(\w+)="?([^",]*)"?', self.headers.get("Authorization") or ""))
        nonce = fields.get("nonce")
        with lock:
            fresh = nonce in nonces and not (arguments.nonce_uses and nonces[nonce] >= arguments.nonce_uses)
            if fresh:
                nonces[nonce] += 1
        if fresh and fields.get("uri") == self.path and fields.get("username") == arguments.user:
            one = md5(f"{arguments.user}:{REALM}:{arguments.password}")
            two = md5(f"{self.command}:{self.path}")
            wanted = md5(":".join([one, nonce, fields.get("nc", ""), fields.get("cnonce", ""), fields.get("qop", ""), two]))
            if secrets.compare_digest(wanted, fields.get("response", "")):
                return True
        with lock:
            state["wrong"] += fresh
            nonce = secrets.token_hex(16)
            nonces[nonce] = 0
        challenge = f'Digest qop="auth", realm="{REALM}", nonce="{nonce}", stale="FALSE"'
        self.answer(401, b"", headers=[("WWW-Authenticate", challenge), ("WWW-Authenticate", f'Basic realm="{REALM}"')])
        return False

    def do_GET(self):
        self.do("GET")

    def do_POST(self):
        self.do("POST")

    def do(self, method):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        body = self.body()
        if url.path.startswith("/control/"):
            self.control(url.path.removeprefix("/control/"), query, body)
            return
        if state["refuse"]:
            self.answer(state["refuse"])
            return
        if not self.allowed():
            return
        if url.path in ("/ISAPI/Event/notification/alertStream", "/cgi-bin/eventManager.cgi"):
            self.stream()
        elif url.path == "/ISAPI/AccessControl/AcsEvent" and method == "POST":
            self.search(json.loads(body)["AcsEventCond"])
        elif url.path == "/ISAPI/System/deviceInfo":
            info = '<DeviceInfo xmlns="http://www.hikvision.com/ver20/XMLSchema"><deviceName>cam</deviceName><deviceID>1</deviceID></DeviceInfo>'
            self.answer(200, info.encode(), "application/xml")
        elif url.path == "/ISAPI/Event/triggers":
            trigger = (
                "<EventTrigger><id>{0}-{1}</id><eventType>{0}</eventType><videoInputChannelID>{1}</videoInputChannelID>"
                "<EventTriggerNotificationList><EventTriggerNotification><notificationMethod>center</notificationMethod>"
                "</EventTriggerNotification></EventTriggerNotificationList></EventTrigger>"
            )
            kinds = ["VMD", "linedetection", "fielddetection", "shelteralarm"]
            triggers = "".join(trigger.format(kind, channel) for kind in kinds for channel in (1, 2))
            text = f'<EventTriggerList xmlns="http://www.hikvision.com/ver20/XMLSchema">{triggers}</EventTriggerList>'
            self.answer(200, text.encode(), "application/xml")
        else:
            self.answer(404, b"{}")

    def stream(self):
        device = self.connection.getsockname()[0]
        words = queue.Queue()
        with lock:
            state["opened"] += 1
            streams.setdefault(device, []).append(words)
        try:
            if state["hang"]:
                words.get()
                return
            boundary = "myboundary" if arguments.make == "dahua" else "boundary"
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/mixed; boundary={boundary}")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(state["greet"])
            # Not all at the same moment.
            due = time.monotonic() + state["beat"] * secrets.randbelow(100) / 100
            while True:
                beat = state["beat"]
                wait = min(max(due - time.monotonic(), 0), 0.5) if beat else 0.5
                try:
                    said = words.get(timeout=wait)
                    if said is None:
                        return
                    self.wfile.write(said)
                except queue.Empty:
                    if beat and time.monotonic() >= due:
                        due = time.monotonic() + beat
                        self.wfile.write(heartbeat())
        except OSError:
            pass
        finally:
            with lock:
                streams[device].remove(words)
            self.close_connection = True

    def search(self, condition):
        device = self.connection.getsockname()[0]
        with lock:
            state["asked"].append({"device": device, **condition})
            events = state["events"].get(device) or state["events"].get("*") or []
        first, last = condition.get("beginSerialNo", 0), condition.get("endSerialNo", 1 << 40)
        found = [event for event in events if first <= event["serialNo"] <= last]
        start = condition["searchResultPosition"]
        page = found[start : start + min(condition["maxResults"], 30)]
        more = start + len(page) < len(found)
        status = "MORE" if more else "OK" if page else "NO MATCH"
        answer = {
            "searchID": condition["searchID"],
            "responseStatusStrg": status,
            "numOfMatches": len(page),
            "totalMatches": len(found),
        }
        if page:
            answer["InfoList"] = page
        self.answer(200, json.dumps({"AcsEvent": answer}, ensure_ascii=False).encode())

    def control(self, what, query, body):
        with lock:
            if what == "say":
                for device, all_words in streams.items():
                    if query.get("device", device) == device:
                        for words in all_words:
                            words.put(body)
            elif what == "greet":
                state["greet"] = body
            elif what == "beat":
                state["beat"] = float(query["seconds"])
            elif what == "end":
                for all_words in streams.values():
                    for words in all_words:
                        words.put(None)
            elif what == "events":
                state["events"] = json.loads(body)
            elif what == "refuse":
                state["refuse"] = int(query["status"])
            elif what == "hang":
                state["hang"] = query["on"] == "1"
            seen = {name: state[name] for name in ("opened", "wrong", "asked")}
            seen["streams"] = sum(len(all_words) for all_words in streams.values())
        self.answer(200, json.dumps(seen).encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512


Server(("0.0.0.0", arguments.port), Handler).serve_forever()
