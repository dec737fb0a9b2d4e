// A client of the official TypeScript SDK, 1.x or 2.x. It does all that a
// client can do, to a server like that of features_test.go, and prints what
// came of each, by its name:
//
//	node client.mjs 1|legacy|auto URL NAME
//
// 1 is the SDK's version 1, the others are the eras of version 2. NAME is of
// this client alone.
const [era, url, name] = process.argv.slice(2);
const uri = `note://${name}`;
const info = { name: `typescript-${name}`, version: '1' };
const capabilities = { elicitation: {} };
const answer = () => ({ action: 'accept', content: { name: 'Ada' } });

let client;
let Transport;
let call; // calls a tool
let on; // is told of notifications
if (era === '1') {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  ({ StreamableHTTPClientTransport: Transport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js'));
  const types = await import('@modelcontextprotocol/sdk/types.js');
  client = new Client(info, { capabilities });
  client.setRequestHandler(types.ElicitRequestSchema, answer);
  call = (params, options) => client.callTool(params, undefined, options);
  const schemas = {
    'notifications/resources/updated': types.ResourceUpdatedNotificationSchema,
    'notifications/message': types.LoggingMessageNotificationSchema,
  };
  on = (method, handler) => client.setNotificationHandler(schemas[method], handler);
} else {
  const sdk = await import('@modelcontextprotocol/client');
  Transport = sdk.StreamableHTTPClientTransport;
  client = new sdk.Client(info, { capabilities, versionNegotiation: { mode: era } });
  client.setRequestHandler('elicitation/create', answer);
  call = (params, options) => client.callTool(params, options);
  on = (method, handler) => client.setNotificationHandler(method, handler);
}
const transport = new Transport(new URL(url));
await client.connect(transport);
const protocol = era === '1' ? transport.protocolVersion : client.getNegotiatedProtocolVersion();
const modern = era !== '1' && client.getProtocolEra() === 'modern';

const text = (result) => result.content.map((part) => part.text).join(' ');

// heard resolves with the first notification that a test lets through.
function heard(method, test) {
  return new Promise((resolve) => on(method, ({ params }) => test(params) && resolve(params)));
}

const actions = {
  async list() {
    return (await client.listTools()).tools.map((tool) => tool.name).sort().join(' ');
  },
  async call() {
    return text(await call({ name: 'echo', arguments: { text: 'text' } }));
  },
  async progress() {
    const steps = [];
    const onprogress = ({ progress, total }) => steps.push(`${progress}/${total}`);
    const result = await call({ name: 'count', arguments: { to: 3 } }, { onprogress });
    return [...steps, text(result)].join(' ');
  },
  async cancel() {
    const abort = new AbortController();
    const onprogress = () => abort.abort();
    try {
      return text(await call({ name: 'wait', arguments: { name } }, { onprogress, signal: abort.signal }));
    } catch (error) {
      if (!abort.signal.aborted) {
        throw error;
      }
    }
    return text(await call({ name: 'cancelled', arguments: { name } }));
  },
  async elicit() {
    return text(await call({ name: 'ask', arguments: {} }));
  },
  async subscribe() {
    const update = heard('notifications/resources/updated', (params) => params.uri === uri);
    const subscription = modern ? await client.listen({ resourceSubscriptions: [uri] }) : await client.subscribeResource({ uri });
    await call({ name: 'update', arguments: { name } });
    await update;
    await (modern ? subscription.close() : client.unsubscribeResource({ uri }));
    return 'updated';
  },
  async resources() {
    const { resources } = await client.listResources();
    const { resourceTemplates } = await client.listResourceTemplates();
    const { contents } = await client.readResource({ uri });
    return [...resources.map((r) => r.uri), ...resourceTemplates.map((t) => t.uriTemplate), ...contents.map((c) => c.text.replace(name, 'NAME'))].join(' ');
  },
  async prompt() {
    const { prompts } = await client.listPrompts();
    const { messages } = await client.getPrompt({ name: 'greet', arguments: { name: 'Ada' } });
    return [...prompts.map((p) => p.name), ...messages.map((m) => m.content.text)].join(' ');
  },
  async complete() {
    const { completion } = await client.complete({ ref: { type: 'ref/prompt', name: 'greet' }, argument: { name: 'name', value: 'A' } });
    return completion.values.join(' ');
  },
  async log() {
    const levels = [];
    const loud = heard('notifications/message', ({ level, data }) => levels.push(level) && data === 'loud');
    let meta = {};
    if (modern) {
      meta = { _meta: { 'io.modelcontextprotocol/logLevel': 'warning' } };
    } else {
      await client.setLoggingLevel('warning');
    }
    await call({ name: 'log', arguments: {}, ...meta });
    await loud;
    return levels.join(' ');
  },
};

const came = {};
for (const [action, act] of Object.entries(actions)) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error('nothing came of it')), 20_000)));
  try {
    came[action] = await Promise.race([act(), late]);
  } catch (error) {
    came[action] = `failed: ${error}`;
  }
  clearTimeout(timer);
}
if (!modern) {
  await transport.terminateSession();
}
await client.close();
console.log(JSON.stringify({ protocol, ...came }));
process.exit(0);
