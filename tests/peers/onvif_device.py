"""An ONVIF device of the tests: clock, capabilities, pull point subscriptions, with WS-UsernameToken digests.

    onvif_device.py serve PORT CLOCK_OFFSET_S          device; its clock is off by so much
    onvif_device.py pull PORT                          onvif-zeep-async pulls once and prints the topics: the device is one

POST /control takes lines: "changed TOPIC ITEM VALUE", "told UTC_TIME RULE TOPIC ITEM VALUE" (no state; RULE may be "-"),
"forget" (subscriptions are lost), "raw TEXT" (the next answer to a PullMessages is this), "flood" (the next answer never
ends), "encoding NAME" (of answers from now on), "seen". It is answered with JSON: "subscriptions" and how many were "made", "waiting" messages,
"pulls" that came since something was handed out last, "said" by this line. States that were changed come as Initialized
with every new subscription.
"""

import asyncio
import base64
import datetime
import hashlib
import http.server
import json
import re
import sys
import threading
import time

USER, PASSWORD = "admin", "a password of the camera"
ENVELOPE = (
    '<?xml version="1.0" encoding="{}"?><env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:tds="http://www.onvif.org/ver10/device/wsdl" xmlns:tev="http://www.onvif.org/ver10/events/wsdl" '
    'xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:wsa="http://www.w3.org/2005/08/addressing" '
    'xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" xmlns:tns1="http://www.onvif.org/ver10/topics" '
    'xmlns:ter="http://www.onvif.org/ver10/error"><env:Body>{}</env:Body></env:Envelope>'
)


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Device:
    def __init__(self, port, offset):
        self.port, self.offset = port, datetime.timedelta(seconds=offset)
        self.lock = threading.Condition()
        self.states, self.subscriptions, self.count = {}, {}, 0
        self.raw, self.flood = [], False
        self.encoding, self.pulls = "utf-8", 0

    def now(self):
        return datetime.datetime.now(datetime.timezone.utc) + self.offset

    def message(self, topic, item, value, operation, told=None, rule="-"):
        rule = "" if rule == "-" else f'<tt:SimpleItem Name="Rule" Value="{rule}"/>'
        return (
            f'<wsnt:NotificationMessage><wsnt:Topic Dialect="http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet">'
            f"tns1:{topic}</wsnt:Topic><wsnt:Message><tt:Message UtcTime=\"{told or stamp(self.now())}\" "
            f'PropertyOperation="{operation}"><tt:Source><tt:SimpleItem Name="VideoSourceToken" Value="V1"/>{rule}</tt:Source>'
            f'<tt:Data><tt:SimpleItem Name="{item}" Value="{value}"/></tt:Data></tt:Message></wsnt:Message>'
            f"</wsnt:NotificationMessage>"
        )

    def control(self, line):
        word, _, rest = line.partition(" ")
        said = ""
        with self.lock:
            if word == "changed":
                topic, item, value = rest.split(" ")
                self.states[topic] = (item, value)
                for queue in self.subscriptions.values():
                    queue.append(self.message(topic, item, value, "Changed"))
            elif word == "told":
                told, rule, topic, item, value = rest.split(" ")
                said = self.message(topic, item, value, "Changed", told, rule)
                for queue in self.subscriptions.values():
                    queue.append(said)
            elif word == "encoding":
                self.encoding = rest
            elif word == "forget":
                self.subscriptions.clear()
            elif word == "raw":
                self.raw.append(rest)
            elif word == "flood":
                self.flood = True
            self.lock.notify_all()
            return {
                "subscriptions": len(self.subscriptions),
                "made": self.count,
                "waiting": sum(len(queue) for queue in self.subscriptions.values()) + len(self.raw),
                "pulls": self.pulls,
                "said": said,
            }

    def authorized(self, text):
        found = [
            re.search(rf"<[^<>]*:?{name}(?: [^<>]*)?>([^<>]*)<", text)
            for name in ("Username", "Password", "Nonce", "Created")
        ]
        if not all(found):
            return False
        user, digest, nonce, created = (match.group(1) for match in found)
        moment = datetime.datetime.strptime(created.split(".")[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S")
        off = abs((moment.replace(tzinfo=datetime.timezone.utc) - self.now()).total_seconds())
        wanted = hashlib.sha1(base64.b64decode(nonce) + created.encode() + PASSWORD.encode()).digest()
        return user == USER and base64.b64encode(wanted).decode() == digest and off < 30

    def answer(self, path, text):
        """Status and body."""
        base = f"http://127.0.0.1:{self.port}"
        if "GetSystemDateAndTime" in text:
            now = self.now()
            return 200, (
                "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType>"
                "<tt:DaylightSavings>false</tt:DaylightSavings><tt:UTCDateTime><tt:Time>"
                f"<tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute><tt:Second>{now.second}</tt:Second></tt:Time>"
                f"<tt:Date><tt:Year>{now.year}</tt:Year><tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day></tt:Date>"
                "</tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
            )
        if not self.authorized(text):
            return 400, (
                "<env:Fault><env:Code><env:Value>env:Sender</env:Value><env:Subcode><env:Value>ter:NotAuthorized</env:Value>"
                "</env:Subcode></env:Code><env:Reason><env:Text xml:lang='en'>Sender not Authorized</env:Text></env:Reason>"
                "</env:Fault>"
            )
        if "GetCapabilities" in text or "GetServices" in text:
            return 200, (
                "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Device>"
                f"<tt:XAddr>{base}/onvif/device_service</tt:XAddr></tt:Device><tt:Events>"
                f"<tt:XAddr>{base}/onvif/event_service</tt:XAddr><tt:WSSubscriptionPolicySupport>true"
                "</tt:WSSubscriptionPolicySupport><tt:WSPullPointSupport>true</tt:WSPullPointSupport>"
                "<tt:WSPausableSubscriptionManagerInterfaceSupport>false</tt:WSPausableSubscriptionManagerInterfaceSupport>"
                "</tt:Events></tds:Capabilities></tds:GetCapabilitiesResponse>"
            )
        later = stamp(self.now() + datetime.timedelta(seconds=120))
        if "CreatePullPointSubscription" in text:
            with self.lock:
                self.count += 1
                number = self.count
                self.subscriptions[number] = [
                    self.message(topic, item, value, "Initialized") for topic, (item, value) in self.states.items()
                ]
            return 200, (
                f"<tev:CreatePullPointSubscriptionResponse><tev:SubscriptionReference><wsa:Address>{base}/onvif/sub/{number}"
                f"</wsa:Address></tev:SubscriptionReference><wsnt:CurrentTime>{stamp(self.now())}</wsnt:CurrentTime>"
                f"<wsnt:TerminationTime>{later}</wsnt:TerminationTime></tev:CreatePullPointSubscriptionResponse>"
            )
        number = int(path.rsplit("/", 1)[-1]) if path.startswith("/onvif/sub/") else 0
        if number not in self.subscriptions:
            return 400, (
                "<env:Fault><env:Code><env:Value>env:Receiver</env:Value></env:Code><env:Reason><env:Text xml:lang='en'>"
                "there is no such subscription</env:Text></env:Reason></env:Fault>"
            )
        if "PullMessages" in text:
            end = time.monotonic() + 1
            with self.lock:
                self.pulls += 1
                while not (self.subscriptions.get(number) or self.raw or self.flood):
                    left = end - time.monotonic()
                    if left <= 0 or number not in self.subscriptions:
                        break
                    self.lock.wait(left)
                if self.raw:
                    self.pulls = 0
                    return 200, self.raw.pop(0)
                messages = self.subscriptions.get(number, [])
                if messages:
                    self.pulls = 0
                if number in self.subscriptions:
                    self.subscriptions[number] = []
            return 200, (
                f"<tev:PullMessagesResponse><tev:CurrentTime>{stamp(self.now())}</tev:CurrentTime><tev:TerminationTime>{later}"
                f"</tev:TerminationTime>{''.join(messages)}</tev:PullMessagesResponse>"
            )
        if "Renew" in text:
            return 200, (
                f"<wsnt:RenewResponse><wsnt:TerminationTime>{later}</wsnt:TerminationTime><wsnt:CurrentTime>"
                f"{stamp(self.now())}</wsnt:CurrentTime></wsnt:RenewResponse>"
            )
        with self.lock:
            self.subscriptions.pop(number, None)
        return 200, "<wsnt:UnsubscribeResponse/>"


def serve(port, offset):
    device = Device(port, offset)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path == "/control":
                status, body = 200, json.dumps(device.control(text), ensure_ascii=False)
            else:
                status, body = device.answer(self.path, text)
                body = ENVELOPE.format(device.encoding, body) if not body.startswith("!") else body[1:]
            if device.flood and self.path.startswith("/onvif/sub/"):
                device.flood = False
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
                except OSError:
                    return
            data = body.encode("utf-8" if self.path == "/control" else device.encoding)
            self.send_response(status)
            self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


async def pull(port):
    from onvif import ONVIFCamera

    camera = ONVIFCamera("127.0.0.1", port, USER, PASSWORD)
    await camera.update_xaddrs()
    manager = await camera.create_pullpoint_manager(datetime.timedelta(minutes=2), lambda: None)
    service = manager.get_service()
    answer = await service.PullMessages({"Timeout": datetime.timedelta(seconds=1), "MessageLimit": 10})
    for message in answer.NotificationMessage:
        print("topic", message.Topic._value_1, flush=True)
    await manager.shutdown()
    await camera.close()


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), int(sys.argv[3]))
else:
    asyncio.run(pull(int(sys.argv[2])))
