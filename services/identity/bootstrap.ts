import { readFile } from 'node:fs/promises';
import { emailProblem } from '@armature/proto/email.ts';
import type { CallContext, Database } from '@armature/runtime';
import { addressKey } from './account.ts';
import type { ClientStore, PublicClient } from './client-store.ts';
import type { Passwords } from './passwords.ts';
import { isPermissionWord } from './scopes.ts';
import type { AccountStore } from './store.ts';

interface BootstrapAccount {
  userId: string;
  email: string;
  displayName: string;
  password: string;
}

export interface Bootstrap {
  accounts: BootstrapAccount[];
  clients: PublicClient[];
}

const idPattern = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/**
 * Makes the accounts and clients of the file that are missing, accounts as verified ones; whatever is there already is
 * left alone. Throws when the file is not what it should be: half a bootstrap would be found much later.
 */
export async function bootstrap(
  file: string,
  parts: { db: Database; call: CallContext; store: AccountStore; clients: ClientStore; passwords: Passwords },
): Promise<void> {
  const { db, call, store, clients, passwords } = parts;
  const wanted = parseBootstrap(await readFile(file, 'utf8'));
  for (const client of wanted.clients) await db.transaction(call, (tx) => clients.addPublic(tx, client));
  for (const { userId, email, displayName, password } of wanted.accounts) {
    if (await db.read(call, (sql) => store.findOptional(sql, userId))) continue;
    const passwordHash = await passwords.hash(password, 'replacement');
    await db.transaction(call, async (tx) => {
      // A token whose subject is its client's id belongs to a program, so no account may have the id of a client.
      if (await clients.exists(tx, userId)) throw new Error(`account ${userId}: a client has this id`);
      // Another instance may have been faster.
      if (await store.findOptional(tx, userId)) return;
      const verifiedEmail = addressKey(email);
      await store.insert(tx, { userId, email, displayName, passwordHash, verifiedEmail, state: 'ACTIVE' });
    });
  }
}

/** Reads the file. Throws an Error that names what is wrong, never what a password is. */
export function parseBootstrap(text: string): Bootstrap {
  const { accounts = [], clients = [] } = object(JSON.parse(text), 'the file');
  return {
    accounts: list(accounts, 'accounts').map((entry, index) => {
      const where = `accounts[${index}]`;
      const account = object(entry, where);
      return {
        userId: id(account.user_id, `${where}.user_id`),
        email: address(account.email, `${where}.email`),
        displayName: string(account.display_name, `${where}.display_name`),
        password: string(account.password, `${where}.password`),
      };
    }),
    clients: list(clients, 'clients').map((entry, index) => {
      const where = `clients[${index}]`;
      const client = object(entry, where);
      const clientId = id(client.client_id, `${where}.client_id`);
      const uris = (value: unknown, name: string) =>
        list(value ?? [], `${where}.${name}`).map((uri, at) => string(uri, `${where}.${name}[${at}]`));
      return {
        clientId,
        displayName:
          client.display_name === undefined ? clientId : string(client.display_name, `${where}.display_name`),
        redirectUris: uris(client.redirect_uris, 'redirect_uris'),
        postLogoutRedirectUris: uris(client.post_logout_redirect_uris, 'post_logout_redirect_uris'),
        firstParty: client.first_party === true,
        scopes: client.scopes === undefined ? undefined : scopes(client.scopes, `${where}.scopes`),
      };
    }),
  };
}

const wrong = (where: string, what: string) => new Error(`bootstrap file: ${where} is not ${what}`);

function object(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(where, 'an object');
  return value as Record<string, unknown>;
}

function list(value: unknown, where: string): unknown[] {
  if (!Array.isArray(value)) throw wrong(where, 'a list');
  return value;
}

function string(value: unknown, where: string): string {
  if (typeof value !== 'string' || value === '') throw wrong(where, 'a text');
  return value;
}

function address(value: unknown, where: string): string {
  const text = string(value, where);
  const problem = emailProblem(text);
  if (problem) throw new Error(`bootstrap file: ${where} ${problem}`);
  return text;
}

function scopes(value: unknown, where: string): string[] {
  const words = list(value, where).map((word, at) => string(word, `${where}[${at}]`));
  const unknown = words.find((word) => !isPermissionWord(word));
  if (unknown !== undefined) throw wrong(where, `a list of permissions, beginnings of them, or all: ${unknown}`);
  return words;
}

function id(value: unknown, where: string): string {
  const text = string(value, where);
  if (!idPattern.test(text)) throw wrong(where, 'an id');
  return text;
}
