import { permissions } from '@armature/proto/permissions.ts';
import { isInScope, type TokenScope, tokenScopeOf } from '@armature/runtime/context';
import type { Client } from 'oidc-provider';

/** What an application may ask about the person. */
export const openidScopes = ['openid', 'email', 'profile'] as const;

const beginnings = (permission: string): string[] => {
  const parts = permission.split('.');
  return parts.map((_, index) => parts.slice(0, index + 1).join('.'));
};

/** Every word of a scope that names permissions: all, a permission of a contract, or a beginning of one. */
const permissionWords: ReadonlySet<string> = new Set(['all', ...permissions.flatMap(({ name }) => beginnings(name))]);

export const isPermissionWord = (word: string): boolean => permissionWords.has(word);

/** The words of a scope that name permissions. */
export const permissionWordsOf = (scope: unknown): string[] =>
  typeof scope === 'string' ? scope.split(' ').filter(isPermissionWord) : [];

/**
 * The words that a client is registered for. A client that was registered without any has all, if it is a program with
 * an account or one of our own applications; applications of others have none.
 */
function registeredWords(client: Client): readonly string[] {
  const { permission_scopes: registered } = client;
  if (Array.isArray(registered)) return registered as string[];
  return isOurs(client) ? ['all'] : [];
}

/** What a client is registered for. */
export const registeredScope = (client: Client): TokenScope => tokenScopeOf(registeredWords(client).join(' '));

/** Every word that a token of this client may have. */
export function scopesOf(client: Client): string[] {
  const registered = registeredScope(client);
  return [...openidScopes, ...[...permissionWords].filter((word) => isInScope(registered, word))];
}

/**
 * The scope of a token: what was requested, and everything that the client is registered for where it requested no
 * permission and is a program with an account or one of our own applications. Others name what they need.
 */
export function issuedScope(client: Client, requested: unknown, granted: unknown): string {
  const words = typeof granted === 'string' ? granted.split(' ') : [];
  const byDefault = permissionWordsOf(requested).length === 0 && isOurs(client) ? registeredWords(client) : [];
  return [...new Set([...words, ...byDefault])].join(' ');
}

const isOurs = (client: Client): boolean =>
  client.first_party === true || client.clientAuthMethod === 'private_key_jwt';
