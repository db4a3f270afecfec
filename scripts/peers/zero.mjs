// Zero's cache, told by the environment what to do (ZERO_*, see its documentation), with a look at what has come.
//
// Usage: node zero.mjs <folder that Zero is installed in> replica <table of the last row>
//   ready  is said when the cache serves
//   end    is said when its replica has a row in that table
// Usage: node zero.mjs <folder that Zero is installed in> client
//   ready  is said when a client has all rows of `beats`
//   then each new row is printed as it comes to the client
// It ends the cache and itself when its standard input ends.

import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const [installed, mode, last] = process.argv.slice(2);
// How the client's library says that a row is new.
const added = 0;
const { ZERO_PORT, ZERO_REPLICA_FILE, QUERIES_PORT } = process.env;
const cacheURL = `http://127.0.0.1:${ZERO_PORT}`;
// What asks for a query asks here what it means: Zero leaves that to the application.
const queryURL = `http://127.0.0.1:${QUERIES_PORT}/query`;

const cache = spawn(join(installed, 'node_modules/.bin/zero-cache'), [], {
  stdio: ['ignore', process.stderr, process.stderr],
  env: { ...process.env, ZERO_QUERY_URL: queryURL },
});
let stopping = false;
cache.on('exit', (code) => process.exit(stopping ? 0 : code || 1));
process.stdin.on('end', () => {
  stopping = true;
  cache.kill('SIGTERM');
});
process.stdin.resume();

async function serves() {
  try {
    return (await fetch(cacheURL)).ok;
  } catch {
    return false;
  }
}

async function lookIntoReplica() {
  const require = createRequire(join(installed, 'package.json'));
  const Database = require('@rocicorp/zero-sqlite3');
  const rows = new Database(ZERO_REPLICA_FILE, { readonly: true }).prepare(`SELECT count(*) AS count FROM ${last}`);
  while (rows.get().count === 0) await sleep(5);
  console.log('end');
}

async function followAsClient() {
  const programs = join(installed, 'node_modules/@rocicorp/zero/out/zero/src');
  const { Zero, createBuilder, createSchema, defineQueries, defineQuery, mustGetQuery, number, string, table } =
    await import(join(programs, 'zero.js'));
  const { handleQueryRequest } = await import(join(programs, 'server.js'));

  const beats = table('beats').columns({ id: number(), mark: string() }).primaryKey('id');
  const schema = createSchema({ tables: [beats] });
  const all = createBuilder(schema);
  const queries = defineQueries({ beats: defineQuery(() => all.beats) });
  const handler = (name, args) => mustGetQuery(queries, name).fn({ args, ctx: undefined });
  const userID = 'bench';
  createServer(async (request, response) => {
    const body = JSON.parse(Buffer.concat(await request.toArray()));
    const query = new URL(request.url, queryURL).searchParams;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(await handleQueryRequest({ handler, schema, userID, query, body })));
  }).listen(QUERIES_PORT, '127.0.0.1');

  const zero = new Zero({ cacheURL, schema, userID, kvStore: 'mem', queryURL });
  // A view of our own: one that keeps an array of all rows would be measured with it.
  zero.materialize(queries.beats(), (_query, input, _format, _onDestroy, _onCommit, complete) => {
    input.setOutput({
      *push([kind, { row }]) {
        if (kind === added) console.log(JSON.stringify(row));
      },
    });
    Promise.resolve(complete).then(() => console.log('ready'));
    return { destroy() {} };
  });
}

// Somebody else who has the replica open while the cache starts is in its way.
while (!(await serves())) await sleep(20);
if (mode === 'client') {
  await followAsClient();
} else {
  console.log('ready');
  await lookIntoReplica();
}
