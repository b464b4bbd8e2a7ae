import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import * as oidc from 'openid-client';
import { type Browser, chromium } from 'playwright-core';
import t from 'tap';
import { findChromium } from '../../scripts/devmesh/servers/chromium.ts';
import { testServers } from '../../test/support/infra.ts';
import { inLongTier } from '../../test/support/tier.ts';
import { ada, bea, startIdentity } from './testbed.ts';

t.setTimeout(300_000);

const { state } = await testServers();
const found = await findChromium(state);
if ('missing' in found) {
  t.comment(found.missing);
  t.plan(0, found.missing);
} else {
  const identity = await startIdentity(t);
  const config = await identity.client();
  const program = await listening();
  t.teardown(() => program.server.close());
  const browser = await chromium.launch({
    executablePath: found.path,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
  t.teardown(() => browser.close());

  for (const run of [
    { name: 'without scripts, light', javaScriptEnabled: false, colorScheme: 'light', tier: inLongTier },
    { name: 'with scripts, dark', javaScriptEnabled: true, colorScheme: 'dark', tier: {} },
  ] as const) {
    t.test(`a person signs in and out, ${run.name}`, run.tier, async (t) => {
      const { page, close, complaints } = await open(browser, run);
      const { url, checks } = await authorization(config, program.address);
      await page.goto(url);
      t.equal(await page.title(), 'Sign in – Armature');
      t.equal(await page.evaluate('document.activeElement.id'), 'email', 'typing may begin at once');
      await page.screenshot({ path: join(state.dir, `sign-in-${run.colorScheme}.png`) });
      await page.getByLabel('Email address').fill(ada.email);
      await page.getByLabel('Password').fill('not my password');
      await page.getByRole('button', { name: 'Sign in' }).click();
      t.match(await page.getByRole('alert').textContent(), 'do not belong together');
      t.equal(await page.getByLabel('Password').getAttribute('aria-describedby'), 'problem');
      await page.screenshot({ path: join(state.dir, `refused-${run.colorScheme}.png`) });
      t.equal(await page.getByLabel('Email address').inputValue(), ada.email, 'the address is filled in');
      await page.getByLabel('Password').fill(ada.password);
      await page.keyboard.press('Enter');
      await page.waitForURL((at) => at.origin === new URL(program.address).origin);
      const tokens = await oidc.authorizationCodeGrant(config, new URL(page.url()), checks);
      t.equal(tokens.claims()?.sub, 'ada');

      await page.goto(oidc.buildEndSessionUrl(config, { id_token_hint: tokens.id_token ?? '' }).href);
      await page.screenshot({ path: join(state.dir, `sign-out-${run.colorScheme}.png`) });
      await page.getByRole('button', { name: 'Sign out' }).click();
      t.match(await page.getByRole('status').textContent(), 'You are signed out');
      await page.goto((await authorization(config, program.address)).url);
      t.equal(await page.title(), 'Sign in – Armature', 'and must sign in again');
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.waitForURL(/error=access_denied/);
      t.strictSame(complaints, [], 'no policy of ours stood in the way of a page of ours');
      await close();
    });
  }

  t.test('redirects to a program that need a form', inLongTier, async (t) => {
    for (const javaScriptEnabled of [true, false]) {
      const { page, close, complaints } = await open(browser, { javaScriptEnabled, colorScheme: 'light' });
      const proceed = async () => {
        // Without scripts the library shows a button instead of sending its form by itself.
        if (!javaScriptEnabled) await page.getByRole('button', { name: 'Continue' }).click();
      };
      const enter = async (person: { email: string; password: string }, parameters: Record<string, string>) => {
        await page.goto((await authorization(config, program.address, parameters)).url);
        await page.getByLabel('Email address').fill(person.email);
        await page.getByLabel('Password').fill(person.password);
        await page.getByRole('button', { name: 'Sign in' }).click();
      };
      const there = (path: RegExp) => page.waitForURL((at) => at.port === program.port && path.test(at.href));
      await enter(ada, { response_mode: 'form_post' });
      await proceed();
      await there(/callback$/);
      await enter(bea, { prompt: 'login' });
      await proceed();
      await there(/callback\?code=/);
      const bye = `http://127.0.0.1:${program.port}/bye`;
      const parameters = { client_id: 'armature-cli', post_logout_redirect_uri: bye };
      await page.goto(oidc.buildEndSessionUrl(config, parameters).href);
      await page.getByRole('button', { name: 'Sign out' }).click();
      await there(/bye$/);
      await page.goto(oidc.buildEndSessionUrl(config, parameters).href);
      await proceed();
      await there(/bye$/);
      t.strictSame(complaints, []);
      await close();
    }
  });

  t.test('signs in by keyboard alone, with a visible focus', async (t) => {
    const { page, close } = await open(browser, { javaScriptEnabled: true, colorScheme: 'light' });
    await page.goto((await authorization(config, program.address)).url);
    const order: string[] = [];
    for (let step = 0; step < 5; step += 1) {
      order.push(await page.evaluate('document.activeElement.id || document.activeElement.textContent'));
      t.not(await page.evaluate('getComputedStyle(document.activeElement).outlineStyle'), 'none', order.at(-1) ?? '');
      await page.keyboard.press('Tab');
    }
    t.strictSame(order, ['email', 'password', 'Sign in', 'Cancel', 'Forgot your password?']);
    await close();
  });

  t.test('a forgotten password, from the page to the e-mail and back', async (t) => {
    const { page, close } = await open(browser, { javaScriptEnabled: false, colorScheme: 'light' });
    await page.goto((await authorization(config, program.address)).url);
    await page.getByRole('link', { name: 'Forgot your password?' }).click();
    await page.getByLabel('Email address').fill(ada.email);
    await page.getByRole('button', { name: 'Send me a link' }).click();
    t.match(await page.getByRole('status').textContent(), 'a link is on its way');
    const link = /https:\S+reset-password\?token=[\w.-]+/.exec(await identity.mail(ada.email, /Reset/))?.[0] ?? '';
    await page.goto(link);
    await page.screenshot({ path: join(state.dir, 'reset.png') });
    await page.getByLabel('New password').fill('sunshine1');
    await page.getByRole('button', { name: 'Set the password' }).click();
    t.match(await page.getByRole('alert').textContent(), 'one of the most common passwords');
    await page.getByLabel('New password').fill('a fresh and quiet password');
    await page.getByRole('button', { name: 'Set the password' }).click();
    t.match(await page.getByRole('status').textContent(), 'You may sign in with it now');
    await close();
  });

  t.test('the name of another program is shown as text', inLongTier, async (t) => {
    const { page, close } = await open(browser, { javaScriptEnabled: false, colorScheme: 'light' });
    const stranger = await identity.client('stranger');
    const { url } = await authorization(stranger, 'https://other.example/cb');
    await page.route('https://other.example/**', (route) => route.fulfill({ body: 'back' }));
    await page.goto(url);
    await page.getByLabel('Email address').fill(ada.email);
    await page.getByLabel('Password').fill('a fresh and quiet password');
    await page.getByRole('button', { name: 'Sign in' }).click();
    t.match(await page.getByRole('heading').textContent(), 'Let this program in?');
    t.match(await page.locator('strong').textContent(), 'Some <b>other</b> program');
    await page.screenshot({ path: join(state.dir, 'consent.png') });
    await page.getByRole('button', { name: 'Allow', exact: true }).click();
    await page.waitForURL(/^https:\/\/other\.example\/cb\?code=/);
    await close();
  });
}

async function open(browser: Browser, options: { javaScriptEnabled: boolean; colorScheme: 'light' | 'dark' }) {
  // The browser does not trust the development CA.
  const context = await browser.newContext({
    ...options,
    ignoreHTTPSErrors: true,
    viewport: { width: 900, height: 700 },
  });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) complaints.push(message.text());
  });
  return { page, complaints, close: () => context.close() };
}

async function authorization(config: oidc.Configuration, redirect: string, more: Record<string, string> = {}) {
  const verifier = oidc.randomPKCECodeVerifier();
  const state = oidc.randomState();
  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri: redirect,
    scope: 'openid email',
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    ...more,
  });
  return { url: url.href, checks: { pkceCodeVerifier: verifier, expectedState: state } };
}

/** A program on a user's machine that waits for the redirect on its own port. */
async function listening(): Promise<{ server: Server; port: string; address: string }> {
  const server = createServer((_request, response) => response.end('You may close this page.'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = String((server.address() as AddressInfo).port);
  return { server, port, address: `http://127.0.0.1:${port}/callback` };
}
