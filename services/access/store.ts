import { denialStore } from './denial-store.ts';
import { dueStore } from './due-store.ts';
import { grantStore } from './grant-store.ts';
import type { ChangePolicy } from './policy-store.ts';
import { roleStore } from './role-store.ts';

export type AccessStore = ReturnType<typeof accessStore>;

/** Roles, grants and denied subjects. Every method that writes makes a new version of the policy. */
export const accessStore = (change: ChangePolicy) => ({
  ...roleStore(change),
  ...grantStore(change),
  ...denialStore(change),
  ...dueStore(change),
});
