import { randomBytes } from 'node:crypto';
import t from 'tap';
import { equalSecrets } from './equal-secrets.ts';

t.test('equal only where every byte is equal, also for other lengths', async (t) => {
  const secret = randomBytes(24).toString('base64url');
  for (const [given, is] of [
    [secret, true],
    ['', false],
    [secret.slice(0, -1), false],
    [`${secret} `, false],
    [`x${secret.slice(1)}`, false],
    [secret.toUpperCase(), false],
  ] as const) {
    t.equal(equalSecrets(given, secret), is, given);
    t.equal(equalSecrets(Buffer.from(given), secret), is, 'bytes of the same text');
  }
  t.equal(equalSecrets('', ''), true);
});
