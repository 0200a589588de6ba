// One call with OpenAI's package for Node: reads what to do as JSON from stdin, writes what came of it.
// In:  {modules, client, call: "create" | "stream" | "parse" | "list" | "retrieve", params}
//      or {modules, client, call: "method", params: {path: "conversations.items.list", arguments: [...]}}
// Out: {answer, events, accumulated, requests} or {error, requests}
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const { modules, client: options, call, params } = JSON.parse(await text(process.stdin));
const load = (file) => import(pathToFileURL(join(modules, "openai", file)));
const { default: OpenAI } = await load("index.mjs");
const { accumulateResponse } = await load("lib/responses/ResponseAccumulator.mjs");

let requests = 0;
const client = new OpenAI({
  ...options,
  fetch: (...request) => {
    requests += 1;
    return fetch(...request);
  },
});

async function collected(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const calls = {
  async create() {
    if (!params.stream) return { answer: await client.responses.create(params) };
    const events = await collected(await client.responses.create(params));
    return { answer: events.at(-1).response, events };
  },
  async stream() {
    const stream = client.responses.stream(params);
    const events = await collected(stream);
    const accumulated = events.reduce((snapshot, event) => accumulateResponse(event, snapshot), undefined);
    return { answer: await stream.finalResponse(), events, accumulated };
  },
  async parse() {
    return { answer: await client.responses.parse(params) };
  },
  async list() {
    return { answer: await collected(client.models.list()) };
  },
  async retrieve() {
    return { answer: await client.models.retrieve(params) };
  },
  // The helper that runs the tools it was given; each says what it was called with.
  async runTools() {
    const tools = params.tools.map((tool) => ({
      ...tool,
      function: { ...tool.function, parse: JSON.parse, function: (given) => `sunny in ${given.city}` },
    }));
    const runner = client.chat.completions.runTools({ ...params, tools });
    return { answer: { text: await runner.finalContent(), messages: runner.messages } };
  },
  // Any method of the client; of a list or a stream, all there is of it.
  async method() {
    const steps = params.path.split(".");
    const name = steps.pop();
    const owner = steps.reduce((object, step) => object[step], client);
    const answer = await owner[name](...params.arguments);
    return { answer: answer?.[Symbol.asyncIterator] ? await collected(answer) : (answer ?? null) };
  },
};

let outcome;
try {
  outcome = await calls[call]();
} catch (error) {
  const { name, status, code, param, type, message, requestID } = error;
  outcome = { error: { name: error.constructor.name ?? name, status, code, param, type, message, requestID } };
}
process.stdout.write(JSON.stringify({ ...outcome, requests }));
