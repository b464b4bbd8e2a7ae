import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { certificateFiles, trustDomain } from './certificates.ts';
import type { ServiceName } from './services.ts';
import { repository, type State } from './state.ts';
import { tokenFiles, tokenIssuer } from './token.ts';

/** What differs from one running service to the next; the rest of its environment follows from it. */
export interface ServiceRun {
  name: string;
  /** Where the service says that it is ready. */
  stateFile: string;
  grpc?: string;
  admin?: string;
  http?: string;
  databaseUrl?: string;
  brokerUrl?: string;
  /** gRPC addresses of other services by name. */
  peers: Partial<Record<string, string>>;
  acquirerUrl?: string;
  mailUrl?: string;
  /** The acquirer's own folder. */
  dataDir?: string;
}

/** Variables of the caller that services see too. Everything else of theirs is set here. */
const inherited = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'NODE_OPTIONS', 'NODE_V8_COVERAGE'];
const inheritedPrefixes = ['ARMATURE_OTLP_', 'ARMATURE_LOG_', 'ARMATURE_CRASH_', 'ARMATURE_RESERVATION_'];

/** The whole environment of one service: the one place where scripts and tests say what a service is told. */
export function serviceEnvironment(state: State, run: ServiceRun): Record<string, string> {
  const own = run.name === 'acquirer' ? acquirerEnvironment(run) : meshEnvironment(state, run);
  const all = {
    ...fromCaller(),
    // Without it, every start strips the types of every file anew, by a compiler that stays in memory.
    NODE_COMPILE_CACHE: join(state.dir, 'compile-cache'),
    // Half of Node's default for short-lived objects: an idle service keeps some 15 MiB less of memory that
    // only its start needed, for a little more collecting under load.
    NODE_OPTIONS: '--max-semi-space-size=8',
    ARMATURE_STATE_FILE: run.stateFile,
    ...own,
  };
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

function meshEnvironment(state: State, run: ServiceRun): Record<string, string | undefined> {
  const files = certificateFiles(state, run.name);
  return {
    ARMATURE_GRPC_ADDRESS: run.grpc ?? '127.0.0.1:0',
    ARMATURE_ADMIN_ADDRESS: run.admin ?? '127.0.0.1:0',
    ARMATURE_DATABASE_URL: run.databaseUrl,
    ARMATURE_BROKER_URL: run.brokerUrl,
    ARMATURE_TLS_CERT_FILE: files.cert,
    ARMATURE_TLS_KEY_FILE: files.key,
    ARMATURE_TLS_CA_FILE: certificateFiles(state, 'ca').cert,
    ARMATURE_TRUST_DOMAIN: trustDomain,
    ARMATURE_TOKEN_ISSUER: tokenIssuer,
    ARMATURE_TOKEN_JWKS: tokenFiles(state).jwks,
    ARMATURE_POLICY_FILE: policyFile,
    ...peerVariables(run),
    ...(run.name === 'access' ? { ARMATURE_POLICY_SEED_FILE: policyFile } : {}),
    ...(run.name === 'payments' ? { ARMATURE_ACQUIRER_URL: run.acquirerUrl } : {}),
    ...(run.name === 'notifications' ? { ARMATURE_MAIL_URL: run.mailUrl ?? mailUrl(state) } : {}),
  };
}

function acquirerEnvironment(run: ServiceRun): Record<string, string | undefined> {
  return { ARMATURE_ACQUIRER_ADDRESS: run.http ?? '127.0.0.1:0', ARMATURE_ACQUIRER_DATA_DIR: run.dataDir };
}

function peerVariables(run: ServiceRun): Record<string, string | undefined> {
  const others = Object.entries(run.peers).filter(([name]) => name !== run.name);
  return Object.fromEntries(others.map(([name, address]) => [`ARMATURE_PEER_${name.toUpperCase()}`, address]));
}

function fromCaller(): Record<string, string | undefined> {
  const names = Object.keys(process.env).filter(
    (name) => inherited.includes(name) || inheritedPrefixes.some((prefix) => name.startsWith(prefix)),
  );
  return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}

export const policyFile = join(repository, 'deploy', 'policy.csv');

/** Development mail is delivered into a folder, one file a mail. */
export const mailDirectory = (state: State) => join(state.dir, 'mail');

export function mailUrl(state: State): string {
  return pathToFileURL(mailDirectory(state)).href.replace(/^file:/, 'maildir:');
}

/** The gRPC services that a service may call: all of them; which calls are let through is policy's business. */
export function isMeshService(name: ServiceName): boolean {
  return name !== 'acquirer';
}
