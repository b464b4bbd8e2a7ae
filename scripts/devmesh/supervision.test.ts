import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { restartDelayMs } from './backoff.ts';
import { identify, isAlive } from './processes.ts';
import { type ServiceProgram, type Supervised, type SupervisionLimits, supervise } from './supervision.ts';

const waitMs = 10_000;

/** A service that says it is ready, and ends as its file `orders` tells it to. */
const program = `
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
const [orders, state] = process.argv.slice(2);
if (readFileSync(orders, 'utf8') === 'fail') process.exit(3);
writeFileSync(state + '.new', JSON.stringify({ pid: process.pid }));
renameSync(state + '.new', state);
process.on('SIGTERM', () => { if (readFileSync(orders, 'utf8') !== 'stay') process.exit(0); });
setInterval(() => {}, 1000);
if (process.env.ADMIN) {
  const [host, port] = process.env.ADMIN.split(':');
  const { createServer } = await import('node:http');
  createServer((request, response) => {
    // A request that keeps the event loop busy for ever.
    if (request.url === '/spin') for (;;);
    response.end('ok');
  }).listen(Number(port), host);
}
`;

interface Started {
  one: Supervised;
  program: ServiceProgram;
  lines: string[];
  order(what: 'run' | 'fail' | 'stay'): void;
  until(what: () => boolean): Promise<void>;
}

function start(
  t: Test,
  what: 'run' | 'fail' = 'run',
  admin?: string,
  limits: SupervisionLimits & { serves?: boolean } = {},
): Started {
  const dir = t.testdir({ 'main.mjs': program, orders: what });
  const paths = { orders: join(dir, 'orders'), stateFile: join(dir, 'state.json'), log: join(dir, 'x.log') };
  const lines: string[] = [];
  const service: ServiceProgram = {
    name: 'fake',
    args: [join(dir, 'main.mjs'), paths.orders, paths.stateFile],
    cwd: dir,
    env: limits.serves && admin ? { ADMIN: admin } : {},
    stateFile: paths.stateFile,
    log: paths.log,
    addresses: { admin },
  };
  const one = supervise(service, { changed: (line) => line && lines.push(line) }, limits);
  t.teardown(() => one.stop());
  const until = async (condition: () => boolean) => {
    const deadline = Date.now() + waitMs;
    while (!condition()) {
      if (Date.now() > deadline)
        throw new Error(`waited in vain; so far: ${lines.join('; ')}\n${readFileSync(paths.log, 'utf8')}`);
      await sleep(10);
    }
  };
  return { one, program: service, lines, until, order: (order) => writeFileSync(paths.orders, order) };
}

t.test('a service becomes ready, is restarted when it crashes, and says so', async (t) => {
  const { one, lines, until } = start(t);
  await until(() => one.service.state === 'ready');
  const first = { pid: one.service.pid!, started: one.service.started! };
  t.ok(isAlive(first));
  process.kill(first.pid, 'SIGKILL');
  await until(() => one.service.state === 'ready' && one.service.pid !== first.pid);
  t.equal(one.service.restarts, 1);
  t.equal(one.service.lastEnd, 'ended by SIGKILL');
  t.match(lines[1], /fake ended \(ended by SIGKILL\); restart 1 in \d+ ms, its log is /);
});

t.test('one that keeps failing is tried again and again, and at once when told', async (t) => {
  const { one, order, until } = start(t, 'fail');
  await until(() => one.service.restarts >= 3);
  t.equal(one.service.lastEnd, 'exit code 3');
  order('run');
  await until(() => one.service.state === 'restarting' || one.service.state === 'ready');
  one.nudge();
  await until(() => one.service.state === 'ready');
  const { pid } = one.service;
  one.nudge();
  t.equal(one.service.pid, pid, 'what runs is left alone');
});

t.test('a restart on request waits for the new process and counts as no failure', async (t) => {
  const { one, order, until } = start(t);
  await until(() => one.service.state === 'ready');
  const first = { pid: one.service.pid!, started: one.service.started! };
  // Two at once: one after the other, and never two processes.
  await Promise.all([one.restart(), one.restart()]);
  t.match(one.service, { state: 'ready', restarts: 0 });
  t.not(one.service.pid, first.pid);
  t.notOk(isAlive(first));
  order('fail');
  await t.rejects(one.restart(), { message: /^fake ended before it was ready \(exit code 3\); its log is / });
  await until(() => one.service.restarts >= 1);
  order('run');
  await one.restart();
  t.equal(one.service.state, 'ready', 'also when it waits for its next start');
  const { pid } = one.service;
  one.nudge();
  t.equal(one.service.pid, pid, 'and nothing is left to start');
});

t.test(
  'a service whose code is watched is started again at each change, and is ready only while it runs',
  async (t) => {
    const { one, lines, program, until } = start(t);
    await until(() => one.service.state === 'ready');
    const pidOfProgram = () => JSON.parse(readFileSync(program.stateFile, 'utf8')).pid as number;
    await one.restart({ ...program, watch: true });
    t.equal(one.service.watching, true);
    await until(() => one.service.state === 'ready');
    const before = pidOfProgram();
    t.not(before, one.service.pid, 'Node has the program as its child');
    const readyBefore = lines.filter((line) => / is ready /.test(line)).length;
    const [main] = program.args;
    writeFileSync(main!, `${readFileSync(main!, 'utf8')}\n// changed\n`);
    await until(() => lines.filter((line) => / is ready /.test(line)).length > readyBefore);
    t.not(pidOfProgram(), before);
    const inner = identify(pidOfProgram())!;
    await one.restart(program);
    t.notOk(isAlive(inner), 'nothing is left of it');
    t.match(one.service, { state: 'ready', pid: pidOfProgram(), restarts: 0 });
    t.notOk(one.service.watching);
  },
);

t.test('a stopped service stays stopped', async (t) => {
  const { one, until } = start(t);
  await until(() => one.service.state === 'ready');
  const identity = { pid: one.service.pid!, started: one.service.started! };
  await one.stop();
  t.equal(one.service.state, 'stopped');
  t.equal(one.service.restarts, 0);
  t.notOk(isAlive(identity));
});

t.test('ready is what the admin port says, not only the state file', async (t) => {
  let status = 503;
  const server = createServer((_, response) => response.writeHead(status).end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { one, until } = start(t, 'run', `127.0.0.1:${(server.address() as { port: number }).port}`);
  let asked = 0;
  server.on('request', () => asked++);
  await until(() => asked >= 2);
  t.equal(one.service.state, 'starting');
  status = 200;
  await until(() => one.service.state === 'ready');
});

/** A port that was free a moment ago. */
async function freeAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

const impatient = { delayMs: () => 10, liveness: { everyMs: 50, deadlineMs: 250, missesMax: 3 } };

for (const { name, hang, how } of [
  {
    name: 'is stopped by a signal',
    hang: async ({ service }: Supervised) => void process.kill(service.pid!, 'SIGSTOP'),
    how: 'hung: stopped by a signal, ended by SIGKILL',
  },
  {
    name: 'keeps its event loop busy',
    hang: async ({ service }: Supervised) => void fetch(`http://${service.admin}/spin`).catch(() => undefined),
    how: 'hung: no response to 3 probes of 0.25 s, ended by SIGKILL',
  },
]) {
  t.test(`a service that ${name} is restarted, and the reason is told`, async (t) => {
    const { one, lines, until } = start(t, 'run', await freeAddress(), { ...impatient, serves: true });
    await until(() => one.service.state === 'ready');
    const { pid } = one.service;
    await hang(one);
    await until(() => one.service.state === 'ready' && one.service.pid !== pid);
    t.equal(one.service.lastEnd, how);
    t.equal(one.service.restarts, 1);
    t.ok(
      lines.some((line) => line.startsWith(`fake ended (${how}); restart 1 in 10 ms`)),
      lines.join('; '),
    );
  });
}

t.test('one that is stopped before it is ready is restarted too', async (t) => {
  const { one, until } = start(t, 'run', undefined, impatient);
  const { pid } = one.service;
  process.kill(pid!, 'SIGSTOP');
  await until(() => one.service.state === 'ready' && one.service.pid !== pid);
  t.match(one.service.lastEnd, /^hung: stopped by a signal/);
});

t.test('one that responds late is left alone', async (t) => {
  let asked = 0;
  const server = createServer((request, response) => {
    if (request.url !== '/healthz') return void response.end();
    asked += 1;
    // Two probes of three are missed.
    if (asked % 3 === 0) response.end();
    else response.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const admin = `127.0.0.1:${(server.address() as { port: number }).port}`;
  const { one, until } = start(t, 'run', admin, impatient);
  await until(() => asked > 7);
  t.match(one.service, { state: 'ready', restarts: 0 });
});

t.test('a request to stop ends a service that a signal has stopped, without force', async (t) => {
  const { one, until } = start(t);
  await until(() => one.service.state === 'ready');
  process.kill(one.service.pid!, 'SIGSTOP');
  await one.stop();
  t.equal(one.service.lastEnd, 'exit code 0');
});

t.test('restart delays grow, stay bounded, and differ', async (t) => {
  const rows = [
    { attempt: 1, least: 125, most: 250 },
    { attempt: 2, least: 250, most: 500 },
    { attempt: 6, least: 4_000, most: 8_000 },
    { attempt: 7, least: 5_000, most: 10_000 },
    { attempt: 5_000, least: 5_000, most: 10_000 },
  ];
  for (const { attempt, least, most } of rows) {
    t.equal(
      restartDelayMs(attempt, () => 0),
      least,
      `the least before restart ${attempt}`,
    );
    t.equal(
      restartDelayMs(attempt, () => 1),
      most,
      `the most before restart ${attempt}`,
    );
  }
});
