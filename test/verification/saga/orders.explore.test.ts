// Explores the saga engine with the definitions of orders.

import t from 'tap';
import { sagaDefinitions } from '../../../services/orders/testbed.ts';
import { explore } from './exploration.ts';

/** The definitions retry for days. Three attempts reach every state, because the rule is the same for any time. */
const retry = { initialBackoffMs: 1, maxBackoffMs: 4, maxElapsedMs: 12 };

/** Moves of every step that calls another service. */
const toEveryCall = [
  'responded',
  'responded twice',
  'refused',
  'refused, response lost',
  'timed out after acting',
  'timed out before acting',
  'timed out on the way',
  'crash before the call',
  'crash after sending',
  'crash after the response',
];
const toEveryQuery = ['status known', 'status unknown', 'crash while asking'];
const toEveryCompensation = [
  'compensated',
  'compensated twice',
  'compensated, response lost',
  'compensation fails',
  'compensation refused',
  'crash after compensating',
];
const toEveryLocalStep = ['local step done', 'local step fails', 'local step refuses'];

for (const definition of sagaDefinitions()) {
  t.test(`everything that can happen to version ${definition.version} of a ${definition.name}`, async (t) => {
    const { states, transitions, ends, depth, longestWayOut, happened } = explore({ ...definition, retry });
    t.comment(
      `${definition.name}: ${states} states, ${transitions} transitions, ${depth} moves deep, at most ` +
        `${longestWayOut} moves to an end, ends ${JSON.stringify(ends)}`,
    );
    const missing = definition.steps.flatMap(({ name, local, queryable, compensable }) =>
      [
        ...(local ? toEveryLocalStep : toEveryCall),
        ...(queryable ? toEveryQuery : []),
        ...(compensable ? toEveryCompensation : []),
      ]
        .map((event) => `${name}: ${event}`)
        .filter((event) => !happened[event]),
    );
    t.strictSame(missing, [], 'every move happened to every step');
    t.ok((ends.completed ?? 0) > 0);
  });
}
