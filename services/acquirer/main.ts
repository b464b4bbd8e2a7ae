import { run } from './run.ts';

// Every service answers `migrate`; this one has no database, so there is nothing to do.
if (process.argv[2] !== 'migrate') await run();
