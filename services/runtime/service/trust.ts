import { join } from 'node:path';
import { AccessServiceContract } from '@armature/proto/access/v1/contract.ts';
import { followPolicy } from '../authz/policy-follower.ts';
import { reportVersion } from '../authz/policy-metrics.ts';
import { filePolicy, type PolicySource } from '../authz/policy-source.ts';
import { type Config, ConfigError, type runtimeVariables } from '../config/config.ts';
import { type KeySource, keyFile, refreshMs } from '../credentials/jwks.ts';
import { keyUrl } from '../credentials/jwks-url.ts';
import { lastGoodCopy } from '../credentials/last-good-copy.ts';
import type { Client } from '../rpc/client.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Registry } from '../telemetry/metrics.ts';

export interface TrustOptions {
  service: string;
  config: Config<typeof runtimeVariables>;
  log: Logger;
  registry: Registry;
  /** The policy of the service that stores it. */
  policy: PolicySource | undefined;
  /** A client of access with its own connections, which its user closes. */
  connectAccess(contract: typeof AccessServiceContract): Client<typeof AccessServiceContract>;
}

/** The policy, and the keys that verify tokens. */
export interface Trust {
  readonly policy: PolicySource;
  readonly keys: KeySource;
  /** Which of both is missing, with the reason where it is known; empty when both are loaded. */
  waitingFor(): string[];
  stop(): Promise<void>;
}

/** Opens both as configured. Throws ConfigError when the configuration is incomplete. */
export async function openTrust(options: TrustOptions): Promise<Trust> {
  refuseGaps(options);
  const policy = options.policy ?? (await configuredPolicy(options));
  reportVersion(options.registry, policy);
  const keys = await configuredKeys(options);
  return {
    policy,
    keys: keys.source,
    waitingFor: () => [
      ...(policy.current() ? [] : [withReason('policy', policy.problem())]),
      ...(keys.ready() ? [] : [withReason('token keys', keys.problem())]),
    ],
    async stop() {
      await Promise.all([policy.stop(), keys.stop()]);
    },
  };
}

const withReason = (name: string, reason: string): string => (reason === '' ? name : `${name}: ${reason}`);

const isUrl = (place: string): boolean => place.startsWith('https://');

/** Checks rules between several variables, which no variable can check by itself. */
function refuseGaps({ config, policy }: TrustOptions): void {
  const follows = !policy && !config.policyFile;
  const problems: string[] = [];
  if (follows && config.accessAddresses.length === 0) {
    problems.push(
      'ARMATURE_PEER_ACCESS is not set: host:port of every instance of access, or set ARMATURE_POLICY_FILE',
    );
  }
  if ((follows || isUrl(config.tokenJwks)) && !config.copyDir) {
    problems.push('ARMATURE_COPY_DIR is not set: a folder for the last good copies of policy and keys');
  }
  if (problems.length > 0) throw new ConfigError(problems);
}

async function configuredPolicy({
  service,
  config,
  log,
  registry,
  connectAccess,
}: TrustOptions): Promise<PolicySource> {
  if (config.policyFile) return filePolicy(config.policyFile, log);
  return followPolicy({
    workload: `service:${service}`,
    connect: () => connectAccess(AccessServiceContract),
    copy: lastGoodCopy(join(config.copyDir, `${service}-policy`), log),
    ageMaxMs: config.policyAgeMaxMs,
    log,
    registry,
  });
}

async function configuredKeys({ service, config, log }: TrustOptions) {
  if (!isUrl(config.tokenJwks)) {
    const source = keyFile(config.tokenJwks);
    const timer = setInterval(() => {
      source.refresh().catch((error: unknown) => log.warn({ err: error }, 'the file of token keys was not read again'));
    }, refreshMs);
    timer.unref();
    return { source, ready: () => true, problem: () => '', stop: async () => clearInterval(timer) };
  }
  const source = await keyUrl({
    url: config.tokenJwks,
    caFile: config.tlsCaFile,
    expectWorkload: 'service:identity',
    trustDomain: config.trustDomain,
    copy: lastGoodCopy(join(config.copyDir, `${service}-keys`), log),
    log,
  });
  return { source, ready: source.ready, problem: source.problem, stop: source.stop };
}
