"""An app that holds a model server, until it is killed: `server_holder.py FOLDER COMMAND ...`."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from app.client.server_process import ServerProcess


async def hold(folder: Path, command: list[str]) -> None:
    serving = ServerProcess(folder / "logs", command=command)
    client = await serving.client()
    endpoint = client.endpoint
    sys.stdout.write(f"{endpoint.url} {endpoint.token}\n")
    sys.stdout.flush()
    await asyncio.sleep(3600)


asyncio.run(hold(Path(sys.argv[1]), sys.argv[2:]))
