import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** The part of a tap test that is used here. */
type TestScope = { testdir(): string; teardown(clean: () => unknown): void };

export type AcquirerProcess = {
  url: string;
  dataDirectory: string;
  /** Everything the process has printed so far. */
  output(): string;
  /** Sends a signal and resolves with the exit code, or null when the signal itself ended the process. */
  kill(signal: NodeJS.Signals): Promise<number | null>;
};

export type ProcessOptions = {
  dataDirectory?: string;
  slowMs?: number;
  /** Further variables of its environment. */
  env?: Record<string, string>;
  /** The size in blocks of 512 bytes at which the system refuses to let files grow. */
  fileLimitBlocks?: number;
};

const program = join(import.meta.dirname, 'main.ts');

/** Starts the real program on a free port and resolves when it serves. It never outlives the test. */
export async function startAcquirer(t: TestScope, options: ProcessOptions = {}): Promise<AcquirerProcess> {
  const dataDirectory = options.dataDirectory ?? t.testdir();
  const child = spawnAcquirer(options, dataDirectory);
  const exited = once(child, 'exit').then(([code]) => code as number | null);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  let output = '';
  child.stderr!.on('data', (chunk) => {
    output += chunk;
  });
  const http = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout!).on('line', (line) => {
      output += `${line}\n`;
      const { msg, http } = JSON.parse(line);
      if (msg === 'serving') resolve(http);
    });
    exited.then((code) => reject(new Error(`the acquirer ended with ${code}: ${output}`)));
  });
  return {
    url: `http://${http}`,
    dataDirectory,
    output: () => output,
    kill(signal) {
      child.kill(signal);
      return exited;
    },
  };
}

function spawnAcquirer(
  { slowMs = 100, fileLimitBlocks, env: more }: ProcessOptions,
  dataDirectory: string,
): ChildProcess {
  const env = {
    ...more,
    ARMATURE_ACQUIRER_DATA_DIR: dataDirectory,
    ARMATURE_ACQUIRER_SLOW_MS: String(slowMs),
    ARMATURE_STATE_FILE: join(dataDirectory, 'state.json'),
    ARMATURE_LOG_LEVEL: 'debug',
  };
  const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe'];
  if (fileLimitBlocks === undefined) return spawn(process.execPath, [program], { env, stdio });
  // The test runner loads itself into every Node child, and there turns SIGXFSZ, which Node ignores, into an exit.
  const limited = `unset NODE_OPTIONS; ulimit -f ${fileLimitBlocks}; exec "$0" "$1"`;
  return spawn('/bin/sh', ['-c', limited, process.execPath, program], { env, stdio });
}

// Tests examine the responses, so their JSON has no type here.
// biome-ignore lint/suspicious/noExplicitAny: tests read JSON of any shape
export type AcquirerResponse = { status: number; text: string; json: any; replayed: boolean };

export type Sent = {
  key?: string;
  body?: unknown;
  raw?: string;
  headers?: Record<string, string>;
  timeout_ms?: number;
};

/** One request; `body` is sent as JSON and `raw` as it is. Rejects when there is no response in time. */
export async function ask(url: string, method: string, path: string, sent: Sent = {}): Promise<AcquirerResponse> {
  const headers = { ...sent.headers, ...(sent.key === undefined ? {} : { 'idempotency-key': sent.key }) };
  const body = sent.raw ?? (sent.body === undefined ? undefined : JSON.stringify(sent.body));
  const signal = AbortSignal.timeout(sent.timeout_ms ?? 10_000);
  const response = await fetch(url + path, { method, headers, body, signal });
  const text = await response.text();
  return {
    status: response.status,
    text,
    json: JSON.parse(text),
    replayed: response.headers.get('idempotent-replayed') === 'true',
  };
}

/** The body of an authorization with the given card. */
export const chargeWith = (payment_method: string, amount_minor = 1000) => ({
  order_reference: 'order-1',
  amount_minor,
  currency_code: 'EUR',
  payment_method,
});

export const authorizeWith = (url: string, key: string, payment_method: string, timeout_ms?: number) =>
  ask(url, 'POST', '/v1/charges', { key, body: chargeWith(payment_method), timeout_ms });

export const statusOf = (url: string, key: string) =>
  ask(url, 'GET', `/v1/operations?idempotency_key=${encodeURIComponent(key)}`);

type Listed = { position: number; operation_id: string; idempotency_key: string | null; status: string; kind: string };

/** The whole log, page by page. */
export async function listAll(url: string, limit = 1000): Promise<Listed[]> {
  const all: Listed[] = [];
  for (let after = 0; ; ) {
    const { json } = await ask(url, 'GET', `/v1/operations?after=${after}&limit=${limit}`);
    all.push(...json.operations);
    if (!json.has_more) return all;
    after = json.next_after;
  }
}
