"""pyhik reads the stream of a device: a line of JSON for each change that it sees, {"event", "channel", "active"}."""
import json
import sys
import threading

from pyhik.hikvision import HikCamera

host, port, user, password = sys.argv[1:5]
camera = HikCamera(host, int(port), user, password)


def told(message):
    _, event, channel = message.rsplit(".", 2)
    active = camera.fetch_attributes(event, int(channel))[0]
    print(json.dumps({"event": event, "channel": int(channel), "active": active}), flush=True)


for event, channels in camera.current_event_states.items():
    for channel in channels:
        camera.add_update_callback(told, f"{camera.get_id}.{event}.{channel[1]}")
camera.start_stream()
print(json.dumps({"ready": True}), flush=True)
threading.Event().wait()
