"""A server of the official Python SDK, 1.x or 2.x: mcp_server.py stdio|http|sse [--port N] [--stateless]."""

import argparse

import anyio
from mcp.types import ToolAnnotations

args = argparse.ArgumentParser()
args.add_argument("transport", choices=["stdio", "http", "sse"])
args.add_argument("--port", type=int, default=0)
args.add_argument("--stateless", action="store_true")
args = args.parse_args()

transport = {"stdio": "stdio", "http": "streamable-http", "sse": "sse"}[args.transport]
http = {"port": args.port} if args.port else {}
if args.stateless:
    http["stateless_http"] = True

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context

    server, how, reads = MCPServer("python-sdk", log_level="WARNING"), http, {"read_only_hint": True}
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP

    server, how, reads = FastMCP("python-sdk", log_level="WARNING", **http), {}, {"readOnlyHint": True}


@server.tool(annotations=ToolAnnotations(**reads))
async def echo(text: str) -> str:
    return text


@server.tool(annotations=ToolAnnotations(**reads))
async def sleep(ms: int) -> str:
    await anyio.sleep(ms / 1000)
    return "slept"


@server.tool()
async def change(ctx: Context) -> str:
    await ctx.notify_tools_changed()  # 1.x cannot
    return "changed"


server.run(transport, **how)
