import t from 'tap';
import { parseBootstrap } from './bootstrap.ts';

const account = { user_id: 'ada', email: 'ada@example.org', display_name: 'Ada', password: 'canary password' };
const client = { client_id: 'cli', redirect_uris: ['http://127.0.0.1/cb'], first_party: true };

t.test('a complete file, and an empty one', async (t) => {
  const parsed = parseBootstrap(JSON.stringify({ accounts: [account], clients: [client] }));
  t.strictSame(parsed.accounts, [
    { userId: 'ada', email: 'ada@example.org', displayName: 'Ada', password: 'canary password' },
  ]);
  t.match(parsed.clients, [{ clientId: 'cli', displayName: 'cli', firstParty: true, postLogoutRedirectUris: [] }]);
  t.strictSame(parseBootstrap('{}'), { accounts: [], clients: [] });
});

t.test('errors name the problem, and no password', async (t) => {
  for (const row of [
    { name: 'a list', file: [], says: 'the file is not an object' },
    { name: 'accounts that are none', file: { accounts: {} }, says: 'accounts is not a list' },
    {
      name: 'an id in capitals',
      file: { accounts: [{ ...account, user_id: 'Ada' }] },
      says: 'accounts[0].user_id is not an id',
    },
    { name: 'no address', file: { accounts: [{ ...account, email: '' }] }, says: 'accounts[0].email is not a text' },
    {
      name: 'an address that looks like another one',
      file: { accounts: [{ ...account, email: 'a\u0501a@example.org' }] },
      says: 'accounts[0].email must have only ASCII letters',
    },
    {
      name: 'no password',
      file: { accounts: [{ ...account, password: 7 }] },
      says: 'accounts[0].password is not a text',
    },
    {
      name: 'a redirect that is none',
      file: { clients: [{ ...client, redirect_uris: [1] }] },
      says: 'clients[0].redirect_uris[0]',
    },
  ]) {
    try {
      parseBootstrap(JSON.stringify(row.file));
      t.fail(row.name);
    } catch (error) {
      t.match((error as Error).message, row.says, row.name);
      t.notMatch((error as Error).message, 'canary');
    }
  }
});
