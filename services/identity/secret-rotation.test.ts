import * as oidc from 'openid-client';
import t from 'tap';
import { withConnection } from '../../scripts/devmesh/provision.ts';
import { secretLeftovers } from '../../scripts/devmesh/secret-leftovers.ts';
import {
  retireSecrets,
  secretStage,
  secretVersions,
  startSecrets,
  switchSecrets,
} from '../../scripts/devmesh/secret-rotation.ts';
import { openState } from '../../scripts/devmesh/state.ts';
import { type Identity, signInWith, startIdentity, tokenIn, tokensOf } from './testbed.ts';

t.test('sessions, tokens, signing keys and links survive the replacement of the secret', async (t) => {
  const state = openState(t.testdir());
  let identity: Identity | undefined;
  const restart = async () => {
    const before = identity;
    await before?.service.stop();
    const [secret, ...others] = secretVersions(state, 'identity');
    identity = await startIdentity(t, {
      ...(before ? { http: before.service.http } : {}),
      ...(before?.service.database ? { database: before.service.database } : {}),
      ...(before?.service.vhost ? { vhost: before.service.vhost } : {}),
      env: {
        ARMATURE_IDENTITY_SECRET: secret,
        ARMATURE_IDENTITY_OTHER_SECRETS: others.join(),
        ...(before ? { ARMATURE_TOKEN_ISSUER: before.issuer } : {}),
      },
    });
    return identity;
  };
  const restartAll = async () => void (await restart());
  const first = await restart();
  const config = await first.client();
  const { tokens, user } = await tokensOf({ config });
  let refresh = tokens.refresh_token ?? '';
  const mailed = 'dora@example.org';
  const gateway = await first.as(null);
  await gateway.registerUser({ email: mailed, password: 'amber kites over the pier', displayName: 'Dora' });
  const link = tokenIn(await first.mail(mailed, /verify-email/));
  const kids = async () => (await (await fetchKeys(config)).json()) as { keys: { kid: string }[] };
  const keysBefore = await kids();
  const survives = async (step: string) => {
    const { page } = await signInWith({ config, user });
    t.notMatch(page.text, /name="password"/, `${step}: the session of the browser`);
    refresh = (await oidc.refreshTokenGrant(config, refresh)).refresh_token ?? '';
    t.ok(refresh, `${step}: the refresh token`);
    t.strictSame(await kids(), keysBefore, `${step}: the signing keys`);
  };

  const [old] = secretVersions(state, 'identity');
  await startSecrets(state, restartAll);
  t.strictSame(secretVersions(state, 'identity')[0], old, 'the next version is only known');
  await survives('started');
  await switchSecrets(state, restartAll);
  t.strictSame(secretVersions(state, 'identity')[1], old);
  await survives('switched');

  const { schema } = first.service.database!;
  const leftovers = () =>
    withConnection(first.service.database!.url, (connection) =>
      secretLeftovers(state, connection, (service) => (service === 'identity' ? schema : undefined)),
    );
  const retire = (force: boolean) => retireSecrets(state, restartAll, { leftovers, force });
  await t.rejects(retire(false), /still needed by .*1 links in e-mails/, 'a link is valid');
  t.match(secretStage(state), { stage: 'switched', applied: true });
  await (await identity!.as(null)).verifyEmail({ token: link, password: 'amber kites over the pier' });
  t.notMatch(await retire(false).catch(String), /links|sealed/, 'a used link needs it no more');
  if (secretStage(state).stage === 'switched') await retire(true);
  t.equal(secretVersions(state, 'identity').length, 1, 'the earlier version is forgotten');
  await survives('retired');
});

async function fetchKeys(config: oidc.Configuration): Promise<Response> {
  const { fetchOnce } = await import('./testbed.ts');
  return fetchOnce(`${config.serverMetadata().issuer}/jwks`);
}

t.test('steps are taken in order, and an interrupted one is done again', async (t) => {
  const state = openState(t.testdir());
  const nothing = async () => {};
  const failing = async () => {
    throw new Error('interrupted');
  };
  const leftovers = async () => [];
  await t.rejects(switchSecrets(state, nothing), /next step is armature secrets start/);
  await t.rejects(retireSecrets(state, nothing, { leftovers, force: true }), /next step is armature secrets start/);
  await t.rejects(startSecrets(state, failing), /interrupted/);
  const [, next] = secretVersions(state, 'identity');
  await t.rejects(switchSecrets(state, nothing), /run armature secrets start again/);
  await startSecrets(state, nothing);
  t.equal(secretVersions(state, 'identity')[1], next, 'the same version goes on');
  await t.rejects(switchSecrets(state, failing), /interrupted/);
  await t.rejects(retireSecrets(state, nothing, { leftovers, force: true }), /run armature secrets switch again/);
  await switchSecrets(state, nothing);
  t.equal(secretVersions(state, 'identity')[0], next);
  const sealed = async () => [{ what: 'sessions', count: 3, sealed: true }];
  const refused = retireSecrets(state, nothing, { leftovers: sealed, force: true, waitMs: 0 });
  await t.rejects(refused, /still needed by 3 sessions/, 'sealed values are not lost by force');
  await retireSecrets(state, nothing, { leftovers, force: false });
  t.strictSame(secretVersions(state, 'identity'), [next]);
});
