/**
 * What a token may be used for: everything, or the permissions that its words name. A word names one permission, such as
 * "orders.read", or all that begin with it at a dot: "orders" and "ops.sagas".
 */
export type TokenScope = 'all' | ReadonlySet<string>;

/** Reads the claim `scope`: words separated by blanks. The word "all" names every permission; no claim names none. */
export function tokenScopeOf(claim: string): TokenScope {
  const words = new Set(claim.split(' '));
  return words.has('all') ? 'all' : words;
}

/** Whether the scope names the permission. */
export function isInScope(scope: TokenScope, permission: string): boolean {
  if (scope === 'all' || scope.has(permission)) return true;
  for (let dot = permission.indexOf('.'); dot > 0; dot = permission.indexOf('.', dot + 1)) {
    if (scope.has(permission.slice(0, dot))) return true;
  }
  return false;
}
