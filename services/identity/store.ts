import { emailKey } from '@armature/proto/email.ts';
import {
  UserDeactivatedEvent,
  UserEmailVerifiedEvent,
  UserErasedEvent,
  UserReactivatedEvent,
  UserRegisteredEvent,
  UserUpdatedEvent,
} from '@armature/proto/identity/v1/contract.ts';
import { emit, isDuplicateKey, type Page, type Sql, type SqlReader, type Tx, utcDate } from '@armature/runtime';
import { type Account, type AccountState, addressKey } from './account.ts';
import { userNotFound } from './errors.ts';

const events = {
  registered: UserRegisteredEvent,
  verified: UserEmailVerifiedEvent,
  updated: UserUpdatedEvent,
  deactivated: UserDeactivatedEvent,
  reactivated: UserReactivatedEvent,
  erased: UserErasedEvent,
} as const;

const signInsKeptDays = 90;
/** How long a registration may wait to be verified. */
const pendingDays = 7;

/** The columns of an account that a change may replace. */
type Changes = Partial<Pick<Account, 'email' | 'displayName' | 'state' | 'verifiedEmail' | 'passwordHash'>>;

export type AccountStore = ReturnType<typeof accountStore>;

export const accountStore = () => ({ ...reads, ...writes, ...signInHistory, ...retention });

const reads = {
  /** Reads an account. Throws USER_NOT_FOUND. */
  async find(sql: SqlReader, userId: string): Promise<Account> {
    return found(await select(sql, 'user_id = ?', [userId]), userId);
  },

  /** Reads an account under the lock of its row: every change of an account begins here. Throws USER_NOT_FOUND. */
  async lock(tx: Tx, userId: string): Promise<Account> {
    return found(await select(tx, 'user_id = ? for update', [userId]), userId);
  },

  async findOptional(sql: SqlReader, userId: string): Promise<Account | null> {
    return (await select(sql, 'user_id = ?', [userId]))[0] ?? null;
  },

  /** When all sessions of an account were last ended; null when they never were, or without an account. */
  async sessionsEndedAt(sql: SqlReader, userId: string): Promise<Date | null> {
    const [row] = await sql.query<{ ended_at: string | null }>(
      'select cast(sessions_ended_at as char) as ended_at from account where user_id = ?',
      [userId],
    );
    return row?.ended_at ? utcDate(row.ended_at) : null;
  },

  /** The account whose verified address this is. A text that is no address belongs to no account. */
  async byAddress(sql: SqlReader, email: string): Promise<Account | null> {
    return (await select(sql, 'verified_email = ?', [emailKey(email) ?? '']))[0] ?? null;
  },

  /** Whether this source has signed in to the account of an address, as far as sign-ins are remembered. */
  async isFamiliar(sql: SqlReader, email: string, source: string): Promise<boolean> {
    const rows = await sql.query(
      `select 1 from account join sign_in on sign_in.user_id = account.user_id and sign_in.source = ?
       where account.verified_email = ? limit 1`,
      [source, emailKey(email) ?? ''],
    );
    return rows.length > 0;
  },

  /** Newest first; one row more than the page, when there is one. */
  list(sql: SqlReader, filter: { state: AccountState | null; email: string }, page: Page<[string, string]>) {
    const conditions = ["state <> 'DECOY'"];
    const params: (string | number)[] = [];
    if (filter.state) conditions.push('state = ?') && params.push(filter.state);
    if (filter.email) conditions.push('email_key = ?') && params.push(emailKey(filter.email) ?? '');
    if (page.after) {
      conditions.push('(created_at < ? or (created_at = ? and user_id < ?))');
      params.push(page.after[0], page.after[0], page.after[1]);
    }
    return select(sql, `${conditions.join(' and ')} order by account.created_at desc, account.user_id desc limit ?`, [
      ...params,
      page.size + 1,
    ]);
  },
};

const writes = {
  /** Adds an account and its first event. False when the id is taken; throws the duplicate of a verified address. */
  async insert(
    tx: Tx,
    account: Pick<Account, 'userId' | 'email' | 'displayName' | 'passwordHash' | 'verifiedEmail'> & {
      state: AccountState;
    },
  ): Promise<void> {
    await insertRow(tx, account);
    emit(tx, events.registered, { userId: account.userId }, 1n);
    if (account.state === 'ACTIVE') {
      emit(tx, events.verified, { userId: account.userId }, 2n);
      await tx.execute('update account set sequence = 2 where user_id = ?', [account.userId]);
    }
  },

  /**
   * Replaces `insert` in a registration of a taken address: adds a row that no method returns, by as many statements,
   * so that the response time does not tell the two apart.
   */
  async insertDecoy(tx: Tx, account: Pick<Account, 'userId' | 'email' | 'displayName' | 'passwordHash'>) {
    await insertRow(tx, { ...account, verifiedEmail: null, state: 'DECOY' });
    await tx.execute(
      `update account set email = null, email_key = null, display_name = null, password_hash = null
       where user_id = ?`,
      [account.userId],
    );
  },

  /** Changes a locked account and emits the event. Null: another account has verified the address meanwhile. */
  async change(
    tx: Tx,
    account: Account,
    changes: Changes,
    event: Exclude<keyof typeof events, 'registered'>,
  ): Promise<Account | null> {
    const changed = { ...account, ...changes, sequence: account.sequence + 1n, updatedAt: new Date() };
    try {
      await update(tx, changed);
    } catch (error) {
      if (isDuplicateKey(error)) return null;
      throw error;
    }
    emit(tx, events[event], { userId: account.userId }, changed.sequence);
    return changed;
  },

  /** Replaces the password hash. No other service needs to know, so there is no event. */
  async setPassword(tx: Tx, userId: string, passwordHash: string): Promise<void> {
    await tx.execute('update account set password_hash = ?, updated_at = utc_timestamp(6) where user_id = ?', [
      passwordHash,
      userId,
    ]);
  },

  /** Sign-ins of before no longer count as recent. */
  async endSessions(tx: Tx, userId: string): Promise<void> {
    await tx.execute('update account set sessions_ended_at = utc_timestamp(6) where user_id = ?', [userId]);
  },

  /** Replaces a hash by one of the same password, unless the password was changed meanwhile. */
  async rehash(sql: Sql, userId: string, from: string, to: string): Promise<void> {
    await sql.execute('update account set password_hash = ? where user_id = ? and password_hash = ?', [
      to,
      userId,
      from,
    ]);
  },
};

const signInHistory = {
  async recordSignIn(sql: Sql, signIn: { userId: string; clientId: string; source: string }): Promise<void> {
    await sql.execute(
      'insert into sign_in (user_id, client_id, source, created_at) values (?, ?, ?, utc_timestamp(6))',
      [signIn.userId, signIn.clientId.slice(0, 64), signIn.source.slice(0, 45)],
    );
  },

  signIns(sql: SqlReader, userId: string): Promise<{ clientId: string; source: string; at: string }[]> {
    return sql.query(
      `select client_id as clientId, source, cast(created_at as char) as at from sign_in
       where user_id = ? order by position desc limit 1000`,
      [userId],
    );
  },

  async forgetSignIns(tx: Tx, userId: string): Promise<void> {
    await tx.execute('delete from sign_in where user_id = ?', [userId]);
  },
};

const retention = {
  /** Locks and returns accounts that were not verified in time, without those that another transaction has locked. */
  async neverVerified(tx: Tx): Promise<string[]> {
    const rows = await tx.query<{ user_id: string }>(
      `select user_id from account
       where state = 'PENDING' and created_at < utc_timestamp(6) - interval ${pendingDays} day
       limit 50 for update skip locked`,
    );
    return rows.map(({ user_id }) => user_id);
  },

  /** Deletes old decoys and sign-ins, a bounded number at a time. */
  async purge(sql: Sql): Promise<number> {
    const decoys = await sql.execute(
      "delete from account where state = 'DECOY' and created_at < utc_timestamp(6) - interval 1 hour limit 500",
    );
    const signIns = await sql.execute(
      'delete from sign_in where created_at < utc_timestamp(6) - interval ? day limit 500',
      [signInsKeptDays],
    );
    return decoys.affectedRows + signIns.affectedRows;
  },
};

interface AccountRow {
  user_id: string;
  email: string | null;
  verified_email: string | null;
  display_name: string | null;
  password_hash: string | null;
  state: AccountState;
  sequence: string | number;
  created_at: string;
  updated_at: string;
}

async function select(sql: SqlReader, where: string, params: (string | number)[]): Promise<Account[]> {
  // To order by the alias would sort texts, without an index: name the columns with their table.
  const rows = await sql.query<AccountRow>(
    `select user_id, email, verified_email, display_name, password_hash, state, sequence,
       cast(created_at as char) as created_at, cast(updated_at as char) as updated_at
     from account where ${where}`,
    params,
  );
  return rows.map((row) => ({
    userId: row.user_id,
    email: row.email ?? '',
    verifiedEmail: row.verified_email,
    displayName: row.display_name ?? '',
    passwordHash: row.password_hash,
    state: row.state,
    sequence: BigInt(row.sequence),
    createdAt: utcDate(row.created_at),
    createdAtText: row.created_at,
    updatedAt: utcDate(row.updated_at),
  }));
}

function found(accounts: Account[], userId: string): Account {
  const [account] = accounts;
  if (!account || account.state === 'DECOY') throw userNotFound(userId);
  return account;
}

async function insertRow(
  tx: Tx,
  account: Pick<Account, 'userId' | 'email' | 'displayName' | 'passwordHash' | 'verifiedEmail' | 'state'>,
): Promise<void> {
  const { userId, email, displayName, passwordHash, verifiedEmail, state } = account;
  await tx.execute(
    `insert into account (user_id, email, email_key, verified_email, display_name, password_hash, state, sequence,
       created_at, updated_at)
     values (?, ?, ?, ?, ?, ?, ?, 1, utc_timestamp(6), utc_timestamp(6))`,
    [userId, email, addressKey(email), verifiedEmail, displayName, passwordHash, state],
  );
}

async function update(tx: Tx, account: Account): Promise<void> {
  const { userId, email, displayName, passwordHash, verifiedEmail, state, sequence } = account;
  await tx.execute(
    `update account set email = ?, email_key = ?, verified_email = ?, display_name = ?, password_hash = ?, state = ?,
       sequence = ?, updated_at = utc_timestamp(6) where user_id = ?`,
    [
      email || null,
      email ? addressKey(email) : null,
      verifiedEmail,
      displayName || null,
      passwordHash,
      state,
      sequence,
      userId,
    ],
  );
}
