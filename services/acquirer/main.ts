import { run } from './run.ts';

// Every service has the command `migrate`. This one has no database, so the command does nothing.
if (process.argv[2] !== 'migrate') await run();
