import t from 'tap';
import { RpcError } from '../errors/errors.ts';
import { closePage, openPage } from './paging.ts';

const rows = ['a', 'b', 'c', 'd', 'e'];
const read = (page: { size: number; after: [string] | null }) =>
  rows.filter((row) => page.after === null || row > page.after[0]).slice(0, page.size + 1);

t.test('pages follow each other without gaps', async (t) => {
  const seen: string[][] = [];
  let pageToken = '';
  do {
    const page = openPage<[string]>({ pageSize: 2, pageToken }, 50, ['all']);
    const { items, nextPageToken } = closePage(read(page), page, (row): [string] => [row]);
    seen.push(items);
    pageToken = nextPageToken;
  } while (pageToken);
  t.strictSame(seen, [['a', 'b'], ['c', 'd'], ['e']]);
});

t.test('a size of 0 is the default', async (t) => {
  t.equal(openPage({ pageSize: 0, pageToken: '' }, 50, []).size, 50);
});

t.test('tokens that were not given for this query are refused', async (t) => {
  const other = openPage<[string]>({ pageSize: 2, pageToken: '' }, 50, ['other']).tokenAfter(['b']);
  for (const row of [
    { name: 'of another query', token: other },
    { name: 'not base64', token: '%%%' },
    { name: 'not JSON', token: Buffer.from('nonsense').toString('base64url') },
    { name: 'not a list', token: Buffer.from('{"a":1}').toString('base64url') },
    { name: 'a list of objects', token: Buffer.from('[{}]').toString('base64url') },
    { name: 'null', token: Buffer.from('null').toString('base64url') },
  ]) {
    t.test(row.name, async (t) => {
      const error = t.throws(() => openPage({ pageSize: 2, pageToken: row.token }, 50, ['all'])) as RpcError;
      t.type(error, RpcError);
      t.equal(error.reason, 'PAGE_TOKEN_INVALID');
    });
  }
});
