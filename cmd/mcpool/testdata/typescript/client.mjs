// A client of the official TypeScript SDK, for the tests of the command. It
// does what its arguments ask for and prints what it saw:
//
//	node client.mjs URL '{"clients": 2, "calls": 3}'
//
// Each of so many clients connects to URL and makes so many calls of the tool
// echo, all clients at once, the calls of one in turn. With "list" it lists
// tools first, with "stay" it does not end its session.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [url, json] = process.argv.slice(2);
const { clients, calls, list, stay } = JSON.parse(json);

async function run(number) {
  const transport = new StreamableHTTPClientTransport(new URL(url));
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(transport);
  const seen = { server: client.getServerVersion().name, session: transport.sessionId, tools: [], answers: [] };
  if (list) {
    seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
  }
  for (let i = 0; i < calls; i++) {
    const id = `${process.pid}-${number}-${i}`;
    const result = await client.callTool({ name: 'echo', arguments: { id, text: `the text of ${id}` } });
    seen.answers.push({ asked: id, ...result.structuredContent, content: result.content });
  }
  if (!stay) {
    await transport.terminateSession();
  }
  await client.close();
  return seen;
}

console.log(JSON.stringify(await Promise.all(Array.from({ length: clients }, (_, number) => run(number)))));
