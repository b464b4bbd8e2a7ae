import { IdentityServiceContract } from '@armature/proto/identity/v1/contract.ts';
import {
  type ServiceAccount as ServiceAccountMessage,
  type User,
  UserState,
} from '@armature/proto/identity/v1/identity.ts';
import {
  closePage,
  type Database,
  type Implementation,
  implement,
  newId,
  openPage,
  principalOf,
  runIdempotent,
  setDataSubject,
} from '@armature/runtime';
import { equalSecrets } from '@armature/runtime/credentials';
import { fieldsInvalid } from '@armature/runtime/errors';
import { type Account, type AccountState, addressKey, changeOf, isVerified } from './account.ts';
import type { Accounts } from './accounts.ts';
import type { ArtifactStore } from './artifact-store.ts';
import type { Attempts } from './attempts.ts';
import type { ClientStore, ServiceAccount } from './client-store.ts';
import { passwordWrong } from './errors.ts';
import { exportOf } from './export.ts';
import { newPasswordHash, requireStrongPassword } from './new-password.ts';
import type { Passwords } from './passwords.ts';
import { parsePublicKey } from './public-key.ts';
import type { RequireRecentSignIn } from './recent-sign-in.ts';
import { isPermissionWord } from './scopes.ts';
import type { SessionStore } from './session-store.ts';
import type { AccountStore } from './store.ts';
import { comparePassword, type Verification } from './verification.ts';

const pageSize = 50;

export interface ServiceParts {
  db: Database;
  store: AccountStore;
  accounts: Accounts;
  clients: ClientStore;
  artifacts: ArtifactStore;
  sessions: SessionStore;
  passwords: Passwords;
  attempts: Attempts;
  verification: Verification;
  requireRecentSignIn: RequireRecentSignIn;
}

export const identityService = (parts: ServiceParts) =>
  implement(IdentityServiceContract, {
    ...registration(parts),
    ...passwordMethods(parts),
    ...userMethods(parts),
    ...serviceAccountMethods(parts),
  });

type Methods = Partial<Implementation<typeof IdentityServiceContract>>;

const registration = ({ db, accounts, verification }: ServiceParts) =>
  ({
    async registerUser({ email, displayName, password }, call) {
      const about = [email, displayName];
      await requireStrongPassword(password, { field: 'password', about });
      const userId = newId();
      return runIdempotent(db, call, async (tx) => {
        await accounts.register(tx, { userId, email, displayName });
        return { userId };
      });
    },

    async verifyEmail({ token, password }, call) {
      const proof = await verification.prove({ token, password }, call);
      return runIdempotent(db, call, async (tx) => ({ userId: await accounts.verifyEmail(tx, token, proof) }));
    },
  }) satisfies Methods;

const passwordMethods = ({ db, store, accounts, passwords, attempts }: ServiceParts) =>
  ({
    async requestPasswordReset({ email }, call) {
      return runIdempotent(db, call, async (tx) => {
        await accounts.requestReset(tx, email);
        return {};
      });
    },

    async resetPassword({ token, newPassword }, call) {
      await requireStrongPassword(newPassword, { field: 'new_password' });
      await db.read(call, (sql) => accounts.requireLink(sql, 'reset_password', token));
      const passwordHash = await newPasswordHash(passwords, newPassword, { use: 'replacement', field: 'new_password' });
      return runIdempotent(db, call, async (tx) => {
        await accounts.resetPassword(tx, token, passwordHash);
        return {};
      });
    },

    async undoEmailChange({ token, newPassword }, call) {
      await requireStrongPassword(newPassword, { field: 'new_password' });
      await db.read(call, (sql) => accounts.requireLink(sql, 'address_changing', token));
      const passwordHash = await newPasswordHash(passwords, newPassword, { use: 'replacement', field: 'new_password' });
      return runIdempotent(db, call, async (tx) => {
        await accounts.undoEmailChange(tx, token, passwordHash);
        return {};
      });
    },

    async changePassword({ userId, currentPassword, newPassword }, call) {
      const known = await db.read(call, (sql) => store.find(sql, userId));
      const about = [known.email, known.displayName];
      const chosen = { field: 'new_password', about };
      await requireStrongPassword(newPassword, chosen);
      const guess = { userId, password: currentPassword, passwordHash: known.passwordHash };
      if (!(await comparePassword({ attempts, passwords }, call, guess))) throw passwordWrong('current_password');
      const passwordHash = await newPasswordHash(passwords, newPassword, { use: 'replacement', ...chosen });
      return runIdempotent(db, call, async (tx) => {
        const account = await store.lock(tx, userId);
        const unchanged = equalSecrets(account.passwordHash ?? '', known.passwordHash ?? '');
        if (!unchanged) throw passwordWrong('current_password');
        await accounts.replacePassword(tx, account, passwordHash);
        return {};
      });
    },
  }) satisfies Methods;

const userMethods = (parts: ServiceParts) => {
  const { db, store, accounts, requireRecentSignIn } = parts;
  return {
    async getUser({ userId }, call) {
      return toUser(await db.read(call, (sql) => store.find(sql, userId)));
    },

    async listUsers(message, call) {
      const filter = { state: stateOf(message.state), email: message.email };
      const page = openPage<[string, string]>(message, pageSize, ['users', filter.state, addressKey(filter.email)]);
      const rows = await db.read(call, (sql) => store.list(sql, filter, page));
      const { items, nextPageToken } = closePage(rows, page, ({ createdAtText, userId }): [string, string] => [
        createdAtText,
        userId,
      ]);
      return { users: items.map(toUser), nextPageToken };
    },

    async updateUser(message, call) {
      const change = changeOf(message, message.updateMask ?? []);
      return runIdempotent(db, call, async (tx) => {
        if (change.email !== undefined) await requireRecentSignIn(tx, call);
        return toUser(await accounts.update(tx, message.userId, change));
      });
    },

    async deactivateUser({ userId }, call) {
      return runIdempotent(db, call, async (tx) => {
        await requireRecentSignIn(tx, call);
        return toUser(await accounts.deactivate(tx, userId));
      });
    },

    async reactivateUser({ userId }, call) {
      setDataSubject(call, userId);
      return runIdempotent(db, call, async (tx) => toUser(await accounts.reactivate(tx, userId)));
    },

    async exportUserData({ userId }, call) {
      return db.read(call, async (sql) => {
        await requireRecentSignIn(sql, call);
        return { json: await exportOf(sql, parts, userId) };
      });
    },

    async eraseUser({ userId }, call) {
      return runIdempotent(db, call, async (tx) => {
        await requireRecentSignIn(tx, call);
        return toUser(await accounts.erase(tx, userId));
      });
    },
  } satisfies Methods;
};

const serviceAccountMethods = ({ db, clients, artifacts }: ServiceParts) =>
  ({
    async createServiceAccount({ accountId, displayName, publicJwk, scopes: wanted }, call) {
      const key = parsePublicKey(publicJwk);
      const unknown = wanted.findIndex((word) => !isPermissionWord(word));
      if (unknown >= 0) {
        const description = `must be all, a permission or the beginning of one (got ${wanted[unknown]})`;
        throw fieldsInvalid([{ field: `scopes[${unknown}]`, description, reason: 'scope' }]);
      }
      const scopes = wanted.length > 0 ? wanted : ['all'];
      const createdBy = principalOf(call.caller);
      return runIdempotent(db, call, async (tx) =>
        toServiceAccount(
          await clients.addServiceAccount(tx, { accountId, displayName, publicJwk: key, scopes, createdBy }),
        ),
      );
    },

    async listServiceAccounts(message, call) {
      const page = openPage<[string]>(message, pageSize, ['service accounts']);
      const rows = await db.read(call, (sql) => clients.listServiceAccounts(sql, page));
      const { items, nextPageToken } = closePage(rows, page, ({ accountId }): [string] => [accountId]);
      return { accounts: items.map(toServiceAccount), nextPageToken };
    },

    async disableServiceAccount({ accountId }, call) {
      return runIdempotent(db, call, async (tx) => {
        const account = await clients.disable(tx, accountId);
        await artifacts.revokeClient(tx, accountId);
        return toServiceAccount(account);
      });
    },
  }) satisfies Methods;

const states: Record<Exclude<AccountState, 'DECOY'>, User['state']> = {
  PENDING: UserState.USER_STATE_PENDING,
  ACTIVE: UserState.USER_STATE_ACTIVE,
  DEACTIVATED: UserState.USER_STATE_DEACTIVATED,
  ERASED: UserState.USER_STATE_ERASED,
};

function stateOf(value: User['state']): AccountState | null {
  const found = Object.entries(states).find(([, number]) => number === value);
  return found ? (found[0] as AccountState) : null;
}

function toUser(account: Account): User {
  return {
    userId: account.userId,
    email: account.email,
    emailVerified: isVerified(account),
    displayName: account.displayName,
    state: account.state === 'DECOY' ? UserState.USER_STATE_UNSPECIFIED : states[account.state],
    createTime: account.createdAt,
    updateTime: account.updatedAt,
  };
}

function toServiceAccount(account: ServiceAccount): ServiceAccountMessage {
  return {
    accountId: account.accountId,
    displayName: account.displayName,
    publicJwk: JSON.stringify(account.publicJwk),
    scopes: [...account.scopes],
    disabled: account.disabled,
    createdBy: account.createdBy,
    createTime: account.createdAt,
  };
}
