"""A charge point of the package ocpp: boots, and tells states one after the other.

    ocpp_charger.py URL ID PASSWORD STATUS...

STATUS is connector,error,status,timestamp. Each is printed as "answered STATUS" once it is answered; then the charge
point stays connected until it is killed. It answers TriggerMessage, and prints "triggered".
"""

import asyncio
import base64
import sys

import websockets
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result


class Charger(ChargePoint):
    @on("TriggerMessage")
    def on_trigger(self, requested_message, **_):
        print("triggered", requested_message, flush=True)
        return call_result.TriggerMessage(status="Accepted")


async def main():
    url, name, password, *statuses = sys.argv[1:]
    key = base64.b64encode(f"{name}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {key}"}
    async with websockets.connect(f"{url}/{name}", subprotocols=["ocpp1.6"], additional_headers=headers) as socket:
        charger = Charger(name, socket)
        listening = asyncio.create_task(charger.start())
        boot = await charger.call(call.BootNotification(charge_point_model="M", charge_point_vendor="V"))
        print("booted", boot.status, boot.interval, flush=True)
        await charger.call(call.Heartbeat())
        await charger.call(call.Authorize(id_tag="0012345678"))
        for status in statuses:
            connector, error, state, timestamp = status.split(",")
            await charger.call(
                call.StatusNotification(
                    connector_id=int(connector), error_code=error, status=state, timestamp=timestamp
                )
            )
            print("answered", status, flush=True)
        await listening


asyncio.run(main())
