import t from 'tap';
import { browser, formWith } from './browser.ts';
import { cookieJar } from './cookies.ts';
import { findForm, textOf } from './html.ts';

const at = (path: string) => new URL(path, 'https://id.example');

t.test('cookies', async (t) => {
  const rows: { name: string; set: [path: string, cookie: string][]; ask: string; sent: string }[] = [
    { name: 'are sent everywhere by /', set: [['/a/b', 's=1; Path=/; HttpOnly; Secure']], ask: '/c', sent: 's=1' },
    { name: 'are sent below their path', set: [['/', 'i=1; path=/in/7']], ask: '/in/7/abort', sent: 'i=1' },
    { name: 'but not beside it', set: [['/', 'i=1; path=/in/7']], ask: '/in/77', sent: '' },
    { name: 'belong to the folder of the page otherwise', set: [['/in/7', 'i=1']], ask: '/in/8', sent: 'i=1' },
    {
      name: 'replace those of their name and path',
      set: [
        ['/', 's=1; path=/'],
        ['/', 's=2; path=/'],
      ],
      ask: '/',
      sent: 's=2',
    },
    {
      name: 'of more exact paths go first',
      set: [
        ['/', 's=1; path=/'],
        ['/', 's=2; path=/in'],
      ],
      ask: '/in/7',
      sent: 's=2; s=1',
    },
    {
      name: 'are dropped when they are over',
      set: [
        ['/', 's=1; path=/'],
        ['/', 's=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT'],
      ],
      ask: '/',
      sent: '',
    },
    { name: 'are dropped at the age of nothing', set: [['/', 's=1; path=/; Max-Age=0']], ask: '/', sent: '' },
    { name: 'may hold the sign that parts them', set: [['/', 's=a=b==; path=/']], ask: '/', sent: 's=a=b==' },
  ];
  for (const { name, set, ask, sent } of rows) {
    const jar = cookieJar();
    for (const [path, cookie] of set) jar.take(at(path), [cookie]);
    t.equal(jar.header(at(ask)), sent, name);
  }
});

const login = `<!doctype html><title>Sign in – Shop</title>
<form method="post" action="/other"><input name="q"></form>
<form method="post" action="/in/7?a=1&amp;b=2">
<input type="hidden" name="csrf" value="x&quot;y"><input id="email" name="email" type="email" required>
<input name="password" type="password">
</form>`;

t.test('forms', async (t) => {
  t.same(findForm(login, 'password'), { action: '/in/7?a=1&b=2', hidden: { csrf: 'x"y' } });
  t.equal(findForm(login, 'code'), undefined);
  t.equal(textOf(login), 'Sign in – Shop');
  t.equal(textOf('<p class="a" role="alert" id="b">Not\n so &lt;well&gt;</p>'), 'Not so <well>');
});

/** A site with one response for each path. */
const site = (pages: Record<string, [status: number, location: string, body?: string]>) => {
  const asked: { method: string; url: string; cookie: string | undefined; body: string | undefined }[] = [];
  const https = async (
    url: string,
    { method, headers, body }: { method: string; headers: Record<string, string>; body?: string | undefined },
  ) => {
    asked.push({ method, url, cookie: headers.cookie, body });
    const [status, location, html = ''] = pages[new URL(url).pathname] ?? [404, ''];
    const responseHeaders = new Headers({ 'set-cookie': `seen=${asked.length}; path=/` });
    if (location) responseHeaders.set('location', location);
    return new Response(html, { status, headers: responseHeaders });
  };
  return { https, asked };
};

t.test('signing in, from redirect to redirect', async (t) => {
  const { https, asked } = site({
    '/auth': [303, '/in/7'],
    '/in/7': [200, '', login.replace('/in/7?a=1&amp;b=2', '/submit')],
    '/submit': [303, '/auth/7'],
    '/auth/7': [303, 'http://127.0.0.1/callback?code=z'],
  });
  const window = browser(https, 'http://127.0.0.1/callback');
  const { page, form } = formWith(await window.open(at('/auth')), 'password');
  const end = await window.submit(page, form, { email: 'a@b', password: 'p&q' });
  t.match(end, { kind: 'returned', url: { searchParams: new URLSearchParams('code=z') } });
  t.same(
    asked.map(({ method, url, cookie }) => `${method} ${new URL(url).pathname} ${cookie ?? ''}`),
    ['GET /auth ', 'GET /in/7 seen=1', 'POST /submit seen=2', 'GET /auth/7 seen=3'],
  );
  t.equal(asked[2]?.body, 'csrf=x%22y&email=a%40b&password=p%26q');
});

t.test('what a browser would not follow', async (t) => {
  const { https } = site({
    '/round': [302, '/round'],
    '/away': [302, 'https://evil.example/'],
    '/wrong': [400, '', '<title>No</title><p role="alert">Not this way</p>'],
  });
  const window = browser(https, 'http://127.0.0.1/callback');
  await t.rejects(window.open(at('/round')), { message: /from page to page without an end/ });
  await t.rejects(window.open(at('/away')), { message: /sends us to https:\/\/evil\.example, which is not its site/ });
  t.throws(
    () => formWith({ kind: 'page', url: at('/wrong'), status: 400, html: '<p role="alert">Not this way</p>' }, 'x'),
    {
      message: 'https://id.example responded 400: Not this way',
    },
  );
});
