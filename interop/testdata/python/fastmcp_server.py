"""A server of FastMCP, 3.x or 4.x: fastmcp_server.py stdio|http|sse [--port N] [--stateless]."""

import argparse

import anyio
from fastmcp import Context, FastMCP

try:
    from mcp_types import ToolListChangedNotification
except ImportError:
    from mcp.types import ToolListChangedNotification

args = argparse.ArgumentParser()
args.add_argument("transport", choices=["stdio", "http", "sse"])
args.add_argument("--port", type=int, default=0)
args.add_argument("--stateless", action="store_true")
args = args.parse_args()

http = {"port": args.port, "log_level": "WARNING"} if args.port else {}
if args.stateless:
    http["stateless_http"] = True

server = FastMCP("fastmcp")


@server.tool(annotations={"readOnlyHint": True})
async def echo(text: str) -> str:
    return text


@server.tool(annotations={"readOnlyHint": True})
async def sleep(ms: int) -> str:
    await anyio.sleep(ms / 1000)
    return "slept"


@server.tool
async def change(ctx: Context) -> str:
    await ctx.send_notification(ToolListChangedNotification())
    return "changed"


server.run(args.transport, show_banner=False, **http)
