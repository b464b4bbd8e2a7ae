import t from 'tap';
import { residentMebibytes } from '../../test/support/resident-memory.ts';
import { amount } from '../../test/support/tier.ts';
import { ada, browser, fetchOnce, field, startIdentity } from './testbed.ts';

t.setTimeout(300_000);

const crowd = amount(160, 500);

t.test(`${crowd} sign-ins at once: memory stays bounded, and others are served`, async (t) => {
  const identity = await startIdentity(t, { env: { ARMATURE_IDENTITY_TRUSTED_PROXIES: '127.0.0.1, ::1' } });
  const config = await identity.client();
  const { buildAuthorizationUrl, calculatePKCECodeChallenge, randomPKCECodeVerifier } = await import('openid-client');
  const url = buildAuthorizationUrl(config, {
    redirect_uri: 'http://127.0.0.1:45123/callback',
    scope: 'openid',
    code_challenge: await calculatePKCECodeChallenge(randomPKCECodeVerifier()),
    code_challenge_method: 'S256',
  });
  const waiting: { user: ReturnType<typeof browser>; page: string; csrf: string }[] = [];
  while (waiting.length < crowd) {
    const visits = Array.from({ length: 20 }, async (_, index) => {
      const user = browser({ 'x-forwarded-for': `10.0.${waiting.length / 20}.${index}` });
      const page = await user.follow(url.href);
      return { user, page: page.url, csrf: field(page.text, 'csrf') };
    });
    waiting.push(...(await Promise.all(visits)));
  }

  const { pid } = identity.service;
  const before = residentMebibytes(pid);
  let [most, served, done] = [before, 0, false];
  const slow: number[] = [];
  const admin = await identity.as('admin');
  const others = (async () => {
    while (!done) {
      const began = performance.now();
      t.equal((await fetchOnce(`${identity.issuer}/jwks`)).status, 200);
      t.equal((await admin.getUser({ userId: 'ada' }, { timeoutMs: 10_000 })).userId, 'ada');
      slow.push(performance.now() - began);
      served += 1;
      most = Math.max(most, residentMebibytes(pid));
    }
  })();
  const responses = await Promise.all(
    waiting.map(({ user, page, csrf }, index) =>
      // At addresses of their own, because attempts at one account are slowed down.
      user.visit(page, { csrf, ...(index < 4 ? ada : { email: `p${index}@example.org`, password: 'a wrong one' }) }),
    ),
  );
  done = true;
  await others;

  const count = (status: number) => responses.filter((response) => response.status === status).length;
  const busy = responses.filter(({ status }) => status === 503);
  t.comment(`signed in ${count(303)}, refused ${count(401)}, told to come back ${busy.length}`);
  t.comment(`memory ${before.toFixed(0)} MB, at most ${most.toFixed(0)} MB; ${served} others served meanwhile`);
  t.equal(count(303) + count(401) + busy.length, crowd, 'each has a proper response');
  t.ok(count(303) > 0 && count(401) > 0);
  for (const response of busy) t.ok(Number(response.headers.get('retry-after')) > 0);
  t.ok(most - before < 150, 'far from the 19 MB of a hash for each');
  t.ok(served > 5 && slow.sort((a, b) => a - b)[Math.floor(slow.length / 2)]! < 3_000, 'others are served meanwhile');
});
