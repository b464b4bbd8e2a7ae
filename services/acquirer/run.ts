import { rename, writeFile } from 'node:fs/promises';
import { closeAcquirer, openAcquirer } from './acquirer.ts';
import { type Config, ConfigError, readConfig } from './config.ts';
import { createLogger, describe } from './logger.ts';
import { serve } from './server.ts';

/** Runs the acquirer until SIGTERM or SIGINT, then drains and exits 0; exits 1 when it cannot start. */
export async function run(): Promise<void> {
  try {
    await start(readConfig());
  } catch (error) {
    const problems = error instanceof ConfigError ? { problems: error.problems } : { error: describe(error) };
    createLogger('info').error('the acquirer could not start', problems);
    process.exit(1);
  }
}

async function start(config: Config): Promise<void> {
  const logger = createLogger(config.logLevel);
  const acquirer = await openAcquirer(config, logger);
  const server = await serve(acquirer, config.host, config.port, logger);
  let stopping = false;
  const stop = async (signal: string) => {
    if (stopping) return;
    stopping = true;
    logger.info('stopping', { signal });
    try {
      await server.close();
      await closeAcquirer(acquirer);
    } catch (error) {
      logger.error('stopping failed', { error: describe(error) });
      process.exit(1);
    }
    process.exit(0);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  if (config.stateFile !== undefined) await writeStateFile(config.stateFile, server.address);
  logger.info('serving', { http: server.address });
}

/** Writes the address to the state file. A rename replaces it, so that no reader sees half a file. */
async function writeStateFile(stateFile: string, http: string): Promise<void> {
  const draft = `${stateFile}.${process.pid}`;
  await writeFile(draft, `${JSON.stringify({ name: 'acquirer', pid: process.pid, http })}\n`);
  await rename(draft, stateFile);
}
