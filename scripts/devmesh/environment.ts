import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { splitCa } from '@armature/runtime/credentials';
import { certificateFiles, trustDomain } from './certificates.ts';
import { secretVersions } from './secret-rotation.ts';
import { compileCacheOf, repository, type State } from './state.ts';

/** Whose access tokens are taken: an issuer, and where its public keys are, a file or an https URL. */
export interface TokenTrust {
  issuer: string;
  jwks: string;
}

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
  /** gRPC addresses of other services by name. Where access is one of them, policy comes from there. */
  peers: Partial<Record<string, string>>;
  tokens: TokenTrust;
  /** Where the last good copies of what comes from other services are kept: policy and keys. */
  copyDir: string;
  /** Accounts and clients that identity makes at its start. */
  bootstrapFile?: string;
  acquirerUrl?: string;
  /** Where payments takes webhooks, host:port, for the acquirer. */
  webhookAddress?: string;
  mailUrl?: string;
  /** The acquirer's own folder. */
  dataDir?: string;
}

/** Variables of the caller that services see too. Everything else of theirs is set here. */
const inherited = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'NODE_OPTIONS', 'NODE_V8_COVERAGE'];
const inheritedPrefixes = ['ARMATURE_OTLP_', 'ARMATURE_LOG_', 'ARMATURE_CRASH_', 'ARMATURE_RESERVATION_'];

/** The whole environment of one service: the one place where scripts and tests say what a service is told. */
export function serviceEnvironment(state: State, run: ServiceRun): Record<string, string> {
  const told = run.name === 'acquirer' ? acquirerEnvironment(state, run) : meshEnvironment(state, run);
  const all = {
    ...fromCaller(),
    // Without it, every start strips the types of every file anew, by a compiler that stays in memory.
    NODE_COMPILE_CACHE: compileCacheOf(state),
    // A quarter of Node's default for short-lived objects, and two heaps of the C library instead of one for each
    // thread: an idle service keeps some 20 MiB less of memory that only its start needed, for a little more
    // collecting under load.
    NODE_OPTIONS: '--max-semi-space-size=4',
    MALLOC_ARENA_MAX: '2',
    ARMATURE_STATE_FILE: run.stateFile,
    ...told,
  };
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

function meshEnvironment(state: State, run: ServiceRun): Variables {
  const files = certificateFiles(state, run.name);
  const database = run.databaseUrl === undefined ? undefined : splitCa(run.databaseUrl);
  const broker = run.brokerUrl === undefined ? undefined : splitCa(run.brokerUrl);
  const [hashKey, ...otherHashKeys] = secretVersions(state, `request-hash:${run.name}`);
  return {
    ARMATURE_GRPC_ADDRESS: run.grpc ?? '127.0.0.1:0',
    ARMATURE_ADMIN_ADDRESS: run.admin ?? '127.0.0.1:0',
    ARMATURE_DATABASE_URL: database?.url,
    ARMATURE_DATABASE_CA_FILE: database?.caFile,
    ARMATURE_BROKER_URL: broker?.url,
    ARMATURE_BROKER_CA_FILE: broker?.caFile,
    ARMATURE_TLS_CERT_FILE: files.cert,
    ARMATURE_TLS_KEY_FILE: files.key,
    ARMATURE_TLS_CA_FILE: certificateFiles(state, 'ca').cert,
    ARMATURE_TRUST_DOMAIN: trustDomain,
    ARMATURE_TOKEN_ISSUER: run.tokens.issuer,
    ARMATURE_TOKEN_JWKS: run.tokens.jwks,
    ARMATURE_COPY_DIR: run.copyDir,
    ARMATURE_REQUEST_HASH_KEY: hashKey,
    ARMATURE_REQUEST_HASH_PREVIOUS_KEYS: joined(otherHashKeys),
    ...policyVariables(run),
    ...peerVariables(run),
    ...own[run.name]?.(state, run),
  };
}

type Variables = Record<string, string | undefined>;

/** What only one service is told. */
const own: Partial<Record<string, (state: State, run: ServiceRun) => Variables>> = {
  payments: (state, run) => ({
    ARMATURE_ACQUIRER_URL: run.acquirerUrl,
    ARMATURE_PAYMENTS_WEBHOOK_ADDRESS: run.http ?? '127.0.0.1:0',
    ARMATURE_ACQUIRER_WEBHOOK_SECRET: joined(secretVersions(state, 'acquirer-webhooks')),
  }),
  notifications: (state, run) => ({ ARMATURE_MAIL_URL: run.mailUrl ?? mailUrl(state) }),
  access: () => ({ ARMATURE_POLICY_SEED_FILE: policyFile }),
  identity: (state, run) => ({
    ARMATURE_IDENTITY_ADDRESS: run.http ?? '127.0.0.1:0',
    ARMATURE_IDENTITY_SECRET: secretVersions(state, 'identity')[0],
    ARMATURE_IDENTITY_OTHER_SECRETS: joined(secretVersions(state, 'identity').slice(1)),
    ARMATURE_IDENTITY_BOOTSTRAP_FILE: run.bootstrapFile,
    ARMATURE_MAIL_URL: run.mailUrl ?? mailUrl(state),
  }),
};

/** Access holds the policy; others follow it where they know it, and else read the file that it began with. */
function policyVariables({ name, peers }: ServiceRun): Variables {
  return name === 'access' || peers.access ? {} : { ARMATURE_POLICY_FILE: policyFile };
}

function acquirerEnvironment(state: State, run: ServiceRun): Variables {
  const told = { ARMATURE_ACQUIRER_ADDRESS: run.http ?? '127.0.0.1:0', ARMATURE_ACQUIRER_DATA_DIR: run.dataDir };
  if (run.webhookAddress === undefined) return told;
  return {
    ...told,
    ARMATURE_ACQUIRER_WEBHOOK_URL: `https://${run.webhookAddress}/v1/acquirer/events`,
    ARMATURE_ACQUIRER_WEBHOOK_SECRET: joined(secretVersions(state, 'acquirer-webhooks')),
    ARMATURE_ACQUIRER_WEBHOOK_CA_FILE: certificateFiles(state, 'ca').cert,
  };
}

/** What the acquirer signs its webhooks with, which payments knows too. */
export const webhookSecret = (state: State): string => secretVersions(state, 'acquirer-webhooks')[0];

/** A list as a variable has it; undefined: the variable is not set. */
const joined = (secrets: readonly string[]): string | undefined => secrets.join(',') || undefined;

function peerVariables(run: ServiceRun): Variables {
  const others = Object.entries(run.peers).filter(([name]) => name !== run.name);
  return Object.fromEntries(others.map(([name, address]) => [`ARMATURE_PEER_${name.toUpperCase()}`, address]));
}

function fromCaller(): Variables {
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

/** Of an identity that serves HTTPS there. The name is what its certificate says, and what browsers are shown. */
export function identityTrust(address: string): TokenTrust {
  const issuer = `https://localhost:${address.slice(address.lastIndexOf(':') + 1)}`;
  return { issuer, jwks: `${issuer}/jwks` };
}
