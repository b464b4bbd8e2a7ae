import {
  type CallContext,
  type Config,
  type Database,
  newId,
  type PeriodicJob,
  RpcError,
  type ServiceComponents,
  type ServiceDependencies,
  sleep,
  type Tx,
  tableBaselines,
} from '@armature/runtime';
import { serveHttps } from '@armature/runtime/http';
import { mailTransport, removeMails } from '@armature/runtime/mail';
import { isVerified } from './account.ts';
import { type Accounts, accounts as accountsOf } from './accounts.ts';
import { type ArtifactStore, artifactStore } from './artifact-store.ts';
import { attempts as attemptsOf } from './attempts.ts';
import { bootstrap } from './bootstrap.ts';
import { type ClientStore, clientStore } from './client-store.ts';
import type { config as spec } from './config.ts';
import { emailStore } from './email-store.ts';
import { mailConcurrency, sendEmails } from './jobs.ts';
import { openKeyRing } from './key-ring.ts';
import { signingKeyService } from './key-service.ts';
import { landing } from './landing.ts';
import { passwords as passwordsOf } from './passwords.ts';
import { recentSignIn } from './recent-sign-in.ts';
import { resealing } from './resealing.ts';
import { type Sealing, sealing as sealingOf } from './sealing.ts';
import { identityService } from './service.ts';
import { sessionService } from './session-service.ts';
import { type SessionStore, sessionStore } from './session-store.ts';
import { signIn as signInOf } from './sign-in.ts';
import { payloadOf } from './signed-tokens.ts';
import { type Page, site } from './site.ts';
import { type AccountStore, accountStore } from './store.ts';
import { verification as verificationOf } from './verification.ts';

const startTimeoutMs = 25_000;
const startPauseMs = 200;

/** Runs the part of the start that needs the database. While the database is unavailable the service waits. */
async function withDatabase<T>(
  { background, log }: Pick<ServiceDependencies<unknown>, 'background' | 'log'>,
  work: (call: CallContext) => Promise<T>,
): Promise<T> {
  for (;;) {
    const call = background('start', startTimeoutMs);
    try {
      return await work(call);
    } catch (error) {
      if (!(error instanceof RpcError && ['UNAVAILABLE', 'DEADLINE_EXCEEDED'].includes(error.code))) throw error;
      log.warn({ err: error }, 'the start waits for the database');
    } finally {
      call.close();
    }
    await sleep(startPauseMs);
  }
}

/** Builds the service: accounts over gRPC, OpenID Connect over HTTPS, e-mails and key rotation as periodic jobs. */
export async function identity({
  background,
  config,
  db,
  log,
  registry,
  tls,
}: ServiceDependencies<Config<typeof spec>>): Promise<ServiceComponents> {
  const stopping = new AbortController();
  const sealing = sealingOf(config.identitySecret, config.otherIdentitySecrets);
  const store = accountStore();
  const clients = clientStore();
  const emails = emailStore(config);
  const artifacts = artifactStore(sealing);
  const sessions = sessionStore();
  const passwords = passwordsOf();
  const attempts = attemptsOf(db);
  const accounts = accountsOf({
    ...{ store, emails, artifacts, sessions, sealing },
    removeMails: (messageIds) => {
      removeMails(config.mailUrl, messageIds).catch((error: unknown) =>
        log.warn({ err: error }, 'e-mails not removed'),
      );
    },
  });
  const verification = verificationOf({ db, store, emails, sealing, passwords, attempts });

  const ring = await withDatabase({ background, log }, async (call) => {
    if (config.bootstrapFile) await bootstrap(config.bootstrapFile, { db, call, store, clients, passwords });
    return openKeyRing({
      ...{ db, sealing, call },
      periods: { periodS: config.keyPeriodS, leadS: config.keyLeadS, keptS: config.keyKeptS },
      open: providerOpener({ background, config, db, log, sealing, store, clients, artifacts, sessions }),
    });
  });

  const signIn = signInOf({ db, store, passwords, attempts });
  const interactions = async () =>
    (await import('./openid.ts')).interactions({
      ...{ provider: ring.present().provider, signIn, sealing },
      ...{ background, stopping: stopping.signal },
    });
  const interaction: Page = {
    GET: async (request, reply) => (await interactions()).GET(request, reply),
    POST: async (request, reply) => (await interactions()).POST(request, reply),
  };
  const http = await serveHttps({
    address: config.identityAddress,
    trustedProxies: config.trustedProxies,
    tls,
    log,
    ...site({
      ring,
      issuer: config.tokenIssuer,
      pages: {
        '/interaction/*': interaction,
        ...landing({ db, accounts, passwords, verification, sealing, background }),
      },
    }),
  });
  const sending = sendEmails({
    ...{ db, emails, send: mailTransport(config, mailConcurrency), sealing },
    ...{ issuer: config.tokenIssuer, background, registry },
  });
  return {
    services: [
      identityService({
        ...{ db, store, accounts, clients, artifacts, sessions, passwords, attempts, verification },
        requireRecentSignIn: recentSignIn({ maxAgeS: config.signInMaxAgeS, store }),
      }),
      sessionService({ db, sessions, artifacts }),
      signingKeyService({ db, ring, sealing }),
    ],
    baselineSources: [tableBaselines({ aggregate: 'user', table: 'account', id: 'user_id', sequence: 'sequence' })],
    periodicJobs: [
      ring.periodicJob,
      resealing(db, artifacts, sealing),
      ...sending.periodicJobs,
      { name: 'accounts never verified', everyMs: 60_000, run: (call) => eraseUnverified(db, store, accounts, call) },
      ...retention(db, { artifacts, 'sessions past': sessions, 'accounts past': store, 'attempts past': attempts }),
    ],
    http: {
      address: http.address,
      close() {
        stopping.abort();
        return http.close();
      },
    },
    close: sending.close,
  };
}

/** Deletes what each store keeps no longer. */
const retention = (db: Database, stores: Record<string, { purge(tx: Tx): Promise<number> }>): PeriodicJob[] =>
  Object.entries(stores).map(([name, store]) => ({
    name,
    everyMs: 60_000,
    run: (call) => db.transaction(call, (tx) => store.purge(tx)),
  }));

/** Opens the OpenID provider for the present keys. */
function providerOpener(parts: {
  background: ServiceDependencies<unknown>['background'];
  config: Config<typeof spec>;
  db: Database;
  log: ServiceDependencies<unknown>['log'];
  sealing: Sealing;
  store: AccountStore;
  clients: ClientStore;
  artifacts: ArtifactStore;
  sessions: SessionStore;
}): Parameters<typeof openKeyRing>[0]['open'] {
  const { background, config, db, log, sealing, store, clients, artifacts, sessions } = parts;
  const find = (userId: string) => db.read(null, (sql) => store.findOptional(sql, userId));
  return async (keys) => {
    const { adapters, openProvider } = await import('./openid.ts');
    const adapter = adapters(db, artifacts, {
      ...{ background, sessions },
      findClient: (clientId) => db.read(null, (sql) => clients.metadata(sql, clientId)),
      refreshReuseS: config.refreshReuseS,
    });
    return openProvider({
      issuer: config.tokenIssuer,
      keys,
      cookieKeys: sealing.cookieKeys,
      adapter,
      accessTokenS: config.accessTokenS,
      codeS: config.codeS,
      successorOf: (refreshToken) => sealing.sign(`refresh token\0${refreshToken}`),
      isActive: async (userId) => (await find(userId))?.state === 'ACTIVE',
      async claims(userId) {
        const account = await find(userId);
        if (!account) return {};
        // Programs get the verified address, never one that is only claimed.
        const email = isVerified(account) ? account.email : account.verifiedEmail;
        return { email, email_verified: email !== null, name: account.displayName };
      },
      remember: (token, times) => adapter(token.kind).upsert(token.jti, payloadOf(token, times), token.remainingTTL),
      failed: (error) => log.error({ err: error, at: newId() }, 'a page request failed'),
    });
  };
}

/** Erases accounts that were not verified in time: the person whose address was entered may not know of them. */
function eraseUnverified(db: Database, store: AccountStore, accounts: Accounts, call: CallContext): Promise<number> {
  return db.transaction(call, async (tx) => {
    const unverified = await store.neverVerified(tx);
    for (const userId of unverified) await accounts.erase(tx, userId);
    return unverified.length;
  });
}
