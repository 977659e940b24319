"""A Modbus TCP device of pymodbus with units 1 and 2, or a client of it that writes registers.

    modbus_device.py serve PORT
    modbus_device.py write PORT UNIT holding|coil ADDRESS VALUE...

Registers and coils 0 to 999 exist.
"""

import asyncio
import sys

from pymodbus.client import ModbusTcpClient
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import StartAsyncTcpServer


def unit():
    # pymodbus counts blocks from 1, the wire from 0.
    block = lambda: ModbusSequentialDataBlock(1, [0] * 1000)
    return ModbusDeviceContext(di=block(), co=block(), hr=block(), ir=block())


def write(port, number, area, address, values):
    client = ModbusTcpClient("127.0.0.1", port=port)
    assert client.connect()
    if area == "coil":
        answer = client.write_coils(address, [bool(value) for value in values], device_id=number)
    else:
        answer = client.write_registers(address, values, device_id=number)
    assert not answer.isError(), answer


if sys.argv[1] == "serve":
    context = ModbusServerContext(devices={1: unit(), 2: unit()}, single=False)
    asyncio.run(StartAsyncTcpServer(context, address=("127.0.0.1", int(sys.argv[2]))))
else:
    port, number, area, address = sys.argv[2:6]
    write(int(port), int(number), area, int(address), [int(value) for value in sys.argv[6:]])
