import type { Logger } from '../telemetry/log.ts';
import { loadPolicy, type Policy } from './policy.ts';

/** The source of a service's policy. */
export interface PolicySource {
  /** The policy in force; null while no policy can be trusted: then nothing is allowed. */
  current(): Policy | null;
  /** Why there is no policy, for people; empty when that is not known. */
  problem(): string;
  stop(): Promise<void>;
}

/** Reads the policy of a file once. */
export async function filePolicy(file: string, log: Logger): Promise<PolicySource> {
  let problem = '';
  const policy = await loadPolicy(file).then(
    (loaded) => {
      log.info({ version: loaded.version }, 'policy loaded');
      return loaded;
    },
    (error: unknown) => {
      log.error({ err: error, file }, 'no policy: everything is denied');
      problem = error instanceof Error ? error.message : String(error);
      return null;
    },
  );
  return { current: () => policy, problem: () => problem, stop: async () => {} };
}
