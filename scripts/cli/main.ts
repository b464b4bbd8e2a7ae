// The armature command. Compiled code is kept in node_modules/.cache, so that a start takes a fraction of a second.
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

enableCompileCache(join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'armature'));

// A reader such as head that has enough is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

const { runArmature } = await import('./program.ts');
await runArmature(process.argv.slice(2));
// A connection to a process that hangs keeps nothing alive: the command has ended.
setTimeout(() => process.exit(), 1_000).unref();
