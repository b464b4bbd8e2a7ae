import t from 'tap';
import {
  consentPage,
  errorPage,
  forgotPasswordPage,
  html,
  loginPage,
  logoutPage,
  resetPasswordPage,
  undoEmailChangePage,
  verifyEmailPage,
} from './pages.ts';

const nasty = `"><script>alert(1)</script>'&`;
const form = { action: '/x', csrf: 'c', problem: nasty };

t.test('external text is escaped in HTML', async (t) => {
  for (const [name, text] of Object.entries({
    login: loginPage({ ...form, client: nasty, email: nasty }),
    consent: consentPage({ ...form, client: nasty, scopes: [nasty] }),
    reset: resetPasswordPage({ ...form, token: nasty }),
    undo: undoEmailChangePage({ ...form, token: nasty }),
    verify: verifyEmailPage({ ...form, token: nasty, kind: 'change' }),
    forgot: forgotPasswordPage(form),
    error: errorPage(nasty),
  })) {
    t.notMatch(text, '<script', name);
    t.notOk(text.includes(nasty), name);
    t.match(text, '&lt;script&gt;alert(1)&lt;/script&gt;', name);
  }
  t.equal(
    html`<p title="${'"'}">${['&', '<'].join('')}${null}${false}${3}</p>`.text,
    '<p title="&quot;">&amp;&lt;3</p>',
  );
});

t.test('every page has a language and a title, and every field has a label', async (t) => {
  for (const text of [
    loginPage({ ...form, problem: null, client: 'c', email: '' }),
    resetPasswordPage({ ...form, problem: null, token: 't' }),
    undoEmailChangePage({ ...form, problem: null, token: 't' }),
    verifyEmailPage({ ...form, problem: null, token: 't', kind: 'registration' }),
    verifyEmailPage({ ...form, problem: null, token: 't', kind: 'change' }),
    forgotPasswordPage({ ...form, problem: null }),
    logoutPage('<form></form>'),
    errorPage('server_error'),
  ]) {
    t.match(text, '<html lang="en">');
    t.match(text, /<title>[^<]+ – Armature<\/title>/);
    t.equal(text.match(/<h1>/g)?.length, 1);
    for (const [, id] of text.matchAll(/<input id="(\w+)"/g)) t.match(text, `<label for="${id}">`);
    t.notMatch(text, /style="|onclick|javascript:/);
  }
});
