import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';

const limitMegabytes = 130;

t.setTimeout(120_000);

t.test(`an idle service needs less than ${limitMegabytes} MB`, async (t) => {
  const program = join(import.meta.dirname, 'idle-process.ts');
  const unloaded = 'unset NODE_OPTIONS; exec "$0" "$1"';
  const { stdout } = await promisify(execFile)('/bin/sh', ['-c', unloaded, process.execPath, program]);
  const table = JSON.parse(stdout) as { name: string; megabytes: number }[];
  for (const { name, megabytes } of table) t.comment(`${name.padEnd(14)} ${megabytes.toFixed(1).padStart(6)} MB`);
  t.ok(table.length >= 6, 'every service is in the table');
  for (const { name, megabytes } of table) t.ok(megabytes < limitMegabytes, `${name}: ${megabytes.toFixed(1)} MB`);
});
