import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { compose, openCall, silentLog } from '../context/call-context.ts';
import { childTrace, traceparent } from '../context/trace.ts';
import { rpcError } from '../errors/errors.ts';
import { startTracing } from './tracing.ts';

t.test('trace context', async (t) => {
  const root = childTrace(undefined);
  const child = childTrace(traceparent(root));
  t.equal(child.traceId, root.traceId);
  t.equal(child.parentId, root.spanId);
  t.not(child.spanId, root.spanId);
  for (const bad of [
    '',
    'nonsense',
    `00-${'0'.repeat(32)}-${'1'.repeat(16)}-01`,
    `00-${'a'.repeat(32)}-${'0'.repeat(16)}-01`,
  ]) {
    t.equal(childTrace(bad).parentId, '', `${JSON.stringify(bad)} starts a new trace`);
  }
  t.equal(childTrace(`00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`).sampled, false);
});

t.test('calls are reported as spans of one trace', async (t) => {
  const bodies: string[] = [];
  const collector = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      bodies.push(body);
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
  t.teardown(() => collector.close());
  const tracing = await startTracing('orders', `http://127.0.0.1:${(collector.address() as AddressInfo).port}`);
  const call = openCall({
    kind: 'server',
    name: '/a.B/C',
    message: null,
    deadline: Date.now() + 1_000,
    trace: childTrace(undefined),
    log: silentLog,
  });
  await compose([tracing.interceptor], async () => 'fine')(call);
  const refused = { ...call, trace: childTrace(traceparent(call.trace)) };
  await t.rejects(
    compose([tracing.interceptor], async () => {
      throw rpcError('NOT_FOUND', 'NOTHING', 'not there');
    })(refused),
  );
  await tracing.stop();
  const spans = bodies.flatMap((body) => JSON.parse(body).resourceSpans[0].scopeSpans[0].spans);
  t.equal(spans.length, 2);
  t.match(spans[0], { traceId: call.trace.traceId, spanId: call.trace.spanId, name: 'a.B/C' });
  t.match(spans[1], { traceId: call.trace.traceId, parentSpanId: call.trace.spanId, status: { code: 2 } });
});

t.test('without an endpoint nothing is done, and nothing loaded', async (t) => {
  const tracing = await startTracing('orders', '');
  const handler = async () => 'fine';
  t.equal(tracing.interceptor(handler), handler);
});
