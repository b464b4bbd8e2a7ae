import { addressesMax, readAddress, readPeerAddress } from './address.ts';

/** One environment variable: its name, its purpose, and how its text becomes a value. */
export interface Variable<T> {
  readonly name: string;
  readonly about: string;
  /** Throws an Error with a message that says what is wrong. */
  readonly parse: (raw: string) => T;
  /** Used when the variable is not set; undefined makes it required. */
  readonly fallback?: T | undefined;
  readonly secret?: boolean;
}

export type ConfigSpec = Readonly<Record<string, Variable<unknown>>>;
export type Config<S extends ConfigSpec> = { readonly [K in keyof S]: S[K] extends Variable<infer T> ? T : never };

/** Lists every problem of the environment at once. Values of secrets are not quoted. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  constructor(problems: readonly string[]) {
    super(`configuration is not usable:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
  }
}

/** Reads the variables of `spec`. Throws ConfigError that lists every problem. */
export function readConfig<S extends ConfigSpec>(
  spec: S,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Config<S> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, variable] of Object.entries(spec)) {
    const raw = env[variable.name];
    if (raw === undefined || raw === '') {
      if (variable.fallback === undefined) problems.push(`${variable.name} is not set: ${variable.about}`);
      values[key] = variable.fallback;
      continue;
    }
    try {
      values[key] = variable.parse(raw);
    } catch (error) {
      const shown = variable.secret ? 'its value' : JSON.stringify(raw);
      problems.push(`${variable.name}: ${shown} ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return values as Config<S>;
}

interface Options<T> {
  fallback?: T;
  secret?: boolean;
}

export const text = (name: string, about: string, options: Options<string> = {}): Variable<string> => ({
  name,
  about,
  ...options,
  parse: (raw) => raw,
});

export const oneOf = <const T extends string>(
  name: string,
  about: string,
  values: readonly T[],
  fallback: T,
): Variable<T> => ({
  name,
  about,
  fallback,
  parse(raw) {
    const value = values.find((candidate) => candidate === raw);
    if (value === undefined) throw new Error(`is none of ${values.join(', ')}`);
    return value;
  },
});

export const integer = (
  name: string,
  about: string,
  { min, max, ...options }: Options<number> & { min: number; max: number },
): Variable<number> => ({
  name,
  about,
  ...options,
  parse(raw) {
    const value = Number(raw);
    if (!/^-?\d+$/.test(raw) || value < min || value > max)
      throw new Error(`is not a whole number from ${min} to ${max}`);
    return value;
  },
});

/** A URL of one of the given protocols; it may hold a password, so it is secret. */
export const url = (
  name: string,
  about: string,
  protocols: readonly string[],
  options: Options<string> = {},
): Variable<string> => ({
  name,
  about,
  secret: true,
  ...options,
  parse(raw) {
    if (!URL.canParse(raw) || !protocols.includes(new URL(raw).protocol.slice(0, -1))) {
      throw new Error(`is not a URL of ${protocols.join(' or ')}`);
    }
    return raw;
  },
});

/** Texts separated by commas; surrounding spaces are removed. */
export const words = (
  name: string,
  about: string,
  options: Options<readonly string[]> = {},
): Variable<readonly string[]> => ({
  name,
  about,
  ...options,
  parse: (raw) =>
    raw
      .split(',')
      .map((word) => word.trim())
      .filter((word) => word !== ''),
});

/** host:port to listen on. Port 0 selects a free one. */
export const address = (name: string, about: string, options: Options<string> = {}): Variable<string> => ({
  name,
  about,
  ...options,
  parse(raw) {
    readAddress(raw);
    return raw;
  },
});

/**
 * host:port of every instance of a service that this one calls, separated by commas: host names, IPv4 addresses and
 * IPv6 addresses in brackets, mixed as needed. A host name stands for all addresses that it resolves to.
 */
export const peer = (service: string, options: Options<readonly string[]> = {}): Variable<readonly string[]> => ({
  name: `ARMATURE_PEER_${service.toUpperCase()}`,
  about: `host:port of every instance of ${service}, separated by commas`,
  ...options,
  parse(raw) {
    const addresses = raw.split(',').map((one) => one.trim());
    if (addresses.length > addressesMax) {
      throw new Error(`has more than ${addressesMax} addresses (${addresses.length})`);
    }
    for (const one of addresses) readPeerAddress(one);
    return addresses;
  },
});

/** A path, or an https:// URL from which the same content is fetched. */
export const source = (name: string, about: string): Variable<string> => ({
  name,
  about,
  parse(raw) {
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(raw) && !(URL.canParse(raw) && raw.startsWith('https://'))) {
      throw new Error('is neither a path nor an https:// URL');
    }
    return raw;
  },
});

/** Variables that every service needs. */
export const runtimeVariables = {
  grpcAddress: address('ARMATURE_GRPC_ADDRESS', 'where to serve gRPC', { fallback: '127.0.0.1:0' }),
  adminAddress: address('ARMATURE_ADMIN_ADDRESS', 'where to serve metrics and health over HTTP, loopback only', {
    fallback: '127.0.0.1:0',
  }),
  stateFile: text('ARMATURE_STATE_FILE', 'where to write the addresses once ready', { fallback: '' }),
  databaseUrl: url('ARMATURE_DATABASE_URL', 'mysql://user:password@host:port/schema', ['mysql']),
  databaseCaFile: text('ARMATURE_DATABASE_CA_FILE', 'CA bundle that verifies the database, PEM; not set: no TLS', {
    fallback: '',
  }),
  databasePoolMax: integer('ARMATURE_DATABASE_POOL_MAX', 'database connections', { min: 2, max: 500, fallback: 20 }),
  brokerUrl: url('ARMATURE_BROKER_URL', 'amqps://user:password@host:port/vhost', ['amqp', 'amqps']),
  brokerCaFile: text(
    'ARMATURE_BROKER_CA_FILE',
    'CA bundle that verifies an amqps:// broker, PEM; not set: public authorities',
    {
      fallback: '',
    },
  ),
  relayLeaseMs: integer(
    'ARMATURE_RELAY_LEASE_MS',
    'how long a process that died keeps others of its service from publishing events',
    { min: 1_000, max: 60_000, fallback: 10_000 },
  ),
  sagaPollMs: integer('ARMATURE_SAGA_POLL_MS', 'longest pause between two queries for due sagas, milliseconds', {
    min: 10,
    max: 60_000,
    fallback: 500,
  }),
  sagaKeptDays: integer(
    'ARMATURE_SAGA_KEPT_DAYS',
    'how long sagas that have ended are kept, with their history, days',
    {
      min: 120,
      max: 3_650,
      fallback: 400,
    },
  ),
  tlsCertFile: text('ARMATURE_TLS_CERT_FILE', 'certificate of this workload, PEM'),
  tlsKeyFile: text('ARMATURE_TLS_KEY_FILE', 'its private key, PEM'),
  tlsCaFile: text('ARMATURE_TLS_CA_FILE', 'certificates of the authorities to trust, PEM'),
  trustDomain: text('ARMATURE_TRUST_DOMAIN', 'SPIFFE trust domain', { fallback: 'armature.local' }),
  tokenIssuer: text('ARMATURE_TOKEN_ISSUER', 'issuer of access tokens', {
    fallback: 'https://identity.armature.local',
  }),
  tokenJwks: source('ARMATURE_TOKEN_JWKS', 'public keys of the issuer: a JWKS file, or its https:// URL in the mesh'),
  policyFile: text('ARMATURE_POLICY_FILE', 'authorization policy, Casbin CSV; empty: access is asked for it', {
    fallback: '',
  }),
  accessAddresses: peer('access', { fallback: [] }),
  policyAgeMaxMs: integer('ARMATURE_POLICY_AGE_MAX_MS', 'how long a policy is trusted that access has not confirmed', {
    min: 5_000,
    max: 24 * 3_600_000,
    fallback: 300_000,
  }),
  copyDir: text('ARMATURE_COPY_DIR', 'folder for the last good copies of policy and keys', { fallback: '' }),
  requestHashKey: text(
    'ARMATURE_REQUEST_HASH_KEY',
    'secret for the hashes of stored requests; next and earlier ones belong into ARMATURE_REQUEST_HASH_PREVIOUS_KEYS',
    { fallback: '', secret: true },
  ),
  requestHashPreviousKeys: words(
    'ARMATURE_REQUEST_HASH_PREVIOUS_KEYS',
    'next value of ARMATURE_REQUEST_HASH_KEY, and earlier ones for the 48 h that responses are stored; commas between',
    { fallback: [], secret: true },
  ),
  callsMax: integer('ARMATURE_CALLS_MAX', 'calls in progress at once', { min: 1, max: 100_000, fallback: 2_000 }),
  logLevel: oneOf('ARMATURE_LOG_LEVEL', 'lowest level that is logged', ['debug', 'info', 'warn', 'error'], 'info'),
  otlpEndpoint: url('ARMATURE_OTLP_ENDPOINT', 'where traces go by OTLP over HTTP; empty: nowhere', ['http', 'https'], {
    fallback: '',
  }),
  crashPoints: text('ARMATURE_CRASH_POINTS', 'named places where a test kills the process', { fallback: '' }),
  syncPoint: text('ARMATURE_RACE_GATE', 'unix socket of a test that holds back every statement and outgoing call', {
    fallback: '',
  }),
} as const;
