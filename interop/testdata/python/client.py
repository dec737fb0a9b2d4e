"""A client of the official Python SDK or of FastMCP, old or new: client.py mcp|fastmcp legacy|auto URL NAME.

It does all that a client can do, to a server like that of features_test.go, and prints what came of each, by its name.
NAME is of this client alone.
"""

import json
import sys
from contextlib import asynccontextmanager

import anyio
from pydantic import AnyUrl

package, era, url, name = sys.argv[1:]
uri = f"note://{name}"
PATIENCE = 20  # seconds for an action

try:
    import mcp_types as types  # since version 2 of the SDK, which FastMCP 4 is made with
    from mcp.client.subscriptions import listen

    address = str
except ImportError:
    from mcp import types

    listen, address = None, AnyUrl


def plain(it):
    return it.model_dump(by_alias=True, mode="json")


class Client:
    """A client of the SDK, of either version."""

    def __init__(self):
        self.levels = []
        self.loud = anyio.Event()
        self.updated = anyio.Event()
        self.begun = anyio.Event()
        self.request = None  # the id of the call that has begun

    @asynccontextmanager
    async def connect(self):
        how = {"elicitation_callback": self.on_ask, "logging_callback": self.on_log, "message_handler": self.on_message}
        if listen:
            from mcp import Client

            async with Client(url, mode=era, log_level="warning", **how) as self.client:
                self.session, self.protocol = self.client.session, self.client.protocol_version
                yield
        else:
            from mcp import ClientSession
            from mcp.client.streamable_http import streamable_http_client

            async with streamable_http_client(url) as (read, write, _), ClientSession(read, write, **how) as self.client:
                self.session, self.protocol = self.client, (await self.client.initialize()).protocolVersion
                yield

    async def on_ask(self, context, params):
        return types.ElicitResult(action="accept", content={"name": "Ada"})

    async def on_log(self, message):
        self.levels.append(message.level)
        if message.data == "loud":
            self.loud.set()

    async def on_message(self, message):
        message = getattr(message, "root", message)
        if isinstance(message, types.ResourceUpdatedNotification) and str(message.params.uri) == uri:
            self.updated.set()
        if isinstance(message, types.ProgressNotification) and message.params.total == 2:  # of the tool wait
            self.request = plain(message)["params"]["progressToken"]  # both SDKs take the id of the call for it
            self.begun.set()

    async def call_tool(self, tool, arguments, progress=None):
        content = (await self.client.call_tool(tool, arguments, progress_callback=progress)).content
        return " ".join(part.text for part in content)

    async def withdraw(self, request):
        """Cancels a call, which version 1 does not do by itself where its task is cancelled."""
        if not listen:
            params = types.CancelledNotificationParams(requestId=request)
            await self.client.send_notification(
                types.ClientNotification(types.CancelledNotification(method="notifications/cancelled", params=params))
            )

    def items(self, listed, of):
        return [plain(item) for item in getattr(listed, of)]

    def templates(self, listed):
        return plain(listed)["resourceTemplates"]

    async def read(self):
        return (await self.client.read_resource(address(uri))).contents

    async def complete_greeting(self, ref, argument):
        return (await self.client.complete(ref, argument)).completion.values

    def modern(self):
        return self.protocol >= "2026-07-28"

    async def list(self):
        return " ".join(sorted(tool["name"] for tool in self.items(await self.client.list_tools(), "tools")))

    async def call(self):
        return await self.call_tool("echo", {"text": "text"})

    async def progress(self):
        steps = []

        async def on_progress(progress, total, message):
            steps.append(f"{progress:g}/{total:g}")

        answer = await self.call_tool("count", {"to": 3}, on_progress)
        return " ".join([*steps, answer])

    async def cancel(self):
        async def on_progress(progress, total, message):
            pass

        async with anyio.create_task_group() as calls:
            calls.start_soon(self.call_tool, "wait", {"name": name}, on_progress)
            await self.begun.wait()
            await self.withdraw(self.request)
            calls.cancel_scope.cancel()
        return await self.call_tool("cancelled", {"name": name})

    async def elicit(self):
        return await self.call_tool("ask", {})

    async def subscribe(self):
        if self.modern():
            async with listen(self.session, resource_subscriptions=[uri]) as updates:
                await self.call_tool("update", {"name": name})
                async for update in updates:
                    return "updated" if update.uri == uri else str(update)
        await self.session.subscribe_resource(address(uri))
        await self.call_tool("update", {"name": name})
        await self.updated.wait()
        await self.session.unsubscribe_resource(address(uri))
        return "updated"

    async def resources(self):
        resources = self.items(await self.client.list_resources(), "resources")
        templates = self.templates(await self.client.list_resource_templates())
        contents = await self.read()
        return " ".join(
            [r["uri"] for r in resources] + [t["uriTemplate"] for t in templates] + [c.text.replace(name, "NAME") for c in contents]
        )

    async def prompt(self):
        prompts = self.items(await self.client.list_prompts(), "prompts")
        messages = (await self.client.get_prompt("greet", {"name": "Ada"})).messages
        return " ".join([p["name"] for p in prompts] + [m.content.text for m in messages])

    async def complete(self):
        ref = types.PromptReference(type="ref/prompt", name="greet")
        return " ".join(await self.complete_greeting(ref, {"name": "name", "value": "A"}))

    async def set_level(self):
        """Wants warnings and what is worse, which a modern client of the SDK does from the start."""
        if not self.modern():
            await self.client.set_logging_level("warning")

    async def log(self):
        await self.set_level()
        await self.call_tool("log", {})
        await self.loud.wait()
        return " ".join(self.levels)


class FastMCP(Client):
    """A client of FastMCP. Subscriptions it leaves to the SDK that it is made with."""

    @asynccontextmanager
    async def connect(self):
        from fastmcp import Client

        how = {"mode": era} if listen else {}
        async with Client(
            url, elicitation_handler=self.on_ask, log_handler=self.on_log, message_handler=self.on_message, **how
        ) as self.client:
            self.session = self.client.session
            self.protocol = self.client.protocol_version if listen else self.client.initialize_result.protocolVersion
            yield

    async def on_ask(self, message, response_type, params, context):
        return {"name": "Ada"}

    async def call_tool(self, tool, arguments, progress=None, **meta):
        content = (await self.client.call_tool(tool, arguments, progress_handler=progress, **meta)).content
        return " ".join(part.text for part in content)

    async def withdraw(self, request):
        if not listen:
            await self.client.cancel(request)

    def items(self, listed, of):
        return [plain(item) for item in listed]

    def templates(self, listed):
        return [plain(item) for item in listed]

    async def read(self):
        return await self.client.read_resource(uri)

    async def complete_greeting(self, ref, argument):
        return (await self.client.complete(ref, argument)).values

    async def log(self):
        if self.modern():
            await self.call_tool("log", {}, meta={"io.modelcontextprotocol/logLevel": "warning"})
            await self.loud.wait()
            return " ".join(self.levels)
        return await super().log()


async def main():
    client = {"mcp": Client, "fastmcp": FastMCP}[package]()
    came = {}
    async with client.connect():
        came["protocol"] = client.protocol
        for action in ["list", "call", "progress", "cancel", "elicit", "subscribe", "resources", "prompt", "complete", "log"]:
            try:
                with anyio.fail_after(PATIENCE):
                    came[action] = await getattr(client, action)()
            except Exception as error:
                came[action] = f"failed: {error!r}"
    print(json.dumps(came))


anyio.run(main)
