import { setTimeout as sleep } from 'node:timers/promises';
import type { CallContext } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { RpcError, rpcError } from '@armature/runtime/errors';
import { createRegistry } from '@armature/runtime/telemetry';
import { pino } from 'pino';
import t from 'tap';
import { createDatabase } from '../support/infra.ts';
import { refusal } from '../support/refusal.ts';
import { workloadCertificate } from '../support/service.ts';
import { deadlines, type HopClient, HopContract, hopClient, type Note, startHop } from './hops.ts';
import { leaksOf } from './leaks.ts';
import { openWire } from './wire.ts';

/** How soon after the end of a call the last hop must know it, with room for a busy machine. */
const promptMs = 500;
const askPath = HopContract.methods.ask.path;

const database = await createDatabase(t, 'hops');
const db = await openDatabase({
  url: database.url,
  log: pino({ level: 'silent' }),
  registry: createRegistry('hops'),
});
t.teardown(() => db.close());

type Ask = (message: Note, call: CallContext<Note>) => Promise<Note>;
type Watch = (message: Note, call: CallContext<Note>) => AsyncIterable<Note>;

/** The handlers of the two hops; each test sets what it needs. By default the first hop calls the second. */
let second: { ask: Ask; watch: Watch };
let first: { ask: Ask; watch: Watch };
/** The call contexts that each hop has seen, newest last. */
const seen = { first: [] as CallContext[], second: [] as CallContext[] };

const far = await startHop(t, 'inventory', db, {
  ask(message, call) {
    seen.second.push(call);
    return second.ask(message, call);
  },
  watch(message, call) {
    seen.second.push(call);
    return second.watch(message, call);
  },
});
const onward: HopClient = await hopClient(t, far, 'inventory', 'orders');
const near = await startHop(t, 'orders', db, {
  ask(message, call) {
    seen.first.push(call);
    return first.ask(message, call);
  },
  watch(message, call) {
    seen.first.push(call);
    return first.watch(message, call);
  },
});
/** No server listens on port 1. */
const nowhere = await hopClient(t, { address: '127.0.0.1:1' }, 'inventory', 'orders');
const client = await hopClient(t, near, 'orders', 'developer');
const wire = await openWire(near.address, await workloadCertificate('developer'));
t.teardown(() => wire.close());

t.beforeEach(() => {
  seen.first.length = 0;
  seen.second.length = 0;
  near.log.length = 0;
  second = { ask: async (note) => note, watch: async function* () {} };
  first = {
    ask: (note, call) => onward.ask(note, { parent: call }),
    watch: (note, call) => onward.watch(note, { parent: call }),
  };
});

const onlySecond = (): CallContext => {
  const [call] = seen.second;
  if (!call || seen.second.length > 1) throw new Error(`the second hop saw ${seen.second.length} calls`);
  return call;
};

/** Waits for an effect of another connection. The time limit of the test file ends a wait that never succeeds. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

/** Never responds; ends only with its call. */
const hang: Ask = (_, call) =>
  new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(call.signal.reason), { once: true }));

t.test('the deadline', async (t) => {
  const remaining = (response: Note) => Number(response.text);
  t.beforeEach(() => {
    second.ask = async (_, call) => ({ text: String(call.deadline - Date.now()) });
  });

  t.test('of the client reaches the second hop', async (t) => {
    const left = remaining(await client.ask({ text: '' }, { timeoutMs: 700 }));
    t.ok(left <= 700 && left > 100, `${left} ms of 700 are left`);
  });

  t.test('shrinks by the time that the first hop takes', async (t) => {
    first.ask = async (note, call) => {
      await sleep(200);
      return onward.ask(note, { parent: call });
    };
    const left = remaining(await client.ask({ text: '' }, { timeoutMs: 700 }));
    t.ok(left <= 501 && left > 0, `${left} ms of 500 are left`);
  });

  t.test('of the second hop may be nearer than that of the first, never later', async (t) => {
    first.ask = (note, call) => onward.ask(note, { parent: call, timeoutMs: 300 });
    const nearer = remaining(await client.ask({ text: '' }, { timeoutMs: 1_500 }));
    t.ok(nearer <= 300, `${nearer} ms of 300 are left`);
    first.ask = (note, call) => onward.ask(note, { parent: call, timeoutMs: 1_500 });
    const later = remaining(await client.ask({ text: '' }, { timeoutMs: 500 }));
    t.ok(later <= 500, `${later} ms of 500 are left`);
  });

  for (const row of [
    { name: 'of a call without one is the contract default', timeout: undefined, limit: deadlines.defaultMs },
    { name: 'beyond the maximum is cut to it', timeout: '1H', limit: deadlines.maxMs },
    { name: 'of 597 hours does not wrap into the past', timeout: '597H', limit: deadlines.maxMs },
    { name: 'of 11 thousand years does not wrap into the past', timeout: '99999999H', limit: deadlines.maxMs },
    { name: 'in the largest number of seconds is cut', timeout: '99999999S', limit: deadlines.maxMs },
  ]) {
    t.test(row.name, async (t) => {
      first.ask = second.ask;
      const response = await wire.call(askPath, { headers: row.timeout ? { 'grpc-timeout': row.timeout } : {} });
      t.equal(response.code, 'OK', response.message);
      const left = Number(response.replies[0]);
      t.ok(left <= row.limit && left > row.limit / 4, `${left} ms of ${row.limit} are left`);
    });
  }

  t.test('ends a call that is without a response, with or without one of its own', async (t) => {
    second.ask = hang;
    for (const timeout of ['200m', undefined]) {
      const since = performance.now();
      const response = await wire.call(askPath, { headers: timeout ? { 'grpc-timeout': timeout } : {} });
      const took = performance.now() - since;
      t.equal(response.code, 'DEADLINE_EXCEEDED');
      t.ok(took < deadlines.defaultMs + promptMs, `took ${took} ms`);
      await until(() => onlySecond().signal.aborted);
      // The second hop is cancelled a moment before its own timer, since its deadline counts from the arrival.
      const early = onlySecond().deadline - Date.now();
      t.ok(early < promptMs, `the second hop ends with the first, ${early} ms before its own deadline`);
      seen.second.length = 0;
    }
  });

  t.test('is what the client reports when it has passed', async (t) => {
    second.ask = hang;
    for (const ask of [first.ask, hang]) {
      first.ask = ask;
      await t.rejects(client.ask({ text: '' }, { timeoutMs: 100 }), refusal({ code: 'DEADLINE_EXCEEDED' }));
    }
    await t.rejects(
      onward.ask({ text: '' }, { timeoutMs: 100 }),
      refusal({ code: 'DEADLINE_EXCEEDED' }),
      'and one straight to the second hop',
    );
  });

  t.test('that has passed starts nothing', async (t) => {
    for (const timeout of ['1n', '1u', '0S']) {
      const response = await wire.call(askPath, { headers: { 'grpc-timeout': timeout } });
      t.equal(response.code, 'DEADLINE_EXCEEDED', timeout);
    }
    first.ask = async (note, call) => {
      await sleep(call.deadline - Date.now() + 20);
      return onward.ask(note, { parent: call });
    };
    await t.rejects(client.ask({ text: '' }, { timeoutMs: 50 }), refusal({ code: 'DEADLINE_EXCEEDED' }));
    await until(() => near.inFlight() === 0);
    t.strictSame(seen.second, []);
  });
});

t.test('a cancellation', async (t) => {
  let arrived: () => void;
  let atSecond: Promise<void>;
  t.beforeEach(() => {
    atSecond = new Promise((resolve) => {
      arrived = resolve;
    });
    second.ask = (note, call) => {
      arrived();
      return hang(note, call);
    };
    second.watch = async function* (_, call) {
      yield { text: 'one' };
      await hang({ text: '' }, call);
    };
  });

  t.test('by the client reaches the second hop', async (t) => {
    const abort = new AbortController();
    const asked = client.ask({ text: '' }, { signal: abort.signal, timeoutMs: 1_500 });
    await atSecond;
    t.notOk(onlySecond().signal.aborted);
    const since = performance.now();
    abort.abort(new Error('changed my mind'));
    await t.rejects(asked, refusal({ code: 'CANCELLED' }));
    await until(() => onlySecond().signal.aborted);
    t.ok(performance.now() - since < promptMs);
    t.ok(onlySecond().deadline > Date.now(), 'before its deadline');
  });

  t.test('by a connection that breaks reaches it too', async (t) => {
    const brief = await openWire(near.address, await workloadCertificate('developer'));
    const abort = new AbortController();
    const asked = brief.call(askPath, { signal: abort.signal, headers: { 'grpc-timeout': '1500m' } });
    await atSecond;
    const since = performance.now();
    abort.abort();
    await asked;
    brief.close();
    await until(() => onlySecond().signal.aborted);
    t.ok(performance.now() - since < promptMs);
  });

  t.test('by the first hop reaches it', async (t) => {
    first.ask = async (note, call) => {
      const abort = new AbortController();
      const asked = onward.ask(note, { parent: call, signal: abort.signal });
      await atSecond;
      abort.abort(new Error('enough'));
      await asked.catch(() => {});
      return { text: 'without it' };
    };
    t.strictSame(await client.ask({ text: '' }, { timeoutMs: 1_500 }), { text: 'without it' });
    await until(() => onlySecond().signal.aborted);
  });

  t.test('ends a stream through both hops', async (t) => {
    for await (const { text } of client.watch({ text: '' }, { timeoutMs: 1_500 })) {
      t.equal(text, 'one');
      break;
    }
    const since = performance.now();
    await until(() => onlySecond().signal.aborted);
    t.ok(performance.now() - since < promptMs);
  });
});

t.test('a call inside a transaction is refused before it is made', async (t) => {
  first.ask = (note, call) => db.transaction(call, () => onward.ask(note, { parent: call }));
  await t.rejects(client.ask({ text: '' }), refusal({ code: 'INTERNAL', reason: 'INTERNAL' }));
  t.strictSame(seen.second, []);
  t.match(near.log, [{ err: { message: /called inside a transaction/ } }]);
  first.ask = async (note, call) => {
    await db.transaction(call, (tx) => tx.query('select 1 as one'));
    return onward.ask(note, { parent: call });
  };
  t.strictSame(await client.ask({ text: 'after it' }), { text: 'after it' });
});

/** Secrets that must not leave the process: a password, a query, a path and a card number. */
const secret = 'hunter2 at Store.pay (/srv/app/store.ts:7:1) select * from card where pan = 4111111111111111';
const secretPattern = /hunter2|store\.ts|select|4111/;

t.test('a handler that', async (t) => {
  const fault = (name: string, ask: Ask) => ({ name, ask, code: 'INTERNAL', cause: secretPattern });
  const rows: { name: string; ask: Ask; code: string; cause: RegExp | undefined }[] = [
    fault('throws at once', () => {
      throw new Error(secret);
    }),
    fault('rejects', async () => {
      throw new Error(secret);
    }),
    fault('rejects with a cause', () => Promise.reject(new Error('outer', { cause: new Error(secret) }))),
    fault('rejects with a string', () => Promise.reject(secret)),
    fault('rejects with an object that looks like a status', () =>
      Promise.reject({ code: 5, details: secret, metadata: null, message: secret }),
    ),
    { name: 'rejects with nothing', ask: () => Promise.reject(undefined), code: 'INTERNAL', cause: undefined },
    fault('passes on a refusal that was not for its caller', (note, call) => {
      second.ask = () => Promise.reject(rpcError('PERMISSION_DENIED', 'HOPS_NOT_YOURS', secret));
      return onward.ask(note, { parent: call });
    }),
    {
      name: 'asks a service that is not there',
      ask: (note, call) => nowhere.ask(note, { parent: call }),
      code: 'UNAVAILABLE',
      cause: /ECONNREFUSED/,
    },
    {
      name: 'asks a service that is too slow for it',
      ask: (note, call) => {
        second.ask = hang;
        return onward.ask(note, { parent: call, timeoutMs: 50 });
      },
      code: 'UNAVAILABLE',
      cause: /Deadline exceeded/,
    },
    {
      name: 'responds with nothing',
      ask: () => Promise.resolve(undefined as unknown as Note),
      code: 'INTERNAL',
      cause: /undefined/,
    },
    {
      name: 'refuses in words that are no Unicode',
      ask: () => Promise.reject(rpcError('NOT_FOUND', 'HOPS_GONE', 'lone \ud800 surrogate', { what: '\udfff' })),
      code: 'NOT_FOUND',
      cause: undefined,
    },
    {
      name: 'refuses at great length',
      ask: () => Promise.reject(rpcError('NOT_FOUND', 'HOPS_GONE', 'long '.repeat(100_000))),
      code: 'NOT_FOUND',
      cause: undefined,
    },
    {
      name: 'refuses with a cause',
      ask: () => Promise.reject(new RpcError('ABORTED', 'HOPS_BUSY', 'busy', { cause: new Error(secret) })),
      code: 'ABORTED',
      cause: secretPattern,
    },
    {
      name: 'responds with more than a message may hold',
      ask: async () => ({ text: 'x'.repeat(5 * 1024 * 1024) }),
      code: 'RESOURCE_EXHAUSTED',
      cause: undefined,
    },
  ];
  for (const { name, ask, code, cause } of rows) {
    t.test(name, async (t) => {
      first.ask = ask;
      const response = await wire.call(askPath);
      t.equal(response.code, code);
      t.notMatch(JSON.stringify(response), secretPattern);
      t.strictSame(leaksOf(response), []);
      if (code === 'INTERNAL') {
        t.equal(response.message, 'internal error');
        t.equal(near.log.length, 1, 'the cause is logged once');
        t.equal(response.error?.metadata.correlation_id, near.log[0]?.call);
      }
      if (code === 'UNAVAILABLE')
        t.match(response.error, { reason: 'DEPENDENCY_UNAVAILABLE', details: { retryDelayMs: 500 } });
      if (cause) t.match(JSON.stringify(near.log), cause);
      t.equal(near.inFlight(), 0);
    });
  }

  t.test('breaks in the middle of a stream', async (t) => {
    first.watch = async function* () {
      yield { text: 'one' };
      throw new Error(secret);
    };
    const response = await wire.call(HopContract.methods.watch.path);
    t.match(response, { code: 'INTERNAL', message: 'internal error' });
    t.equal(response.replies.length, 1);
    t.notMatch(JSON.stringify(response), secretPattern);
    t.strictSame(leaksOf(response), []);
    t.equal(near.log.length, 1);
    t.equal(response.error?.metadata.correlation_id, near.log[0]?.call);
  });
});

t.test('after all that the hops serve, and nothing is left open', async (t) => {
  t.strictSame(await client.ask({ text: 'still there' }), { text: 'still there' });
  t.strictSame([near.inFlight(), far.inFlight()], [0, 0]);
});
