import type { Logger } from '../telemetry/log.ts';
import { loadPolicy, type Policy } from './policy.ts';

/** The source of a service's policy. */
export interface PolicySource {
  /** The policy in force; null while no policy can be trusted: then nothing is allowed. */
  current(): Policy | null;
  stop(): Promise<void>;
}

/** Reads the policy of a file once. */
export async function filePolicy(file: string, log: Logger): Promise<PolicySource> {
  const policy = await loadPolicy(file).then(
    (loaded) => {
      log.info({ version: loaded.version }, 'policy loaded');
      return loaded;
    },
    (error: unknown) => {
      log.error({ err: error, file }, 'no policy: everything is denied');
      return null;
    },
  );
  return { current: () => policy, stop: async () => {} };
}
