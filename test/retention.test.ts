import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { stepsOf } from '@armature/runtime/migrations';
import t from 'tap';
import { storingServices } from '../services/manifest.ts';
import { migrationsOf } from './support/migrating.ts';

t.test('docs/retention.md says of every table how long its rows are kept', async (t) => {
  const page = readFileSync(resolve(import.meta.dirname, '../docs/retention.md'), 'utf8');
  const listed = new Set([...page.matchAll(/^\| `([a-z_]+)` \| [a-z ]+ \| \S/gm)].map((row) => row[1]));
  const made = new Set(['migration']);
  for (const service of storingServices) {
    for (const step of (await migrationsOf(service)).flatMap(stepsOf)) {
      const table = /^\s*create table if not exists (\w+)/.exec(step.statement)?.[1];
      if (table) made.add(table);
    }
  }
  t.ok(made.size > 40);
  t.strictSame([...made].filter((table) => !listed.has(table)).sort(), [], 'tables without a line');
  t.strictSame([...listed].filter((table) => !made.has(table ?? '')).sort(), [], 'lines without a table');
});
